"""Files of the signals that models are asked for beyond logits."""

import json
import os

import numpy as np
import pyarrow as pa

from miagap import artifacts
from miagap.errors import InputError


def signal_table(values: np.ndarray) -> pa.Table:
    """Return a measured signal of one model, (n, ...), as a table: sample_id, shape, values."""
    flat = np.ascontiguousarray(values).reshape(len(values), -1)
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    metadata = {f"{artifacts.PREFIX}shape".encode(): json.dumps(values.shape[1:]).encode()}
    ids = pa.array(np.arange(len(values), dtype=np.int32))
    return pa.table({"sample_id": ids, "signal": column}).replace_schema_metadata(metadata)


def read_signal(path: str | os.PathLike[str]) -> np.ndarray:
    """Read what :func:`signal_table` holds: (n, ...).

    Raises:
        InputError: the file is missing, truncated, or not a signal.
    """
    table = artifacts.read_parquet(path, ["sample_id", "signal"])
    shape = artifacts.table_metadata(table).get("shape")
    if shape is None:
        raise InputError(f"{path}: not a signal; delete it and run again")
    values = table["signal"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(table), *json.loads(shape))
