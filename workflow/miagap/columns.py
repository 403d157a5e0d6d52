"""NumPy arrays as Arrow columns.

``pyarrow.array`` imports pandas, which the jobs that use a device have no other use for.
"""

import numpy as np
import pyarrow as pa


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


def _packed(flags: np.ndarray) -> np.ndarray:
    return np.packbits(flags, bitorder="little")
