"""Between batches of images (B, C, H, W) and their bytes in channels-last order."""

from collections.abc import Mapping

import torch
from torch import Tensor

Draws = Mapping[str, Tensor]


def to_pixels(images: Tensor) -> Tensor:
    """Return ``images`` (B, C, H, W) as contiguous (B, H, W, C): a view if channels-last."""
    return images.permute(0, 2, 3, 1).contiguous()


def from_pixels(pixels: Tensor, like: Tensor) -> Tensor:
    """Return ``pixels`` (B, H, W, C) as (B, C, H, W) in the memory format of ``like``."""
    images = pixels.permute(0, 3, 1, 2)
    if like.is_contiguous(memory_format=torch.channels_last):
        return images
    return images.contiguous()


def on_device(draws: Draws, device: torch.device) -> Draws:
    """Return ``draws`` on ``device``; from the host to CUDA without waiting for the copy."""
    if device.type != "cuda":
        return {name: draw.to(device) for name, draw in draws.items()}
    return {name: to_cuda(draw, device) for name, draw in draws.items()}


def to_cuda(tensor: Tensor, device: torch.device) -> Tensor:
    """Return ``tensor`` on the CUDA ``device``, copied from pinned memory."""
    if tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
