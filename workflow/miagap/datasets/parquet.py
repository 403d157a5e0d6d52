"""Parquet files in the Hugging Face image layout.

A file or a folder of files (searched in depth, hidden ones left out), pooled in the order
train, validation, test, others, and by name within these. The image column holds encoded
images, as a struct {bytes, path} or as plain binary; the label column holds class numbers
or class names.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from miagap.datasets.images import Encoded, decode_images
from miagap.datasets.settings import DatasetSettings
from miagap.datasets.source import Source, existing, number_names, part_order
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
    for file in files:
        _check_image_type(file, image_column)
    parts = [_labels(file, label_column) for file in files]
    labels, class_names = _number(files, parts, image_column, label_column)
    starts = np.cumsum([0, *(len(part) for part in parts)])

    def read_images(rows: NDArray[np.int64], size: int | None) -> NDArray[np.uint8]:
        return decode_images(_encoded(files, starts, image_column, rows), str(root), size)

    name = root.resolve().stem if root.is_file() else root.resolve().name
    return Source(name, str(root), labels, class_names, read_images)


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
        return pq.ParquetFile(file, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _field(file: Path, column: str) -> pa.Field:
    schema = _open(file).schema_arrow
    if column not in schema.names:
        have = ", ".join(schema.names)
        raise InputError(f"{file}: no column {column} as in the other files; it has {have}")
    return schema.field(column)


def _has_child(kind: pa.DataType, child: str) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index(child) >= 0


def _check_image_type(file: Path, column: str) -> None:
    kind = _field(file, column).type
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    if not binary and not _has_child(kind, "bytes"):
        raise InputError(
            f"{file}: column {column} holds {str(kind)[:60]}, expected image bytes or a struct "
            "with bytes; set `dataset.image_column`"
        )


def _read_column(file: Path, leaf: str) -> pa.ChunkedArray:
    try:
        column = _open(file).read(columns=[leaf]).column(0)
        column.validate(full=True)  # text that is not UTF-8 would fail later, without the name
        return column
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
    kind = _field(file, column).type
    found = _read_column(file, column)
    if pa.types.is_dictionary(kind):
        found = found.cast(kind.value_type)
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
    if not _has_child(_field(file, column).type, "path"):
        return None
    chunks = _read_column(file, f"{column}.path").chunks
    paths = [path for chunk in chunks for path in chunk.field("path").to_pylist()]
    if not all(path and "/" in path for path in paths):
        return None
    return [path.split("/")[0] for path in paths]


def _names(file: Path, column: str) -> tuple[str, ...] | None:
    """Return the class names that the ``datasets`` library puts into the schema, if any."""
    try:
        info = json.loads((_open(file).schema_arrow.metadata or {})[b"huggingface"])
        return tuple(str(name) for name in info["info"]["features"][column]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _number(
    files: list[Path],
    parts: list[NDArray[np.int64] | list[str]],
    image_column: str,
    label_column: str,
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the labels of all files as numbers, and the class names."""
    texts = [part for part in parts if isinstance(part, list)]
    numbers = [part for part in parts if not isinstance(part, list)]
    if texts and numbers:
        raise InputError(f"{files[0].parent}: labels are text in some files, numbers in others")
    if texts:
        class_names, labels = np.unique(np.concatenate(texts), return_inverse=True)
        return labels.astype(np.int64), tuple(str(name) for name in class_names)
    labels = np.concatenate(numbers)
    names = _common_names(files, label_column)
    if names is None:
        where = files[0] if len(files) == 1 else files[0].parent
        plain = number_names(str(where), labels)
        folders = [_folders(file, image_column) for file in files]
        return labels, _folder_names(labels, folders) or plain
    for file, part in zip(files, numbers, strict=True):
        if part.size and part.max() >= len(names):
            raise InputError(
                f"{file}: row {part.argmax()} (from 0) has the label {part.max()}, but the file's "
                f"metadata names {len(names)} classes; correct the label or the metadata"
            )
    return labels, names


def _common_names(files: list[Path], column: str) -> tuple[str, ...] | None:
    names = [_names(file, column) for file in files]
    for file, own in zip(files, names, strict=True):
        if own != names[0]:
            raise InputError(
                f"{file}: its metadata name other classes than those of {files[0].name}; "
                "point `dataset.path` to one dataset"
            )
    return names[0]


def _folder_names(
    labels: NDArray[np.int64], folders: list[list[str] | None]
) -> tuple[str, ...] | None:
    """Return the classes' folder names if folders and labels are one to one, else None."""
    count = int(labels.max(initial=-1)) + 1
    flat: list[str] = []
    for part in folders:
        if part is None:
            return None
        flat += part
    pairs = set(zip(labels.tolist(), flat, strict=True))
    by_label = dict(pairs)
    if len(pairs) != count or len(by_label) != count or len(set(by_label.values())) != count:
        return None
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
    is_struct = _has_child(_field(file, column).type, "bytes")
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
