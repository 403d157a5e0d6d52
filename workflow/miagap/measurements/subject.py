"""The model that is asked, the samples, and how to ask about altered samples."""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from miagap import seeds
from miagap.device_pool import DevicePool
from miagap.extraction import phi_and_loss
from miagap.models import for_inference
from miagap.numerics import Numerics

# Samples asked about at once. Fixed, so that the noise of a sample never depends on the device.
ROWS = 256


@dataclass(frozen=True)
class Subject:
    """A model to measure.

    Attributes:
        model: in eval mode, on the pool's device.
        pool: all samples.
        numerics: device and precision to ask in.
        study_seed: random states derive from it.
        identity: technique, seed, split and checkpoint of the model.
        training: how the technique trains (model, training, augmentations).
        reserve: bool (n,), samples that no model trains on.

    ``training`` and ``reserve`` are given to measurements that train.
    """

    model: nn.Module
    pool: DevicePool
    numerics: Numerics
    study_seed: int
    identity: tuple[str | int, ...] = ()
    training: Mapping[str, Any] | None = None
    reserve: np.ndarray | None = None


Measure = Callable[[Subject, Mapping[str, Any]], np.ndarray]


def measure_of(kind: str) -> Measure:
    """Return the function that measures a signal; only its own module is loaded."""
    function: Measure = importlib.import_module(f"miagap.measurements.{kind}").measure
    return function


@dataclass(frozen=True)
class Part:
    """Some samples.

    Attributes:
        rows: their positions.
        pixels: float32 (B, C, H, W), 0..255.
        labels: int64 (B,).
    """

    rows: slice
    pixels: Tensor
    labels: Tensor


class Asking:
    """Asks a model about pixels that no sample has."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.model = for_inference(subject.model)

    def parts(self) -> Iterator[Part]:
        """Yield all samples, in order, some at a time."""
        pool = self.subject.pool
        for start in range(0, len(pool), ROWS):
            rows = slice(start, min(start + ROWS, len(pool)))
            yield Part(rows, pool.images[rows].to(torch.float32), pool.labels[rows])

    def generator(self, *key: str | int) -> torch.Generator:
        """Return the random state of ``key``, the same for every model of the study."""
        made = torch.Generator(device=self.subject.pool.images.device)
        made.manual_seed(seeds.derive_int(self.subject.study_seed, "measure", *key))
        return made

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the logits (B, classes) of pixels (B, C, H, W) in 0..255."""
        images = self.subject.pool.normalize(pixels)
        answer: Tensor = self.model(images.contiguous(memory_format=torch.channels_last))
        return answer.float()

    def phi(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Return the logit-scaled confidence of the labels, float64 (B,)."""
        return phi_and_loss(self.logits(pixels), labels)[0]

    def right(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """Return whether the most likely class is the label, bool (B,)."""
        return self.logits(pixels).argmax(dim=1) == labels


def noise_like(pixels: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Return Gaussian noise for pixels; ``sigma`` is a share of the pixel range 0..255."""
    drawn = torch.randn(pixels.shape, generator=generator, device=pixels.device)
    return 255.0 * sigma * drawn
