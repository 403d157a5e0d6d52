"""Settings of a training run and the learning rate they give at each step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from miagap.errors import InputError

SCHEDULES = ("cosine", "linear", "step", "constant")


@dataclass(frozen=True)
class TrainingSettings:
    """The keys of the config's section ``training``; see docs/config.md for each."""

    epochs: int = 60
    checkpoints: tuple[int, ...] = (10, 30, 60)
    best: bool = False
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0005
    schedule: str = "cosine"
    warmup: float = 0
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    label_smoothing: float = 0.0
    dropout: float = 0.0
    mixup: float = 0.0
    gradient_clip: float | None = None
    evaluate_every: int = 10

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "TrainingSettings":
        """Build from the config's section; missing keys take their defaults."""
        values = dict(section)
        for key in ("checkpoints", "milestones"):
            if key in values:
                values[key] = tuple(values[key])
        return cls(**values)

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise InputError(
                f"training.schedule: {self.schedule!r} given, one of {', '.join(SCHEDULES)} "
                "expected"
            )
        beyond = [epoch for epoch in self.checkpoints if not 0 <= epoch <= self.epochs]
        if beyond:
            raise InputError(
                f"training.checkpoints: {beyond[0]} given, but training ends after epoch "
                f"{self.epochs} (training.epochs)"
            )
        if self.nesterov and self.momentum <= 0:
            raise InputError("training.nesterov: true needs training.momentum above 0")


def learning_rate(settings: TrainingSettings, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of optimizer step ``step`` (from 0).

    Linear warm-up rises over ``warmup`` epochs and reaches the full rate at its last
    step; cosine and linear then fall to 0 just after the last step of the last epoch.
    ``step`` multiplies by ``gamma`` at each milestone, counted in epochs from the start.
    """
    base = settings.learning_rate
    warmup = round(settings.warmup * steps_per_epoch)
    if step < warmup:
        return base * (step + 1) / warmup
    total = settings.epochs * steps_per_epoch
    progress = (step - warmup) / max(1, total - warmup)
    if settings.schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * progress))
    if settings.schedule == "linear":
        return base * (1 - progress)
    if settings.schedule == "step":
        passed = sum(step >= milestone * steps_per_epoch for milestone in settings.milestones)
        return base * float(settings.gamma) ** passed
    return base
