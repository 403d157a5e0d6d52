"""Models that another tool trained and asked: their logits, read into our extraction layout.

Three layouts are read:

- ``tf-privacy``, as Google's mi_lira_2021 writes them: PATH/experiment-*/logits/<10 digits>.npy
  (n x 1 x queries x classes), PATH/experiment-*/keep.npy (n booleans), PATH/y_train.npy
- ``lira-pytorch``, as orientino/lira-pytorch writes them: PATH/<id>/logits.npy (n x queries x
  classes), PATH/<id>/keep.npy; the labels are a file of their own
- ``parquet``: our own extraction layout, PATH/checkpoint-*/seed*-split*.parquet, or that below
  one folder for each technique

:func:`list_models` looks at names only, so that a workflow can be planned without reading data.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from miagap import artifacts
from miagap.errors import InputError
from miagap.names import parse_run_name

UNNUMBERED = "final"
"""Checkpoint of models whose epoch nobody wrote down."""
_COLUMNS = ["sample_id", "label", "member", "logits", "phi", "loss"]
_BATCH = 8192
_EPOCH = re.compile(r"\d{10}")
_RUN = re.compile(r"seed\d+-split\d+")


@dataclass(frozen=True)
class ImportedModel:
    """One model of the folder.

    Attributes:
        name: its folder or file name there.
        seed, split: what it is called in our tables.
        logits: checkpoint -> file with its answers.
        keep: file with what it was trained on; None where ``logits`` say it.
    """

    name: str
    seed: int
    split: int
    logits: Mapping[str, str]
    keep: str | None

    @property
    def run(self) -> tuple[int, int]:
        """Seed and split."""
        return self.seed, self.split


@dataclass(frozen=True)
class Imported:
    """What a folder holds.

    Attributes:
        layout: tf-privacy, lira-pytorch or parquet.
        dataset: name of the dataset in the tables.
        models: technique -> its models, in order.
        checkpoints: in order, the same for all models.
        labels: file with the labels; None where the logits' files hold them.
        targets: (seed, split) of the models to attack.
    """

    layout: str
    dataset: str
    models: Mapping[str, tuple[ImportedModel, ...]]
    checkpoints: tuple[str, ...]
    labels: str | None
    targets: tuple[tuple[int, int], ...]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """(seed, split) of the models, the same for every technique."""
        return [model.run for model in next(iter(self.models.values()))]

    @cached_property
    def by_run(self) -> Mapping[tuple[str, int, int], ImportedModel]:
        """Models by technique, seed and split."""
        return {(name, *m.run): m for name, models in self.models.items() for m in models}


@dataclass(frozen=True)
class Size:
    """How large a model's answers at a checkpoint are: counts, and bytes of the file."""

    samples: int
    queries: int
    classes: int
    file_bytes: int


# --- what a folder holds ---------------------------------------------------------------------


def list_models(settings: Mapping[str, Any]) -> Imported:
    """Look up the models, checkpoints and targets of a study that is imported.

    Args:
        settings: the config's section ``import``.

    Raises:
        InputError: the folder or a file is missing, or a checkpoint or target does not exist.
    """
    folder = Path(settings["path"])
    if not folder.is_dir():
        raise InputError(f"import.path: folder {folder} not found; give the folder of the models")
    models, checkpoints = _LISTERS[settings["format"]](folder, settings)
    for technique, found in models.items():
        if len(found) < 2:
            raise InputError(
                f"import.path: {folder} holds {len(found)} model of {technique}; an attack needs "
                "at least one more for each target"
            )
    labels = {"tf-privacy": str(folder / "y_train.npy"), "lira-pytorch": settings["labels"]}
    return Imported(
        layout=settings["format"],
        dataset=settings["dataset"],
        models=models,
        checkpoints=checkpoints,
        labels=labels.get(settings["format"]),
        targets=_targets(settings["targets"], next(iter(models.values()))),
    )


_Listed = tuple[dict[str, tuple[ImportedModel, ...]], tuple[str, ...]]


