"""Bring a config as YAML gives it into its one canonical form."""

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

from miagap.config.problems import Path, Problem, show
from miagap.config.schema import (
    Schema,
    choose_alternative,
    resolve_reference,
    types_of,
    user_entry,
)

_LARGEST = 2**63 - 1
_DEEPEST = 30
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_WORDS = {"true": True, "false": False, "null": None}


def to_plain(config: Mapping[Any, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Copy a config into dicts with text keys, lists and scalars.

    What YAML can say and JSON cannot (keys that are no text, dates, infinite numbers) is left out
    and reported.
    """
    problems: list[Problem] = []
    plain = _plain_mapping(config, (), problems)
    return plain, problems


def _plain_mapping(
    mapping: Mapping[Any, Any], path: Path, problems: list[Problem]
) -> dict[str, Any]:
    plain = {}
    for key, value in mapping.items():
        if not isinstance(key, str):
            message = f"YAML does not read this name as text; put it in quotes: {_quoted(key)}"
            problems.append(Problem((*path, str(key)[:_DEEPEST]), message))
            continue
        result = _plain(value, (*path, key), problems)
        if result is not _LEFT_OUT:
            plain[key] = result
    return plain


_LEFT_OUT = object()


def _plain(value: Any, path: Path, problems: list[Problem]) -> Any:
    if isinstance(value, Mapping | list | tuple) and len(path) >= _DEEPEST:
        problems.append(Problem(path, "nested too deeply"))
        return _LEFT_OUT
    if isinstance(value, Mapping):
        return _plain_mapping(value, path, problems)
    if isinstance(value, list | tuple):
        items = [_plain(item, (*path, index), problems) for index, item in enumerate(value)]
        return _LEFT_OUT if any(item is _LEFT_OUT for item in items) else items
    expected = _why_not_plain(value)
    if expected is not None:
        problems.append(Problem(path, expected))
        return _LEFT_OUT
    return value


def _why_not_plain(value: Any) -> str | None:
    if isinstance(value, bool) or value is None or type(value) is str:
        return None
    if type(value) is int:
        return None if abs(value) <= _LARGEST else "expected a number below 2^63"
    if type(value) is float:
        return None if math.isfinite(value) else f"expected a finite number, got {value}"
    return f"YAML reads this as a {type(value).__name__}; put it in quotes if it is text"


def _quoted(key: Any) -> str:
    words = {True: '"yes", "on" or "true"', False: '"no", "off" or "false"', None: '"null"'}
    if key is None or isinstance(key, bool):
        return words[key]
    return show(str(key)[:_DEEPEST])


def drop_entries(config: dict[str, Any], schema: Schema) -> None:
    """Remove entries given as ``false`` from the sections that allow it (in place).

    Snakemake's ``--config`` gives it as text.
    """
    for section, entry in schema["properties"].items():
        value = config.get(section)
        if entry.get("x-droppable") and isinstance(value, dict):
            for name in [name for name, item in value.items() if item is False or item == "false"]:
                del value[name]


def complete(value: Any, schema: Schema, partial: bool = False) -> Any:
    """Fill in defaults, order keys as the schema does, and give numbers their type.

    Values that do not fit the schema stay as they are, for the validation to report. With
    ``partial``, or where the schema says so, missing keys stay missing.
    """
    schema = resolve_reference(schema)
    partial = partial or schema.get("x-partial", False)
    if "anyOf" in schema:
        index = choose_alternative(schema, value)
        return value if index is None else complete(value, schema["anyOf"][index], partial)
    types = types_of(schema)
    if value is None and "object" in types and "null" not in types:
        value = {}  # "none:" without anything behind it
    if isinstance(value, dict) and "object" in types:
        return _complete_mapping(value, schema, partial)
    if isinstance(value, list) and "array" in types and "items" in schema:
        return [complete(item, schema["items"], partial) for item in value]
    return _typed(value, types)


def _complete_mapping(value: dict[str, Any], schema: Schema, partial: bool) -> dict[str, Any]:
    result = {}
    properties = schema.get("properties", {})
    for key, entry in properties.items():
        if key in value:
            result[key] = complete(value[key], entry, partial)
        elif not partial:
            entry = resolve_reference(entry)
            if "default" in entry:
                result[key] = complete(copy.deepcopy(entry["default"]), entry)
            elif types_of(entry) == ("object",) and not entry.get("x-partial"):
                result[key] = complete({}, entry)
            elif entry.get("x-partial"):
                result[key] = {}
    entry = user_entry(schema)
    for key in value:
        if key not in properties:
            result[key] = value[key] if entry is None else complete(value[key], entry, partial)
    return result


def _typed(value: Any, types: tuple[str, ...]) -> Any:
    """Give a scalar the type that the schema asks for, where nothing is lost.

    Text that is a number is taken for one: PyYAML reads ``1e-3`` as text, and so does Snakemake's
    ``--config`` everything within braces.
    """
    if isinstance(value, str) and "string" not in types:
        value = _read_text(value.strip(), types)
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and "number" in types:
        return float(value)
    if isinstance(value, float) and "integer" in types and value.is_integer():
        return int(value) if abs(value) <= _LARGEST else value
    return value


def _read_text(text: str, types: tuple[str, ...]) -> Any:
    word = _WORDS.get(text.lower(), text)
    if (word is None and "null" in types) or (isinstance(word, bool) and "boolean" in types):
        return word
    if "integer" in types and _INTEGER.fullmatch(text):
        number = int(text)
        return number if abs(number) <= _LARGEST else text
    if ("number" in types or "integer" in types) and _NUMBER.fullmatch(text):
        return float(text) if math.isfinite(float(text)) else text
    return text
