"""Say in one line what jsonschema found."""

from collections.abc import Iterable, Iterator
from typing import Any

from jsonschema import ValidationError

from miagap.config.problems import (
    Path,
    Problem,
    did_you_mean,
    key_path,
    nearest,
    related,
    related_to_any,
    show,
)
from miagap.config.schema import (
    Schema,
    choose_alternative,
    describe,
    fixed_keys,
    resolve_reference,
    validator,
)


def find_problems(config: dict[str, Any]) -> list[Problem]:
    """Validate a config against the schema: one problem per key at fault."""
    return explain_all(validator().iter_errors(config))


def explain_all(errors: Iterable[ValidationError]) -> list[Problem]:
    """Turn jsonschema's errors into problems, one per key at fault."""
    found: dict[Path, Problem] = {}
    for error in errors:
        for problem in _explain(error):
            found.setdefault(problem.path, problem)
    return [problem for problem in found.values() if not _explained_below(problem, found)]


def _explained_below(problem: Problem, found: dict[Path, Problem]) -> bool:
    """Whether an entry of a list is at fault: then the list's own problem says nothing more."""
    below = len(problem.path) + 1
    return any(
        len(path) == below and isinstance(path[-1], int) and related(path, problem.path)
        for path in found
    )


def _explain(error: ValidationError) -> Iterator[Problem]:
    path: Path = tuple(error.absolute_path)
    schema: Any = error.schema
    value: Any = error.instance
    match error.validator:
        case "not":
            yield Problem(path, _not_here(str(path[-1])))
        case "additionalProperties":
            known = list(schema.get("properties", {}))
            for key in value:
                if key not in known:
                    yield Problem((*path, key), f"unknown key{_suggest_key(key, known)}")
        case "required":
            for key in schema["required"]:
                if key not in value:
                    message = f"missing; expected {describe(schema['properties'][key])}"
                    yield Problem((*path, key), message, remove=path)
        case "uniqueItems":
            twice = next(item for item in value if value.count(item) > 1)
            yield Problem(path, f"{show(twice)} is listed twice")
        case "anyOf":
            yield from _explain_alternatives(error, path, schema, value)
        case _ if "propertyNames" in error.absolute_schema_path:
            yield Problem((*path, str(value)), f"expected {describe(schema)}")
        case _:
            hint = _hint(value, schema)
            yield Problem(path, f"expected {describe(schema)}, got {show(value)}{hint}")


def _explain_alternatives(
    error: ValidationError, path: Path, schema: Schema, value: Any
) -> Iterator[Problem]:
    index = choose_alternative(schema, value)
    if index is not None and isinstance(value, dict | list):
        for suberror in error.context or ():
            if suberror.schema_path[0] == index:
                yield from _explain(suberror)
        return
    hint = "" if index is None else _hint(value, schema["anyOf"][index])
    yield Problem(path, f"expected {describe(schema)}, got {show(value)}{hint}")


def _hint(value: Any, schema: Schema) -> str:
    choices = resolve_reference(schema).get("enum", [])
    if isinstance(value, str) and choices:
        match = nearest(value, [str(choice) for choice in choices])
        return f'; did you mean "{match}"?' if match else ""
    return ""


def _suggest_key(key: str, known: list[str]) -> str:
    """Name the nearest key beside it, else the section that has this very key."""
    if nearest(key, known) is None:
        for path in fixed_keys():
            if path[-1] == key:
                return f'; did you mean "{key_path(path)}"?'
    return did_you_mean(key, known, "valid keys")


def _not_here(key: str) -> str:
    paths = [key_path(path) for path in fixed_keys() if path[-1] == key]
    return f"cannot be set here, only for all as {paths[0]}" if paths else "cannot be set here"


def without(problems: list[Problem], explained: list[Problem]) -> list[Problem]:
    """Leave out problems at keys whose trouble is explained already."""
    paths = [problem.path for problem in explained]
    return [problem for problem in problems if not related_to_any(problem.path, paths)]
