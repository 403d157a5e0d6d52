"""Training the runs of a block one after another in one process.

A process that trains one small model spends most of its life on imports. Runs of a
block share the process, the pool on the device and nothing else: every run is seeded by
itself, so its bits do not depend on which other runs share its block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from miagap import artifacts, augment, job, keep, seeds, splits
from miagap.augment import Augmentation
from miagap.digest import text_digest
from miagap.errors import InputError
from miagap.models import ModelSettings
from miagap.names import BEST, HISTORY, ModelId, parse_run_name
from miagap.numerics import Numerics
from miagap.training import Resume, Task, TrainingSettings, train
from miagap.training.state import Weights
from miagap.workbench import Workbench


@dataclass(frozen=True)
class Recipe:
    """How every run of a technique is trained.

    Attributes:
        settings: the stage's settings, as ``Study.training_settings`` gives them.
        resume_every: epochs between saved states, 0 for none.
        metadata: provenance of every file, without seed, split and checkpoint.
        identity: digest of everything beside the run itself that its weights depend on.
    """

    settings: Mapping[str, Any]
    resume_every: int
    metadata: Mapping[str, str]
    identity: str


def checkpoint_file(checkpoint: str) -> str:
    """Return the file name of a checkpoint within its run's folder."""
    return f"checkpoint-{checkpoint}.safetensors"


@dataclass(frozen=True)
class Run:
    """A run and its files.

    Attributes:
        model: technique, seed and split.
        folder: where the files belong.
        files: names of all of them.
    """

    model: ModelId
    folder: Path
    files: tuple[str, ...]

    @property
    def checkpoints(self) -> list[str]:
        """The checkpoints among the files, in their order."""
        stems = [Path(name).stem for name in self.files]
        names = [stem.removeprefix("checkpoint-") for stem in stems]
        return [name for stem, name in zip(stems, names, strict=True) if stem != name]

    @property
    def places(self) -> dict[str, str]:
        """Where each file belongs, by its name."""
        return {name: str(self.folder / name) for name in self.files}


def runs_of(technique: str, paths: Iterable[str]) -> list[Run]:
    """Group a job's output files by the run that they belong to, in order of appearance."""
    folders: dict[Path, list[str]] = {}
    for path in paths:
        folders.setdefault(Path(path).parent, []).append(Path(path).name)
    return [
        Run(ModelId(technique, *parse_run_name(folder.name)), folder, tuple(names))
        for folder, names in folders.items()
    ]


def train_block(
    runs: Sequence[Run], recipe: Recipe, bench: Workbench, state: Path, log: job.Log
) -> None:
    """Train the runs of a block and put their files into place when all are finished.

    The stores stay until the extraction: only then has the workflow seen this job's end. One
    that was killed meanwhile and started again deletes the delivered files as incomplete.

    Args:
        runs: what to train.
        recipe: how.
        bench: device and data.
        state: folder of the stores of unfinished jobs.
        log: takes one line of text.

    Raises:
        InputError: see :func:`train_run`; finished runs stay in their stores.
    """
    technique = runs[0].model.technique
    stores = [state / technique / run.folder.name for run in runs]
    with job.exclusive(state / f"{technique}-{runs[0].folder.name}.lock", log):
        for run, store in zip(runs, stores, strict=True):
            # A job that outlived its workflow may have delivered while this one waited.
            keep.rescue(store, run.folder, run.files)
            train_run(run, recipe, bench, store, log)
        for run, store in zip(runs, stores, strict=True):
            keep.deliver(store, run.places)


def train_run(run: Run, recipe: Recipe, bench: Workbench, store: Path, log: job.Log) -> None:
    """Train one run into its store, unless the store holds it already.

    Raises:
        InputError: training diverged or a setting does not fit; names the run.
    """
    model = run.model
    identity = text_digest(recipe.identity, model.name, ",".join(run.checkpoints))
    if keep.is_complete(store, identity):
        log(f"{model.technique} {model.name}: found finished")
        return
    keep.begin(store, identity)
    log(f"{model.technique} {model.name}: training")
    files = _Files(store, _metadata(model, recipe, bench.numerics))
    resume = Resume(store / "state.safetensors", recipe.resume_every)
    try:
        history = train(_task(run, recipe, bench, identity), files.save, resume, log)
    except InputError as error:
        raise InputError(
            f"technique {model.technique}, seed {model.seed}, split {model.split}: {error}"
        ) from error
    files.finish(history, identity)
    keep.mark_complete(store, identity)


def _task(run: Run, recipe: Recipe, bench: Workbench, identity: str) -> Task:
    settings, model, pool = recipe.settings, run.model, bench.pool
    steps = [Augmentation(**one) for one in settings["augmentations"]]
    drawn = settings["splits"]
    return Task(
        pool=pool,
        member=splits.split_members(len(pool), model.split, **drawn),
        reserve=splits.reserve_members(len(pool), **drawn),
        augment=augment.build(steps, pool.mean.tolist()) if steps else None,
        model=ModelSettings.from_config(settings["model"]),
        settings=_training(settings["training"], run.checkpoints),
        numerics=bench.numerics,
        rng_seed=seeds.derive_int(
            settings["study_seed"], "train", model.technique, model.seed, model.split
        ),
        identity=identity,
    )


def _metadata(model: ModelId, recipe: Recipe, numerics: Numerics) -> dict[str, str]:
    return {
        **recipe.metadata,
        "technique": model.technique,
        "seed": str(model.seed),
        "split": str(model.split),
        **{f"numerics.{key}": value for key, value in numerics.describe().items()},
    }


class _Files:
    """The files of one run in its store."""

    def __init__(self, store: Path, metadata: Mapping[str, str]) -> None:
        self._store, self._metadata = store, metadata
        self._best: Weights | None = None

    def save(self, checkpoint: str, weights: Weights) -> None:
        """Write a checkpoint; the best one is kept until the history tells its epoch."""
        if checkpoint == BEST:
            self._best = weights
        else:
            self._write(checkpoint, int(checkpoint), weights)

    def finish(self, history: pa.Table, identity: str) -> None:
        """Write the best checkpoint, if there is one, and the history."""
        if self._best is not None:
            self._write(BEST, best_epoch(history), self._best)
        metadata = {**self._metadata, keep.IDENTITY: identity}
        artifacts.write_parquet(history, self._store / HISTORY, metadata)

    def _write(self, checkpoint: str, epoch: int, weights: Weights) -> None:
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        own = {**self._metadata, "checkpoint": checkpoint, "epoch": str(epoch)}
        artifacts.write_tensors(arrays, self._store / checkpoint_file(checkpoint), own)


def best_epoch(history: pa.Table) -> int:
    """Return the trained epoch with the lowest validation loss, the first of equals."""
    rows = [
        (row["validation_loss"], row["epoch"])
        for row in history.select(["epoch", "validation_loss"]).to_pylist()
        if row["epoch"] > 0 and row["validation_loss"] is not None
    ]
    return int(min(rows)[1])


def _training(section: Mapping[str, Any], checkpoints: list[str]) -> TrainingSettings:
    epochs = tuple(int(checkpoint) for checkpoint in checkpoints if checkpoint != BEST)
    settings = TrainingSettings.from_config({**section, "checkpoints": epochs})
    return replace(settings, best=BEST in checkpoints)
