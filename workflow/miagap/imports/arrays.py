"""Arrays of the foreign layouts: mapped, never executed, and held to what their layout says."""

from __future__ import annotations

import numpy as np

from miagap.errors import InputError


def load_array(path: str) -> np.ndarray:
    """Map an .npy file; nothing in it is executed."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found") from error
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        if "pickle" in reason:  # what NumPy says of any bytes that it does not know
            reason = "no .npy file, or one of Python objects, which are not read"
        raise InputError(f"{path}: not a whole .npy file of numbers ({reason})") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: an archive of arrays, expected one array (.npy)")
    return array


def read_keep(path: str) -> np.ndarray:
    """Return what a model was trained on, bool (n,), from its keep.npy."""
    values = load_array(path)
    numbers = values.dtype.kind in "iu" and bool(np.isin(values, (0, 1)).all())
    if values.ndim != 1 or not (values.dtype == np.bool_ or numbers):
        raise InputError(f"{path}: {values.dtype} of shape {values.shape}, expected booleans (n,)")
    return np.asarray(values, dtype=np.bool_)


def read_answers(path: str, layout: str) -> np.ndarray:
    """Return logits (n, queries, classes) of a file in one of the foreign layouts."""
    values = load_array(path)
    dimensions = 4 if layout == "tf-privacy" else 3
    named = "n x 1 x queries x classes" if dimensions == 4 else "n x queries x classes"
    right = values.ndim == dimensions and values.shape[-1] >= 2 and values.shape[-2] >= 1
    if not right or values.dtype.kind != "f" or (dimensions == 4 and values.shape[1] != 1):
        raise InputError(
            f"{path}: {values.dtype} of shape {values.shape}, expected numbers {named} "
            f"(import.format: {layout})"
        )
    return values[:, 0] if dimensions == 4 else values


def require_finite(values: np.ndarray, path: str, start: int) -> None:
    """Raise InputError unless values (k, ...) of samples from ``start`` on are finite."""
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not good.all():
        where = start + int(np.flatnonzero(~good)[0])
        raise InputError(f"{path}: NaN or infinity at sample {where}; the model diverged")
