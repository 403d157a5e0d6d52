"""What is wrong with a config: one problem per line, at the key that a user can mend."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

_SHOWN_LENGTH = 60
_SHOWN_NAMES = 25


@dataclass(frozen=True)
class Problem:
    """A line for the user.

    ``path`` is the key at fault. ``depends`` are further keys that the finding rests on: when one
    of them is wrong itself, the finding is not reported. ``remove`` is what to leave out of the
    config so that the rest of it can still be checked (``path`` unless given).
    """

    path: Path
    message: str
    depends: tuple[Path, ...] = ()
    remove: Path | None = None

    @property
    def removable(self) -> Path:
        """The part of the config that has to go for the rest to be checked."""
        return self.path if self.remove is None else self.remove


def key_path(path: Path) -> str:
    """Write a path as a user does: ``techniques.mine.training.checkpoints[2]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            simple = part.isprintable() and 0 < len(part) <= _SHOWN_LENGTH
            text += ("." if text else "") + (part if simple else show(part))
    return text


def show(value: Any) -> str:
    """Write a value as it would stand in the config, on one line and not too long."""
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, list) and not all(_is_scalar(item) for item in value):
        return "a list"
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():
        text = json.dumps(value)
    return text if len(text) <= _SHOWN_LENGTH else text[: _SHOWN_LENGTH - 3] + "..."


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like ``name``, or None where none is near."""
    matches = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(name: str, names: Iterable[str], what: str) -> str:
    """End a sentence with the nearest name, or with all names where none is near.

    ``what`` says what the names are, in the plural: ``valid keys``.
    """
    names = list(names)
    match = nearest(name, names)
    if match is not None:
        return f"; did you mean {show(match)}?"
    more = ", ..." if len(names) > _SHOWN_NAMES else ""
    return f"; {what}: {', '.join(names[:_SHOWN_NAMES])}{more}" if names else ""


def related(path: Path, other: Path) -> bool:
    """Whether one path is the other or leads to it."""
    shorter = min(len(path), len(other))
    return path[:shorter] == other[:shorter]


def related_to_any(path: Path, others: Iterable[Path]) -> bool:
    """Whether a path is, holds or lies in one of the others."""
    return any(related(path, other) for other in others)


def listed(words: Sequence[str], last: str = "or") -> str:
    """Join words as in a sentence: ``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"
