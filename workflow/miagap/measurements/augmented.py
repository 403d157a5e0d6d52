"""Whether the label is right at a sample and at its shifts or rotations."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from miagap.extraction import apply_query
from miagap.measurements.subject import Asking, Subject
from miagap.queries import Query


def shifts(extent: int) -> list[Query]:
    """Return the 4 * extent shifts by (dx, dy) with abs(dx) + abs(dy) = extent."""
    steps = range(-extent, extent + 1)
    return [Query(dx=dx, dy=dy) for dx in steps for dy in steps if abs(dx) + abs(dy) == extent]


def rotate(pixels: Tensor, degrees: float) -> Tensor:
    """Turn images (B, C, H, W) about their centre, bilinear, black outside."""
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    matrix = pixels.new_tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]])
    grid = functional.affine_grid(
        matrix.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False
    )
    return functional.grid_sample(pixels, grid, align_corners=False)


@torch.inference_mode()
def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return 1 where the label is right and 0 elsewhere, uint8 (n, views), the sample first.

    Args:
        subject: the model and the samples.
        parameters: ``views``, shifts or rotations, and their ``extent``.
    """
    asking, extent = Asking(subject), parameters["extent"]
    columns = []
    for part in asking.parts():
        if parameters["views"] == "shifts":
            views = [apply_query(part.pixels, query) for query in shifts(extent)]
        else:
            views = [rotate(part.pixels, degrees) for degrees in (-extent, extent)]
        right = [asking.right(view, part.labels) for view in [part.pixels, *views]]
        columns.append(torch.stack(right, dim=1))
    return torch.cat(columns).to(torch.uint8).cpu().numpy()
