"""The pool on the device: uint8 images, normalised where they are used."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miagap.numerics import Numerics


@dataclass(frozen=True)
class DevicePool:
    """All samples on one device.

    Attributes:
        images: uint8 (n, C, H, W), channels last in memory.
        labels: int64 (n,).
        num_classes: classes of the data set.
        mean: float32 (C,), each channel's mean over the whole pool, in 0..255.
        std: float32 (C,), each channel's standard deviation, in 0..255.
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def in_channels(self) -> int:
        """Channels of an image."""
        return self.images.shape[1]

    @property
    def image_size(self) -> int:
        """Height (= width) of an image in pixels."""
        return self.images.shape[2]

    def normalize(self, images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Map uint8 images (B, C, H, W) to zero mean and unit variance per channel.

        The mean and standard deviation are the pool's, members and non-members alike,
        and so the same for every model of a study: they tell an attacker nothing of
        which half a model was trained on.
        """
        shape = (1, -1, 1, 1)
        scaled = (images.to(torch.float32) - self.mean.view(shape)) / self.std.view(shape)
        return scaled.to(dtype)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each channel's mean and standard deviation over the pool, in 0..255.

    Sums are exact (counts of the 256 values), so the result is the same on every machine.

    Args:
        images: uint8 (n, H, W, C).

    Returns:
        Two float64 arrays (C,); a constant channel's deviation is given as 1.
    """
    values = np.arange(256, dtype=np.float64)
    means, deviations = [], []
    for channel in range(images.shape[-1]):
        counts = np.bincount(images[..., channel].ravel(), minlength=256)
        mean = float(counts @ values) / counts.sum()
        means.append(mean)
        deviations.append(float(np.sqrt(counts @ (values - mean) ** 2 / counts.sum())) or 1.0)
    return np.array(means), np.array(deviations)


def place(
    images: np.ndarray, labels: np.ndarray, num_classes: int, numerics: Numerics
) -> DevicePool:
    """Move a pool to the device, once for all models of a job.

    Args:
        images: uint8 (n, H, W, C).
        labels: int64 (n,) in 0..num_classes - 1.
        num_classes: classes of the data set, including any without a sample.
        numerics: names the device.
    """
    mean, std = channel_statistics(images)
    device = numerics.device
    # (n, H, W, C) in memory is (n, C, H, W) in channels-last: a view, nothing is moved.
    on_device = torch.from_numpy(np.array(images, copy=not images.flags.writeable)).to(device)
    return DevicePool(
        images=on_device.permute(0, 3, 1, 2),
        labels=torch.from_numpy(labels.astype(np.int64)).to(device),
        num_classes=num_classes,
        mean=torch.tensor(mean, dtype=torch.float32, device=device),
        std=torch.tensor(std, dtype=torch.float32, device=device),
    )
