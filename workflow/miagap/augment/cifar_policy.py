"""AutoAugment's policy for CIFAR-10: torchvision's ``AutoAugmentPolicy.CIFAR10``.

An action is one operation at one magnitude with one sign, numbered by ``action``. The
draws decide on up to two actions per image; images with the same operation are computed
together. Which images those are is decided on the host: with draws from a CPU generator
(the default of the pipeline) a GPU is never waited for.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from miagap.augment import pixels as ops
from miagap.augment.geometry import GEOMETRIC, sampling_grids, source_pixels
from miagap.augment.layout import Draws, from_pixels, move, to_pixels

OPERATIONS = (
    *GEOMETRIC,
    "Brightness",
    "Posterize",
    "Solarize",
    "Invert",
    "Color",
    "Contrast",
    "Sharpness",
    "AutoContrast",
    "Equalize",
)
TABULATED = ("Brightness", "Posterize", "Solarize", "Invert")
BLENDED = ("Color", "Contrast", "Sharpness")
SIGNED = (*GEOMETRIC, "Brightness", *BLENDED)
BINS = 10
IDENTITY = -1

#: The 25 sub-policies: twice (operation, probability, magnitude bin). arXiv:1805.09501,
#: table 7, as torchvision has it.
SUB_POLICIES: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("Invert", 0.1, 0), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, 0), ("Equalize", 0.9, 0)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, 0), ("Equalize", 0.5, 0)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, 0), ("AutoContrast", 0.4, 0)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, 0)),
    (("Equalize", 0.2, 0), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.2, 0), ("Equalize", 0.6, 0)),
    (("Color", 0.9, 9), ("Equalize", 0.6, 0)),
    (("AutoContrast", 0.8, 0), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, 0)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, 0), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, 0), ("Invert", 0.1, 0)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, 0)),
)


def action(operation: str, magnitude_bin: int = 0, sign: int = 1) -> int:
    """Return the number of an action; ``sign`` 0 means the negated magnitude."""
    return (OPERATIONS.index(operation) * BINS + magnitude_bin) * 2 + sign


def magnitude(operation: str, magnitude_bin: int, sign: int, height: int, width: int) -> float:
    """Return the magnitude of an action on images of ``height`` x ``width`` pixels."""
    ends = {
        "ShearX": 0.3,
        "ShearY": 0.3,
        "TranslateX": 150.0 / 331.0 * width,
        "TranslateY": 150.0 / 331.0 * height,
        "Rotate": 30.0,
    }
    if operation in SIGNED:
        value = torch.linspace(0.0, ends.get(operation, 0.9), BINS)[magnitude_bin].item()
        return value if sign else -value
    if operation == "Posterize":
        return 8 - round(magnitude_bin / ((BINS - 1) / 4))
    if operation == "Solarize":
        return torch.linspace(255.0, 0.0, BINS)[magnitude_bin].item()
    return 0.0


def draw_cifar_policy(
    batch: int, size: tuple[int, int, int], parameters: Mapping[str, Any], generator: Generator
) -> Draws:
    """Draw a sub-policy per image, and for its two operations whether and with which sign.

    Args:
        batch: number of images B.
        size: (C, H, W) of the images.
        parameters: checked parameters.
        generator: the draws are made on its device.

    Returns:
        ``applied``: bool (B,); ``policy``: int64 (B,) in 0..24; ``uniform``: float32
        (B, 2), an operation is done where it is at most the operation's probability;
        ``sign``: int64 (B, 2), 0 negates the magnitude where the operation has a sign.
    """
    device = generator.device
    applied = torch.rand(batch, generator=generator, device=device) < parameters["probability"]
    return {
        "applied": applied,
        "policy": torch.randint(len(SUB_POLICIES), (batch,), generator=generator, device=device),
        "uniform": torch.rand((batch, 2), generator=generator, device=device),
        "sign": torch.randint(2, (batch, 2), generator=generator, device=device),
    }


def apply_cifar_policy(images: Tensor, draws: Draws, parameters: Mapping[str, Any]) -> Tensor:
    """Apply the drawn sub-policies to ``images`` uint8 (B, C, H, W), C 1 or 3."""
    for actions in _actions(draws).unbind(1):
        images = apply_actions(images, actions, parameters)
    return images


def _actions(draws: Draws) -> Tensor:
    """Return the two actions of each image, IDENTITY where none: int64 (B, 2) on the host."""
    policy, sign = draws["policy"].cpu(), draws["sign"].cpu()
    first, probability = _policy_tables()
    done = (draws["uniform"].cpu() <= probability[policy]) & draws["applied"].cpu()[:, None]
    return torch.where(done, first[policy] + sign, IDENTITY)


@lru_cache(maxsize=1)
def _policy_tables() -> tuple[Tensor, Tensor]:
    """Return actions with sign 0, int64 (25, 2), and probabilities, float32 (25, 2)."""
    actions = [[action(name, level, 0) for name, _, level in pair] for pair in SUB_POLICIES]
    probabilities = [[probability for _, probability, _ in pair] for pair in SUB_POLICIES]
    return torch.tensor(actions), torch.tensor(probabilities)


def apply_actions(images: Tensor, actions: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """Apply one action per image.

    Args:
        images: uint8 (B, C, H, W), C 1 or 3.
        actions: int64 (B,) on the host; IDENTITY leaves an image as it is.
        parameters: ``interpolation`` and ``fill`` of the geometric operations.
    """
    _, channels, height, width = images.shape
    done = to_pixels(images).flatten(1, 2)
    if done.data_ptr() == images.data_ptr():
        done = done.clone()
    groups = _groups(height * width)[actions]  # IDENTITY takes the last entry
    order = groups.argsort(stable=True)
    sizes = torch.bincount(groups, minlength=len(_GROUPS) + 1).tolist()
    start = 0
    for names in _TOGETHER:
        counts = [sizes[_GROUPS.index(name)] for name in names]
        chosen = order[start : start + sum(counts)]
        start += len(chosen)
        if len(chosen):
            where = move(chosen, images.device)
            subset = done.index_select(0, where)
            changed = _apply_together(
                names, counts, subset, actions[chosen], (height, width), parameters
            )
            done.index_copy_(0, where, changed)
    return from_pixels(done.view(-1, height, width, channels), images)


#: Operations that are computed together: those that move, those that mix pixels or
#: channels, and those that look each value up in a table.
_TABLES = ("constant", "Contrast", "AutoContrast", "Equalize")
_TOGETHER = (("geometry",), ("Color",), ("Sharpness",), _TABLES)
_GROUPS = tuple(name for names in _TOGETHER for name in names)


@lru_cache(maxsize=8)
def _groups(area: int) -> Tensor:
    """Return the group of each action, the last for IDENTITY: int64."""
    group = {**dict.fromkeys(GEOMETRIC, "geometry"), **dict.fromkeys(TABULATED, "constant")}
    numbers = [_GROUPS.index(group.get(name, name)) for name in OPERATIONS]
    if area <= 255:  # torchvision equalises no image of so few pixels: its step is 0
        numbers[OPERATIONS.index("Equalize")] = len(_GROUPS)
    per_action = torch.tensor(numbers).repeat_interleave(2 * BINS)
    return torch.cat([per_action, torch.tensor([len(_GROUPS)])])


def _apply_together(
    names: tuple[str, ...],
    counts: list[int],
    pixels: Tensor,
    actions: Tensor,
    size: tuple[int, int],
    parameters: Mapping[str, Any],
) -> Tensor:
    """Apply actions (n,), sorted by their group, to ``pixels`` uint8 (n, P, C)."""
    if names == _TABLES:
        return _apply_tables(pixels, actions, counts)
    if names == ("geometry",):
        return _apply_geometry(pixels, actions, size, parameters)
    ratio, rest = _factors(actions, pixels.device)
    if names == ("Color",):
        return ops.color(pixels, ratio, rest)
    return ops.sharpness(pixels, ratio, rest, size[1])


def _apply_tables(pixels: Tensor, actions: Tensor, counts: list[int]) -> Tensor:
    """Look up values in tables; ``counts`` images have a table of each kind of _TABLES."""
    _, area, channels = pixels.shape
    constant, contrast, stretched, equalized = counts
    keys = ops.value_keys(pixels)
    tables = []
    if constant:
        own = move(_value_tables().index_select(0, actions[:constant]), pixels.device)
        tables.append(own[:, None].expand(-1, channels, -1))
    if contrast:
        part = slice(constant, constant + contrast)
        ratio, rest = _factors(actions[part], pixels.device)
        tables.append(ops.contrast_tables(pixels[part], ratio, rest))
    if stretched + equalized:
        first = constant + contrast
        histograms = ops.histograms(
            keys[first:] - first * channels * ops.LEVELS if first else keys, channels
        )
        if stretched:
            tables.append(ops.autocontrast_tables(histograms[:stretched]))
        if equalized:
            tables.append(ops.equalize_tables(histograms[stretched:], area))
    return ops.look_up(keys, torch.cat(tables), pixels)


def _factors(actions: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the factors of blending actions (n,): float32 (n, 1) each."""
    factors = move(_blend_factors().index_select(0, actions), device)
    return factors[:, :1], factors[:, 1:]


