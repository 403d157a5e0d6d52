"""A model in training: its epochs, steps and evaluations."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from miagap import seeds
from miagap.device_pool import DevicePool
from miagap.models import ModelSettings, build_model, check_output, on_device
from miagap.numerics import Numerics
from miagap.training.batches import Batch, epoch_batches, steps_per_epoch
from miagap.training.errors import DivergedError
from miagap.training.evaluation import Halves, evaluate
from miagap.training.optimizer import Sgd
from miagap.training.settings import TrainingSettings, learning_rate
from miagap.training.task import Task


class Trainer:
    """The model and optimizer of a task, and what every step needs.

    Attributes:
        model: the network, on the device.
        optimizer: its optimizer.
        train_ids: int64 (m,), samples to train on, on the device.
        steps: optimizer steps of an epoch.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        settings, device = task.settings, task.numerics.device
        member, reserve = torch.from_numpy(task.member), torch.from_numpy(task.reserve)
        self._halves = Halves(
            train=member.to(device),
            test=(~member & ~reserve).to(device),
            reserve=reserve.to(device),
        )
        self.train_ids = member.nonzero().squeeze(1).to(device)
        self.steps = steps_per_epoch(len(self.train_ids), settings.batch_size)
        self.model = make_model(task.model, settings, task.pool, task.numerics, task.rng_seed)
        self.optimizer = Sgd(
            self.model.parameters(), settings.momentum, settings.nesterov, settings.weight_decay
        )

    def train_epoch(self, epoch: int) -> dict[str, Any]:
        """Train for one epoch and return its row of the history, not yet evaluated.

        Nothing in the loop waits for the device: the loss is summed there and read once.

        Raises:
            DivergedError: the loss is not finite.
        """
        started = time.perf_counter()
        task, settings = self._task, self._task.settings
        torch.manual_seed(seeds.derive_int(task.rng_seed, "epoch", epoch, "model"))
        self.model.train()
        first = (epoch - 1) * self.steps
        total = torch.zeros((), dtype=torch.float32, device=task.numerics.device)
        dtype = task.numerics.dtype
        batches = epoch_batches(
            task.pool, self.train_ids, task.augment, settings, task.rng_seed, epoch, dtype
        )
        for step, batch in enumerate(batches, start=first):
            total += self.step(batch, learning_rate(settings, step, self.steps))
        running, rate = float(total) / self.steps, learning_rate(settings, first, self.steps)
        if not np.isfinite(running):
            raise DivergedError("the loss", epoch, rate)
        images = self.steps * min(settings.batch_size, len(self.train_ids))
        return {
            "epoch": epoch,
            "learning_rate": rate,
            "train_loss_running": running,
            "images_per_second": images / (time.perf_counter() - started),
        }

    def step(self, batch: Batch, rate: float) -> Tensor:
        """Take one optimizer step at learning rate ``rate``; return the loss, detached."""
        settings = self._task.settings
        self.optimizer.zero_grad()
        with self._task.numerics.autocast():
            logits = self.model(batch.images)
        loss = batch_loss(logits.float(), batch, settings.label_smoothing)
        loss.backward()
        if settings.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), settings.gradient_clip)
        self.optimizer.step(rate)
        return loss.detach()

    def evaluate(self, row: Mapping[str, Any]) -> dict[str, float | None]:
        """Return accuracy and loss of each part of the pool after the epoch of ``row``.

        Raises:
            DivergedError: a loss or a weight is not finite.
        """
        found = evaluate(self.model, self._task.pool, self._task.numerics, self._halves)
        losses = [value for name, value in found.items() if name.endswith("_loss")]
        if not all(np.isfinite(loss) for loss in losses if loss is not None):
            raise DivergedError("the loss", row["epoch"], row["learning_rate"])
        floating = [t for t in self.model.state_dict().values() if t.is_floating_point()]
        if not bool(torch.stack([t.isfinite().all() for t in floating]).all()):
            raise DivergedError("a weight", row["epoch"], row["learning_rate"])
        return found


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
    model = on_device(model, numerics.device)
    check_output(model, model_settings.name, pool.normalize(pool.images[:2]), pool.num_classes)
    return model


def batch_loss(logits: Tensor, batch: Batch, label_smoothing: float) -> Tensor:
    """Return the mean cross-entropy of a batch, against both labels under mixup."""
    loss = functional.cross_entropy(logits, batch.labels, label_smoothing=label_smoothing)
    if batch.partners is None or batch.share is None:
        return loss
    other = functional.cross_entropy(logits, batch.partners, label_smoothing=label_smoothing)
    return batch.share * loss + (1 - batch.share) * other
