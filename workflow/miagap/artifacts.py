"""Reading and writing artifacts: atomic, self-describing, without pickles.

Every file is written to a temporary name beside its place and renamed when it is
whole, so a file that exists is a file that is complete. Parquet and safetensors
files carry metadata (study, tuple, config digest, versions) as strings.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from miagap.errors import InputError

PREFIX = "miagap."
SMALL_ROWS = 100


@contextlib.contextmanager
def write_atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that replaces it when the block succeeds.

    The temporary file is flushed to disk before the rename and removed when the block
    fails, so a reader sees the old file or the whole new one, never a part of it.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.chmod(_file_mode())  # safetensors keeps its files from the user's group
        temporary.replace(target)
    except (OSError, SafetensorError) as error:  # the latter for a full disk too
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{target}: cannot be written ({reason})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _file_mode() -> int:
    """Return the permissions that a new file of this process has."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write ``text`` as UTF-8, atomically."""
    with write_atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_parquet(
    table: pa.Table, path: str | os.PathLike[str], metadata: Mapping[str, str]
) -> None:
    """Write a table as zstd-compressed Parquet with ``metadata`` in its schema, atomically."""
    extra = {f"{PREFIX}{key}".encode(): value.encode() for key, value in metadata.items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **extra})
    # Thousands of files of a few rows are read back at once: per column, encodings and
    # statistics cost more there than they save.
    small = table.num_rows < SMALL_ROWS
    with write_atomic(path) as temporary:
        pq.write_table(
            table,
            temporary,
            compression="none" if small else "zstd",
            use_dictionary=not small,
            write_statistics=not small,
        )


def read_parquet(path: str | os.PathLike[str], columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises:
        InputError: the file is missing, truncated, not Parquet, or lacks a column.
    """
    with _open_parquet(path, columns or ()) as handle:
        return handle.read(columns=list(columns) if columns is not None else None)


@contextlib.contextmanager
def _open_parquet(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file that has some columns; what goes wrong while it is open names it."""
    try:
        handle = pq.ParquetFile(path)
        missing = [name for name in columns if name not in handle.schema_arrow.names]
        if missing:
            names = ", ".join(missing)
            raise InputError(f"{path}: column missing: {names}; make the file again")
        yield handle
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found") from error
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: not a whole Parquet file ({reason}); delete it and run again"
        ) from error


def read_header(path: str | os.PathLike[str], columns: Sequence[str]) -> tuple[int, pa.Schema]:
    """Return how many rows a Parquet file has, and its schema, without reading them.

    Raises:
        InputError: as for :func:`read_parquet`.
    """
    with _open_parquet(path, columns) as handle:
        return int(handle.metadata.num_rows), handle.schema_arrow


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the metadata that :func:`write_parquet` put into a file's schema."""
    try:
        return _own_metadata(pq.read_schema(path))
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not a whole Parquet file ({reason})") from error


def table_metadata(table: pa.Table) -> dict[str, str]:
    """Return :func:`read_metadata` of a table that was read already."""
    return _own_metadata(table.schema)


def _own_metadata(schema: pa.Schema) -> dict[str, str]:
    return {
        key.decode()[len(PREFIX) :]: value.decode()
        for key, value in (schema.metadata or {}).items()
        if key.startswith(PREFIX.encode())
    }


def write_tensors(
    arrays: Mapping[str, np.ndarray],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str],
) -> None:
    """Write named arrays as one safetensors file, atomically."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    with write_atomic(path) as temporary:
        save_file(contiguous, temporary, metadata=dict(metadata))
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """Order the metadata of a safetensors file: the library writes it in an order of chance.

    The same tensors and metadata then give the same bytes. The header keeps its length.
    """
    with path.open("rb+") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        if "__metadata__" in header:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= length:
            handle.seek(8)
            handle.write(text.ljust(length))


def read_tensors(
    path: str | os.PathLike[str], names: Sequence[str] | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read arrays (all, or those named) and the metadata of a safetensors file.

    Raises:
        InputError: the file is missing, truncated, or lacks a name.
    """
    try:
        with safe_open(path, framework="numpy") as handle:
            wanted = list(handle.keys()) if names is None else list(names)
            arrays = {name: handle.get_tensor(name) for name in wanted}
            return arrays, dict(handle.metadata() or {})
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found") from error
    except (SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: not a whole safetensors file ({reason}); delete it and run again"
        ) from error


def canonical_json(value: object) -> str:
    """Return JSON in which equal settings are equal text: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
