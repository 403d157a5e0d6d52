"""Augmentations drawn per image and computed for whole batches, equal to torchvision's.

Importing this package does not import torch: only ``build`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miagap.augment.parameters import PARAMETERS, Augmentation, check

if TYPE_CHECKING:
    from miagap.augment.pipeline import Pipeline

__all__ = ["PARAMETERS", "Augmentation", "build", "check"]


def build(augmentations: Sequence[Augmentation], image_mean: Sequence[float] = ()) -> Pipeline:
    """Return the pipeline that applies ``augmentations`` in their order.

    Args:
        augmentations: names and parameters; missing parameters take their defaults.
        image_mean: mean pixel of the pool per channel, in 0..255; only used by
            ``cutout`` with value ``mean``.

    Raises:
        InputError: unknown augmentation or parameter, or a value out of range.
    """
    from miagap.augment.pipeline import Pipeline

    return Pipeline.build(augmentations, image_mean)
