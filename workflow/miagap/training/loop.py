"""One training run: SGD for a fixed number of epochs, with checkpoints and a saved state."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from miagap.training import history, state
from miagap.training.progress_log import ProgressLog
from miagap.training.settings import TrainingSettings
from miagap.training.state import Log, Progress, Weights
from miagap.training.task import Task
from miagap.training.trainer import Trainer, make_model

BEST = "best"

__all__ = ["Resume", "make_model", "train"]

OnCheckpoint = Callable[[str, Weights], None]


@dataclass(frozen=True)
class Resume:
    """Where and how often a run saves its state.

    Attributes:
        path: file of the state; removed when the run ends.
        every: epochs between states; 0 saves none.
    """

    path: Path
    every: int


def train(
    task: Task, on_checkpoint: OnCheckpoint, resume: Resume | None = None, log: Log = print
) -> pa.Table:
    """Train one model on its half of the pool.

    Args:
        task: which model, on what, how.
        on_checkpoint: called with the checkpoint's name and its weights (CPU, float32).
            Names are epochs ("0" untrained) and ``best``. After a resume it is called
            again for the checkpoints that the run had reached before.
        resume: saves and finds the state of an interrupted run; None saves nothing. A state
            of another task is ignored.
        log: takes one line of text.

    Returns:
        The history; see :func:`miagap.training.history.to_table`.

    Raises:
        DivergedError: the loss or a weight is not finite; looked at after every epoch.
        InputError: a model that does not fit the images.
    """
    trainer, lines = Trainer(task), ProgressLog(task.settings.epochs, log)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    lines.begin(task.numerics, len(trainer.train_ids), parameters)
    store = _Store(resume, task, trainer)
    progress = store.load(log)
    for name, weights in progress.checkpoints.items():
        if name != BEST:
            on_checkpoint(name, weights)

    def finish(row: dict[str, Any]) -> None:
        _finish_epoch(row, task.settings, trainer, progress, on_checkpoint)
        lines.epoch(row)
        store.save(progress)

    _train_epochs(task, trainer, progress, finish)
    if task.settings.best:
        on_checkpoint(BEST, progress.checkpoints[BEST])
        log(f"best: epoch {progress.best_epoch}, validation loss {progress.best_loss:.4f}")
    store.discard()
    return history.to_table(progress.history)


class _Store:
    """The file of a run's saved state, if it has one."""

    def __init__(self, resume: Resume | None, task: Task, trainer: Trainer) -> None:
        self._path = resume.path if resume is not None else None
        self._every = resume.every if resume is not None else 0
        self._key = task.digest() if self._every else ""
        self._trainer = trainer

    def load(self, log: Log) -> Progress:
        if self._path is None or not self._every:
            return Progress()
        return state.load(self._path, self._key, self._trainer.model, self._trainer.optimizer, log)

    def save(self, progress: Progress) -> None:
        """Save if it is due: no state of the untrained model, which costs nothing to make."""
        due = self._every and progress.epoch and progress.epoch % self._every == 0
        if self._path is not None and due:
            model, optimizer = self._trainer.model, self._trainer.optimizer
            state.save(self._path, self._key, model, optimizer, progress)

    def discard(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _train_epochs(
    task: Task, trainer: Trainer, progress: Progress, finish: Callable[[dict[str, Any]], None]
) -> None:
    """Train from where ``progress`` stands to the last epoch; ``finish`` takes each one's row."""
    # Models of the user's own may draw from torch's global state (dropout, stochastic
    # depth): it is seeded per epoch, and given back as it was found.
    device = task.numerics.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if progress.epoch == 0 and 0 in task.settings.checkpoints and not progress.history:
            finish({"epoch": 0, "learning_rate": 0.0})
        for epoch in range(progress.epoch + 1, task.settings.epochs + 1):
            finish(trainer.train_epoch(epoch))


def _finish_epoch(
    row: dict[str, Any],
    settings: TrainingSettings,
    trainer: Trainer,
    progress: Progress,
    on_checkpoint: OnCheckpoint,
) -> None:
    """Evaluate where due, save what is due, and add the row to the history."""
    epoch = row["epoch"]
    is_checkpoint = epoch in settings.checkpoints
    due = epoch and epoch % settings.evaluate_every == 0
    if is_checkpoint or due or epoch == settings.epochs:
        row |= trainer.evaluate(row)
        if settings.best and epoch:
            _keep_best(row, trainer, progress)
    if is_checkpoint:
        weights = state.weights_of(trainer.model)
        progress.checkpoints[str(epoch)] = weights
        on_checkpoint(str(epoch), weights)
    progress.history.append(row)
    progress.epoch = epoch


def _keep_best(row: Mapping[str, Any], trainer: Trainer, progress: Progress) -> None:
    """Remember the weights of the lowest validation loss among the epochs evaluated."""
    loss = row["validation_loss"]
    if progress.best_loss is None or loss < progress.best_loss:
        progress.best_loss, progress.best_epoch = loss, row["epoch"]
        progress.checkpoints[BEST] = state.weights_of(trainer.model)
