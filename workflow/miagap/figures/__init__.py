"""The figures of a study, by name.

:func:`draw` makes one from the study's tables; :func:`style.write` writes it. Which figures a
study yields, its config says: :func:`miagap.study.figure_names`.
"""

from collections.abc import Callable
from functools import partial

from matplotlib.figure import Figure

from miagap.errors import InputError
from miagap.figures import attack_panels, matrix, roc, scatter
from miagap.figures.style import Style, write, write_all
from miagap.results import StudyResults

__all__ = ["FIGURES", "Style", "draw", "write", "write_all"]

Drawing = Callable[[StudyResults, Style], Figure]

FIGURES: dict[str, Drawing] = {
    "roc_techniques": roc.techniques,
    "roc_checkpoints": roc.checkpoints,
    "gap_vs_tpr": scatter.gap,
    "accuracy_vs_tpr": scatter.accuracy,
    "loss_gap_vs_tpr": scatter.loss_gap,
    "attacker_matrix": matrix.attackers,
    "attack_comparison": matrix.attacks,
    "family_comparison": matrix.families,
    "roc_attacks": attack_panels.attack_panels,
}
"""Name -> function of figures that a study has once."""

PER_TECHNIQUE: dict[str, Callable[[StudyResults, Style, str], Figure]] = {
    "attacker": roc.attackers,
    "roc_attacks": roc.attacks,
}
"""Prefix -> function of figures about one technique: attacker_<technique>."""


def _drawing(name: str) -> Drawing:
    if name in FIGURES:
        return FIGURES[name]
    for prefix, function in PER_TECHNIQUE.items():
        if name.startswith(f"{prefix}_"):
            return partial(_about, function, name.removeprefix(f"{prefix}_"))
    known = ", ".join([*FIGURES, *(f"{prefix}_<technique>" for prefix in PER_TECHNIQUE)])
    raise InputError(f"figure {name}: unknown; figures are {known}")


def _about(
    function: Callable[[StudyResults, Style, str], Figure],
    technique: str,
    study: StudyResults,
    style: Style,
) -> Figure:
    if technique not in study.final:
        raise InputError(f"figure about technique {technique}: the study has no such technique")
    return function(study, style, technique)


def draw(name: str, study: StudyResults, style: Style) -> Figure:
    """Return the figure ``name`` of a study.

    Raises:
        InputError: no figure has this name, or it is about a technique that the study lacks.
    """
    with style.applied():
        return _drawing(name)(study, style)
