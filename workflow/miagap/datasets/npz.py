"""NumPy's .npz archives of images and labels.

Either ``images`` and ``labels``, or pairs such as ``train_images`` and ``train_labels``
(also ``x_train`` and ``y_train``), pooled in the order train, validation, test. Images are
uint8, (n, H, W) or (n, H, W, C) with C = 1 or 3; labels are integers, (n,) or (n, 1);
``class_names`` is optional text. Nothing is unpickled.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miagap.datasets.settings import DatasetSettings
from miagap.datasets.source import PARTS, Source, existing, from_arrays, number_names, part_order
from miagap.errors import InputError

_CANDIDATES = [
    ("images", "labels"),
    *((f"{part}_images", f"{part}_labels") for part in sorted(PARTS, key=part_order)),
    *((f"x_{part}", f"y_{part}") for part in sorted(PARTS, key=part_order)),
]


def read(settings: DatasetSettings) -> Source:
    """Read and check the arrays.

    Raises:
        InputError: the file is damaged or an array is missing or not as described above.
    """
    file = existing(settings.path, "npz")
    arrays = _load(file)
    pairs = _pairs(file, arrays)
    images = [_images(file, key, arrays[key]) for key, _ in pairs]
    labels = [_labels(file, key, arrays[key]) for _, key in pairs]
    for (images_key, labels_key), some, theirs in zip(pairs, images, labels, strict=True):
        if len(some) != len(theirs):
            raise InputError(
                f"{file}: {len(some)} {images_key} but {len(theirs)} {labels_key}; "
                "one label for each image is needed"
            )
        if some.shape[1:] != images[0].shape[1:]:
            raise InputError(
                f"{file}: {images_key} have the shape {some.shape[1:]}, {pairs[0][0]} "
                f"{images[0].shape[1:]}; bring them to one shape"
            )
    numbers = np.concatenate(labels)
    names = _class_names(file, arrays, numbers)
    return from_arrays(file.resolve().stem, str(file), np.concatenate(images), numbers, names)


def _load(file: Path) -> dict[str, np.ndarray]:
    """Read the arrays whose names mean something here."""
    if file.is_dir():
        raise InputError(f"{file}: a folder; point `dataset.path` to the .npz file itself")
    known = {"class_names", *(key for pair in _CANDIDATES for key in pair)}
    arrays = {}
    key = ""
    try:
        with np.load(file, allow_pickle=False) as archive:
            have = ", ".join(archive.files) or "nothing"
            for key in known.intersection(archive.files):
                arrays[key] = archive[key]
    except (
        OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise _unreadable(file, key, error) from error
    if not any(key != "class_names" for key in arrays):
        raise InputError(f"{file}: expected the arrays images and labels; it has {have}")
    return arrays


def _unreadable(file: Path, key: str, error: Exception) -> InputError:
    if "allow_pickle" in str(error) and key:
        return InputError(
            f"{file}: array {key} holds Python objects; save it as numbers or text (dtype str)"
        )
    return InputError(f"{file}: not a whole .npz file; save it again with numpy.savez")


def _pairs(file: Path, arrays: dict[str, np.ndarray]) -> list[tuple[str, str]]:
    """Return the keys of images and labels of each part."""
    for images, labels in _CANDIDATES:
        if (images in arrays) != (labels in arrays):
            lost = labels if images in arrays else images
            raise InputError(f"{file}: expected both {images} and {labels}; {lost} is missing")
    pairs = [pair for pair in _CANDIDATES if pair[0] in arrays]
    if ("images", "labels") in pairs and len(pairs) > 1:
        raise InputError(
            f"{file}: both images and {pairs[1][0]} are there, which may be the same samples; "
            "keep one pair"
        )
    return pairs


def _images(file: Path, key: str, images: np.ndarray) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        floats = images.dtype.kind == "f"
        nan = " with NaN or infinity" if floats and not np.isfinite(images).all() else ""
        raise InputError(
            f"{file}: {key} are {images.dtype}{nan}, expected uint8; scale them to 0..255, "
            "round and convert them"
        )
    if images.ndim == 3:
        return images[..., np.newaxis]
    if images.ndim == 4 and images.shape[3] in (1, 3):
        return images
    channels_first = images.ndim == 4 and images.shape[1] in (1, 3)
    mend = "move the channels to the end" if channels_first else "reshape them"
    raise InputError(
        f"{file}: {key} have the shape {images.shape}, expected (n, height, width) or "
        f"(n, height, width, 1 or 3); {mend}"
    )


def _labels(file: Path, key: str, labels: np.ndarray) -> NDArray[np.int64]:
    if labels.dtype.kind not in "iu":
        raise InputError(f"{file}: {key} are {labels.dtype}, expected integers from 0")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise InputError(f"{file}: {key} have the shape {labels.shape}, expected (n,)")
    if labels.size and labels.min() < 0:
        raise InputError(
            f"{file}: {key}[{labels.argmin()}] is {labels.min()}, expected 0 or more; "
            "remove unlabelled samples"
        )
    return labels.astype(np.int64)


def _class_names(
    file: Path, arrays: dict[str, np.ndarray], labels: NDArray[np.int64]
) -> tuple[str, ...]:
    if "class_names" not in arrays:
        return number_names(str(file), labels)
    count = int(labels.max(initial=-1)) + 1
    names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(
            f"{file}: class_names are {names.dtype} {names.shape}, expected text (classes,)"
        )
    if count > len(names):
        raise InputError(
            f"{file}: label {count - 1} at sample {labels.argmax()}, but class_names has "
            f"{len(names)} entries; correct one of them"
        )
    return tuple(str(name) for name in names)
