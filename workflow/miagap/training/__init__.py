"""Training: tasks, settings, batches on the device, the loop, its history and saved state."""

from miagap.training.errors import DivergedError
from miagap.training.loop import Resume, train
from miagap.training.settings import TrainingSettings
from miagap.training.task import Task

__all__ = ["DivergedError", "Resume", "Task", "TrainingSettings", "train"]
