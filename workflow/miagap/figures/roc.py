"""ROC curves on two logarithmic axes: techniques, checkpoints, attackers, attacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from miagap.figures.style import ZERO_MARKER, Style, light_grid, log_percent, sequential
from miagap.results import BASELINE, StudyResults

_CHANCE = "#8A8A8A"


@dataclass(frozen=True)
class Curve:
    """One curve: rows of the ROC table, its label and its looks."""

    rows: pd.DataFrame
    label: str
    color: Any
    line: Any
    marker: str


def _select(study: StudyResults, **where: str) -> pd.DataFrame:
    rows = study.rows(study.roc, protocol=study.protocol, **where)
    return rows[rows["fpr"] > 0].sort_values("fpr")


def _floor(curves: Sequence[Curve], left: float) -> float:
    """Return the lower end of the rate axis: a decade that holds chance and all positive rates."""
    positive = [curve.rows.loc[curve.rows["tpr"] > 0, "tpr"].min() for curve in curves]
    lowest = min([left, *(value for value in positive if np.isfinite(value))])
    return float(10 ** np.floor(np.log10(lowest)))


def _draw_curve(axes: Axes, curve: Curve, floor: float) -> bool:
    """Draw a curve with its interval; return whether some of its rates are zero."""
    fpr, tpr = curve.rows["fpr"].to_numpy(), curve.rows["tpr"].to_numpy()
    low, high = (curve.rows[end].to_numpy().clip(floor) for end in ("tpr_lo", "tpr_hi"))
    axes.fill_between(fpr, low, high, color=curve.color, alpha=0.16, linewidth=0)
    axes.plot(fpr, tpr.clip(floor), color=curve.color, linestyle=curve.line, label=curve.label)
    zero = tpr <= 0
    if zero.any():
        # The largest false-positive rate at which nothing is found yet.
        axes.plot(
            fpr[zero][-1], floor, marker=ZERO_MARKER, color=curve.color, clip_on=False, zorder=5
        )
    return bool(zero.any())


def _frame(axes: Axes, study: StudyResults, left: float, floor: float, style: Style) -> None:
    """Draw chance, the headline rate and the rates that one target cannot resolve."""
    axes.set(xscale="log", yscale="log", xlim=(left, 1.0), ylim=(floor, 1.0))
    log_percent(axes.xaxis)
    log_percent(axes.yaxis)
    axes.set_xlabel("False-positive rate (%)")
    axes.set_ylabel("True-positive rate (%)")
    light_grid(axes)
    ends = np.array([max(left, floor), 1.0])
    axes.plot(ends, ends, color=_CHANCE, linewidth=0.8, linestyle=(0, (4, 3)), label="chance")
    axes.axvline(study.headline_fpr, color=_CHANCE, linewidth=0.7, linestyle=":")
    if left < study.smallest_fpr:
        axes.axvspan(left, study.smallest_fpr, color="#F0F0F0", linewidth=0, zorder=0)
        axes.text(
            np.sqrt(left * study.smallest_fpr),
            0.97,
            "fewer than one false\npositive per target",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="top",
            fontsize=style.small,
            color="#5A5A5A",
            rotation=90,
        )


def _curves(study: StudyResults, curves: Sequence[Curve], style: Style, title: str) -> Figure:
    """Return a figure of curves with intervals; the legend follows their order at the headline."""
    figure = style.figure(0.62 * style.width)
    axes = figure.add_subplot()
    left = min(study.smallest_fpr, study.headline_fpr) / 2.5
    floor = _floor(curves, left)
    zero = [_draw_curve(axes, curve, floor) for curve in curves]
    _frame(axes, study, left, floor, style)
    axes.set_title(title, loc="left", pad=8)
    order = {curve.label: -rate_at(curve.rows, study.headline_fpr) for curve in curves}
    handles, labels = axes.get_legend_handles_labels()
    ranked = sorted(zip(handles, labels, strict=True), key=lambda pair: order.get(pair[1], np.inf))
    if any(zero):
        mark = axes.plot([], [], marker=ZERO_MARKER, color="#5A5A5A", linestyle="none")[0]
        ranked.append((mark, "none found up to here\n(drawn at the axis)"))
    figure.legend(
        [handle for handle, _ in ranked],
        [label for _, label in ranked],
        loc="outside right upper",
        title=f"by TPR at {100 * study.headline_fpr:g}% FPR",
        title_fontsize=style.small,
        alignment="left",
    )
    return figure


def rate_at(rows: pd.DataFrame, fpr: float) -> float:
    """Return the true-positive rate of the last point at or below ``fpr`` (first one if none)."""
    below = rows[rows["fpr"] <= fpr]
    return float((below if len(below) else rows.iloc[:1])["tpr"].iloc[-1])


def techniques(study: StudyResults, style: Style) -> Figure:
    """Figure 1: every technique at its final checkpoint, attacker knows the technique."""
    names = [name for name in study.techniques if name in study.final]
    colors, lines, markers = style.colors(names), style.lines(names), style.markers(names)
    curves = []
    for name in names:
        rows = _select(
            study,
            technique=name,
            attacker_technique=name,
            checkpoint=study.final[name],
            attack=study.headline_attack,
        )
        if len(rows):
            curves.append(Curve(rows, name, colors[name], lines[name], markers[name]))
    return _curves(study, curves, style, f"Final models of each technique, {study.headline_attack}")


def checkpoints(study: StudyResults, style: Style) -> Figure:
    """Figure 2: every checkpoint of the technique with most checkpoints."""
    technique = study.early_stopping_technique
    names = study.checkpoints(technique)
    shades = sequential()
    lines, markers = style.lines(names), style.markers(names)
    curves = []
    for place, name in enumerate(names):
        rows = _select(
            study,
            technique=technique,
            attacker_technique=technique,
            checkpoint=name,
            attack=study.headline_attack,
        )
        label = f"{name} (early stopping)" if name == "best" else f"epoch {name}"
        color = shades(place / max(1, len(names) - 1))
        if len(rows):
            curves.append(Curve(rows, label, color, lines[name], markers[name]))
    return _curves(
        study, curves, style, f"Checkpoints of technique {technique}, {study.headline_attack}"
    )


def attackers(study: StudyResults, style: Style, technique: str) -> Figure:
    """Figures 3 and 4: one technique, attacked with and without knowing it."""
    rows = _select(
        study,
        technique=technique,
        checkpoint=study.final[technique],
        attack=study.headline_attack,
    )
    found = [name for name in (technique, BASELINE) if name in set(rows["attacker_technique"])]
    others = set(rows["attacker_technique"]) - {technique, BASELINE}
    if BASELINE not in found:
        found += [name for name in study.techniques if name in others]
    colors = style.colors(["baseline", "knowing", *found])
    lines, markers = style.lines(found), style.markers(found)
    curves = []
    for name in found:
        knows = name == technique
        label = f"knows ({name})" if knows else f"does not know\n(trains with {name})"
        color = colors["knowing"] if knows else style.colors(list("xyz"))["z"]
        own = rows[rows["attacker_technique"] == name]
        curves.append(Curve(own, label, color, lines[name], markers[name]))
    return _curves(
        study, curves, style, f"Models trained with {technique}: does the attacker know?"
    )


def attacks(study: StudyResults, style: Style, technique: str) -> Figure:
    """Every attack on one technique's final models."""
    rows = _select(
        study,
        technique=technique,
        attacker_technique=technique,
        checkpoint=study.final[technique],
    )
    names = list(dict.fromkeys(rows["attack"]))
    colors, lines, markers = style.colors(names), style.lines(names), style.markers(names)
    curves = [
        Curve(rows[rows["attack"] == name], name, colors[name], lines[name], markers[name])
        for name in names
    ]
    return _curves(study, curves, style, f"Attacks on models trained with {technique}")
