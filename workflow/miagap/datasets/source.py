"""What a reader gives: labels at once, images when it is known which ones are wanted."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miagap.datasets.images import resize_images
from miagap.errors import InputError

PARTS = ("train", "training", "valid", "validation", "val", "dev", "test", "testing")
_RANKS = {part: 0 if part[:2] == "tr" else 2 if part[:2] == "te" else 1 for part in PARTS}


@dataclass(frozen=True)
class Source:
    """A dataset before samples are chosen.

    ``read(rows, size)`` gives the images of these rows as uint8 (len(rows), H, W, C), resized
    to size x size pixels unless ``size`` is None. ``where`` names the file or folder in messages.
    """

    name: str
    where: str
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    read: Callable[[NDArray[np.int64], int | None], NDArray[np.uint8]]


def from_arrays(
    name: str,
    where: str,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    class_names: tuple[str, ...],
) -> Source:
    """Make a source of images (n, H, W, C) that are already in memory."""

    def read(rows: NDArray[np.int64], size: int | None) -> NDArray[np.uint8]:
        return resize_images(images[rows], size)

    return Source(name, where, labels, class_names, read)


def part_order(path: str) -> tuple[int, str]:
    """Sort key of a relative path: train parts, then validation, then test, then others.

    Within a part the order is that of the path's characters, on every file system.
    """
    words = re.split(r"[^a-z]+", path.lower())
    ranks = [_RANKS[word] for word in words if word in _RANKS]
    return (ranks[0] if ranks else 3, path)


def existing(path: str | None, source: str) -> Path:
    """Return ``path`` as a Path.

    Raises:
        InputError: it is null or not there.
    """
    if path is None:
        raise InputError(f"`dataset.path` is missing: dataset.source {source} needs a path")
    found = Path(path).expanduser()
    if not found.exists():
        raise InputError(f"{path}: no such file or folder; correct `dataset.path`")
    return found
