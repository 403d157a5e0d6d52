"""The augmentations' parameters: defaults and checks, without torch."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from miagap.errors import InputError

PADDING_MODES = ("constant", "reflect", "edge", "symmetric")
INTERPOLATIONS = ("nearest", "bilinear")

#: Defaults of every augmentation, as in the config's section ``augmentations``.
PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "crop": {"padding": 4, "padding_mode": "constant", "fill": 0},
    "mirror": {"probability": 0.5},
    "cutout": {"probability": 0.5, "scale": (0.02, 0.33), "ratio": (0.3, 3.3), "value": 0},
    "cifar_policy": {"probability": 1.0, "interpolation": "nearest", "fill": None},
}


@dataclass(frozen=True)
class Augmentation:
    """One augmentation of a technique: its name and the parameters that differ from the default."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


def check(augmentation: Augmentation) -> dict[str, Any]:
    """Return all parameters of ``augmentation``: the given ones, checked, over the defaults.

    Raises:
        InputError: naming ``augmentations.<name>.<parameter>``.
    """
    if augmentation.name not in PARAMETERS:
        raise InputError(
            f"augmentations.{augmentation.name}: no such augmentation; "
            f"{_nearest(augmentation.name, list(PARAMETERS))}"
        )
    defaults = PARAMETERS[augmentation.name]
    for key, value in augmentation.parameters.items():
        path = f"augmentations.{augmentation.name}.{key}"
        if key not in defaults:
            raise InputError(f"{path}: no such parameter; {_nearest(key, list(defaults))}")
        expected = _EXPECTED[augmentation.name, key]
        if not expected.holds(value):
            raise InputError(f"{path}: expected {expected.text}, got {value!r}")
    return {**defaults, **augmentation.parameters}


@dataclass(frozen=True)
class _Expected:
    text: str
    holds: Callable[[Any], bool]


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255


def _is_probability(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_range(value: Any, low: float, high: float, *, positive: bool) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(_is_number, value)):
        return False
    return low <= value[0] <= value[1] <= high and (value[0] > 0 or not positive)


_PROBABILITY = _Expected("a probability, 0 to 1", _is_probability)
_BYTE = _Expected("an integer, 0 to 255", _is_byte)
_EXPECTED: Mapping[tuple[str, str], _Expected] = {
    ("crop", "padding"): _Expected(
        "a number of pixels, 0 or more",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    ),
    ("crop", "padding_mode"): _Expected(
        f"one of {', '.join(PADDING_MODES)}", lambda value: value in PADDING_MODES
    ),
    ("crop", "fill"): _BYTE,
    ("mirror", "probability"): _PROBABILITY,
    ("cutout", "probability"): _PROBABILITY,
    ("cutout", "scale"): _Expected(
        "two shares of the image's area, low and high, 0 to 1",
        lambda value: _is_range(value, 0.0, 1.0, positive=False),
    ),
    ("cutout", "ratio"): _Expected(
        "two aspect ratios, low and high, above 0",
        lambda value: _is_range(value, 0.0, 1e6, positive=True),
    ),
    ("cutout", "value"): _Expected(
        "an integer, 0 to 255, or mean, or random",
        lambda value: _is_byte(value) or value in ("mean", "random"),
    ),
    ("cifar_policy", "probability"): _PROBABILITY,
    ("cifar_policy", "interpolation"): _Expected(
        f"one of {', '.join(INTERPOLATIONS)}", lambda value: value in INTERPOLATIONS
    ),
    ("cifar_policy", "fill"): _Expected(
        "null or an integer, 0 to 255", lambda value: value is None or _is_byte(value)
    ),
}
