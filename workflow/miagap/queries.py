"""Queries: the deterministic views of a sample at which every model is asked."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from miagap.errors import InputError

_PATTERN = re.compile(r"(?:(mirror)\+?)?(?:shift\((-?\d+),\s*(-?\d+)\))?")


@dataclass(frozen=True)
class Query:
    """A view: mirrored left to right or not, then moved by (dx, dy) pixels.

    Attributes:
        mirror: mirror first.
        dx: pixels to the right (negative: to the left).
        dy: pixels down (negative: up).
    """

    mirror: bool = False
    dx: int = 0
    dy: int = 0

    def __str__(self) -> str:
        parts = ["mirror"] if self.mirror else []
        if self.dx or self.dy:
            parts.append(f"shift({self.dx},{self.dy})")
        return "+".join(parts) or "identity"


def parse_query(text: str) -> Query:
    """Parse ``identity``, ``mirror``, ``shift(dx,dy)`` or ``mirror+shift(dx,dy)``.

    Raises:
        InputError: any other text.
    """
    compact = text.replace(" ", "")
    if compact == "identity":
        return Query()
    match = _PATTERN.fullmatch(compact)
    if not compact or match is None or compact.endswith("+") or compact.startswith("mirrorshift"):
        raise InputError(
            f"extraction.queries: {text!r} given, identity, mirror, shift(dx,dy) or "
            "mirror+shift(dx,dy) expected, for example shift(-1,2)"
        )
    mirror, dx, dy = match.groups()
    return Query(mirror is not None, int(dx or 0), int(dy or 0))


def parse_queries(texts: Sequence[str], image_size: int | None = None) -> tuple[Query, ...]:
    """Parse the config's ``extraction.queries``.

    Args:
        texts: the queries in order.
        image_size: if given, shifts must be smaller than it.

    Raises:
        InputError: a malformed or repeated query, a first query other than the
            identity, or a shift as large as the image.
    """
    queries = tuple(parse_query(text) for text in texts)
    if not queries or queries[0] != Query():
        first = texts[0] if texts else "nothing"
        raise InputError(f"extraction.queries: first is {first}, identity expected")
    for position, query in enumerate(queries):
        if query in queries[:position]:
            raise InputError(f"extraction.queries: {query} is listed twice; list it once")
        if image_size is not None and max(abs(query.dx), abs(query.dy)) >= image_size:
            raise InputError(
                f"extraction.queries: {query} moves by as much as the image has "
                f"({image_size} pixels); use a smaller shift"
            )
    return queries
