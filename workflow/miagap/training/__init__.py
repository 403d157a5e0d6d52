"""Training: settings, batches on the device, the loop, its history and its saved state."""

from miagap.training.errors import DivergedError
from miagap.training.loop import Resume, train
from miagap.training.settings import TrainingSettings

__all__ = ["DivergedError", "Resume", "TrainingSettings", "train"]