def _apply_geometry(
    pixels: Tensor, actions: Tensor, size: tuple[int, int], parameters: Mapping[str, Any]
) -> Tensor:
    fill = parameters["fill"]
    if parameters["interpolation"] == "bilinear":
        return _sample(pixels, actions, size, fill)
    count, area, channels = pixels.shape
    outside = pixels.new_full((count, 1, channels), fill or 0)
    extended = torch.cat([pixels, outside], dim=1)
    table = _device_sources(*size, pixels.device)
    sources = table.index_select(0, move(actions, pixels.device))
    first = torch.arange(count, dtype=sources.dtype, device=pixels.device) * (area + 1)
    sources.add_(first[:, None])
    moved = extended.view(-1, channels).index_select(0, sources.view(-1))
    return moved.view(count, area, channels)


def _sample(pixels: Tensor, actions: Tensor, size: tuple[int, int], fill: int | None) -> Tensor:
    """Sample bilinearly, in torchvision's order of operations."""
    height, width = size
    planes = pixels.view(-1, height, width, pixels.shape[2]).permute(0, 3, 1, 2).float()
    planes = planes.contiguous()
    if fill is not None:
        planes = torch.cat([planes, torch.ones_like(planes[:, :1])], dim=1)
    grids = move(sampling_grids(_geometric_operations(*size), *size)[actions], pixels.device)
    planes = grid_sample(planes, grids, mode="bilinear", padding_mode="zeros", align_corners=False)
    if fill is not None:
        mask = planes[:, -1:]
        planes = planes[:, :-1] * mask + (1.0 - mask) * float(fill)
    return planes.round().to(torch.uint8).permute(0, 2, 3, 1).flatten(1, 2)