def _list_tf_privacy(folder: Path, settings: Mapping[str, Any]) -> _Listed:
    experiments = _folders(folder, "experiment-*", "tf-privacy")
    epochs = {}
    for place in experiments:
        found = {p.stem: p for p in place.glob("logits/*.npy") if _EPOCH.fullmatch(p.stem)}
        if not found:
            raise InputError(f"{place}/logits: no <10-digit epoch>.npy there; run score.py")
        epochs[place] = {int(stem): str(path) for stem, path in found.items()}
    chosen = _choose_epochs(folder, {p.name: set(e) for p, e in epochs.items()}, settings["epoch"])
    models = [
        ({str(epoch): epochs[place][epoch] for epoch in chosen}, str(place / "keep.npy"))
        for place in experiments
    ]
    names = [place.name for place in experiments]
    found_models = _numbered(names, models)
    return {settings["technique"]: found_models}, tuple(str(epoch) for epoch in chosen)


def _list_lira_pytorch(folder: Path, settings: Mapping[str, Any]) -> _Listed:
    if isinstance(settings["epoch"], int):
        raise InputError(
            f"import.epoch: {settings['epoch']} is not known, for format lira-pytorch has no "
            "epochs; leave the key out"
        )
    places = [place for place in _folders(folder, "*", "lira-pytorch") if any(place.glob("*.npy"))]
    if not places:
        raise InputError(f"import.path: {folder} has no <id>/logits.npy")
    models = []
    for place in places:
        if not (place / "logits.npy").is_file():
            raise InputError(f"{place}/logits.npy: file not found; run inference.py")
        models.append(({UNNUMBERED: str(place / "logits.npy")}, str(place / "keep.npy")))
    return {settings["technique"]: _numbered([p.name for p in places], models)}, (UNNUMBERED,)


def _list_parquet(folder: Path, settings: Mapping[str, Any]) -> _Listed:
    if any(folder.glob("checkpoint-*")):
        places = {settings["technique"]: folder}
    else:
        places = {p.name: p for p in sorted(folder.iterdir()) if any(p.glob("checkpoint-*"))}
    if not places:
        raise InputError(
            f"import.path: {folder} has no checkpoint-*/seed*-split*.parquet; give a folder "
            "logits/<technique> of a study, or logits"
        )
    files = {name: _own_files(place) for name, place in places.items()}
    everywhere = {f"{name}/{run}": set(own) for name, runs in files.items() for run, own in runs}
    first = [run for run, _ in next(iter(files.values()))]
    for name, runs in files.items():
        if [run for run, _ in runs] != first:
            raise InputError(
                f"import.path: {places[name]} has other models than {places[next(iter(places))]}; "
                "techniques must have the same seeds and splits"
            )
    chosen = [str(epoch) for epoch in _choose_epochs(folder, everywhere, settings["epoch"])]
    models = {}
    for name, runs in files.items():
        models[name] = tuple(
            ImportedModel(run, *parse_run_name(run), {key: own[int(key)] for key in chosen}, None)
            for run, own in runs
        )
    return models, tuple(chosen)


def _own_files(place: Path) -> list[tuple[str, dict[int, str]]]:
    """Return the runs of a technique's folder in order, each with its file at every epoch."""
    found: dict[str, dict[int, str]] = {}
    for path in sorted(place.glob("checkpoint-*/seed*-split*.parquet")):
        epoch = path.parent.name.removeprefix("checkpoint-")
        if epoch.isdigit() and _RUN.fullmatch(path.stem):
            found.setdefault(path.stem, {})[int(epoch)] = str(path)
    return sorted(found.items(), key=lambda item: _natural(item[0]))


_LISTERS: dict[str, Callable[[Path, Mapping[str, Any]], _Listed]] = {
    "tf-privacy": _list_tf_privacy,
    "lira-pytorch": _list_lira_pytorch,
    "parquet": _list_parquet,
}


