"""Random horizontal mirroring: torchvision's ``RandomHorizontalFlip``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from miagap.augment.layout import Draws, from_pixels, on_device, to_pixels


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
    pixels = to_pixels(images)
    mirrored = on_device(draws, images.device)["mirrored"]
    batch, height, width, channels = pixels.shape
    lines = pixels.view(batch, height, width * channels)
    # Bytes of a line in mirrored order, the channels of a pixel staying in theirs.
    order = torch.arange(width * channels, device=images.device).view(width, channels)
    flipped = lines.index_select(2, order.flip(0).view(-1))
    chosen = torch.where(mirrored[:, None, None], flipped, lines)
    return from_pixels(chosen.view(batch, height, width, channels), images)
