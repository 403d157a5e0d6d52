"""Check the config's attacks against the methods that there are."""

from collections.abc import Mapping
from typing import Any, Protocol

from jsonschema import Draft202012Validator

from miagap.config.messages import explain_all
from miagap.config.normal import complete
from miagap.config.problems import Problem, did_you_mean, show

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
