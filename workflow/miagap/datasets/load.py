"""From settings to a pool: read, choose classes, subsample, resize, shuffle labels."""

import difflib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from miagap import seeds
from miagap.datasets import cifar, digits, fashion_mnist, folder, npz, parquet
from miagap.datasets.settings import DatasetSettings
from miagap.datasets.source import Source
from miagap.errors import InputError
from miagap.pool import Pool

_SHOWN = 12  # class names in a message

READERS: dict[str, Callable[[DatasetSettings], Source]] = {
    "digits": digits.read,
    "cifar10": cifar.reader(cifar.CIFAR10),
    "cifar100": cifar.reader(cifar.CIFAR100),
    "fashion_mnist": fashion_mnist.read,
    "parquet": parquet.read,
    "folder": folder.read,
    "npz": npz.read,
}


def load_pool(settings: DatasetSettings, study_seed: int) -> Pool:
    """Read the dataset that the settings describe; the order of samples is always the same.

    Classes are chosen first and numbered in the order given, then ``per_class`` samples of
    each are drawn (a smaller number draws a subset of a larger one's samples), and the images
    of these are read and resized. ``shuffle_labels`` permutes the labels over the samples, so
    that class sizes stay as they are.

    Raises:
        InputError: a setting, file or folder is wrong.
    """
    if settings.source not in READERS:
        known = ", ".join(READERS)
        raise InputError(f"`dataset.source` is {settings.source!r}, expected one of {known}")
    for key, value in (("size", settings.size), ("per_class", settings.per_class)):
        if value is not None and value < 1:
            raise InputError(f"`dataset.{key}` is {value}, expected 1 or more")
    source = READERS[settings.source](settings)
    if not source.labels.size:
        raise InputError(f"{source.where}: no samples; correct `dataset.path`")
    rows, labels, class_names = _choose_classes(source, settings.classes)
    if settings.per_class is not None:
        kept = _draw_per_class(labels, class_names, settings.per_class, study_seed)
        rows, labels = rows[kept], labels[kept]
    images = np.ascontiguousarray(source.read(rows, settings.size))
    if settings.shuffle_labels:
        labels = seeds.generator(study_seed, "dataset", "shuffle_labels").permutation(labels)
    return Pool(images, labels, class_names, source.name)


def _choose_classes(
    source: Source, classes: Sequence[str | int] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """Return the chosen rows in their order, their new labels and the chosen class names."""
    if classes is None:
        return np.arange(source.labels.size), source.labels, source.class_names
    chosen = [_class_index(entry, source) for entry in classes]
    if len(chosen) < 2 or len(set(chosen)) != len(chosen):
        raise InputError("`dataset.classes` must list at least two classes, each of them once")
    renumbered = np.full(len(source.class_names), -1, np.int64)
    renumbered[chosen] = np.arange(len(chosen))
    labels = renumbered[source.labels]
    rows = np.flatnonzero(labels >= 0)
    return rows, labels[rows], tuple(source.class_names[index] for index in chosen)


def _class_index(entry: str | int, source: Source) -> int:
    names = source.class_names
    if isinstance(entry, int):
        if 0 <= entry < len(names):
            return entry
        raise InputError(
            f"`dataset.classes`: no class {entry} in {source.where}; "
            f"expected 0 to {len(names) - 1} or a name"
        )
    if entry in names:
        return names.index(entry)
    near = difflib.get_close_matches(entry, names, n=1)
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    hint = f"did you mean {near[0]!r}?" if near else f"its classes are {shown}"
    raise InputError(f"`dataset.classes`: no class {entry!r} in {source.where}; {hint}")


def _draw_per_class(
    labels: NDArray[np.int64], class_names: tuple[str, ...], count: int, study_seed: int
) -> NDArray[np.int64]:
    """Return ``count`` positions per class, ascending."""
    generator = seeds.generator(study_seed, "dataset", "per_class")
    kept = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if members.size < count:
            raise InputError(
                f"`dataset.per_class` is {count}, but class {name} has {members.size} samples; "
                "lower it or leave the class out by `dataset.classes`"
            )
        # The whole class is permuted, so that a smaller count keeps a subset of a larger one.
        kept.append(generator.permutation(members)[:count])
    return np.sort(np.concatenate(kept))