def _folders(folder: Path, pattern: str, layout: str) -> list[Path]:
    found = sorted(
        (p for p in folder.glob(pattern) if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: _natural(p.name),
    )
    if not found:
        raise InputError(f"import.path: {folder} has no folder {pattern} (format {layout})")
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that takes digits as numbers: experiment-9 comes before experiment-10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def _choose_epochs(folder: Path, found: Mapping[str, set[int]], wanted: str | int) -> list[int]:
    """Return the newest epoch that all models have, all such, or the one that is named."""
    common = set.intersection(*found.values())
    if isinstance(wanted, int):
        for name, epochs in found.items():
            if wanted not in epochs:
                have = ", ".join(str(epoch) for epoch in sorted(epochs))
                raise InputError(f"import.epoch: {name} has no epoch {wanted}; it has {have}")
        return [wanted]
    if not common:
        raise InputError(f"import.epoch: no epoch is there for every model of {folder}; name one")
    return sorted(common) if wanted == "all" else [max(common)]


def _numbered(
    names: Sequence[str], files: Iterable[tuple[dict[str, str], str]]
) -> tuple[ImportedModel, ...]:
    """Number models by the number that their names end with, or else in order."""
    ends = [re.search(r"(\d+)$", name) for name in names]
    numbers = [int(end[1]) for end in ends if end]
    if len(set(numbers)) < len(names):
        numbers = list(range(len(names)))
    return tuple(
        ImportedModel(name, 0, number, logits, keep)
        for name, number, (logits, keep) in zip(names, numbers, files, strict=True)
    )


def _targets(
    wanted: Sequence[str] | None, models: Sequence[ImportedModel]
) -> tuple[tuple[int, int], ...]:
    if wanted is None:
        return tuple(model.run for model in models)
    by_name = {model.name: model.run for model in models}
    for name in wanted:
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name) or list(by_name)[:3]
            raise InputError(
                f"import.targets: no model {name} in the folder; there is {', '.join(near)}"
            )
    return tuple(dict.fromkeys(by_name[name] for name in wanted))


def _first_file(source: Imported) -> str:
    """Return the first model's file at the first checkpoint, to which others are held."""
    return next(iter(source.models.values()))[0].logits[source.checkpoints[0]]


def size(source: Imported) -> Size:
    """Return how large a model's answers are, from the header of the first model's file.

    Raises:
        InputError: the file is missing or damaged, or not of the layout.
    """
    path = _first_file(source)
    if source.layout == "parquet":
        samples, schema = artifacts.read_header(path, ["logits", "phi"])
        queries, classes = (_list_size(schema, path, name) for name in ("phi", "logits"))
    else:
        samples, queries, classes = _answers(path, source.layout).shape
    return Size(samples, queries, classes, Path(path).stat().st_size)


def _list_size(schema: pa.Schema, path: str, name: str) -> int:
    """Return the length of the lists of a column."""
    kind = schema.field(name).type
    if not pa.types.is_fixed_size_list(kind):
        raise InputError(f"{path}: {name} must be lists of one size")
    return int(kind.list_size)


# --- reading ---------------------------------------------------------------------------------