def _geometric_operations(height: int, width: int) -> tuple[tuple[str, float], ...]:
    """Return the first actions (all signs and bins of GEOMETRIC) as (operation, magnitude)."""
    return tuple(
        (name, magnitude(name, level, sign, height, width))
        for name in GEOMETRIC
        for level in range(BINS)
        for sign in (0, 1)
    )


@lru_cache(maxsize=8)
def _device_sources(height: int, width: int, device: torch.device) -> Tensor:
    sources = source_pixels(_geometric_operations(height, width), height, width)
    return move(sources.to(torch.int32), device)


@lru_cache(maxsize=1)
def _value_tables() -> Tensor:
    """Return the table of each action that has one, else zeros: uint8 (280, 256)."""
    tables = torch.zeros((len(OPERATIONS) * BINS * 2, 256), dtype=torch.uint8)
    for name in TABULATED:
        for level in range(BINS):
            for sign in (0, 1):
                tables[action(name, level, sign)] = _value_table(name, level, sign)
    return tables


def _value_table(name: str, level: int, sign: int) -> Tensor:
    value = magnitude(name, level, sign, 1, 1)
    if name == "Brightness":
        return ops.brightness_table(1.0 + value)
    if name == "Posterize":
        return ops.posterize_table(int(value))
    if name == "Solarize":
        return ops.solarize_table(value)
    return ops.invert_table()


@lru_cache(maxsize=1)
def _blend_factors() -> Tensor:
    """Return (ratio, 1 - ratio) of each blending action, else zeros: float32 (280, 2)."""
    factors = torch.zeros((len(OPERATIONS) * BINS * 2, 2))
    for name in BLENDED:
        for level in range(BINS):
            for sign in (0, 1):
                ratio = 1.0 + magnitude(name, level, sign, 1, 1)
                factors[action(name, level, sign)] = torch.tensor([ratio, 1.0 - ratio])
    return factors
