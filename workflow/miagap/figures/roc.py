"""ROC curves on two logarithmic axes: techniques, checkpoints, attackers, attacks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from miagap.figures.style import ZERO_MARKER, Style, light_grid, log_percent, sequential
from miagap.results import BASELINE, StudyResults

_CHANCE = "#8A8A8A"


@dataclass(frozen=True)
class Curve:
    """One curve: rows of the ROC table, its label and its looks.

    A ``light`` one stands behind the others: thin, without its interval.
    """

    rows: pd.DataFrame
    label: str
    color: Any
    line: Any
    marker: str
    light: bool = False


def select(study: StudyResults, **where: str) -> pd.DataFrame:
    """Return points of curves: the mean over targets, and beyond its resolution the pooled rate.

    The column ``pooled`` says which of the two a point is.
    """
    rows = study.rows(study.roc, protocol=study.protocol, **where)
    rows = rows[rows["fpr"] > 0].sort_values("fpr", kind="stable")
    unresolved = rows["tpr"].isna()
    rows = rows.assign(pooled=unresolved)
    if "pooled_tpr" in rows:
        for end in ("", "_lo", "_hi"):
            rows[f"tpr{end}"] = rows[f"tpr{end}"].where(~unresolved, rows[f"pooled_tpr{end}"])
    return rows[rows["tpr"].notna()]


def floor_of(curves: Sequence[Curve], left: float) -> float:
    """Return the lower end of the rate axis: a decade that holds chance and all positive rates."""
    shown = [curve.rows[(curve.rows["tpr"] > 0) & (curve.rows["fpr"] >= left)] for curve in curves]
    lowest = min([left, *(float(rows["tpr"].min()) for rows in shown if len(rows))])
    return float(10 ** np.floor(np.log10(lowest) + 1e-9))


def _marked(fpr: np.ndarray, place: int, count: int) -> list[int]:
    """Return the points that carry a marker: one a decade, staggered from curve to curve."""
    shift = (place + 0.5) / max(count, 1)
    decades = 10.0 ** (np.arange(-8, 0) + shift)
    inside = decades[(decades > fpr[0]) & (decades < 0.6 * fpr[-1])]
    return sorted({int(np.abs(np.log(fpr) - np.log(value)).argmin()) for value in inside})


def draw_curve(axes: Axes, curve: Curve, floor: float, place: int, count: int) -> bool:
    """Draw a curve with its interval; return whether some of its rates are zero."""
    for pooled in (True, False):
        rows = curve.rows[curve.rows["pooled"] == pooled]
        if not len(rows):
            continue
        fpr, tpr = rows["fpr"].to_numpy(), rows["tpr"].to_numpy()
        looks: dict[str, Any] = {"color": curve.color, "linestyle": curve.line}
        if curve.light:
            axes.plot(fpr, tpr.clip(floor), **looks, linewidth=0.5, alpha=0.6, zorder=1.5)
            continue
        low, high = (rows[end].to_numpy().clip(floor) for end in ("tpr_lo", "tpr_hi"))
        axes.fill_between(fpr, low, high, color=curve.color, alpha=0.16, linewidth=0)
        if pooled:
            looks |= {"linewidth": 0.7}
        else:
            looks |= {"label": curve.label, "marker": curve.marker, "markersize": 3.4}
            looks |= {"markevery": _marked(fpr, place, count)}
        axes.plot(fpr, tpr.clip(floor), **looks)
    left = axes.get_xlim()[0]
    zero = curve.rows[(curve.rows["tpr"] <= 0) & (curve.rows["fpr"] >= left)]
    if len(zero) and not curve.light:
        # The largest false-positive rate at which nothing is found yet.
        last = float(zero["fpr"].max())
        axes.plot(last, floor, marker=ZERO_MARKER, color=curve.color, clip_on=False, zorder=5)
    return bool(len(zero)) and not curve.light


def frame(axes: Axes, study: StudyResults, left: float, floor: float) -> None:
    """Draw chance, the headline rate and the rates that one target cannot resolve."""
    axes.set(xscale="log", yscale="log", xlim=(left, 1.0), ylim=(floor, 1.0))
    log_percent(axes.xaxis)
    log_percent(axes.yaxis)
    axes.set_xlabel("False-positive rate (%)")
    axes.set_ylabel("True-positive rate (%)")
    light_grid(axes)
    ends = np.array([max(left, floor), 1.0])
    axes.plot(ends, ends, color=_CHANCE, linewidth=0.8, linestyle=(0, (4, 3)), label="chance")
    if study.headline_fpr > left:
        axes.axvline(study.headline_fpr, color=_CHANCE, linewidth=0.7, linestyle=":")
    if left < study.smallest_fpr:
        axes.axvspan(
            left,
            study.smallest_fpr,
            color="#EFEFEF",
            linewidth=0,
            zorder=0,
            label="below 1 false positive\nper target: all pooled",
        )


def left_of(study: StudyResults, curves: Sequence[Curve]) -> float:
    """Return the smallest rate on the axis: a decade below one target's resolution at most."""
    first = min((float(curve.rows["fpr"].min()) for curve in curves), default=study.smallest_fpr)
    return min(max(first, study.smallest_fpr / 10), study.smallest_fpr, study.headline_fpr / 1.5)


