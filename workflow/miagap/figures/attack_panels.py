"""ROC curves of every attack: a panel for each technique, all axes alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from miagap.figures.roc import Curve, draw_curve, floor_of, frame, left_of, rate_at, select
from miagap.figures.style import ZERO_MARKER, Style
from miagap.results import StudyResults

MOST = 7
"""More attacks than these are too many to tell apart: each family shows its strongest."""

_NOTE = "#5A5A5A"
_TINY = 1e-6


def attack_panels(study: StudyResults, style: Style) -> Figure:
    """Every attack on the final models of each technique.

    Of many attacks, each family's strongest has its label and interval; the others are thin
    lines of the family's colour.
    """
    panels = _strongest_first(study, style, _curves(study))
    count = len(panels)
    columns = min(count, 2 if count in (2, 4) else 3)
    lines = -(-count // columns)
    labels = {curve.label for curves in panels.values() for curve in curves if curve.label}
    legend = -(-(len(labels) + 4) // 2)
    side = style.width / columns
    height = lines * min(0.95 * side, 3.4) + (legend + 2) * 1.6 * style.small / 72
    figure = style.figure(height)
    grid = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    zero = _draw(study, style, panels, list(grid.flat), columns)
    _legend(figure, list(grid.flat[:count]), panels, zero)
    figure.suptitle("Every attack on the final models of each technique", x=0.01, ha="left")
    return figure


def _curves(study: StudyResults) -> dict[str, dict[str, Any]]:
    """Return the rows of every technique's and attack's curve: technique -> attack -> rows."""
    found: dict[str, dict[str, Any]] = {}
    for technique, checkpoint in study.final.items():
        rows = select(
            study, technique=technique, attacker_technique=technique, checkpoint=checkpoint
        )
        own = {name: rows[rows["attack"] == name] for name in study.attacks}
        own = {name: curve for name, curve in own.items() if len(curve)}
        if own:
            found[technique] = own
    return found


def _strongest_first(
    study: StudyResults, style: Style, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Curve]]:
    """Return the curves of each panel, with their looks."""
    names = [name for name in study.attacks if any(name in own for own in rows.values())]
    if len(names) <= MOST:
        colors, lines = style.colors(names), style.lines(names)
        return {
            technique: [Curve(own[n], n, colors[n], lines[n], "") for n in names if n in own]
            for technique, own in rows.items()
        }
    families = {name: study.families.get(name, name) for name in names}
    kinds = list(dict.fromkeys(families.values()))
    colors, lines = style.colors(kinds), style.lines(kinds)
    first = {kind: _strongest(study, rows, families, kind) for kind in kinds}
    panels: dict[str, list[Curve]] = {}
    for technique, own in rows.items():
        panels[technique] = [
            Curve(own[name], f"{kind}: {name}", colors[kind], lines[kind], "")
            if name == first[kind]
            else Curve(own[name], "", colors[kind], "-", "", light=True)
            for name, kind in families.items()
            if name in own
        ]
    return panels


def _strongest(
    study: StudyResults,
    rows: Mapping[str, Mapping[str, Any]],
    families: Mapping[str, str],
    kind: str,
) -> str:
    """Return the attack of a family with the highest rate at the headline, over techniques."""

    def rate(name: str) -> float:
        rates = [rate_at(own[name], study.headline_fpr) for own in rows.values() if name in own]
        return float(np.mean(np.log(np.maximum(rates, _TINY))))

    return max((name for name, family in families.items() if family == kind), key=rate)


def _draw(
    study: StudyResults,
    style: Style,
    panels: Mapping[str, Sequence[Curve]],
    grid: Sequence[Axes],
    columns: int,
) -> bool:
    """Draw the panels; return whether some rates are zero."""
    every = [curve for curves in panels.values() for curve in curves]
    left = left_of(study, every)
    floor = floor_of([curve for curve in every if not curve.light], left)
    zero = False
    techniques = list(panels)
    for place, axes in enumerate(grid):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        curves = panels[techniques[place]]
        frame(axes, study, left, floor)
        for number, curve in enumerate(curves):
            zero |= draw_curve(axes, curve, floor, number, len(curves))
        axes.set_title(techniques[place], fontsize=style.small, pad=3)
        lowest, first = place + columns >= len(panels), place % columns == 0
        axes.tick_params(labelbottom=lowest, labelleft=first)
        axes.set_xlabel("False-positive rate (%)" if lowest else "", fontsize=style.small)
        axes.set_ylabel("True-positive rate (%)" if first else "", fontsize=style.small)
    return zero


def _legend(
    figure: Figure, grid: Sequence[Axes], panels: Mapping[str, Sequence[Curve]], zero: bool
) -> None:
    """Put one legend below all panels: the attacks in the config's order, then the notes."""
    handles: dict[str, Any] = {}
    for axes in grid:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label.replace("\n", " "), handle)
    curves = [curve for one in panels.values() for curve in one]
    order = list(dict.fromkeys(curve.label for curve in curves if curve.label in handles))
    order += [label for label in handles if label not in order]
    if any(curve.light for curve in curves):
        order.append("thin: the family's other attacks")
        handles[order[-1]] = Line2D([], [], color=_NOTE, linewidth=0.5, alpha=0.6)
    if zero:
        order.append("none found up to here")
        handles[order[-1]] = Line2D([], [], color=_NOTE, linestyle="none", marker=ZERO_MARKER)
    figure.legend(
        [handles[label] for label in order],
        order,
        loc="outside lower center",
        ncols=2,
    )
