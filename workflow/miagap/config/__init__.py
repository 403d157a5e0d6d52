"""The study's config: validated against its schema, completed, and checked across keys.

Every problem is one line that names the key and says how to mend it; all of them are
reported at once.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path as FilePath
from typing import Any

from miagap.config.attacks import AttackMethod, check_attacks, check_shadow_models
from miagap.config.checks import ERROR_CHECKS, WARNING_CHECKS, Check, Values
from miagap.config.data import data_warnings
from miagap.config.files import duplicate_keys, read_yaml
from miagap.config.messages import find_problems, without
from miagap.config.normal import complete, drop_entries, to_plain
from miagap.config.problems import Path, Problem, key_path, related_to_any
from miagap.config.schema import load_schema

__all__ = ["AttackMethod", "Resolved", "data_warnings", "duplicate_keys", "load", "resolve"]


@dataclass(frozen=True)
class Resolved:
    """A config with all defaults filled in, and what is wrong with it.

    Attributes:
        values: plain dicts, lists and scalars, in the schema's order of keys. Meaningful only
            where there are no errors: a key at fault then has its default.
        errors: one line each, empty for a valid config.
        warnings: one line each.
    """

    values: dict[str, Any]
    errors: list[str]
    warnings: list[str]


def resolve(
    config: Mapping[str, Any],
    known_attacks: Mapping[str, AttackMethod] | None = None,
    label: str = "config.yaml",
) -> Resolved:
    """Validate a config, fill in its defaults and check it across keys.

    Args:
        config: what the config files say, merged; not changed.
        known_attacks: attack methods by name, such as ``miagap.attacks.registry.ATTACKS``; None
            does not check methods and their parameters.
        label: what the lines begin with, usually a file's name.
    """
    schema = load_schema()
    plain, problems = to_plain(config)
    drop_entries(plain, schema)
    values = complete(plain, schema)
    problems += without(find_problems(values), problems)
    values, attack_problems = check_attacks(values, known_attacks)
    problems += without(attack_problems, problems)
    usable = complete(_without_faults(values, problems), schema)
    warnings: list[Problem] = []
    if not problems or not find_problems(usable):
        faults = [problem.path for problem in problems]
        checks = ERROR_CHECKS
        if known_attacks is not None:
            checks = (*checks, partial(check_shadow_models, known=known_attacks))
        problems += _run(checks, usable, faults)
        warnings = _run(WARNING_CHECKS, usable, [problem.path for problem in problems])
        _sort_checkpoints(usable)
    return Resolved(usable, _lines(problems, label), _lines(warnings, label))


def load(path: FilePath | str, known_attacks: Mapping[str, AttackMethod] | None = None) -> Resolved:
    """Read one config file and resolve it; keys given twice are errors too.

    Raises:
        InputError: the file is missing or no YAML mapping.
    """
    path = FilePath(path)
    resolved = resolve(read_yaml(path), known_attacks, label=str(path))
    errors = duplicate_keys(path) + resolved.errors
    return Resolved(resolved.values, errors, resolved.warnings)


def _run(checks: tuple[Check, ...], values: Values, faults: list[Path]) -> list[Problem]:
    """Run checks; a finding that rests on a key at fault is left out."""
    return [
        problem
        for check in checks
        for problem in check(values)
        if not any(related_to_any(path, faults) for path in (problem.path, *problem.depends))
    ]


def _without_faults(values: Values, problems: list[Problem]) -> Values:
    """Copy the config without the keys at fault (a list goes as a whole)."""
    values = copy.deepcopy(values)
    for problem in problems:
        path = problem.removable
        while path and isinstance(path[-1], int):
            path = path[:-1]
        _remove(values, path)
    return values


def _remove(values: Any, path: Path) -> None:
    for part in path[:-1]:
        inside = isinstance(values, dict) and part in values
        in_list = isinstance(values, list) and isinstance(part, int) and part < len(values)
        if not inside and not in_list:
            return
        values = values[part]
    if path and isinstance(values, dict):
        values.pop(str(path[-1]), None)


def _sort_checkpoints(values: Values) -> None:
    """Put checkpoints in order: their order in the file means nothing."""
    sections = [values["training"], *(t["training"] for t in values["techniques"].values())]
    for section in sections:
        if "checkpoints" in section:
            section["checkpoints"] = sorted(section["checkpoints"])


def _lines(problems: list[Problem], label: str) -> list[str]:
    lines = [f"{label}: {key_path(problem.path)}: {problem.message}" for problem in problems]
    return list(dict.fromkeys(lines))
