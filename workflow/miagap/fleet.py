"""Training the runs of a block one after another in one process.

A process that trains one small model spends most of its life on imports. Runs of a
block share the process, the pool on the device and nothing else: every run is seeded by
itself, so its bits do not depend on which other runs share its block.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from miagap import artifacts, augment, job, keep, seeds
from miagap.augment import Augmentation
from miagap.device_pool import DevicePool
from miagap.digest import text_digest
from miagap.errors import InputError
from miagap.models import ModelSettings
from miagap.names import BEST, HISTORY, ModelId
from miagap.numerics import Numerics
from miagap.training import Resume, TrainingSettings, train
from miagap.training.state import Weights


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
