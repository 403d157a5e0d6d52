"""The most and the least exposed images of each technique."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from miagap.exposure import extremes
from miagap.figures.style import Style

COLUMNS = 10
TECHNIQUES = 4
_MARGIN = 0.075


def vulnerable(
    frame: pd.DataFrame,
    techniques: Sequence[str],
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    attack: str,
    fpr: float,
    style: Style,
) -> Figure:
    """Return the images that attacks find most and least often, two rows a technique.

    Args:
        frame: tables/vulnerability.parquet.
        techniques: names in order; of more than four the first three and the last are shown.
        images: uint8 (n, H, W, C).
        labels: int64 (n,).
        class_names: name of each class.
        attack: the attack that the table is about.
        fpr: its false-positive rate.
        style: looks.
    """
    names = list(techniques)
    if len(names) > TECHNIQUES:
        names = [*names[: TECHNIQUES - 1], names[-1]]
    with style.applied():
        side = style.width * (1 - _MARGIN) / COLUMNS
        line = 1.25 * style.small / 72
        row_height = side + 2.1 * line
        height = 3.2 * line + len(names) * (2 * row_height + 1.1 * line)
        figure = Figure(figsize=(style.width, height))
        title = f"Images by how often {attack} finds them among its members"
        figure.text(0.005, 1 - 0.4 * line / height, title, va="top", fontsize=style.font_size)
        note = (
            f"Below each: class, and targets that find it at {100 * fpr:g}% FPR of those that "
            "trained on it"
        )
        figure.text(0.005, 1 - 1.5 * line / height, note, va="top", fontsize=style.small)
        top = height - 2.7 * line
        for name in names:
            rows = frame[(frame["technique"] == name) & frame["seed"].isna()]
            figure.text(0.005, top / height, name, va="top", weight="bold", fontsize=style.small)
            top -= 1.1 * line
            for label, part in zip(("most", "least"), extremes(rows, COLUMNS), strict=True):
                bottom = top - side
                middle = (top + bottom) / 2 / height
                figure.text(0.005, middle, label, va="center", fontsize=style.small)
                _row(figure, part, bottom, side, images, labels, class_names, style)
                top -= row_height
    return figure


def _row(
    figure: Figure,
    part: pd.DataFrame,
    bottom: float,
    side: float,
    images: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    style: Style,
) -> None:
    """Draw one row of images with their captions; lengths are inches."""
    width, height = figure.get_size_inches()
    for place, sample in enumerate(part.to_dict("records")):
        left = width * _MARGIN + place * side
        axes = figure.add_axes(
            (left / width, bottom / height, 0.94 * side / width, 0.94 * side / height)
        )
        image = images[sample["sample_id"]]
        single = image.shape[2] == 1
        axes.imshow(
            image[:, :, 0] if single else image,
            cmap="gray" if single else None,
            vmin=0,
            vmax=255,
            interpolation="nearest",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        name = str(class_names[labels[sample["sample_id"]]])
        room = max(3, int(0.94 * side * 72 / (0.66 * 0.85 * style.small)))
        shown = name if len(name) <= room else name[: room - 1] + "…"
        axes.set_xlabel(
            f"{shown}\n{sample['found']}/{sample['n_in']}",
            fontsize=0.85 * style.small,
            labelpad=1.5,
            linespacing=1.05,
        )
