"""Training the runs of a block one after another in one process.

A process that trains one small model spends most of its life on imports. Runs of a
block share the process, the pool on the device and nothing else: every run is seeded by
itself, so its bits do not depend on which other runs share its block.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from miagap import artifacts, augment, job, keep, seeds, splits
from miagap.augment import Augmentation
from miagap.device_pool import DevicePool
from miagap.digest import text_digest
from miagap.errors import InputError
from miagap.models import ModelSettings
from miagap.names import BEST, HISTORY, ModelId, parse_run_name
from miagap.numerics import Numerics
from miagap.training import Resume, TrainingSettings, train
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
    reserve = splits.reserve_members(len(bench.pool), **recipe.settings["splits"])
    with job.exclusive(state / f"{technique}-{runs[0].folder.name}.lock", log):
        for run, store in zip(runs, stores, strict=True):
            # A job that outlived its workflow may have delivered while this one waited.
            keep.rescue(store, run.folder, run.files)
            drawn = recipe.settings["splits"]
            member = splits.split_members(len(bench.pool), run.model.split, **drawn)
            train_run(
                run.model,
                run.checkpoints,
                recipe,
                bench.pool,
                member,
                reserve,
                bench.numerics,
                store,
                log,
            )
        for run, store in zip(runs, stores, strict=True):
            keep.deliver(store, run.places)


def train_run(
    run: ModelId,
    checkpoints: list[str],
    recipe: Recipe,
    pool: DevicePool,
    member: np.ndarray,
    reserve: np.ndarray,
    numerics: Numerics,
    store: Path,
    log: job.Log,
) -> None:
    """Train one run into its store, unless the store holds it already.

    Raises:
        InputError: training diverged or a setting does not fit; names the run.
    """
    identity = text_digest(recipe.identity, run.name, ",".join(checkpoints))
    if keep.is_complete(store, identity):
        log(f"{run.technique} {run.name}: found finished")
        return
    keep.begin(store, identity)
    log(f"{run.technique} {run.name}: training")
    settings = recipe.settings
    metadata = {
        **recipe.metadata,
        "technique": run.technique,
        "seed": str(run.seed),
        "split": str(run.split),
        **{f"numerics.{key}": value for key, value in numerics.describe().items()},
    }

    best: dict[str, np.ndarray] = {}

    def save(checkpoint: str, weights: Weights) -> None:
        arrays = {name: tensor.numpy() for name, tensor in weights.items()}
        if checkpoint == BEST:
            best.update(arrays)  # its epoch is known from the history, at the end
        else:
            _write(store, checkpoint, int(checkpoint), arrays, metadata)

    pipeline = augment.build(
        [Augmentation(**one) for one in settings["augmentations"]], pool.mean.tolist()
    )
    try:
        history = train(
            pool,
            member,
            reserve,
            pipeline if settings["augmentations"] else None,
            ModelSettings.from_config(settings["model"]),
            _training(settings["training"], checkpoints),
            numerics,
            seeds.derive_int(settings["study_seed"], "train", run.technique, run.seed, run.split),
            save,
            Resume(store / "state.safetensors", recipe.resume_every),
            identity,
            log,
        )
    except InputError as error:
        raise InputError(
            f"technique {run.technique}, seed {run.seed}, split {run.split}: {error}"
        ) from error
    if best:
        _write(store, BEST, best_epoch(history), best, metadata)
    artifacts.write_parquet(history, store / HISTORY, {**metadata, keep.IDENTITY: identity})
    keep.mark_complete(store, identity)


def best_epoch(history: pa.Table) -> int:
    """Return the trained epoch with the lowest validation loss, the first of equals."""
    rows = [
        (row["validation_loss"], row["epoch"])
        for row in history.select(["epoch", "validation_loss"]).to_pylist()
        if row["epoch"] > 0 and row["validation_loss"] is not None
    ]
    return int(min(rows)[1])


def _write(
    store: Path,
    checkpoint: str,
    epoch: int,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str],
) -> None:
    own = {**metadata, "checkpoint": checkpoint, "epoch": str(epoch)}
    artifacts.write_tensors(arrays, store / checkpoint_file(checkpoint), own)


def _training(section: Mapping[str, Any], checkpoints: list[str]) -> TrainingSettings:
    epochs = tuple(int(checkpoint) for checkpoint in checkpoints if checkpoint != BEST)
    settings = TrainingSettings.from_config({**section, "checkpoints": epochs})
    return replace(settings, best=BEST in checkpoints)
