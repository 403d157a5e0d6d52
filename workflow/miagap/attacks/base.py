"""What an attack is: a name, its source, what it needs, typed parameters, one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from miagap.attacks.problem import Problem
from miagap.errors import InputError

NEEDS = frozenset({"phi", "loss", "logits", "reserve"})
# Signals that the models are asked for beyond their logits, by jobs of their own
# (``miagap.measurements`` has a module of each name): what each says of a sample.
MEASURED = {
    "merlin": "share of noisy copies with a greater loss",
    "augmented": "whether the label is right, at each of several shifts or rotations",
    "robustness": "share of noisy copies with the right label, at each of several strengths",
    "boundary": "distance to the nearest place found with another label, from labels alone",
    "white_box": "sizes of gradients and activations of the last layers",
    "features": "activations below the last layer",
    "distilled": "phi under models distilled from this one",
}


@dataclass(frozen=True)
class Measurement:
    """A signal with the settings that its values depend on.

    Attributes:
        kind: a name of ``MEASURED``.
        parameters: settings by name, in order.
    """

    kind: str
    parameters: tuple[tuple[str, Any], ...]

    @property
    def key(self) -> str:
        """Name of the signal, fit for files: ``merlin-100-0.01``."""
        return "-".join([self.kind, *(_word(value) for _, value in self.parameters)])


def _word(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Parameter:
    """One setting of an attack.

    Attributes:
        kind: "bool", "int", "float" or "choice".
        default: value where the config has none.
        text: one line for the documentation.
        choices: allowed values of a choice.
        minimum, maximum: inclusive range of a number.
    """

    kind: Literal["bool", "int", "float", "choice"]
    default: Any
    text: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None

    def allowed(self) -> str:
        """Describe the allowed values in words."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "choice":
            return " or ".join(self.choices)
        bounds = []
        if self.minimum is not None:
            bounds.append(f">= {self.minimum:g}")
        if self.maximum is not None:
            bounds.append(f"<= {self.maximum:g}")
        noun = "an integer" if self.kind == "int" else "a number"
        return " ".join([noun, " and ".join(bounds)]).strip()

    def accepts(self, value: object) -> bool:
        """Tell whether ``value`` is allowed."""
        if self.kind == "bool":
            return isinstance(value, bool)
        if self.kind == "choice":
            return isinstance(value, str) and value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if self.kind == "int" and not isinstance(value, int):
            return False
        above = self.minimum is None or value >= self.minimum
        below = self.maximum is None or value <= self.maximum
        return bool(np.isfinite(value)) and above and below


@dataclass(frozen=True)
class Attack:
    """One method of attack.

    Attributes:
        method: the word in the config.
        family: family in the paper's taxonomy.
        source: who introduced it.
        access: what the attacker sees of the target.
        needs: what the shadow pool must hold, in words of ``NEEDS``. "reserve" means that
            reserve samples are used where the study has some; none is required.
        function: scores a problem, float64 (tasks, n), higher = more likely a member.
        parameters: settings by name.
        needs_if: further needs of some parameter values.
        cost: one line for the documentation.
        measured: for each signal of ``MEASURED`` among the needs, the names of the parameters
            that it is measured with.
        least_models: how many IN and how many OUT shadow models of every sample it needs.
        least_pairs: how many pairs of splits it needs beside those left out, without a reserve.
    """

    method: str
    family: str
    source: str
    access: str
    needs: frozenset[str]
    function: Callable[[Problem, Mapping[str, Any]], np.ndarray]
    parameters: Mapping[str, Parameter]
    cost: str
    needs_if: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    measured: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    least_models: int = 1
    least_pairs: int = 1

    def needs_of(self, parameters: Mapping[str, Any]) -> frozenset[str]:
        """Return what the attack needs with these parameters."""
        further = [need for (k, v), need in self.needs_if.items() if parameters[k] == v]
        return self.needs.union(*further)

    def measurements(self, parameters: Mapping[str, Any]) -> tuple[Measurement, ...]:
        """Return the signals that must be measured for the attack with these parameters."""
        kinds = sorted(self.needs_of(parameters) & MEASURED.keys())
        return tuple(measurement(kind, self.measured.get(kind, ()), parameters) for kind in kinds)


@dataclass(frozen=True)
class AttackSpec:
    """An attack as configured: its name in all tables, its method, every parameter's value."""

    name: str
    method: str
    parameters: Mapping[str, Any]


def measurement(kind: str, names: tuple[str, ...], parameters: Mapping[str, Any]) -> Measurement:
    """Return a signal measured with some of an attack's parameters."""
    return Measurement(kind, tuple((name, parameters[name]) for name in names))


def measured_signal(
    problem: Problem, attack: Attack, kind: str, parameters: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a measured signal of targets and shadow models, each (M, n, ...).

    Raises:
        InputError: the signals lack it.
    """
    key = measurement(kind, attack.measured.get(kind, ()), parameters).key
    if key not in problem.targets.extra or key not in problem.shadows.extra:
        raise InputError(
            f"attacks.{problem.name}: needs the signal {key}, which was not measured; "
            "read it with measurements() of the registry"
        )
    return problem.targets.extra[key], problem.shadows.extra[key]


def require_logits(problem: Problem) -> None:
    """Raise InputError unless both targets and shadow models have logits."""
    if problem.targets.logits is None or problem.shadows.logits is None:
        raise InputError(
            f"attacks.{problem.name}: needs logits, which these signals lack; "
            "read them with needs() of the registry"
        )
