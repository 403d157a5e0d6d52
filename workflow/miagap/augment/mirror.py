"""Random horizontal mirroring: torchvision's ``RandomHorizontalFlip``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from miagap.augment.layout import Draws, choose, from_pixels, on_device, to_mask, to_pixels


def draw_mirror(
    batch: int, size: tuple[int, int, int], parameters: Mapping[str, Any], generator: Generator
) -> Draws:
    """Draw which images are mirrored.

    Args:
        batch: number of images B.
        size: (C, H, W) of the images.
        parameters: checked parameters.
        generator: the draws are made on its device.

    Returns:
        ``mirrored``: bool (B,).
    """
    uniform = torch.rand(batch, generator=generator, device=generator.device)
    return {"mirrored": uniform < parameters["probability"]}


def apply_mirror(images: Tensor, draws: Draws, parameters: Mapping[str, Any]) -> Tensor:
    """Exchange left and right in those ``images`` uint8 (B, C, H, W) that were drawn."""
    mask = to_mask(on_device(draws, images.device)["mirrored"])
    pixels = to_pixels(images)
    chosen = choose(mask[:, None, None, None], pixels.flip(2), pixels)
    return from_pixels(chosen, images)
