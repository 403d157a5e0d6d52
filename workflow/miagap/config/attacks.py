"""Check the config's attacks against the methods that there are."""

from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator

from miagap.config.messages import explain_all
from miagap.config.normal import complete
from miagap.config.problems import Problem, did_you_mean, show

# Takes an attack's parameters as the config gives them; returns them completed, and what is wrong
# as pairs (parameter, message).
ParameterCheck = Callable[[Mapping[str, Any]], tuple[dict[str, Any], list[tuple[str, str]]]]
KnownAttacks = Mapping[str, Mapping[str, Any] | ParameterCheck | None]


def check_attacks(
    values: dict[str, Any], known: KnownAttacks | None
) -> tuple[dict[str, Any], list[Problem]]:
    """Check each attack's method and parameters, and fill in the parameters' defaults."""
    attacks = values.get("attacks")
    if known is None or not isinstance(attacks, dict):
        return values, []
    completed, problems = {}, []
    for name, entry in attacks.items():
        method = entry.get("method") if isinstance(entry, dict) else None
        if not isinstance(method, str):
            completed[name] = entry  # the schema's validation reports it
            continue
        if method not in known:
            hint = did_you_mean(method, known, "methods")
            path = ("attacks", name)
            message = f"no attack method {show(method)}{hint}"
            problems.append(Problem((*path, "method"), message, remove=path))
            completed[name] = entry
            continue
        given = {key: value for key, value in entry.items() if key != "method"}
        parameters, found = _check_parameters(given, known[method])
        completed[name] = {"method": method, **parameters}
        problems += [Problem(("attacks", name, *p.path), p.message) for p in found]
    return {**values, "attacks": completed}, problems


def _check_parameters(
    given: dict[str, Any], specification: Mapping[str, Any] | ParameterCheck | None
) -> tuple[dict[str, Any], list[Problem]]:
    if specification is None:
        return given, []
    if callable(specification):
        parameters, found = specification(given)
        return parameters, [Problem((key,), message) for key, message in found]
    schema = {"type": "object", "additionalProperties": False, **specification}
    parameters = complete(given, schema)
    return parameters, explain_all(Draft202012Validator(schema).iter_errors(parameters))
