"""How large models' answers are, from the headers of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from miagap import artifacts
from miagap.errors import InputError
from miagap.imports.arrays import read_answers
from miagap.imports.source import Imported


@dataclass(frozen=True)
class Size:
    """How large a model's answers at a checkpoint are: counts, and bytes of the file."""

    samples: int
    queries: int
    classes: int
    file_bytes: int


def size(source: Imported) -> Size:
    """Return how large a model's answers are, from the header of the first model's file.

    Raises:
        InputError: the file is missing or damaged, or not of the layout.
    """
    path = source.first_file
    if source.layout == "parquet":
        samples, schema = artifacts.read_header(path, ["logits", "phi"])
        queries, classes = (list_size(schema, path, name) for name in ("phi", "logits"))
    else:
        samples, queries, classes = read_answers(path, source.layout).shape
    return Size(samples, queries, classes, Path(path).stat().st_size)


def require_same_size(source: Imported, path: str, queries: int, classes: int) -> None:
    """Raise InputError unless a model was asked as the first of the folder was."""
    first, expected = source.first_file, size(source)
    if (queries, classes) != (expected.queries, expected.classes):
        raise InputError(
            f"{path}: {queries} queries and {classes} classes, but {first} has "
            f"{expected.queries} and {expected.classes}; all models must be asked alike"
        )


def list_size(schema: pa.Schema, path: str, name: str) -> int:
    """Return the length of the lists of a column."""
    kind = schema.field(name).type
    if not pa.types.is_fixed_size_list(kind):
        raise InputError(f"{path}: {name} must be lists of one size")
    return int(kind.list_size)
