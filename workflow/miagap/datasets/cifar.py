"""CIFAR-10 and CIFAR-100 in the folder that torchvision keeps.

The folder holds Python pickles. They are read by an unpickler that builds NumPy arrays and
plain values and refuses everything else, since a pickle can run any program.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miagap.datasets.settings import DatasetSettings
from miagap.datasets.source import Source, find_torchvision, from_arrays
from miagap.errors import InputError


@dataclass(frozen=True)
class Layout:
    """Where a CIFAR data set keeps what."""

    name: str
    torchvision: str
    folder: str
    batches: tuple[str, ...]
    meta: str
    labels_key: str
    names_key: str


CIFAR10 = Layout(
    name="cifar10",
    torchvision="CIFAR10",
    folder="cifar-10-batches-py",
    batches=(*(f"data_batch_{part}" for part in range(1, 6)), "test_batch"),
    meta="batches.meta",
    labels_key="labels",
    names_key="label_names",
)
CIFAR100 = Layout(
    name="cifar100",
    torchvision="CIFAR100",
    folder="cifar-100-python",
    batches=("train", "test"),
    meta="meta",
    labels_key="fine_labels",
    names_key="fine_label_names",
)


def _empty_array(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Stand in for NumPy's own: make the array whose content the pickle then sets."""
    return np.ndarray(shape, np.dtype(dtype))


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def reader(layout: Layout) -> Callable[[DatasetSettings], Source]:
    """Return the reader of one of the two data sets: train batches first, then test."""

    def read(settings: DatasetSettings) -> Source:
        files = [(file,) for file in (*layout.batches, layout.meta)]
        folder = find_torchvision(settings, layout.torchvision, [layout.folder, "."], files)
        names = _class_names(folder / layout.meta, layout.names_key)
        parts = [_batch(folder / file, layout.labels_key, len(names)) for file in layout.batches]
        images = np.concatenate([images for images, _ in parts])
        labels = np.concatenate([labels for _, labels in parts])
        return from_arrays(layout.name, str(folder), images, labels, names)

    return read


def _unpickle(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as handle:
            content = _ArrayUnpickler(handle, encoding="latin1").load()
    # A damaged pickle can raise nearly anything, depending on the byte that is wrong.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{file}: not a whole CIFAR file ({reason}); delete it and download it again"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds no dictionary; delete it and download it again")
    return content


def _entry(content: dict[str, Any], key: str, file: Path) -> Any:
    if key not in content:
        have = ", ".join(map(str, content))
        raise InputError(f"{file}: no entry {key!r}, it has {have}; download it again")
    return content[key]


def _class_names(file: Path, key: str) -> tuple[str, ...]:
    return tuple(str(name) for name in _entry(_unpickle(file), key, file))


def _batch(
    file: Path, labels_key: str, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    content = _unpickle(file)
    data = np.asarray(_entry(content, "data", file))
    labels = np.asarray(_entry(content, labels_key, file))
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3 * 32 * 32:
        raise InputError(f"{file}: data are {data.dtype} {data.shape}, expected uint8 (n, 3072)")
    if labels.dtype.kind not in "iu" or labels.shape != data.shape[:1]:
        raise InputError(
            f"{file}: {labels.size} labels of type {labels.dtype} for {len(data)} images; "
            "delete it and download it again"
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise InputError(
            f"{file}: row {wrong[0]} (from 0) has the label {labels[wrong[0]]}, "
            f"expected 0 to {classes - 1}; download it again"
        )
    return data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels.astype(np.int64)
