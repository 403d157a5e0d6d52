"""Random crop of the padded image: torchvision's ``RandomCrop(size, padding)``."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from miagap.augment.layout import Draws, from_pixels, move, on_device, to_pixels
from miagap.errors import InputError


def draw_crop(
    batch: int, size: tuple[int, int, int], parameters: Mapping[str, Any], generator: Generator
) -> Draws:
    """Draw where each image's window begins in its padded image.

    Args:
        batch: number of images B.
        size: (C, H, W) of the images.
        parameters: checked parameters.
        generator: the draws are made on its device.

    Returns:
        ``top`` and ``left``: int64 (B,), uniform in 0..2 * padding.
    """
    places = 2 * parameters["padding"] + 1
    corner = torch.randint(places, (2, batch), generator=generator, device=generator.device)
    return {"top": corner[0], "left": corner[1]}


def apply_crop(images: Tensor, draws: Draws, parameters: Mapping[str, Any]) -> Tensor:
    """Pad ``images`` uint8 (B, C, H, W) on all sides and cut one H x W window out of each.

    Raises:
        InputError: the images are too small for the padding and its mode.
    """
    padding = parameters["padding"]
    if padding == 0:
        return images
    draws = on_device(draws, images.device)
    padded = _pad(to_pixels(images), padding, parameters["padding_mode"], parameters["fill"])
    batch, channels, height, width = images.shape
    _, padded_height, padded_width, _ = padded.shape
    # Every run of W neighbouring pixels, as a row of an overlapping view: one row copy
    # per line of a window instead of one access per pixel.
    runs = padded.as_strided(
        (batch * padded_height * padded_width - width + 1, width * channels), (channels, 1)
    )
    first = torch.arange(batch, device=images.device) * padded_height + draws["top"]
    lines = first[:, None] + torch.arange(height, device=images.device)
    starts = lines * padded_width + draws["left"][:, None]
    windows = runs.index_select(0, starts.view(-1))
    return from_pixels(windows.view(batch, height, width, channels), images)


def _pad(pixels: Tensor, padding: int, mode: str, fill: int) -> Tensor:
    if mode == "constant":
        return pad(pixels, (0, 0, padding, padding, padding, padding), value=fill)
    _, height, width, _ = pixels.shape
    rows = move(_sources(height, padding, mode), pixels.device)
    columns = move(_sources(width, padding, mode), pixels.device)
    return pixels.index_select(1, rows).index_select(2, columns)


def _sources(length: int, padding: int, mode: str) -> Tensor:
    """Return the source of each position of a padded line: int64 (length + 2 * padding,)."""
    largest = {"reflect": length - 1, "symmetric": length}.get(mode, padding)
    if padding > largest:
        raise InputError(
            f"augmentations.crop.padding: {mode} padding of {length} pixels allows at most "
            f"{largest}, got {padding}"
        )
    position = torch.arange(-padding, length + padding)
    if mode == "edge":
        return position.clamp(0, length - 1)
    beyond = 0 if mode == "reflect" else 1  # symmetric repeats the outermost pixel
    position = torch.where(position < 0, -position - beyond, position)
    return torch.where(position >= length, 2 * (length - 1) - position + beyond, position)
