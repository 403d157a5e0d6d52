"""What an attack is: a name, its source, what it needs, typed parameters, one function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from miagap.attacks.signals import Problem
from miagap.errors import InputError

NEEDS = frozenset({"phi", "loss", "logits", "reserve"})


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


@dataclass(frozen=True)
class AttackSpec:
    """An attack as configured: its name in all tables, its method, every parameter's value."""

    name: str
    method: str
    parameters: Mapping[str, Any]


def require_logits(problem: Problem) -> None:
    """Raise InputError unless both targets and shadow models have logits."""
    if problem.targets.logits is None or problem.shadows.logits is None:
        raise InputError(
            f"attacks.{problem.name}: needs logits, which these signals lack; "
            "read them with needs() of the registry"
        )
