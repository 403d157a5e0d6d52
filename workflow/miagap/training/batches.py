"""Batches of one epoch, gathered, augmented and normalised on the device.

Every draw comes from a generator seeded by (run's seed, epoch, purpose): a resumed run
needs no random state to continue with the same bits, and a change in one purpose (say,
an augmentation more) leaves the others as they were.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from miagap import seeds
from miagap.augment.layout import move
from miagap.device_pool import DevicePool
from miagap.training.settings import TrainingSettings

# Images augmented at once: many batches, so that the cost of starting an operator is
# spread over them, and few enough to stay in the cache.
CHUNK = 2048

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Batch:
    """One step's images (B, C, H, W), labels (B,) and, under mixup, their partners.

    Attributes:
        images: normalised, in the precision of the run, channels last.
        labels: int64 (B,).
        partners: int64 (B,), labels of the images mixed in, or None.
        share: float32 scalar tensor, the share of ``labels``; the rest is ``partners``'.
    """

    images: Tensor
    labels: Tensor
    partners: Tensor | None = None
    share: Tensor | None = None


def generator(rng_seed: int, epoch: int, purpose: str) -> torch.Generator:
    """Return a generator in the state of (run, epoch, purpose).

    On the CPU for every device, so that a GPU trains on the same images in the same order.
    """
    made = torch.Generator()
    made.manual_seed(seeds.derive_int(rng_seed, "epoch", epoch, purpose))
    return made


def steps_per_epoch(n_train: int, batch_size: int) -> int:
    """Return the optimizer steps of an epoch.

    Batches keep one size: the images left over after the last whole batch sit out this
    epoch (another permutation chooses others in the next). A training set smaller than a
    batch is one batch.
    """
    return max(1, n_train // batch_size)


def epoch_batches(
    pool: DevicePool,
    train_ids: Tensor,
    augment: Augment | None,
    settings: TrainingSettings,
    rng_seed: int,
    epoch: int,
    dtype: torch.dtype,
) -> Iterator[Batch]:
    """Yield the batches of one epoch.

    Args:
        pool: all samples.
        train_ids: int64 (m,), samples to train on.
        augment: maps uint8 images and a generator to uint8 images, or None.
        settings: batch size and mixup.
        rng_seed: of the run.
        epoch: from 1.
        dtype: of the images yielded.
    """
    device = pool.images.device
    size = min(settings.batch_size, len(train_ids))
    steps = steps_per_epoch(len(train_ids), size)
    order = torch.randperm(len(train_ids), generator=generator(rng_seed, epoch, "order"))
    ids = train_ids[move(order[: steps * size], device)]
    drawing = generator(rng_seed, epoch, "augment")
    mixing = _Mixing(settings.mixup, steps, size, rng_seed, epoch, device)
    step = 0
    for chunk in ids.split(max(1, CHUNK // size) * size):
        images = pool.images[chunk]
        if augment is not None:
            images = augment(images, drawing)
        normalized = pool.normalize(images, dtype).contiguous(memory_format=torch.channels_last)
        labels = pool.labels[chunk]
        for batch in zip(normalized.split(size), labels.split(size), strict=True):
            yield mixing.mix(*batch, step) if settings.mixup else Batch(*batch)
            step += 1


class _Mixing:
    """Mixup (arXiv:1710.09412, its algorithm 1): a batch mixed with a permutation of itself.

    One share per batch, from Beta(alpha, alpha), as in the paper's code.
    """

    def __init__(
        self, alpha: float, steps: int, size: int, rng_seed: int, epoch: int, device: torch.device
    ) -> None:
        if not alpha:
            return
        draws = seeds.generator(rng_seed, "epoch", epoch, "mixup")
        shares = draws.beta(alpha, alpha, size=steps).astype("float32")
        partners = draws.permuted(np.tile(np.arange(size), (steps, 1)), axis=1)
        self.shares = move(torch.from_numpy(shares), device)
        self.partners = move(torch.from_numpy(partners), device)

    def mix(self, images: Tensor, labels: Tensor, step: int) -> Batch:
        share, partners = self.shares[step], self.partners[step]
        mixed = share * images + (1 - share) * images[partners]
        return Batch(mixed.to(images.dtype), labels, labels[partners], share)
