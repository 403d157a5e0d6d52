"""What a reader gives: labels at once, images when it is known which ones are wanted."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miagap.datasets.images import resize_images
from miagap.datasets.settings import DatasetSettings
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

    The last such word of the path counts. Within a part the order is that of the path's
    characters, on every file system.
    """
    words = re.split(r"[^a-z]+", path.lower())
    ranks = [_RANKS[word] for word in words if word in _RANKS]
    return (ranks[-1] if ranks else 3, path)


def number_names(where: str, labels: NDArray[np.int64]) -> tuple[str, ...]:
    """Return the names "0", "1", ... for classes that have none.

    Raises:
        InputError: the largest label is not below the number of samples.
    """
    largest = int(labels.max(initial=-1))
    if largest >= max(labels.size, 1):
        raise InputError(
            f"{where}: sample {labels.argmax()} has the label {largest} among {labels.size} "
            "samples; number the classes from 0 without gaps"
        )
    return tuple(str(label) for label in range(largest + 1))


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


def find_torchvision(
    settings: DatasetSettings,
    dataset: str,
    places: Sequence[str],
    files: Sequence[tuple[str, ...]],
    elsewhere: Path | None = None,
) -> Path:
    """Return the folder that holds ``files``, downloading them if allowed.

    Args:
        settings: ``path`` is torchvision's root, ``data`` when null, or the folder itself.
        dataset: the name of torchvision's class, used for downloading only.
        places: folders relative to the root in which to look.
        files: what the folder must have: of each tuple, one of the names.
        elsewhere: where to look, too, when ``path`` is null.

    Raises:
        InputError: the data are not there, are incomplete or cannot be downloaded.
    """
    root = Path(settings.path or "data").expanduser()
    folders = [root / place for place in places]
    if settings.path is None and elsewhere is not None:
        folders.append(elsewhere)
    missing = {folder: _missing(folder, files) for folder in folders}
    complete = [folder for folder in folders if not missing[folder]]
    if not complete and settings.download:
        _download(dataset, root)
        complete = [folder for folder in folders if not _missing(folder, files)]
    if complete:
        return complete[0]
    best = min(folders, key=lambda folder: len(missing[folder]))
    if len(missing[best]) < len(files):
        lost = ", ".join(missing[best])
        raise InputError(f"{best}: {lost} missing; copy it there or set `dataset.download`: true")
    hint = ""
    if root.is_dir() and any(root.rglob("*.parquet")):
        hint = "; it holds Parquet files, which `dataset.source`: parquet reads"
    raise InputError(
        f"{root}: no {dataset} data in this folder, expected {folders[0]}; correct "
        f"`dataset.path` or set `dataset.download`: true{hint}"
    )


def _missing(folder: Path, files: Sequence[tuple[str, ...]]) -> list[str]:
    return [names[0] for names in files if not any((folder / name).is_file() for name in names)]


def _download(dataset: str, root: Path) -> None:
    import torchvision  # slow to import, and needed here only

    try:
        for train in (True, False):
            getattr(torchvision.datasets, dataset)(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{root}: {dataset} cannot be downloaded ({str(error).splitlines()[0]}); "
            "put the data there yourself and set `dataset.path`"
        ) from error
