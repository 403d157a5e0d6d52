"""Read config files, and find what reading them hides."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from miagap.config.problems import show
from miagap.errors import InputError


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML file that holds a mapping (an empty file is an empty one).

    Raises:
        InputError: the file is missing, no YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {_where(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected keys and values (key: value) at the top")
    return content


def duplicate_keys(path: Path | str) -> list[str]:
    """Find keys that a YAML file gives twice, one line each.

    YAML readers keep the last of them without a word, so a merged config does not show it.
    """
    path = Path(path)
    try:
        root = yaml.compose(_text(path), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {_where(error)}") from error
    return [
        f"{path}: {name}: given twice, in lines {first} and {second}; keep one"
        for name, first, second in _duplicates(root, "", set())
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a config file ({error})") from error


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"no valid YAML{f' in line {mark.line + 1}' if mark else ''}: {problem}"


def _duplicates(node: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    if id(node) in seen:
        return  # an anchor that is used again
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _duplicates(item, f"{prefix}[{index}]", seen)
    if not isinstance(node, yaml.MappingNode):
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        text = str(key.value) if isinstance(key, yaml.ScalarNode) else show("?")
        name = f"{prefix}.{text}" if prefix else text
        line = key.start_mark.line + 1
        if text in lines and text != "<<":
            yield name, lines[text], line
        lines.setdefault(text, line)
        yield from _duplicates(value, name, seen)
