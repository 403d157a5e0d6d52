"""Heat maps of leakage with an interval in every cell: attackers and attacks by technique."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from miagap.figures.style import Style, log_percent, sequential
from miagap.results import StudyResults

_LUMINANCE = np.array([0.299, 0.587, 0.114])


def _cell_text(value: float, lo: float, hi: float) -> str:
    """Return percent with the half-width of the interval below it."""
    digits = 1 if 100 * value >= 9.95 else 2
    text = f"{100 * value:.{digits}f}"
    if np.isfinite(lo) and np.isfinite(hi):
        text += f"\n±{100 * (hi - lo) / 2:.{digits}f}"
    return text


def _heat_map(
    study: StudyResults,
    style: Style,
    summary: pd.DataFrame,
    rows: tuple[str, Sequence[str]],
    columns: tuple[str, Sequence[str]],
) -> tuple[Figure, Axes]:
    """Return a heat map of the headline rate; ``rows`` and ``columns``: column, its keys."""
    (row_key, row_names), (column_key, column_names) = rows, columns
    cell = {(r[row_key], r[column_key]): r for r in summary.to_dict("records")}
    floor = 0.5 / float(study.metrics["n_members"].max())
    values = np.array(
        [[cell.get((r, c), {}).get(study.tpr, np.nan) for c in column_names] for r in row_names]
    )
    figure = style.figure(1.75 + 0.34 * max(len(row_names), 3))
    axes = figure.add_subplot()
    low, high = max(np.nanmin(values), floor), max(np.nanmax(values), 2 * floor)
    norm = LogNorm(low, high)
    colormap = sequential(0.0, 1.0)
    axes.set_facecolor("#F4F4F4")
    image = axes.imshow(np.maximum(values, floor), cmap=colormap, norm=norm, aspect="auto")
    size = min(style.small, 62.0 / max(len(column_names), 1))
    for y, row_name in enumerate(row_names):
        for x, column_name in enumerate(column_names):
            found = cell.get((row_name, column_name))
            if found is None:
                continue
            shade = np.array(colormap(norm(max(found[study.tpr], floor))))[:3] @ _LUMINANCE
            ends = (found[f"{study.tpr}{end}"] for end in ("", "_lo", "_hi"))
            axes.text(
                x, y, _cell_text(*ends), ha="center", va="center", fontsize=size,
                color="black" if shade > 0.5 else "white", linespacing=1.05,
            )  # fmt: skip
    axes.set_xticks(
        range(len(column_names)), column_names, rotation=35, ha="right", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(row_names)), row_names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, pad=0.015, aspect=30)
    bar.set_label(study.tpr_label.replace(" (FPR", "\n(FPR"))
    note = f"mean over targets, ± half the width of its {100 * study.confidence:g}% interval"
    axes.set_title(note, loc="left", fontsize=style.small)
    log_percent(bar.ax.yaxis, few=high < 30 * low)
    bar.outline.set_visible(False)
    return figure, axes


def attackers(study: StudyResults, style: Style) -> Figure:
    """Target technique by attacker technique, final checkpoints; framed: the attacker knows."""
    rows = study.rows(study.metrics, attack=study.headline_attack, protocol=study.protocol)
    rows = rows[rows["checkpoint"] == rows["technique"].map(study.final)]
    # Targets whom only their own technique attacks would be empty but for one cell.
    crossed = set(rows.loc[rows["technique"] != rows["attacker_technique"], "technique"])
    rows = rows[rows["technique"].isin(crossed)]
    summary = study.summarise(rows, [study.tpr], ["technique", "attacker_technique"])
    targets = [name for name in study.techniques if name in crossed]
    known = [name for name in study.techniques if name in set(rows["attacker_technique"])]
    figure, axes = _heat_map(
        study, style, summary, ("technique", targets), ("attacker_technique", known)
    )
    for y, name in enumerate(targets):
        if name in known:
            corner = (known.index(name) - 0.5, y - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="black", linewidth=1.4))
    axes.set_ylabel("Target trained with")
    axes.set_xlabel("Attacker's shadow models trained with (framed: as the target)")
    return figure


def _by_knowing(study: StudyResults) -> pd.DataFrame:
    """Return rows of the final checkpoints, every attack, attacker knows the technique."""
    rows = study.rows(study.metrics, protocol=study.protocol)
    rows = rows[rows["technique"] == rows["attacker_technique"]]
    return rows[rows["checkpoint"] == rows["technique"].map(study.final)]


def attacks(study: StudyResults, style: Style) -> Figure:
    """Attack by technique, final checkpoints, attacker knows; attacks grouped by family."""
    rows = _by_knowing(study)
    summary = study.summarise(rows, [study.tpr], ["attack", "technique"])
    families = list(dict.fromkeys(study.families.values()))
    names = list(study.attacks)
    names.sort(
        key=lambda name: families.index(study.families[name]) if name in study.families else -1
    )
    targets = [name for name in study.techniques if name in set(rows["technique"])]
    figure, axes = _heat_map(study, style, summary, ("attack", names), ("technique", targets))
    for place, (above, below) in enumerate(itertools.pairwise(names)):
        if study.families.get(above) != study.families.get(below):
            axes.axhline(place + 0.5, color="white", linewidth=3)
    # A family's name stands behind that of its first attack: no row's label is longer.
    axes.set_yticks(range(len(names)), _with_families(study, names))
    axes.set_xlabel("Technique")
    axes.set_ylabel("Attack (by family)")
    return figure


def _with_families(study: StudyResults, names: Sequence[str]) -> list[str]:
    """Return each attack's name, that of a family's first attack below the family's."""
    labels, last = [], None
    for name in names:
        family = study.families.get(name)
        new = family is not None and family != last
        labels.append(f"{family}:\n{name}" if new else name)
        last = family
    return labels


def families(study: StudyResults, style: Style) -> Figure:
    """Family by technique: the strongest attack of each family, by its mean over targets."""
    rows = _by_knowing(study)
    summary = study.summarise(rows, [study.tpr], ["attack", "technique"])
    summary = summary.assign(family=summary["attack"].map(study.families))
    summary = summary.sort_values(study.tpr, ascending=False, kind="stable")
    strongest = summary.dropna(subset=["family"]).drop_duplicates(["family", "technique"])
    names = list(dict.fromkeys(study.families[name] for name in study.attacks))
    targets = [name for name in study.techniques if name in set(rows["technique"])]
    figure, axes = _heat_map(study, style, strongest, ("family", names), ("technique", targets))
    axes.set_xlabel("Technique")
    axes.set_ylabel("Family (its strongest attack)")
    return figure
