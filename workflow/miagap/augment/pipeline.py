"""Augmentations in a row, drawn for whole batches and applied to memory-sized pieces."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from miagap.augment.cifar_policy import apply_cifar_policy, draw_cifar_policy
from miagap.augment.crop import apply_crop, draw_crop
from miagap.augment.cutout import apply_cutout, draw_cutout
from miagap.augment.layout import Draws
from miagap.augment.mirror import apply_mirror, draw_mirror
from miagap.augment.parameters import Augmentation, check
from miagap.errors import InputError

Draw = Callable[[int, tuple[int, int, int], Mapping[str, Any], Generator], Draws]
Apply = Callable[[Tensor, Draws, Mapping[str, Any]], Tensor]

OPERATORS: Mapping[str, tuple[Draw, Apply]] = {
    "crop": (draw_crop, apply_crop),
    "mirror": (draw_mirror, apply_mirror),
    "cutout": (draw_cutout, apply_cutout),
    "cifar_policy": (draw_cifar_policy, apply_cifar_policy),
}

#: Bytes of images that are computed together on a CPU: enough that the calls cost little
#: beside the work, few enough that temporaries stay in cache (benchmarks/augmentations.py).
PIECE_BYTES = 1 << 21


@dataclass(frozen=True)
class Step:
    """One augmentation with all its parameters."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """Augmentations in order of application; made by ``miagap.augment.build``."""

    steps: tuple[Step, ...]

    @classmethod
    def build(cls, augmentations: Sequence[Augmentation], image_mean: Sequence[float]) -> Pipeline:
        """Check ``augmentations`` and resolve what depends on the pool's mean pixel."""
        mean = tuple(round(float(value)) for value in image_mean)
        return cls(tuple(_step(augmentation, mean) for augmentation in augmentations))

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Return ``images`` augmented, each by its own draws.

        The draws are made on the generator's device and depend on its state, the number
        and the size of the images, not on threads or on the images' device: a CPU
        generator, advised for every device, gives the same images on CPU and CUDA, and
        lets a GPU run without being waited for.

        Args:
            images: uint8 (B, C, H, W), C 1 or 3, any memory format; left unchanged.
            generator: random state; advances.

        Returns:
            uint8 (B, C, H, W) on the same device, in the same memory format. Without
            augmentations these are the given images themselves.
        """
        _check_images(images)
        batch, channels, height, width = images.shape
        if batch == 0:
            return images
        size = (channels, height, width)
        draws = [
            OPERATORS[step.name][0](batch, size, step.parameters, generator) for step in self.steps
        ]
        piece = batch
        if images.device.type == "cpu":
            piece = max(1, PIECE_BYTES // (channels * height * width))
        if batch <= piece:
            return self._apply(images, draws)
        augmented = torch.empty_like(images)
        for start in range(0, batch, piece):
            part = slice(start, start + piece)
            own = [{name: draw[part] for name, draw in drawn.items()} for drawn in draws]
            augmented[part] = self._apply(images[part], own)
        return augmented

    def _apply(self, images: Tensor, draws: Sequence[Draws]) -> Tensor:
        for step, drawn in zip(self.steps, draws, strict=True):
            images = OPERATORS[step.name][1](images, drawn, step.parameters)
        return images


def _step(augmentation: Augmentation, mean: tuple[int, ...]) -> Step:
    parameters = check(augmentation)
    if parameters.get("value") == "mean":
        if not mean:
            raise InputError("augmentations.cutout.value: mean needs the mean pixel of the pool")
        parameters["value"] = mean
    return Step(augmentation.name, parameters)


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"images must be uint8 (B, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}"
        )