def phi_and_loss(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return LiRA's logit-scaled confidence and the cross-entropy, in float64.

    The same as ``extraction.phi_and_loss``, without torch: phi = z_y - logsumexp(z over the
    other classes), loss = log(1 + exp(-phi)).

    Args:
        logits: (n, ..., C), any floating dtype, at least two classes.
        labels: int64 (n,).

    Returns:
        Two float64 arrays (n, ...).
    """
    z = np.moveaxis(np.asarray(logits, np.float64), -1, 1).copy()
    rows = np.arange(len(z))
    own = z[rows, labels].copy()
    z[rows, labels] = -np.inf
    top = z.max(axis=1)
    phi = own - (top + np.log(np.exp(z - top[:, None]).sum(axis=1)))
    return phi, np.logaddexp(0.0, -phi)


def read_membership(models: Sequence[ImportedModel]) -> tuple[np.ndarray, np.ndarray]:
    """Return what the models were trained on, bool (M, n), and the reserve, bool (n,).

    The reserve is what no model was trained on, if it was set apart: of samples that are left
    out by chance there are fewer than of samples that exactly one model was trained on.

    Raises:
        InputError: a file is missing, no array of booleans, or of another length.
    """
    rows: list[np.ndarray] = []
    for model in models:
        path = model.keep or next(iter(model.logits.values()))
        own = _keep(path) if model.keep else _own_column(path, "member", np.bool_)
        if rows and own.size != rows[0].size:
            first = models[0].keep or next(iter(models[0].logits.values()))
            raise InputError(f"{path}: {own.size} samples, but {first} has {rows[0].size}")
        if own.all() or not own.any():
            raise InputError(f"{path}: {own.sum()} of {own.size} samples are members; need both")
        rows.append(own)
    member = np.stack(rows)
    times = member.sum(axis=0)
    apart = (times == 0).sum() > (times == 1).sum()
    reserve = (times == 0) if apart else np.zeros(times.size, np.bool_)
    for model, own in zip(models, member[:, ~reserve], strict=True):
        if own.all():
            raise InputError(
                f"{model.keep or next(iter(model.logits.values()))}: members are all samples that "
                "any model was trained on, so that attacks have no known non-members of it; "
                "models must be trained on different samples"
            )
    return member, reserve


def read_model(
    source: Imported, model: ImportedModel, checkpoint: str, member: np.ndarray
) -> pa.Table:
    """Return a model's answers at a checkpoint as our extraction writes them.

    Args:
        source: the folder that the model is from.
        model: one of its models.
        checkpoint: one of its checkpoints.
        member: bool (n,), what the model was trained on.

    Raises:
        InputError: a file is missing or damaged, its shape or dtype is not the layout's, its
            length is not that of the others, or it holds NaN or infinity.
    """
    path = model.logits[checkpoint]
    if source.layout == "parquet":
        return _own_table(source, path, member)
    logits = _answers(path, source.layout)
    labels = read_labels(source)
    n, queries, classes = logits.shape
    _require_same_size(source, path, queries, classes)
    if not n == labels.size == member.size:
        raise InputError(
            f"{path}: {n} samples, but {source.labels} has {labels.size} labels and {model.keep} "
            f"{member.size} entries"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{source.labels}: labels from {labels.min()} to {labels.max()}, but {path} has "
            f"{classes} classes (0 to {classes - 1})"
        )
    phi, loss = np.empty((n, queries)), np.empty((n, queries))
    for start in range(0, n, _BATCH):
        rows = slice(start, start + _BATCH)
        _require_finite(logits[rows], path, start)
        phi[rows], loss[rows] = phi_and_loss(logits[rows], labels[rows])
    columns = {
        "sample_id": pa.array(np.arange(n, dtype=np.int32)),
        "label": pa.array(labels.astype(np.int32)),
        "member": pa.array(member),
        "logits": _lists(np.ascontiguousarray(logits[:, 0], dtype=np.float32)),
        "phi": _lists(phi),
        "loss": _lists(loss),
    }
    return pa.table(columns)


def read_labels(source: Imported) -> np.ndarray:
    """Return the true classes, int64 (n,), from the file of labels."""
    assert source.labels is not None
    labels = _load(source.labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise InputError(
            f"{source.labels}: {labels.dtype} of shape {labels.shape}, expected integers (n,)"
        )
    return labels.astype(np.int64)


def _load(path: str) -> np.ndarray:
    """Map an .npy file; nothing in it is executed."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: file not found") from error
    except (OSError, ValueError, EOFError) as error:
        reason = str(error).splitlines()[0]
        if "pickle" in reason:  # what NumPy says of any bytes that it does not know
            reason = "no .npy file, or one of Python objects, which are not read"
        raise InputError(f"{path}: not a whole .npy file of numbers ({reason})") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: an archive of arrays, expected one array (.npy)")
    return array


def _keep(path: str) -> np.ndarray:
    values = _load(path)
    numbers = values.dtype.kind in "iu" and bool(np.isin(values, (0, 1)).all())
    if values.ndim != 1 or not (values.dtype == np.bool_ or numbers):
        raise InputError(f"{path}: {values.dtype} of shape {values.shape}, expected booleans (n,)")
    return np.asarray(values, dtype=np.bool_)


