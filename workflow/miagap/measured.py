"""Files of the signals that models are asked for beyond logits."""

import json
import os

import numpy as np
import pyarrow as pa

from miagap import artifacts
from miagap.columns import column, lists, matrix
from miagap.errors import InputError


def signal_table(values: np.ndarray) -> pa.Table:
    """Return a measured signal of one model, (n, ...), as a table: sample_id, shape, values."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    metadata = {f"{artifacts.PREFIX}shape".encode(): json.dumps(values.shape[1:]).encode()}
    ids = column(np.arange(len(values), dtype=np.int32))
    return pa.table({"sample_id": ids, "signal": lists(flat)}).replace_schema_metadata(metadata)


def read_signal(path: str | os.PathLike[str]) -> np.ndarray:
    """Read what :func:`signal_table` holds: (n, ...).

    Raises:
        InputError: the file is missing, truncated, or not a signal.
    """
    table = artifacts.read_parquet(path, ["sample_id", "signal"])
    shape = artifacts.table_metadata(table).get("shape")
    if shape is None:
        raise InputError(f"{path}: not a signal; delete it and run again")
    return matrix(table["signal"]).reshape(len(table), *json.loads(shape))
