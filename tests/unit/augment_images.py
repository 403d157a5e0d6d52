"""Batches of images that the augmentation tests share."""

import torch
from torch import Tensor

# The images are small: a second thread only waits, the longer the busier the machine.
torch.set_num_threads(1)


def make_images(
    batch: int, channels: int, height: int, width: int, *, channels_last: bool = True, seed: int = 0
) -> Tensor:
    """Return uint8 images: noise, smooth ones, few values, and one value everywhere, in turn."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, height, width)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    ramp = torch.arange(height)[:, None] * 5 + torch.arange(width) * 3
    images[1::4] = ((ramp + images[1::4, :, :1, :1].int()) // 2).clamp(0, 255).to(torch.uint8)
    images[2::4] = images[2::4] // 64 * 40 + 30
    images[3::8] = images[3::8, :, :1, :1]
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images
