"""Leakage against generalization: one light point per model, one mark per technique."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from miagap import claims
from miagap.figures.style import (
    ZERO_MARKER,
    Style,
    light_grid,
    linear_percent,
    log_percent,
    percent_label,
    sequential,
)
from miagap.results import MODEL_CELL, StudyResults

_LABELS = {
    "accuracy_gap": "Accuracy gap: train − test (percentage points)",
    "test_accuracy": "Test accuracy (%)",
    "loss_gap": "Loss gap: test − train (nats)",
}
_SHORT = {"accuracy_gap": "Accuracy gap (points)", "test_accuracy": "Test accuracy (%)"}


@dataclass(frozen=True)
class View:
    """What is on the axis and what is the colour."""

    x: str
    color: str


def _floor(study: StudyResults, rows: pd.DataFrame) -> float:
    """Return the lower end of the rate axis, below the smallest rate above zero."""
    positive = rows.loc[rows[study.tpr] > 0, study.tpr]
    lowest = float(positive.min()) if len(positive) else 1.0 / float(rows["n_members"].max())
    return lowest / 1.8


def _targets(
    axes: Axes, study: StudyResults, rows: pd.DataFrame, view: View, norm: Normalize, floor: float
) -> bool:
    """Draw one light point per attacked model; return whether some rates are zero."""
    zero = (rows[study.tpr] <= 0).to_numpy()
    looks: dict[str, Any] = {"cmap": sequential(), "norm": norm, "linewidths": 0, "clip_on": False}
    shown = rows[~zero]
    axes.scatter(shown[view.x], shown[study.tpr], c=shown[view.color], s=9, alpha=0.35, **looks)
    hidden = rows[zero]
    axes.scatter(
        hidden[view.x],
        np.full(len(hidden), floor),
        c=hidden[view.color],
        s=26,
        alpha=0.6,
        marker=ZERO_MARKER,
        **looks,
    )
    return bool(zero.any())


def _means(
    axes: Axes, study: StudyResults, rows: pd.DataFrame, view: View, norm: Normalize, floor: float,
    style: Style,
) -> None:  # fmt: skip
    """Draw the mean of each technique and checkpoint with intervals of both coordinates."""
    values = [study.tpr, *dict.fromkeys((view.x, view.color))]
    means = study.summarise(rows, values, MODEL_CELL)
    markers, shades = style.markers(study.techniques), sequential()
    for row in means.to_dict("records"):
        final = row["checkpoint"] == study.final[row["technique"]]
        x, y = row[view.x], max(row[study.tpr], floor)
        ends = [
            [[x - row[f"{view.x}_lo"]], [row[f"{view.x}_hi"] - x]],
            [[y - max(row[f"{study.tpr}_lo"], floor)], [row[f"{study.tpr}_hi"] - y]],
        ]
        xerr, yerr = (np.nan_to_num(np.maximum(end, 0.0)) for end in ends)
        color = shades(norm(row[view.color]))
        axes.errorbar(
            x,
            y,
            xerr=xerr,
            yerr=yerr,
            marker=markers[row["technique"]],
            markersize=6 if final else 4,
            markerfacecolor=color if final else "white",
            markeredgecolor="black" if final else color,
            markeredgewidth=0.7,
            ecolor="#3A3A3A",
            elinewidth=0.7,
            capsize=1.2,
            zorder=5 if final else 4,
        )


def _legend(study: StudyResults, style: Style, any_zero: bool, earlier: bool) -> list[Line2D]:
    markers = style.markers(study.techniques)
    looks: dict[str, Any] = {
        "linestyle": "none",
        "markeredgecolor": "black",
        "markeredgewidth": 0.7,
    }
    handles = [
        Line2D([], [], marker=markers[name], markersize=6, markerfacecolor="#BBBBBB", label=name,
               **looks)
        for name in study.techniques if name in study.final
    ]  # fmt: skip
    handles.append(
        Line2D([], [], marker="o", markersize=3, color="#888888", alpha=0.6, linestyle="none",
               label="one model")
    )  # fmt: skip
    if earlier:
        handles.append(
            Line2D([], [], marker="o", markersize=4, markerfacecolor="white",
                   markeredgecolor="#555555", linestyle="none", label="earlier checkpoint")
        )  # fmt: skip
    if any_zero:
        handles.append(
            Line2D([], [], marker=ZERO_MARKER, color="#555555", linestyle="none",
                   label="TPR 0 (at axis)")
        )  # fmt: skip
    return handles


def _scatter(study: StudyResults, style: Style, view: View) -> Figure:
    rows = study.headline[study.headline["epoch"] != 0]
    figure = style.figure(0.8 * style.width)
    axes = figure.add_subplot()
    norm = Normalize(float(rows[view.color].min()), float(rows[view.color].max()))
    floor = _floor(study, rows)
    any_zero = _targets(axes, study, rows, view, norm, floor)
    _means(axes, study, rows, view, norm, floor, style)
    axes.set_yscale("log")
    axes.set_ylim(bottom=floor)
    log_percent(axes.yaxis, few=axes.get_ylim()[1] < 30 * floor)
    if view.x != "loss_gap":
        linear_percent(axes.xaxis)
    light_grid(axes)
    axes.set_xlabel(_LABELS[view.x])
    axes.set_ylabel(study.tpr_label)
    if study.chance > floor:
        axes.axhline(study.chance, color="#8A8A8A", linewidth=0.8, linestyle=(0, (4, 3)))
        axes.annotate(
            "chance", (1.0, study.chance), xycoords=("axes fraction", "data"),
            xytext=(-2, 2), textcoords="offset points", ha="right", fontsize=style.small,
            color="#5A5A5A",
        )  # fmt: skip
    bar = figure.colorbar(ScalarMappable(norm, sequential()), ax=axes, pad=0.02, aspect=30)
    bar.set_label(_SHORT[view.color])
    bar.ax.yaxis.set_major_formatter(percent_label)
    bar.outline.set_visible(False)
    axes.set_title(_correlation_text(study, view.x), loc="left", fontsize=style.small)
    earlier = rows["checkpoint"].nunique() > 1
    figure.legend(
        handles=_legend(study, style, any_zero, earlier), loc="outside lower center", ncols=4,
        columnspacing=1.0, handletextpad=0.2,
    )  # fmt: skip
    return figure


def _correlation_text(study: StudyResults, column: str) -> str:
    estimate, lo, hi, cells = claims.correlation(study, column)
    if not cells:
        return ""
    interval = f" [{lo:.2f}, {hi:.2f}]" if np.isfinite(lo) else ""
    return f"Spearman ρ = {estimate:.2f}{interval} over {cells} techniques and checkpoints"


def gap(study: StudyResults, style: Style) -> Figure:
    """Figure 5: accuracy gap against TPR, coloured by test accuracy."""
    return _scatter(study, style, View("accuracy_gap", "test_accuracy"))


def accuracy(study: StudyResults, style: Style) -> Figure:
    """Figure 6: test accuracy against TPR, coloured by accuracy gap."""
    return _scatter(study, style, View("test_accuracy", "accuracy_gap"))


def loss_gap(study: StudyResults, style: Style) -> Figure:
    """Figure 7: loss gap against TPR, coloured by test accuracy."""
    return _scatter(study, style, View("loss_gap", "test_accuracy"))
