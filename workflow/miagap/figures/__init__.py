"""The figures of a study, by name.

:func:`available` says from the config alone which figures a study yields; :func:`draw` makes
one from the study's tables; :func:`style.write` writes it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from matplotlib.figure import Figure

from miagap.errors import InputError
from miagap.figures import matrix, roc, scatter
from miagap.figures.style import Style, write, write_all
from miagap.results import StudyResults

__all__ = ["FIGURES", "Style", "available", "draw", "write", "write_all"]

Drawing = Callable[[StudyResults, Style], Figure]

FIGURES: dict[str, Drawing] = {
    "roc_techniques": roc.techniques,
    "roc_checkpoints": roc.checkpoints,
    "gap_vs_tpr": scatter.gap,
    "accuracy_vs_tpr": scatter.accuracy,
    "loss_gap_vs_tpr": scatter.loss_gap,
    "attacker_matrix": matrix.attackers,
    "attack_comparison": matrix.attacks,
    "roc_attacks": roc.attack_panels,
}
"""Name -> function of figures that a study has once."""

PER_TECHNIQUE: dict[str, Callable[[StudyResults, Style, str], Figure]] = {
    "attacker": roc.attackers,
    "roc_attacks": roc.attacks,
}
"""Prefix -> function of figures about one technique: attacker_<technique>."""

PAPER_ATTACKERS = ("cifar_policy", "all")


def available(
    techniques: Sequence[str],
    checkpoints: Mapping[str, Sequence[str]],
    attackers: Mapping[str, Sequence[str]],
    attacks: Sequence[str] = (),
) -> list[str]:
    """Return the names of the figures that a study yields, in the order of the report.

    Args:
        techniques: technique names.
        checkpoints: technique -> its checkpoints.
        attackers: technique -> techniques of those who attack it, itself included or not.
        attacks: names of the study's attacks.
    """
    found = ["roc_techniques"]
    if any(len(names) > 1 for names in checkpoints.values()):
        found.append("roc_checkpoints")
    crossed = [name for name in techniques if set(attackers.get(name, ())) - {name}]
    paper = [name for name in PAPER_ATTACKERS if name in crossed]
    found += [f"attacker_{name}" for name in paper or crossed[:2]]
    found += ["gap_vs_tpr", "accuracy_vs_tpr", "loss_gap_vs_tpr"]
    if crossed:
        found.append("attacker_matrix")
    if len(attacks) > 1:
        found += ["attack_comparison", "roc_attacks"]
    return found


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
