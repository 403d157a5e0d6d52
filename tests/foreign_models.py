"""Folders of logits as other tools write them, of models that never were.

A model's logits are a difficulty of each sample, noise, and more confidence in what it was
trained on.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def answers(
    rng: np.random.Generator,
    member: np.ndarray,
    queries: int = 2,
    classes: int = 5,
    effect: float = 3.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits float32 (M, n, Q, C) of models trained on ``member`` (M, n), and labels."""
    models, samples = member.shape
    labels = rng.integers(0, classes, samples)
    labels[:classes] = np.arange(classes)
    logits = rng.normal(0, 1, (models, samples, queries, classes))
    logits += rng.normal(0, 1, (samples, 1, classes))
    logits[:, np.arange(samples), :, labels] += 1.0 + effect * member.T[:, :, None]
    return logits.astype(np.float32), labels


def halves(rng: np.random.Generator, models: int, samples: int) -> np.ndarray:
    """Return random halves, bool (M, n), none the complement of another."""
    return rng.random((models, samples)).argsort(axis=1) < samples // 2


def pairs(rng: np.random.Generator, models: int, samples: int) -> np.ndarray:
    """Return complementary pairs of random halves in random order, bool (M, n)."""
    half = halves(rng, models // 2, samples)
    return rng.permutation(np.concatenate([half, ~half]))


def write_tf_privacy(
    folder: Path, logits: np.ndarray, labels: np.ndarray, member: np.ndarray, epochs: list[int]
) -> Path:
    """Write experiments as mi_lira_2021's train.py and inference.py do; earlier epochs are flat."""
    folder.mkdir(parents=True)
    np.save(folder / "y_train.npy", labels.astype(np.int64))
    for number, (own, kept) in enumerate(zip(logits, member, strict=True)):
        place = folder / f"experiment-{number}"
        (place / "logits").mkdir(parents=True)
        np.save(place / "keep.npy", kept)
        for place_of_epoch, epoch in enumerate(epochs, start=1):
            shown = own * place_of_epoch / len(epochs)
            np.save(place / "logits" / f"{epoch:010d}.npy", shown[:, None].astype(np.float32))
    return folder


def write_lira_pytorch(
    folder: Path, logits: np.ndarray, labels: np.ndarray, member: np.ndarray
) -> Path:
    """Write models as orientino/lira-pytorch does; the labels lie beside the folder."""
    for number, (own, kept) in enumerate(zip(logits, member, strict=True)):
        place = folder / str(number)
        place.mkdir(parents=True)
        np.save(place / "keep.npy", kept)
        np.save(place / "logits.npy", own)
    np.save(folder.parent / "labels.npy", labels)
    return folder


def write_parquet(
    folder: Path, logits: np.ndarray, labels: np.ndarray, member: np.ndarray, epoch: int = 30
) -> Path:
    """Write models in our own extraction layout, each value by its definition."""
    place = folder / f"checkpoint-{epoch}"
    place.mkdir(parents=True)
    rows = np.arange(labels.size)
    for split, (own, kept) in enumerate(zip(logits.astype(np.float64), member, strict=True)):
        p = np.exp(own) / np.exp(own).sum(axis=-1, keepdims=True)
        right = p[rows, :, labels]
        columns = {
            "logits": own[:, 0].astype(np.float32),
            "phi": np.log(right) - np.log(1 - right),
            "loss": -np.log(right),
        }
        lists = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(v.ravel()), v.shape[1])
            for name, v in columns.items()
        }
        table = pa.table(
            {
                "sample_id": rows.astype(np.int32),
                "label": labels.astype(np.int16),
                "member": kept,
                **lists,
            }
        )
        pq.write_table(table, place / f"seed0-split{split}.parquet")
    return folder
