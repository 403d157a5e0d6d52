"""Check the config's attacks against the methods that there are."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from jsonschema import Draft202012Validator

from miagap.config.messages import explain_all
from miagap.config.normal import complete
from miagap.config.problems import Problem, did_you_mean, show

LEFT_OUT = 2
"""Pairs of splits that a shadow model attacked in a target's stead does without."""
_JSON_TYPES = {"bool": "boolean", "int": "integer", "float": "number", "choice": "string"}


class AttackParameter(Protocol):
    """What is asked of a parameter of an attack, such as ``miagap.attacks.base.Parameter``."""

    @property
    def kind(self) -> str:
        """``bool``, ``int``, ``float`` or ``choice``."""

    @property
    def default(self) -> Any:
        """Value where the config has none."""

    @property
    def text(self) -> str:
        """One line for the documentation."""

    @property
    def choices(self) -> tuple[str, ...]:
        """Allowed values of a choice."""

    @property
    def minimum(self) -> float | None:
        """Least value of a number."""

    @property
    def maximum(self) -> float | None:
        """Largest value of a number."""


class AttackMethod(Protocol):
    """What is asked of an attack method, such as ``miagap.attacks.base.Attack``."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Parameters by name (``AttackParameter``)."""

    @property
    def least_models(self) -> int:
        """IN and OUT shadow models of every sample that it needs."""

    @property
    def least_pairs(self) -> int:
        """Pairs of splits that it needs beside those left out, without a reserve."""


def parameter_schema(method: AttackMethod) -> dict[str, Any]:
    """Make a JSON schema of a method's parameters."""
    properties = {key: _schema_of(parameter) for key, parameter in method.parameters.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _schema_of(parameter: AttackParameter) -> dict[str, Any]:
    types: Any = _JSON_TYPES[parameter.kind]
    if parameter.default is None:
        types = [types, "null"]
    schema = {"description": parameter.text, "type": types, "default": parameter.default}
    if parameter.choices:
        nothing = [None] if parameter.default is None else []
        schema["enum"] = [*parameter.choices, *nothing]
    if parameter.minimum is not None:
        schema["minimum"] = parameter.minimum
    if parameter.maximum is not None:
        schema["maximum"] = parameter.maximum
    return schema


def check_attacks(
    values: dict[str, Any], known: Mapping[str, AttackMethod] | None
) -> tuple[dict[str, Any], list[Problem]]:
    """Check each attack's method and parameters, and fill in the parameters' defaults.

    Entries that are no attacks at all stay as they are: the config's schema reports them.
    """
    attacks = values.get("attacks")
    if known is None or not isinstance(attacks, dict):
        return values, []
    completed, problems = {}, []
    for name, entry in attacks.items():
        completed[name] = entry
        method = entry.get("method") if isinstance(entry, dict) else None
        if not isinstance(method, str):
            continue
        if method not in known:
            message = f"no attack method {show(method)}{did_you_mean(method, known, 'methods')}"
            path = ("attacks", name)
            problems.append(Problem((*path, "method"), message, remove=path))
            continue
        schema = parameter_schema(known[method])
        given = {key: value for key, value in entry.items() if key != "method"}
        parameters = complete(given, schema)
        completed[name] = {"method": method, **parameters}
        found = explain_all(Draft202012Validator(schema).iter_errors(parameters))
        problems += [Problem(("attacks", name, *p.path), p.message) for p in found]
    return {**values, "attacks": completed}, problems


def check_shadow_models(
    values: dict[str, Any], known: Mapping[str, AttackMethod]
) -> Iterator[Problem]:
    """Yield the attack that needs most shadow models, if splits and seeds give fewer.

    Without the target's pair, half of the other splits have a sample IN; every pool seed adds as
    many. Thresholds are set on shadow models that are attacked without their own pair too.
    """
    count, seeds = values["splits"]["count"], len(values["seeds"])
    least = []
    for name, entry in values["attacks"].items():
        method = known[entry["method"]]
        pairs = 1 if values["splits"]["reserve"] else method.least_pairs
        pairs = max(pairs, math.ceil(method.least_models / seeds))
        least.append((2 * (pairs + LEFT_OUT), name))
    wanted, name = max(least, key=lambda item: item[0], default=(0, ""))
    if values["import"] is not None or count >= wanted:
        return
    each = max(0, (count // 2 - LEFT_OUT) * seeds)
    message = (
        f"attack {show(name)} has {each} IN and {each} OUT shadow models of a sample where "
        f"thresholds are set; use {wanted} or more splits"
    )
    depends = (("seeds",), ("attacks", name), ("splits", "reserve"))
    yield Problem(("splits", "count"), f"{message}, got {count}", depends)
