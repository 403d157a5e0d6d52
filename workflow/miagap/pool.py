"""The pool of samples of a study, and its file; where the samples are from is not known here."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miagap import artifacts
from miagap.errors import InputError


@dataclass(frozen=True)
class Pool:
    """All samples of a study, train and test parts together.

    ``images`` is uint8 (n, H, W, C) with C = 1 (grey) or 3 (RGB); ``labels`` is int64 (n,)
    with values in [0, len(class_names)); a sample's id is its row.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    dataset: str


def checksum(pool: Pool) -> str:
    """Return the SHA-256 (hex) of shape, images and labels, the same on every machine."""
    digest = hashlib.sha256(str(pool.images.shape).encode())
    digest.update(np.ascontiguousarray(pool.images).data)
    digest.update(np.ascontiguousarray(pool.labels, dtype="<i8").data)
    return digest.hexdigest()


def write_pool(pool: Pool, path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Write a pool as safetensors; class names, checksum and dataset go into the metadata."""
    own = {
        "class_names": json.dumps(pool.class_names, ensure_ascii=False),
        "checksum": checksum(pool),
        "dataset": pool.dataset,
    }
    arrays: dict[str, np.ndarray] = {"images": pool.images, "labels": pool.labels}
    artifacts.write_tensors(arrays, path, {**metadata, **own})


def read_pool(path: str | os.PathLike[str]) -> Pool:
    """Read what :func:`write_pool` wrote.

    The checksum is not computed again: each training job reads the pool.

    Raises:
        InputError: the file is missing, truncated or not a pool.
    """
    arrays, metadata = artifacts.read_tensors(path)
    missing = [name for name in ("images", "labels") if name not in arrays]
    missing += [key for key in ("class_names", "dataset") if key not in metadata]
    if missing:
        raise InputError(f"{path}: not a pool, {', '.join(missing)} missing; delete it and rerun")
    class_names = tuple(json.loads(metadata["class_names"]))
    return Pool(arrays["images"], arrays["labels"], class_names, metadata["dataset"])
