"""Random erasing of a rectangle: torchvision's ``RandomErasing``."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from miagap.augment.layout import Draws, choose, from_pixels, move, on_device, to_mask, to_pixels

CANDIDATES = 10  # rectangles that torchvision tries before it leaves the image as it is


def draw_cutout(
    batch: int, size: tuple[int, int, int], parameters: Mapping[str, Any], generator: Generator
) -> Draws:
    """Draw one rectangle per image, with height 0 where nothing is erased.

    As torchvision's ``RandomErasing.get_params``: the share of the area is uniform, the
    logarithm of the aspect ratio is uniform, and the first of ten such rectangles that
    is smaller than the image in both directions is placed uniformly.

    Args:
        batch: number of images B.
        size: (C, H, W) of the images.
        parameters: checked parameters.
        generator: the draws are made on its device.

    Returns:
        ``top``, ``left``, ``height``, ``width``: int64 (B,); with value ``random`` also
        ``noise``: uint8 (B, H, W, C).
    """
    channels, image_height, image_width = size
    device = generator.device
    low, high = parameters["scale"]
    ratio_low, ratio_high = (math.log(ratio) for ratio in parameters["ratio"])
    share, shape = torch.rand((2, batch, CANDIDATES), generator=generator, device=device)
    area = (low + (high - low) * share) * (image_height * image_width)
    ratio = torch.exp(ratio_low + (ratio_high - ratio_low) * shape)
    heights = torch.sqrt(area * ratio).round_().long()
    widths = torch.sqrt(area / ratio).round_().long()
    fits = (heights < image_height) & (widths < image_width)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    height = heights.gather(1, first).squeeze(1)
    width = widths.gather(1, first).squeeze(1)

    erased, down, right = torch.rand((3, batch), generator=generator, device=device)
    chosen = (erased < parameters["probability"]) & fits.any(dim=1)
    draws = {
        "top": _uniform_below(image_height - height + 1, down),
        "left": _uniform_below(image_width - width + 1, right),
        "height": height * chosen,
        "width": width * chosen,
    }
    if parameters["value"] == "random":
        draws["noise"] = torch.randint(
            256,
            (batch, image_height, image_width, channels),
            generator=generator,
            device=device,
            dtype=torch.uint8,
        )
    return draws


def _uniform_below(count: Tensor, uniform: Tensor) -> Tensor:
    """Return integers 0..count - 1 from uniform float32 numbers in [0, 1)."""
    return torch.minimum((uniform * count).long(), count - 1).clamp_(min=0)


def apply_cutout(images: Tensor, draws: Draws, parameters: Mapping[str, Any]) -> Tensor:
    """Fill the drawn rectangles of ``images`` uint8 (B, C, H, W).

    ``parameters["value"]`` is an integer for all channels, a sequence of one integer per
    channel, or ``random`` (then the draws hold the noise).
    """
    pixels = to_pixels(images)
    draws = on_device(draws, images.device)
    batch, height, width, channels = pixels.shape
    row = torch.arange(height, device=images.device)
    # One entry per byte of a line, so that mask and image have the same layout.
    column = torch.arange(width, device=images.device).repeat_interleave(channels)
    in_rows = _inside(row, draws["top"], draws["height"])
    in_columns = _inside(column, draws["left"], draws["width"])
    mask = in_rows[:, :, None] & in_columns[:, None, :]
    lines = pixels.view(batch, height, width * channels)
    value = parameters["value"]
    if value == "random":
        filled = choose(mask, draws["noise"].view_as(lines), lines)
    elif isinstance(value, int):
        filled = choose(~mask, lines, value)
    else:
        vector = move(torch.tensor(value, dtype=torch.uint8).repeat(width), images.device)
        filled = choose(~mask, lines, vector)
    return from_pixels(filled.view_as(pixels), images)


def _inside(position: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Return 255 where positions (P,) lie in an image's interval, else 0: uint8 (B, P)."""
    return to_mask((position >= start[:, None]) & (position < (start + length)[:, None]))
