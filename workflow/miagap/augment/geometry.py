"""Where the pixels of a sheared, shifted or turned image come from, as torchvision has it."""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")


@lru_cache(maxsize=16)
def sampling_grids(operations: tuple[tuple[str, float], ...], height: int, width: int) -> Tensor:
    """Return the sampling grid of each (operation, magnitude): float32 (A, H, W, 2) on the host.

    Computed on the host for every device, so that a GPU moves the same pixels.
    """
    return torch.cat(
        [_grid(_matrix(*operation, height, width), height, width) for operation in operations]
    )


@lru_cache(maxsize=16)
def source_pixels(operations: tuple[tuple[str, float], ...], height: int, width: int) -> Tensor:
    """Return each target pixel's nearest source: int64 (A, H * W); H * W means outside.

    The image of pixel numbers goes through the same ``grid_sample`` that torchvision
    sends images through: ties between pixels fall as they do there.
    """
    grids = sampling_grids(operations, height, width)
    # float32 holds integers to 2**24; number 0 is what grid_sample gives outside.
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, 1, height, width)
    sources = [
        grid_sample(numbers, grid[None], mode="nearest", padding_mode="zeros", align_corners=False)
        for grid in grids
    ]
    found = torch.stack(sources).view(len(operations), height * width).long() - 1
    return torch.where(found < 0, height * width, found)


def _matrix(operation: str, magnitude: float, height: int, width: int) -> Sequence[float]:
    """Return the inverse affine matrix (6 numbers) of torchvision's ``_apply_op``."""
    if operation == "ShearX":
        shear = math.degrees(math.atan(magnitude))
        return _inverse_affine((-width * 0.5, -height * 0.5), shear=(shear, 0.0))
    if operation == "ShearY":
        shear = math.degrees(math.atan(magnitude))
        return _inverse_affine((-width * 0.5, -height * 0.5), shear=(0.0, shear))
    if operation == "TranslateX":
        return _inverse_affine((0.0, 0.0), translate=(float(int(magnitude)), 0.0))
    if operation == "TranslateY":
        return _inverse_affine((0.0, 0.0), translate=(0.0, float(int(magnitude))))
    return _inverse_affine((0.0, 0.0), angle=-magnitude)


def _inverse_affine(
    center: tuple[float, float],
    angle: float = 0.0,
    translate: tuple[float, float] = (0.0, 0.0),
    shear: tuple[float, float] = (0.0, 0.0),
) -> Sequence[float]:
    """Return C * (R * ShearY * ShearX)^-1 * C^-1 * T^-1, angles in degrees.

    In the order of operations of torchvision's ``_get_inverse_affine_matrix`` at scale 1:
    a last bit decides between two pixels where the grid falls midway.
    """
    turn, shear_x, shear_y = (math.radians(value) for value in (angle, *shear))
    a = math.cos(turn - shear_y) / math.cos(shear_y)
    b = -math.cos(turn - shear_y) * math.tan(shear_x) / math.cos(shear_y) - math.sin(turn)
    c = math.sin(turn - shear_y) / math.cos(shear_y)
    d = -math.sin(turn - shear_y) * math.tan(shear_x) / math.cos(shear_y) + math.cos(turn)
    x, y = -center[0] - translate[0], -center[1] - translate[1]
    offset_x = (d * x + -b * y) + center[0]
    offset_y = (-c * x + a * y) + center[1]
    return d, -b, offset_x, -c, a, offset_y


def _grid(matrix: Sequence[float], height: int, width: int) -> Tensor:
    """Return the float32 sampling grid (1, H, W, 2) as torchvision's ``_gen_affine_grid``."""
    theta = torch.tensor(matrix, dtype=torch.float32).view(1, 2, 3)
    base = torch.ones((1, height, width, 3))
    base[..., 0] = torch.linspace(-width * 0.5 + 0.5, width * 0.5 - 0.5, steps=width)
    rows = torch.linspace(-height * 0.5 + 0.5, height * 0.5 - 0.5, steps=height)
    base[..., 1] = rows[:, None]
    scaled = theta.transpose(1, 2) / torch.tensor([0.5 * width, 0.5 * height])
    return base.view(1, height * width, 3).bmm(scaled).view(1, height, width, 2)
