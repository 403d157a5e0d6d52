"""Parquet files in the Hugging Face image layout.

A file or a folder of files (searched in depth, hidden ones left out), pooled in the order
train, validation, test, others, and by name within these. The image column holds encoded
images, as a struct {bytes, path} or as plain binary; the label column holds class numbers
or class names.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miagap.datasets.images import Encoded, decode_images
from miagap.datasets.pool import DatasetSettings
from miagap.datasets.source import Source, existing, part_order
from miagap.errors import InputError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")


def read(settings: DatasetSettings) -> Source:
    """Read labels and class names; images are read when asked for.

    Class names come from the Hugging Face metadata in the schema; else from the label column
    when it holds text; else from the first folder of the images' paths when these agree with
    the labels (``automobile/0001.png``); else they are the numbers.

    Raises:
        InputError: a file is missing or damaged, or lacks a column or a label.
    """
    root = existing(settings.path, "parquet")
    files = _files(root)
    schema = _open(files[0]).schema_arrow
    image_column = _column(schema, settings.image_column, IMAGE_COLUMNS, "image", files[0])
    label_column = _column(schema, settings.label_column, LABEL_COLUMNS, "label", files[0])
    parts = [_labels(file, label_column) for file in files]
    folders = [_folders(file, image_column) for file in files]
    labels, class_names = _number(parts, _names(schema, label_column), folders, files)
    starts = np.cumsum([0, *(len(part) for part in parts)])

    def read_images(rows: NDArray[np.int64], size: int | None) -> NDArray[np.uint8]:
        return decode_images(_encoded(files, starts, image_column, rows), str(root), size)

    return Source(root.resolve().stem, str(root), labels, class_names, read_images)


def _files(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    found = {
        path.relative_to(root).as_posix(): path
        for path in root.rglob("*.parquet")
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    }
    if not found:
        raise InputError(f"{root}: no .parquet file in this folder; correct `dataset.path`")
    return [found[name] for name in sorted(found, key=part_order)]


def _damaged(file: Path, error: Exception) -> InputError:
    reason = str(error).splitlines()[0]
    return InputError(f"{file}: not a whole Parquet file ({reason}); copy or download it again")


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _read_column(file: Path, column: str) -> pa.ChunkedArray:
    handle = _open(file)
    top = column.split(".")[0]
    if top not in handle.schema_arrow.names:
        have = ", ".join(handle.schema_arrow.names)
        raise InputError(f"{file}: no column {top} as in the other files; it has {have}")
    try:
        return handle.read(columns=[column]).column(0)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _column(
    schema: pa.Schema, wanted: str | None, usual: Sequence[str], kind: str, file: Path
) -> str:
    for name in usual if wanted is None else (wanted,):
        if name in schema.names:
            return name
    expected = wanted or " or ".join(usual)
    have = ", ".join(schema.names)
    raise InputError(f"{file}: no column {expected}; set `dataset.{kind}_column` to one of {have}")


def _labels(file: Path, column: str) -> NDArray[np.int64] | list[str]:
    """Return the file's labels: int64 (n,), or a list of class names."""
    found = _read_column(file, column)
    if found.null_count:
        row = found.is_null().to_pylist().index(True)
        raise InputError(f"{file}: row {row} (from 0) of column {column} has no label")
    if pa.types.is_string(found.type) or pa.types.is_large_string(found.type):
        return found.to_pylist()
    if not pa.types.is_integer(found.type):
        raise InputError(
            f"{file}: column {column} holds {found.type}, expected class numbers or names; "
            "set `dataset.label_column`"
        )
    labels = found.to_numpy().astype(np.int64)
    if labels.size and labels.min() < 0:
        row = int(labels.argmin())
        raise InputError(
            f"{file}: row {row} (from 0) of column {column} has the label {labels[row]}, "
            "expected 0 or more; remove unlabelled rows"
        )
    return labels


def _folders(file: Path, column: str) -> list[str] | None:
    """Return the first folder of every image's path, or None where a path has none."""
    kind = _open(file).schema_arrow.field(column).type
    if not pa.types.is_struct(kind) or kind.get_field_index("path") < 0:
        return None
    paths = pa.chunked_array(
        [chunk.field("path") for chunk in _read_column(file, f"{column}.path").chunks], pa.string()
    ).to_pylist()
    if not all(path and "/" in path for path in paths):
        return None
    return [path.split("/")[0] for path in paths]


def _names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the class names that the ``datasets`` library puts into the schema, if any."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    ordered = names.values() if isinstance(names, dict) else names
    return tuple(str(name) for name in ordered)


def _number(
    parts: list[NDArray[np.int64] | list[str]],
    names: tuple[str, ...] | None,
    folders: list[list[str] | None],
    files: list[Path],
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    texts = [part for part in parts if isinstance(part, list)]
    numbers = [part for part in parts if not isinstance(part, list)]
    if texts and numbers:
        raise InputError(f"{files[0].parent}: labels are text in some files, numbers in others")
    if texts:
        class_names, labels = np.unique(np.concatenate(texts), return_inverse=True)
        return labels.astype(np.int64), tuple(str(name) for name in class_names)
    labels = np.concatenate(numbers)
    if names is None:
        names = _folder_names(labels, folders)
    for file, part in zip(files, numbers, strict=True):
        if part.size and part.max() >= len(names):
            raise InputError(
                f"{file}: row {part.argmax()} (from 0) has the label {part.max()}, but the file's "
                f"metadata names {len(names)} classes; correct the label or the metadata"
            )
    return labels, names


def _folder_names(labels: NDArray[np.int64], folders: list[list[str] | None]) -> tuple[str, ...]:
    count = int(labels.max(initial=-1)) + 1
    plain = tuple(str(label) for label in range(count))
    flat: list[str] = []
    for part in folders:
        if part is None:
            return plain
        flat += part
    pairs = set(zip(labels.tolist(), flat, strict=True))
    by_label = dict(pairs)
    if len(pairs) != count or len(by_label) != count or len(set(by_label.values())) != count:
        return plain
    return tuple(by_label[label] for label in range(count))


def _encoded(
    files: list[Path], starts: NDArray[np.int64], column: str, rows: NDArray[np.int64]
) -> Iterator[Encoded]:
    """Give the encoded images of ``rows`` (ascending), one file and one batch at a time."""
    for file, start, stop in zip(files, starts[:-1], starts[1:], strict=True):
        wanted = rows[(rows >= start) & (rows < stop)] - start
        if wanted.size:
            yield from _encoded_of_file(file, column, wanted)


def _encoded_of_file(file: Path, column: str, wanted: NDArray[np.int64]) -> Iterator[Encoded]:
    kind = _open(file).schema_arrow.field(column).type
    is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if not is_struct and not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{file}: column {column} holds {re.sub(chr(10), ' ', str(kind))}, expected image "
            "bytes or a struct with bytes; set `dataset.image_column`"
        )
    seen = 0
    try:
        leaf = f"{column}.bytes" if is_struct else column
        for batch in _open(file).iter_batches(batch_size=2048, columns=[leaf]):
            here = wanted[(wanted >= seen) & (wanted < seen + batch.num_rows)]
            values = batch.column(0).field("bytes") if is_struct else batch.column(0)
            for row, data in zip(here, values.take(pa.array(here - seen)).to_pylist(), strict=True):
                yield f"{file}: row {row} (from 0)", _present(data, file, column, int(row))
            seen += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _present(data: bytes | None, file: Path, column: str, row: int) -> bytes:
    if data is None:
        raise InputError(
            f"{file}: row {row} (from 0) of column {column} has no bytes; "
            "write the file again with the images embedded"
        )
    return data
