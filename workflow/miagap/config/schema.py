"""The config's JSON schema: loading it, and saying in words what it asks for."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from miagap.config.problems import listed

SCHEMA_FILE = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"

Schema = Mapping[str, Any]

_TYPE_WORDS = {
    "string": "text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "null",
}
_PLURALS = {
    "string": "texts",
    "integer": "integers",
    "number": "numbers",
    "boolean": "true or false values",
    "array": "lists",
    "object": "mappings",
}


@cache
def load_schema() -> dict[str, Any]:
    """Read the schema; callers must not change it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with SCHEMA_FILE.open("rb") as file:
        schema: dict[str, Any] = yaml.load(file, Loader=loader)
    return schema


@cache
def validator() -> Draft202012Validator:
    """The validator of the whole config."""
    return Draft202012Validator(load_schema())


def resolve_reference(schema: Schema) -> Schema:
    """Follow a schema's ``$ref`` within the config's schema; the schema's own words win."""
    while "$ref" in schema:
        target: Any = load_schema()
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        own = {key: value for key, value in schema.items() if key != "$ref"}
        if "properties" in own and "properties" in target:
            own["properties"] = {**target["properties"], **own["properties"]}
        schema = {**target, **own}
    return schema


def types_of(schema: Schema) -> tuple[str, ...]:
    """The JSON types that a schema names, without those of its alternatives."""
    types = schema.get("type", ())
    return (types,) if isinstance(types, str) else tuple(types)


def type_of(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", dict: "object", list: "array"}
    return names[type(value)]


def choose_alternative(schema: Schema, value: Any) -> int | None:
    """Index of the alternative (``anyOf``) that a value is an attempt at, by its type."""
    for index, alternative in enumerate(schema["anyOf"]):
        if type_of(value) in types_of(resolve_reference(alternative)):
            return index
    return None


def user_entry(schema: Schema) -> Schema | None:
    """Schema of the entries whose names the user chooses, if there are such."""
    entry = schema.get("additionalProperties")
    return entry if isinstance(entry, Mapping) else None


def describe(schema: Schema) -> str:
    """Say in words what a value must be: ``an integer >= 1 or null``."""
    schema = resolve_reference(schema)
    if "x-expected" in schema:
        return str(schema["x-expected"])
    nullable = " or null" if "null" in types_of(schema) else ""
    if "enum" in schema:
        return listed([str(choice) for choice in schema["enum"]]) + nullable
    words = [word for word in types_of(schema) if word != "null"]
    if words == ["array"]:
        return _describe_list(schema) + nullable
    limits = describe_range(schema)
    text = listed([_TYPE_WORDS[word] for word in words])
    return f"{text} {limits}".strip() + nullable


def _describe_list(schema: Schema) -> str:
    items = resolve_reference(schema.get("items", {}))
    least = schema.get("minItems", 0)
    text = f"a list of at least {least} " if least else "a list of "
    if "x-expected" in items:
        return f"{text}{'entry' if least == 1 else 'entries'}, each {items['x-expected']}"
    if "enum" in items:
        choices = ", ".join(str(choice) for choice in items["enum"])
        return f"{text}{'of ' if least else ''}{choices}"
    (word,) = types_of(items)
    noun = _TYPE_WORDS[word].split()[-1] if least == 1 else _PLURALS[word]
    return f"{text}{noun} {describe_range(items)}".strip()


def describe_range(schema: Schema) -> str:
    """Say in words what numbers a schema admits: ``>= 1``, ``from 0 to 255``; else nothing."""
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"from {low} to {high}"
    lower = f">= {low}" if low is not None else f"> {above}" if above is not None else ""
    upper = f"<= {high}" if high is not None else f"< {below}" if below is not None else ""
    return " and ".join(limit for limit in (lower, upper) if limit)


def fixed_keys(
    schema: Schema | None = None, prefix: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Paths of all keys that do not lie below a name of the user's."""
    for key, entry in (load_schema() if schema is None else schema).get("properties", {}).items():
        yield (*prefix, key)
        yield from fixed_keys(resolve_reference(entry), (*prefix, key))
