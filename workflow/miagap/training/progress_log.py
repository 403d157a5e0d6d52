"""The lines of a training log: what runs where, and how far it is."""

import time
from collections.abc import Mapping
from typing import Any

from miagap.numerics import Numerics
from miagap.training.state import Log

SECONDS_BETWEEN_LINES = 2.0


class ProgressLog:
    """Says what is trained, then an epoch's figures every few seconds, and always the last.

    The time left is from the speed of the epochs trained by this process, evaluations and
    saving included.
    """

    def __init__(self, epochs: int, log: Log) -> None:
        self._epochs, self._log = epochs, log
        self._started: float | None = None
        self._done, self._logged = 0, 0.0

    def begin(self, numerics: Numerics, samples: int, parameters: int) -> None:
        """Say what is trained on what, and start the clock."""
        facts = numerics.describe()
        note = f" ({numerics.note})" if numerics.note else ""
        self._log(
            f"training on {facts['device']}, {facts['precision']}{note}, "
            f"{numerics.threads} thread(s): {samples} samples, {parameters} parameters, "
            f"{self._epochs} epochs"
        )
        self._started = time.perf_counter()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Take note of an epoch's row of the history; log it if a line is due."""
        now, epoch = time.perf_counter(), int(row["epoch"])
        if epoch == 0:
            return
        self._done += 1
        last = epoch == self._epochs
        if now - self._logged < SECONDS_BETWEEN_LINES and not last:
            return
        self._logged = now
        line = describe(row, self._epochs)
        if not last and self._started is not None:
            each = (now - self._started) / self._done
            line += f", {duration((self._epochs - epoch) * each)} left"
        self._log(line)


def describe(row: Mapping[str, Any], epochs: int) -> str:
    """Return an epoch's loss, accuracies if it was evaluated, and images per second."""
    parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['train_loss_running']:.4f}"]
    if "train_accuracy" in row:
        accuracies = (row["train_accuracy"], row["test_accuracy"])
        train, test = ("-" if a is None else f"{100 * a:.2f}%" for a in accuracies)
        parts.append(f"train {train}, test {test}")
    parts.append(f"{row['images_per_second']:.0f} images/s")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Return ``hours:minutes:seconds``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