def _answers(path: str, layout: str) -> np.ndarray:
    """Return logits (n, queries, classes) of a file in one of the foreign layouts."""
    values = _load(path)
    dimensions = 4 if layout == "tf-privacy" else 3
    named = "n x 1 x queries x classes" if dimensions == 4 else "n x queries x classes"
    right = values.ndim == dimensions and values.shape[-1] >= 2 and values.shape[-2] >= 1
    if not right or values.dtype.kind != "f" or (dimensions == 4 and values.shape[1] != 1):
        raise InputError(
            f"{path}: {values.dtype} of shape {values.shape}, expected numbers {named} "
            f"(import.format: {layout})"
        )
    return values[:, 0] if dimensions == 4 else values


def _require_finite(values: np.ndarray, path: str, start: int) -> None:
    good = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not good.all():
        where = start + int(np.flatnonzero(~good)[0])
        raise InputError(f"{path}: NaN or infinity at sample {where}; the model diverged")


def _own_column(path: str, name: str, dtype: type) -> np.ndarray:
    values = artifacts.read_parquet(path, [name])[name].to_numpy()
    if values.dtype != np.dtype(dtype):
        raise InputError(f"{path}: {name} is {values.dtype}, expected {np.dtype(dtype).name}")
    return values


def _require_same_size(source: Imported, path: str, queries: int, classes: int) -> None:
    """Raise InputError unless a model was asked as the first of the folder was."""
    first, expected = _first_file(source), size(source)
    if (queries, classes) != (expected.queries, expected.classes):
        raise InputError(
            f"{path}: {queries} queries and {classes} classes, but {first} has "
            f"{expected.queries} and {expected.classes}; all models must be asked alike"
        )


def _own_table(source: Imported, path: str, member: np.ndarray) -> pa.Table:
    """Return a table of our own layout, checked."""
    table = artifacts.read_parquet(path, _COLUMNS)
    for name in _COLUMNS:
        if table[name].null_count:
            raise InputError(f"{path}: {name} is empty for {table[name].null_count} samples")
    widths = [_list_size(table.schema, path, name) for name in ("phi", "loss", "logits")]
    if widths[0] != widths[1]:
        raise InputError(f"{path}: phi of {widths[0]} queries, loss of {widths[1]}")
    _require_same_size(source, path, widths[0], widths[2])
    for name in ("logits", "phi", "loss"):
        width = _list_size(table.schema, path, name)
        values = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        _require_finite(values.reshape(-1, width), path, 0)
    ids = table["sample_id"].to_numpy()
    if not np.array_equal(ids, np.arange(len(ids))):
        raise InputError(f"{path}: sample_id does not count from 0")
    _check_labels(source, path, table["label"].to_numpy(), widths[2])
    if not np.array_equal(table["member"].to_numpy(), member):
        raise InputError(f"{path}: member differs between this model's checkpoints")
    return table


def _check_labels(source: Imported, path: str, labels: np.ndarray, classes: int) -> None:
    """Raise InputError unless labels of our own layout are those of the first model's file."""
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"{path}: label must be integers from 0 to {classes - 1}")
    first = _first_file(source)
    if not np.array_equal(labels, artifacts.read_parquet(first, ["label"])["label"].to_numpy()):
        raise InputError(f"{path}: other labels than in {first}; models must share their samples")


def _lists(values: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def find_pairs(member: np.ndarray, reserve: np.ndarray) -> tuple[np.ndarray, bool]:
    """Number models so that those of one number may not be each other's shadows.

    Models of equal or of complementary splits get one number.

    Args:
        member: bool (M, n).
        reserve: bool (n,).

    Returns:
        int64 (M,), and whether the splits are complementary pairs: every split has its
        complement, trained equally often.
    """
    used = member[:, ~reserve]
    numbers: dict[bytes, int] = {}
    pairs = np.empty(len(used), dtype=np.int64)
    sides: dict[int, list[int]] = {}
    for row, own in enumerate(used):
        first = own if own[0] else ~own
        key = np.packbits(first).tobytes()
        pairs[row] = numbers.setdefault(key, len(numbers))
        sides.setdefault(int(pairs[row]), [0, 0])[int(own[0])] += 1
    return pairs, all(out == inside for out, inside in sides.values())
