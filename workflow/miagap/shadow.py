"""Shadow pools: what attacks need of many models, gathered once from the extracted logits."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from miagap import artifacts
from miagap.columns import EXTRACTED, matrix
from miagap.errors import InputError
from miagap.generalization import from_logits
from miagap.measured import read_signal
from miagap.names import parse_run_name, run_name
from miagap.signals import Signals

_EXTRA = "extra:"


@dataclass(frozen=True)
class Models:
    """Models of one technique and checkpoint: their answers and how well they generalize.

    Attributes:
        signals: what attacks see of the models.
        reserve: bool (n,), samples that no split holds.
        dataset: name of the dataset.
        generalization: one dict a model: its epoch and what ``generalization.from_logits`` gives.
    """

    signals: Signals
    reserve: np.ndarray
    dataset: str
    generalization: tuple[dict[str, float | int | None], ...]


def gather(
    paths: Sequence[str],
    reserve: np.ndarray,
    *,
    with_logits: bool,
    extra: Mapping[str, Sequence[str]] | None = None,
    pairs: np.ndarray | None = None,
) -> Models:
    """Read the extraction files of several models of the same samples.

    Args:
        paths: Parquet files as the extraction writes them, named by seed and split.
        reserve: bool (n,), samples that no split holds.
        with_logits: keep the logits of query 0, float32 (M, n, C), in memory.
        extra: files of further signals, in the order of ``paths``, by ``Measurement.key``.
        pairs: int64 (M,), ``Signals.pairs`` where splits 2k and 2k + 1 are not complements.

    Raises:
        InputError: a file is missing, broken, or of other samples, labels or queries than
            the first.
    """
    first = artifacts.read_parquet(paths[0], EXTRACTED)
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
        table = first if m == 0 else artifacts.read_parquet(path, EXTRACTED)
        if not np.array_equal(table["label"].to_numpy(), labels):
            raise InputError(f"{path}: other samples or labels than {paths[0]}; extract it again")
        phi[m] = _matrix(table, "phi", queries, path).T
        loss[m] = _matrix(table, "loss", queries, path)[:, 0]
        member[m] = table["member"].to_numpy()
        own = _matrix(table, "logits", classes, path)
        measured = from_logits(own, labels, member[m], ~reserve, loss[m])
        generalization.append({"epoch": _epoch(table), **measured})
        if logits is not None:
            logits[m] = own
    runs = [parse_run_name(Path(path).stem) for path in paths]
    seed, split = (np.array(numbers, np.int64) for numbers in zip(*runs, strict=True))
    further = {key: _stack(files, paths, n) for key, files in (extra or {}).items()}
    signals = Signals(phi, loss, member, split, seed, labels, logits, further, pairs)
    dataset = artifacts.table_metadata(first).get("dataset", "")
    return Models(signals, reserve, dataset, tuple(generalization))


def _epoch(table: pa.Table) -> int | None:
    """Return the epoch of a model's answers; None where nobody wrote it down."""
    epoch = artifacts.table_metadata(table).get("epoch")
    return int(epoch) if epoch else None


def by_signal(files: Sequence[str], keys: Sequence[str]) -> dict[str, list[str]]:
    """Sort files of signals, ``KEY/technique/checkpoint/run.parquet``, by the signal's key."""
    return {key: [f for f in files if Path(f).parents[2].name == key] for key in keys}


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
    if signals.pairs is not None:
        arrays["pairs"] = signals.pairs
    arrays |= {_EXTRA + key: array for key, array in signals.extra.items()}
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
    further = [name for name in arrays if name.startswith(_EXTRA)]
    extra = {name.removeprefix(_EXTRA): arrays.pop(name) for name in further}
    return Models(Signals(**arrays, extra=extra), reserve, metadata["dataset"], generalization)


def _stack(files: Sequence[str], paths: Sequence[str], samples: int) -> np.ndarray:
    """Return a signal of several models, (M, n, ...), in the order of ``paths``."""
    if [Path(file).stem for file in files] != [Path(path).stem for path in paths]:
        raise ValueError("signals and logits are not of the same models")
    found: np.ndarray | None = None
    for m, file in enumerate(files):
        values = read_signal(file)
        if found is None:
            found = np.empty((len(files), *values.shape), values.dtype)
        if values.shape != found.shape[1:] or len(values) != samples:
            raise InputError(
                f"{file}: shape {values.shape}, expected {(samples, *found.shape[2:])}; measure it "
                "again"
            )
        found[m] = values
    assert found is not None
    return found


def take(models: Models, index: Sequence[int]) -> Models:
    """Return some of the models."""
    return replace(
        models,
        signals=models.signals.take(index),
        generalization=tuple(models.generalization[i] for i in index),
    )


def only(models: Models, runs: Collection[str]) -> Models:
    """Return the models of these runs, in their order; all of them as they are."""
    names = map(run_name, models.signals.seed.tolist(), models.signals.split.tolist())
    index = [place for place, name in enumerate(names) if name in runs]
    return models if len(index) == models.signals.models else take(models, index)


def _width(table: pa.Table, column: str) -> int:
    return int(table.schema.field(column).type.list_size)


def _matrix(table: pa.Table, column: str, width: int, path: str) -> np.ndarray:
    """Return a fixed-size-list column as an array (n, width)."""
    if _width(table, column) != width:
        raise InputError(f"{path}: {column} has {_width(table, column)} values, expected {width}")
    return matrix(table[column])
