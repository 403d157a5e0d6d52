"""A folder of class folders, or of train and test folders that hold class folders.

Parts are pooled in the order train, validation, test. Classes are numbered in the order of
their names; images of a class are ordered by path. Files that are no images by their ending,
and hidden ones, are left out.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miagap.datasets.images import decode_images
from miagap.datasets.settings import DatasetSettings
from miagap.datasets.source import PARTS, Source, existing, part_order
from miagap.errors import InputError

ENDINGS = (
    ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip


def read(settings: DatasetSettings) -> Source:
    """List the images of all classes; they are decoded when asked for.

    Raises:
        InputError: the path is no folder, or a class folder holds no image.
    """
    root = existing(settings.path, "folder")
    if not root.is_dir():
        raise InputError(f"{root}: not a folder; point `dataset.path` to a folder of class folders")
    parts = _parts(root)
    names = tuple(sorted({folder.name for part in parts for folder in _subfolders(part)}))
    if not names:
        raise InputError(f"{root}: no class folder in it; correct `dataset.path`")
    files: list[Path] = []
    labels: list[int] = []
    for part in parts:
        for label, name in enumerate(names):
            found = _images(part / name)
            files += found
            labels += [label] * len(found)
    for label in sorted(set(range(len(names))) - set(labels)):
        raise InputError(
            f"{root}: class folder {names[label]} holds no image ({', '.join(ENDINGS)}); "
            "fill it or remove it"
        )

    def read_images(rows: NDArray[np.int64], size: int | None) -> NDArray[np.uint8]:
        chosen = (files[row] for row in rows)
        return decode_images(((str(file), file) for file in chosen), str(root), size)

    return Source(root.resolve().name, str(root), np.array(labels, np.int64), names, read_images)


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]


def _parts(root: Path) -> list[Path]:
    """Return the folders that hold class folders: train and test folders, or the root."""
    folders = _subfolders(root)
    parts = [path for path in folders if path.name.lower() in PARTS and _subfolders(path)]
    if not parts:
        return [root]
    others = sorted(path.name for path in folders if path not in parts)
    if others:
        raise InputError(
            f"{root}: {others[0]} stands beside {parts[0].name}; `dataset.path` must hold either "
            "class folders or parts such as train and test"
        )
    return sorted(parts, key=lambda path: part_order(path.name))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    return [found[name] for name in sorted(found)]
