"""Fashion-MNIST: idx files, gzipped or not, in torchvision's folder or Debian's."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miagap.datasets.settings import DatasetSettings
from miagap.datasets.source import Source, find_torchvision, from_arrays
from miagap.errors import InputError

CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
_FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)
_PLACES = ("FashionMNIST/raw", "raw", ".")
_UNSIGNED_BYTE = 0x08


def read(settings: DatasetSettings) -> Source:
    """Read Fashion-MNIST, the train part first."""
    files = [(name, f"{name}.gz") for name in _FILES]
    folder = find_torchvision(settings, "FashionMNIST", _PLACES, files, DEBIAN)
    arrays = [read_idx(_plain_or_gzipped(folder, name)) for name in _FILES]
    for images, labels, name in zip(arrays[::2], arrays[1::2], _FILES[::2], strict=True):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InputError(
                f"{folder / name}: {images.shape} images with {labels.shape} labels, "
                "expected (n, 28, 28) and (n,); download them again"
            )
        if labels.max(initial=0) >= len(CLASS_NAMES):
            raise InputError(f"{folder / name}: a label is {labels.max()}, expected 0 to 9")
    pooled_images = np.concatenate(arrays[::2])[..., np.newaxis]
    pooled_labels = np.concatenate(arrays[1::2]).astype(np.int64)
    return from_arrays("fashion_mnist", str(folder), pooled_images, pooled_labels, CLASS_NAMES)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, gzipped when its name ends in .gz.

    Raises:
        InputError: the file is not idx, or its length is not what its header says.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"{file}: cannot be read ({error}); delete it and download it again"
        ) from error
    start = 4 + 4 * content[3] if len(content) > 3 else 4
    if len(content) < start or content[:3] != bytes((0, 0, _UNSIGNED_BYTE)):
        raise InputError(f"{file}: not an idx file of bytes; delete it and download it again")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    if len(content) != start + math.prod(shape):
        raise InputError(
            f"{file}: {len(content)} bytes, expected {start + math.prod(shape)}; "
            "delete it and download it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _plain_or_gzipped(folder: Path, name: str) -> Path:
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"