def _curves(study: StudyResults, curves: Sequence[Curve], style: Style, title: str) -> Figure:
    """Return a figure of curves with intervals; the legend follows their order at the headline."""
    # Tall enough for the legend: curves, chance, two notes of two lines, its title.
    lines = sum(1 + curve.label.count("\n") for curve in curves) + 6
    figure = style.figure(max(0.62 * style.width, 0.6 + lines * 1.62 * style.small / 72))
    axes = figure.add_subplot()
    left = left_of(study, curves)
    floor = floor_of(curves, left)
    frame(axes, study, left, floor)
    count = len(curves)
    zero = [draw_curve(axes, curve, floor, place, count) for place, curve in enumerate(curves)]
    figure.suptitle(title, x=0.01, ha="left")
    order = {curve.label: -rate_at(curve.rows, study.headline_fpr) for curve in curves}
    handles, labels = axes.get_legend_handles_labels()
    ranked = sorted(zip(handles, labels, strict=True), key=lambda pair: order.get(pair[1], np.inf))
    if any(zero):
        looks: dict[str, Any] = {"color": "#5A5A5A", "linestyle": "none"}
        mark = Line2D([], [], marker=ZERO_MARKER, **looks)
        ranked.append((mark, "none found up to here\n(0, drawn at the axis)"))
    figure.legend(
        [handle for handle, _ in ranked],
        [label for _, label in ranked],
        loc="outside right center",
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
        rows = select(
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
        rows = select(
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
    rows = select(
        study,
        technique=technique,
        checkpoint=study.final[technique],
        attack=study.headline_attack,
    )
    others = set(rows["attacker_technique"]) - {technique}
    # The paper's attacker who does not know trains without augmentation; else all others.
    unknowing = [BASELINE] if BASELINE in others else [n for n in study.techniques if n in others]
    found = [technique, *unknowing]
    colors, lines, markers = style.colors(found), style.lines(found), style.markers(found)
    curves = [
        Curve(
            rows[rows["attacker_technique"] == name],
            f"knows ({name})" if name == technique else f"does not know\n(trains with {name})",
            colors[name],
            lines[name],
            markers[name],
        )
        for name in found
    ]
    return _curves(
        study, curves, style, f"Models trained with {technique}: does the attacker know?"
    )


def attacks(study: StudyResults, style: Style, technique: str) -> Figure:
    """Every attack on one technique's final models."""
    rows = select(
        study,
        technique=technique,
        attacker_technique=technique,
        checkpoint=study.final[technique],
    )
    found = dict.fromkeys(rows["attack"])
    places = {name: place for place, name in enumerate(study.attacks)}
    names = sorted(found, key=lambda name: places.get(name, len(places)))
    colors, lines, markers = style.colors(names), style.lines(names), style.markers(names)
    curves = [
        Curve(rows[rows["attack"] == name], name, colors[name], lines[name], markers[name])
        for name in names
    ]
    return _curves(study, curves, style, f"Attacks on models trained with {technique}")
