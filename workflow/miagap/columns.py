"""NumPy arrays as Arrow columns, and lists of one size as NumPy arrays.

``pyarrow.array`` imports pandas, which the jobs that use a device have no other use for.
"""

import numpy as np
import pyarrow as pa

EXTRACTED = ["sample_id", "label", "member", "logits", "phi", "loss"]
"""Columns of a model's answers."""


def column(values: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    """Return ``values`` (n,), of a number type or bool, as an Arrow array without a copy.

    Args:
        values: contiguous; not to be changed afterwards.
        missing: bool (n,), entries that are null; None for none.
    """
    bits = _packed(values) if values.dtype == np.bool_ else np.ascontiguousarray(values)
    valid = None if missing is None else pa.py_buffer(_packed(~missing))
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(bits)])


def lists(values: np.ndarray) -> pa.FixedSizeListArray:
    """Return ``values`` (n, k), of a number type, as n lists of k."""
    return pa.FixedSizeListArray.from_arrays(column(values.reshape(-1)), values.shape[1])


def matrix(lists_of_one_size: pa.ChunkedArray) -> np.ndarray:
    """Return a column of n lists of k numbers as an array (n, k)."""
    values = lists_of_one_size.combine_chunks()
    width = values.type.list_size
    return np.asarray(values.flatten().to_numpy(zero_copy_only=False).reshape(-1, width))


def _packed(flags: np.ndarray) -> np.ndarray:
    return np.packbits(flags, bitorder="little")
