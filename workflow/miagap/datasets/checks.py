"""Checks of a pool before any model trains on it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miagap.errors import InputError
from miagap.pool import Pool, checksum

MAX_IMBALANCE = 10


@dataclass(frozen=True)
class PoolSummary:
    """What a pool holds.

    ``duplicates`` counts samples whose image is bit for bit that of an earlier sample, and
    ``conflicts`` those of them whose label differs from the first one's. Warnings are
    sentences for the log.
    """

    dataset: str
    n: int
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    class_counts: tuple[int, ...]
    duplicates: int
    conflicts: int
    checksum: str
    warnings: tuple[str, ...]


def check_pool(pool: Pool) -> PoolSummary:
    """Check shapes, dtypes, label range and classes, and summarise the pool.

    Raises:
        InputError: the pool cannot be trained on.
    """
    _check_arrays(pool)
    counts = np.bincount(pool.labels, minlength=len(pool.class_names))
    empty = [name for name, count in zip(pool.class_names, counts, strict=True) if not count]
    if empty:
        raise InputError(
            f"dataset {pool.dataset}: no sample of class {', '.join(empty)}; "
            "list the classes to keep in `dataset.classes`"
        )
    duplicates, conflicts = _count_duplicates(pool.images, pool.labels)
    return PoolSummary(
        dataset=pool.dataset,
        n=len(pool.labels),
        shape=(pool.images.shape[1], pool.images.shape[2], pool.images.shape[3]),
        class_names=pool.class_names,
        class_counts=tuple(int(count) for count in counts),
        duplicates=duplicates,
        conflicts=conflicts,
        checksum=checksum(pool),
        warnings=_warnings(pool, counts, duplicates),
    )


def _check_arrays(pool: Pool) -> None:
    name, images, labels = pool.dataset, pool.images, pool.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"dataset {name}: images are {images.dtype} {images.shape}, "
            "expected uint8 (n, height, width, 1 or 3)"
        )
    if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
        raise InputError(
            f"dataset {name}: labels are {labels.dtype} {labels.shape}, "
            f"expected int64 ({len(images)},), one for each image"
        )
    classes = len(pool.class_names)
    if classes < 2:
        raise InputError(f"dataset {name}: {classes} class, expected at least 2 to tell apart")
    if len(set(pool.class_names)) != classes:
        raise InputError(f"dataset {name}: a class name occurs twice; rename it in the data")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        raise InputError(
            f"dataset {name}: sample {wrong[0]} has the label {labels[wrong[0]]}, "
            f"expected 0 to {classes - 1}; correct the labels"
        )


def _count_duplicates(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[int, int]:
    first: dict[bytes, int] = {}
    duplicates = conflicts = 0
    for image, label in zip(images, labels.tolist(), strict=True):
        original = first.setdefault(image.tobytes(), -1 - label)
        if original >= 0:
            duplicates += 1
            conflicts += original != label
        else:
            first[image.tobytes()] = label
    return duplicates, conflicts


def _warnings(pool: Pool, counts: NDArray[np.int64], duplicates: int) -> tuple[str, ...]:
    warnings = []
    if counts.max() > MAX_IMBALANCE * counts.min():
        most, least = int(counts.argmax()), int(counts.argmin())
        warnings.append(
            f"classes are unbalanced: {pool.class_names[most]} has {counts[most]} samples, "
            f"{pool.class_names[least]} has {counts[least]}"
        )
    if duplicates:
        warnings.append(
            f"{duplicates} of {len(pool.labels)} images repeat an earlier image bit for bit; "
            "one that is in both halves of a split blurs who is a member"
        )
    return tuple(warnings)
