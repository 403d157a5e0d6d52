"""Accuracy and loss in eval mode on un-augmented images."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from miagap.device_pool import DevicePool
from miagap.models import for_inference
from miagap.numerics import Numerics


@dataclass(frozen=True)
class Halves:
    """Boolean masks (n,) on the device: what a model trains on, what not, and the reserve."""

    train: Tensor
    test: Tensor
    reserve: Tensor


def evaluate(
    model: nn.Module, pool: DevicePool, numerics: Numerics, halves: Halves
) -> dict[str, float | None]:
    """Return accuracy (share) and mean cross-entropy over each part of the pool.

    The model is asked in eval mode, in the training precision, without augmentation or
    label smoothing, over every sample of the part.

    Returns:
        ``train_accuracy, train_loss, test_…, validation_…``; None for an empty part.
    """
    correct, loss = per_sample(model, pool, numerics)
    found: dict[str, float | None] = {}
    parts = {"train": halves.train, "test": halves.test, "validation": halves.reserve}
    for name, mask in parts.items():
        count = int(mask.sum())
        found[f"{name}_accuracy"] = float(correct[mask].double().mean()) if count else None
        found[f"{name}_loss"] = float(loss[mask].mean()) if count else None
    return found


def per_sample(model: nn.Module, pool: DevicePool, numerics: Numerics) -> tuple[Tensor, Tensor]:
    """Return for every sample of the pool: correct bool (n,), cross-entropy float64 (n,)."""
    was_training = model.training
    inference = for_inference(model)
    size = numerics.inference_batch
    correct, losses = [], []
    with torch.inference_mode(), numerics.autocast():
        for images, labels in zip(pool.images.split(size), pool.labels.split(size), strict=True):
            logits = inference(pool.normalize(images, numerics.dtype)).double()
            correct.append(logits.argmax(dim=1) == labels)
            losses.append(functional.cross_entropy(logits, labels, reduction="none"))
    model.train(was_training)
    return torch.cat(correct), torch.cat(losses)
