"""One training run: SGD for a fixed number of epochs, with checkpoints and a saved state."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from miagap import seeds
from miagap.artifacts import canonical_json
from miagap.device_pool import DevicePool
from miagap.errors import InputError
from miagap.models import ModelSettings, build_model, check_output
from miagap.numerics import Numerics
from miagap.training import history, state
from miagap.training.batches import Augment, Batch, epoch_batches, steps_per_epoch
from miagap.training.errors import DivergedError
from miagap.training.evaluation import Halves, evaluate
from miagap.training.settings import TrainingSettings, learning_rate
from miagap.training.state import Log, Progress, Weights

BEST = "best"
LOG_SECONDS = 2.0

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
    pool: DevicePool,
    member: np.ndarray,
    reserve: np.ndarray,
    augment: Augment | None,
    model_settings: ModelSettings,
    settings: TrainingSettings,
    numerics: Numerics,
    rng_seed: int,
    on_checkpoint: OnCheckpoint,
    resume: Resume | None = None,
    identity: str = "",
    log: Log = print,
) -> pa.Table:
    """Train one model on its half of the pool.

    Args:
        pool: all samples, on the device of ``numerics``.
        member: bool (n,), samples to train on.
        reserve: bool (n,), samples of neither half; used only to choose ``best``.
        augment: a built pipeline (:func:`miagap.augment.build`), or None.
        model_settings: which network.
        settings: how to train.
        numerics: device and precision; :func:`miagap.numerics.configure` was called.
        rng_seed: non-negative, below 2**63; initial weights, order, augmentation, mixup
            and dropout are derived from it.
        on_checkpoint: called with the checkpoint's name and its weights (CPU, float32).
            Names are epochs ("0" untrained) and ``best``. After a resume it is called
            again for the checkpoints that the run had reached before.
        resume: saves and finds the state of an interrupted run; None saves nothing.
        identity: what else the run depends on (augmentations, code), as text: a saved state
            with another identity or other arguments is ignored.
        log: takes one line of text.

    Returns:
        The history; see :func:`miagap.training.history.to_table`.

    Raises:
        DivergedError: the loss or a weight is not finite; looked at after every epoch.
        InputError: ``best`` without a reserve, no member, a model that does not fit.
    """
    _check_masks(pool, member, reserve, settings)
    run = _Run(pool, member, reserve, augment, model_settings, settings, numerics, rng_seed, log)
    key = run.identity(identity) if resume is not None and resume.every else ""
    progress = Progress()
    if resume is not None and resume.every:
        progress = state.load(resume.path, key, run.model, run.optimizer, log)
    for name, weights in progress.checkpoints.items():
        if name != BEST:
            on_checkpoint(name, weights)
    # Models of the user's own may draw from torch's global state (dropout, stochastic
    # depth): it is seeded per epoch below, and given back as it was found.
    devices = [numerics.device] if numerics.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if progress.epoch == 0 and 0 in settings.checkpoints and not progress.history:
            run.finish_epoch({"epoch": 0, "learning_rate": 0.0}, progress, on_checkpoint)
        for epoch in range(progress.epoch + 1, settings.epochs + 1):
            run.finish_epoch(run.train_epoch(epoch), progress, on_checkpoint)
            if resume is not None and resume.every and epoch % resume.every == 0:
                state.save(resume.path, key, run.model, run.optimizer, progress)
    if settings.best:
        on_checkpoint(BEST, progress.checkpoints[BEST])
        log(f"best: epoch {progress.best_epoch}, validation loss {progress.best_loss:.4f}")
    if resume is not None:
        resume.path.unlink(missing_ok=True)
    return history.to_table(progress.history)


def _check_masks(
    pool: DevicePool, member: np.ndarray, reserve: np.ndarray, settings: TrainingSettings
) -> None:
    for name, mask in (("member", member), ("reserve", reserve)):
        if mask.shape != (len(pool),) or mask.dtype != np.bool_:
            raise ValueError(f"{name}: bool ({len(pool)},) expected, {mask.dtype} {mask.shape}")
    if not member.any() or (member & reserve).any():
        raise ValueError("member: at least one sample, and none of the reserve, expected")
    if settings.best and not reserve.any():
        raise InputError(
            "training.best: true needs samples to validate on; set splits.reserve above 0"
        )


class _Run:
    """What a run needs at every step: model, optimizer, data and settings."""

    def __init__(
        self,
        pool: DevicePool,
        member: np.ndarray,
        reserve: np.ndarray,
        augment: Augment | None,
        model_settings: ModelSettings,
        settings: TrainingSettings,
        numerics: Numerics,
        rng_seed: int,
        log: Log,
    ) -> None:
        self.pool, self.augment, self.log = pool, augment, log
        self.model_settings, self.settings = model_settings, settings
        self.numerics, self.rng_seed = numerics, rng_seed
        device = numerics.device
        train_mask, reserve_mask = torch.from_numpy(member), torch.from_numpy(reserve)
        self.halves = Halves(
            train=train_mask.to(device),
            test=(~train_mask & ~reserve_mask).to(device),
            reserve=reserve_mask.to(device),
        )
        self.train_ids = train_mask.nonzero().squeeze(1).to(device)
        self.steps = steps_per_epoch(len(self.train_ids), settings.batch_size)
        self.model = make_model(model_settings, settings, pool, numerics, rng_seed)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        parameters = sum(p.numel() for p in self.model.parameters())
        facts = numerics.describe()
        log(
            f"training on {facts['device']}, {facts['precision']}"
            f"{f' ({numerics.note})' if numerics.note else ''}, {numerics.threads} thread(s): "
            f"{len(self.train_ids)} samples, {parameters} parameters, {settings.epochs} epochs"
        )
        self._trained_seconds, self._trained_epochs, self._logged = 0.0, 0, 0.0

    def identity(self, extra: str) -> str:
        """Return the digest of everything that the run's bits depend on."""
        facts = {
            "model": asdict(self.model_settings),
            "training": asdict(self.settings),
            "numerics": self.numerics.describe(),
            "rng_seed": self.rng_seed,
            "extra": extra,
        }
        tensors = (self.pool.images, self.pool.labels, self.halves.train, self.halves.reserve)
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        return state.digest(canonical_json(facts), *arrays)

    def train_epoch(self, epoch: int) -> dict[str, Any]:
        """Train for one epoch and return its row of the history, not yet evaluated.

        Nothing in the loop waits for the device: the loss is summed there and read once.
        """
        started = time.perf_counter()
        settings = self.settings
        torch.manual_seed(seeds.derive_int(self.rng_seed, "epoch", epoch, "model"))
        self.model.train()
        first_step = (epoch - 1) * self.steps
        total = torch.zeros((), dtype=torch.float32, device=self.numerics.device)
        batches = epoch_batches(
            self.pool,
            self.train_ids,
            self.augment,
            settings,
            self.rng_seed,
            epoch,
            self.numerics.dtype,
        )
        for step, batch in enumerate(batches, start=first_step):
            self._set_rate(learning_rate(settings, step, self.steps))
            total += self._step(batch)
        running = float(total) / self.steps
        rate = learning_rate(settings, first_step, self.steps)
        if not np.isfinite(running):
            raise DivergedError("the loss", epoch, rate)
        seconds = time.perf_counter() - started
        self._trained_seconds += seconds
        self._trained_epochs += 1
        images = self.steps * min(settings.batch_size, len(self.train_ids))
        return {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss_running": running,
            "images_per_second": images / seconds,
        }

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(self, batch: Batch) -> Tensor:
        """Take one optimizer step; return the batch's loss, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.numerics.autocast():
            logits = self.model(batch.images)
        loss = batch_loss(logits.float(), batch, self.settings.label_smoothing)
        loss.backward()
        if self.settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        return loss.detach()

    def finish_epoch(
        self, row: dict[str, Any], progress: Progress, on_checkpoint: OnCheckpoint
    ) -> None:
        """Evaluate where due, save what is due, and add the row to the history."""
        epoch, settings = row["epoch"], self.settings
        is_checkpoint = epoch in settings.checkpoints
        due = epoch and epoch % settings.evaluate_every == 0
        if is_checkpoint or due or epoch == settings.epochs:
            row |= evaluate(self.model, self.pool, self.numerics, self.halves)
            self._check_finite(row)
            self._keep_best(row, progress)
        if is_checkpoint:
            weights = state.weights_of(self.model)
            progress.checkpoints[str(epoch)] = weights
            on_checkpoint(str(epoch), weights)
        progress.history.append(row)
        progress.epoch = epoch
        self._say(row)

    def _check_finite(self, row: Mapping[str, Any]) -> None:
        epoch, rate = row["epoch"], row["learning_rate"]
        losses = (row["train_loss"], row["test_loss"], row["validation_loss"])
        if not all(np.isfinite(loss) for loss in losses if loss is not None):
            raise DivergedError("the loss", epoch, rate)
        floating = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        if not bool(torch.stack([t.isfinite().all() for t in floating]).all()):
            raise DivergedError("a weight", epoch, rate)

    def _keep_best(self, row: Mapping[str, Any], progress: Progress) -> None:
        """Remember the weights of the lowest validation loss among the epochs evaluated.

        The untrained model is not a candidate.
        """
        loss = row["validation_loss"]
        if not self.settings.best or row["epoch"] == 0:
            return
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = loss, row["epoch"]
            progress.checkpoints[BEST] = state.weights_of(self.model)

    def _say(self, row: Mapping[str, Any]) -> None:
        """Log an epoch: at most one line every few seconds, and always the last."""
        now, last = time.perf_counter(), row["epoch"] == self.settings.epochs
        if row["epoch"] == 0 or (now - self._logged < LOG_SECONDS and not last):
            return
        self._logged = now
        parts = [
            f"epoch {row['epoch']}/{self.settings.epochs}",
            f"loss {row['train_loss_running']:.4f}",
        ]
        if "train_accuracy" in row:
            accuracies = (row["train_accuracy"], row["test_accuracy"])
            train, test = ("-" if a is None else f"{100 * a:.2f}%" for a in accuracies)
            parts.append(f"train {train}, test {test}")
        parts.append(f"{row['images_per_second']:.0f} images/s")
        mean_seconds = self._trained_seconds / max(1, self._trained_epochs)
        left = (self.settings.epochs - row["epoch"]) * mean_seconds
        self.log(", ".join(parts) + ("" if last else f", {_duration(left)} left"))


def make_model(
    model_settings: ModelSettings,
    settings: TrainingSettings,
    pool: DevicePool,
    numerics: Numerics,
    rng_seed: int,
) -> nn.Module:
    """Build the model on the device, in channels-last memory, and check that it fits."""
    model = build_model(
        model_settings,
        pool.num_classes,
        pool.in_channels,
        pool.image_size,
        seeds.derive_int(rng_seed, "initialisation"),
        settings.dropout,
    )
    model = model.to(numerics.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    check_output(model, model_settings.name, pool.normalize(pool.images[:2]), pool.num_classes)
    return model


def batch_loss(logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    """Return the mean cross-entropy of a batch, against both labels under mixup."""
    loss = functional.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    if batch.partners is None or batch.share is None:
        return loss
    other = functional.cross_entropy(logits, batch.partners, label_smoothing=label_smoothing)
    return batch.share * loss + (1 - batch.share) * other


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
