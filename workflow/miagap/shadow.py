"""Shadow pools: what attacks need of many models, gathered once from the extracted logits."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from miagap import artifacts
from miagap.attacks.signals import Signals
from miagap.errors import InputError
from miagap.generalization import from_logits
from miagap.names import parse_run_name

_COLUMNS = ["sample_id", "label", "member", "logits", "phi", "loss"]


@dataclass(frozen=True)
class Models:
    """Models of one technique and checkpoint: their answers and how well they generalize.

    Attributes:
        signals: what attacks see of the models.
        reserve: bool (n,), samples that no split holds.
        dataset: name of the dataset.
        dataset: name of the dataset.
        generalization: one dict a model: its epoch and what ``generalization.from_logits`` gives.
    """

    signals: Signals
    reserve: np.ndarray
    dataset: str
    generalization: tuple[dict[str, float | int | None], ...]


def gather(paths: Sequence[str], reserve: np.ndarray, *, with_logits: bool) -> Models:
    """Read the extraction files of several models of the same samples.

    Args:
        paths: Parquet files as the extraction writes them, named by seed and split.
        reserve: bool (n,), samples that no split holds.
        with_logits: keep the logits of query 0, float32 (M, n, C), in memory.

    Raises:
        InputError: a file is missing, broken, or of other samples, labels or queries than
            the first.
    """
    first = artifacts.read_parquet(paths[0], _COLUMNS)
    labels = first["label"].to_numpy().astype(np.int64)
    n, queries, classes = len(labels), _width(first, "phi"), _width(first, "logits")
    if len(reserve) != n:
        raise InputError(f"{paths[0]}: {n} samples, but the splits have {len(reserve)}")
    phi = np.empty((len(paths), queries, n))
    loss = np.empty((len(paths), n))
    member = np.empty((len(paths), n), dtype=bool)
    logits = np.empty((len(paths), n, classes), dtype=np.float32) if with_logits else None
    generalization: list[dict[str, float | int | None]] = []
    for m, path in enumerate(paths):
        table = first if m == 0 else artifacts.read_parquet(path, _COLUMNS)
        if not np.array_equal(table["label"].to_numpy(), labels):
            raise InputError(f"{path}: other samples or labels than {paths[0]}; extract it again")
        phi[m] = _matrix(table, "phi", queries, path).T
        loss[m] = _matrix(table, "loss", queries, path)[:, 0]
        member[m] = table["member"].to_numpy()
        own = _matrix(table, "logits", classes, path)
        measured = from_logits(own, labels, member[m], ~reserve, loss[m])
        epoch = _said(table, "epoch")
        generalization.append({"epoch": int(epoch) if epoch else None, **measured})
        if logits is not None:
            logits[m] = own
    runs = [parse_run_name(Path(path).stem) for path in paths]
    signals = Signals(
        phi=phi,
        loss=loss,
        member=member,
        split=np.array([split for _, split in runs], dtype=np.int64),
        seed=np.array([seed for seed, _ in runs], dtype=np.int64),
        labels=labels,
        logits=logits,
    )
    dataset = _said(first, "dataset") or ""
    return Models(signals, reserve, str(dataset), tuple(generalization))


def write_models(models: Models, path: str | os.PathLike[str], metadata: Mapping[str, str]) -> None:
    """Write a shadow pool as one safetensors file."""
    signals = models.signals
    arrays = {
        "phi": signals.phi,
        "loss": signals.loss,
        "member": signals.member,
        "split": signals.split,
        "seed": signals.seed,
        "labels": signals.labels,
        "reserve": models.reserve,
    }
    if signals.logits is not None:
        arrays["logits"] = signals.logits
    own = {"dataset": models.dataset, "generalization": json.dumps(models.generalization)}
    artifacts.write_tensors(arrays, path, {**metadata, **own})


def read_models(path: str | os.PathLike[str]) -> Models:
    """Read what :func:`write_models` wrote.

    Raises:
        InputError: the file is missing, truncated, or not a shadow pool.
    """
    arrays, metadata = artifacts.read_tensors(path)
    reserve = arrays.pop("reserve", None)
    if reserve is None or "generalization" not in metadata:
        raise InputError(f"{path}: not a shadow pool; delete it and run again")
    generalization = tuple(json.loads(metadata["generalization"]))
    return Models(Signals(**arrays), reserve, metadata["dataset"], generalization)


def take(models: Models, index: Sequence[int]) -> Models:
    """Return some of the models."""
    return replace(
        models,
        signals=models.signals.take(index),
        generalization=tuple(models.generalization[i] for i in index),
    )


def _said(table: pa.Table, key: str) -> str | None:
    """Return what the extraction says of itself, None where it does not."""
    text = (table.schema.metadata or {}).get(f"{artifacts.PREFIX}{key}".encode())
    return None if text is None else text.decode()


def _width(table: pa.Table, column: str) -> int:
    return int(table.schema.field(column).type.list_size)


def _matrix(table: pa.Table, column: str, width: int, path: str) -> np.ndarray:
    """Return a fixed-size-list column as an array (n, width)."""
    if _width(table, column) != width:
        raise InputError(f"{path}: {column} has {_width(table, column)} values, expected {width}")
    values = table[column].combine_chunks()
    return values.flatten().to_numpy(zero_copy_only=False).reshape(len(table), width)
