"""Figures: what is drawn, labels with units, intervals, and nothing on top of other text."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection, LineCollection
from matplotlib.text import Text

import synthetic_study
from miagap import figures, reference
from miagap.errors import InputError
from miagap.study import available_figures

STYLE = figures.Style()
TECHNIQUES = tuple(reference.AUGMENTATION)
ATTACKERS = {"cifar_policy": ["cifar_policy", "none"], "all": ["all", "none"]}
CHECKPOINTS = {name: [str(epoch) for epoch in synthetic_study.EPOCHS] for name in TECHNIQUES}
FAMILIES = [family for _, family in synthetic_study.ATTACKS.values()]
NAMES = available_figures(TECHNIQUES, CHECKPOINTS, ATTACKERS, FAMILIES)
DRAWN = [*NAMES, "roc_attacks_none"]
SCATTERS = ["gap_vs_tpr", "accuracy_vs_tpr", "loss_gap_vs_tpr"]
CURVES = [
    "roc_techniques",
    "roc_checkpoints",
    "roc_attacks_none",
    "attacker_all",
    "attacker_cifar_policy",
]


@pytest.fixture(scope="module")
def study():
    return synthetic_study.study(splits=8, replicates=100)


@pytest.fixture(scope="module")
def small():
    """Few samples: some rates are zero and the headline is not resolved."""
    return synthetic_study.study(splits=8, replicates=100, n=900, dataset="digits")


def _axes(figure):
    return figure.axes[0]


def _texts(figure):
    """Return the visible texts with their boxes in pixels."""
    canvas = FigureCanvasAgg(figure)
    with STYLE.applied():
        canvas.draw()
    renderer = canvas.get_renderer()
    found = figure.findobj(lambda artist: isinstance(artist, Text) and artist.get_visible())
    hidden = _beyond_limits(figure)
    shown = [text for text in found if text.get_text().strip() and id(text) not in hidden]
    return [(text, text.get_window_extent(renderer)) for text in shown]


def _beyond_limits(figure):
    """Return labels of ticks outside the limits of their axis: they exist and are not drawn."""
    hidden = set()
    for axes in figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            low, high = min(limits), max(limits)
            slack = 1e-9 * (high - low)
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low - slack <= tick.get_loc() <= high + slack:
                    hidden |= {id(tick.label1), id(tick.label2)}
    return hidden


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("which", ["study", "small"])
def test_no_text_overlaps_and_none_leaves_the_page(name, which, request):
    figure = figures.draw(name, request.getfixturevalue(which), STYLE)
    texts = _texts(figure)
    page = figure.bbox
    for text, box in texts:
        assert box.x0 >= -1 and box.x1 <= page.width + 1, text.get_text()
        assert box.y0 >= -1 and box.y1 <= page.height + 1, text.get_text()
    for (one, a), (two, b) in itertools.combinations(texts, 2):
        if one.get_rotation() % 90 or two.get_rotation() % 90:
            continue  # boxes of slanted labels are larger than the labels
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(overlap) <= 1, (one.get_text(), two.get_text())


@pytest.mark.parametrize("name", SCATTERS)
def test_scatter_has_units_log_axis_points_and_error_bars(study, name):
    figure = figures.draw(name, study, STYLE)
    axes = _axes(figure)
    assert axes.get_yscale() == "log"
    assert "TPR (%)" in axes.get_ylabel()
    assert any(unit in axes.get_xlabel() for unit in ("(%)", "points", "nats"))
    points = sum(len(c.get_offsets()) for c in axes.collections if len(c.get_offsets()) > 1)
    trained = study.headline[study.headline["epoch"] > 0]
    assert points >= len(trained)
    bars = [c for c in axes.collections if isinstance(c, LineCollection)]
    assert len(bars) == 2 * 30  # both directions of ten techniques' three trained checkpoints
    assert "Spearman" in axes.get_title(loc="left")


@pytest.mark.parametrize("name", CURVES)
def test_roc_has_log_axes_units_bands_chance_and_resolution(study, name):
    axes = _axes(figures.draw(name, study, STYLE))
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_xlabel() == "False-positive rate (%)"
    assert axes.get_ylabel() == "True-positive rate (%)"
    assert axes.get_xlim()[0] <= study.smallest_fpr
    _, labels = axes.get_legend_handles_labels()
    assert "chance" in labels
    assert any(label.startswith("below 1 false positive") for label in labels)
    bands = [c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)]
    curves = [label for label in labels if label != "chance" and not label.startswith("below")]
    assert len(bands) >= len(curves) >= 2


def test_panels_of_attacks_share_axes_and_one_legend(study):
    figure = figures.draw("roc_attacks", study, STYLE)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == list(TECHNIQUES)
    assert (
        len({axes.get_xlim() for axes in panels}) == len({axes.get_ylim() for axes in panels}) == 1
    )
    for axes in panels:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        bands = [c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)]
        assert len(bands) >= len(synthetic_study.ATTACKS)
    assert sum(axes.get_xlabel() == "False-positive rate (%)" for axes in panels) == 3
    assert panels[0].get_ylabel() == "True-positive rate (%)"
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[: len(synthetic_study.ATTACKS)] == list(synthetic_study.ATTACKS)


def test_ten_techniques_differ_in_colour_and_marker(study):
    axes = _axes(figures.draw("roc_techniques", study, STYLE))
    lines = [line for line in axes.get_lines() if line.get_label() in TECHNIQUES]
    assert len(lines) == 10
    assert len({line.get_color() for line in lines}) == 10
    assert len({line.get_marker() for line in lines}) == 10


def test_zero_rates_are_drawn_at_the_floor_and_said(small):
    metrics = small.metrics.copy()
    metrics.loc[metrics["technique"] == "all", small.tpr] = 0.0
    roc = small.roc.copy()
    low = (roc["technique"] == "all") & (roc["fpr"] < 0.01)
    roc.loc[low, ["tpr", "tpr_lo", "pooled_tpr", "pooled_tpr_lo"]] = 0.0
    zero = dataclasses.replace(small, metrics=metrics, roc=roc)
    for name, words in (("gap_vs_tpr", "TPR 0"), ("roc_techniques", "none found up to here")):
        figure = figures.draw(name, zero, STYLE)
        legend = [text.get_text() for text in figure.legends[0].get_texts()]
        assert any(text.startswith(words) for text in legend)
        axes = _axes(figure)
        for line in axes.get_lines():
            if line.get_transform() != axes.transData:
                continue  # a line across the whole axes
            values = np.asarray(line.get_ydata(), dtype=float)
            assert (values[np.isfinite(values)] > 0).all()


def test_unresolved_headline_is_named_for_what_it_is(small):
    label = _axes(figures.draw("gap_vs_tpr", small, STYLE)).get_ylabel()
    assert label == "TPR (%) at 0 false positives (FPR < 0.11%)"


def test_heat_maps_show_an_interval_in_every_cell(study):
    axes = _axes(figures.draw("attack_comparison", study, STYLE))
    cells = [text.get_text() for text in axes.texts]
    assert len(cells) == 10 * len(synthetic_study.ATTACKS)
    assert all("±" in cell for cell in cells)


def test_matrix_leaves_out_targets_with_one_attacker(study):
    axes = _axes(figures.draw("attacker_matrix", study, STYLE))
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cifar_policy", "all"]
    assert len(axes.texts) == 4
    assert len(axes.patches) == 2  # framed: the attacker knows


def test_families_show_their_strongest_attack(study):
    axes = _axes(figures.draw("family_comparison", study, STYLE))
    assert len(axes.texts) == len(TECHNIQUES) * len(set(FAMILIES))
    known = study.rows(study.metrics, technique="none", attacker_technique="none")
    known = known[(known["checkpoint"] == study.final["none"])]
    known = known[known["protocol"] == study.protocol]
    best = known.groupby("attack")[study.tpr].mean().max()
    assert axes.texts[0].get_text().startswith(f"{100 * best:.1f}\n")


def test_an_attacker_is_drawn_once_and_all_others_where_the_target_has_no_technique(study):
    rows = study.roc[
        (study.roc["technique"] == "all") & (study.roc["attacker_technique"] == "none")
    ]
    own = study.roc[study.roc["technique"] == "none"]
    points = pd.concat([own, rows.assign(technique="none", attacker_technique="all")])
    figure = figures.draw("attacker_none", dataclasses.replace(study, roc=points), STYLE)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels.count("knows (none)") == 1
    assert "does not know\n(trains with all)" in labels


def test_of_many_attacks_each_family_shows_its_strongest(study):
    names = [f"attack_{place}" for place in range(12)]
    families = {name: "one" if place < 8 else "two" for place, name in enumerate(names)}
    rows = study.roc[study.roc["attack"] == "lira_online"]
    rates = [column for column in rows if column.startswith(("tpr", "pooled_tpr"))]
    copies = []
    for name in names:
        copy = rows.assign(attack=name)
        copy[rates] *= 1.0 if name in ("attack_3", "attack_9") else 0.5
        copies.append(copy)
    metrics = [study.metrics.assign(attack=name) for name in names]
    many = dataclasses.replace(
        study, roc=pd.concat(copies), metrics=pd.concat(metrics), families=families
    )
    figure = figures.draw("roc_attacks", many, STYLE)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[:2] == ["one: attack_3", "two: attack_9"]
    assert "thin: the family's other attacks" in labels
    thin = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.5]
    assert len({line.get_color() for line in thin}) == 2


def test_available_follows_the_config():
    names = available_figures(["none", "crop"], {"none": ["5"], "crop": ["5"]}, {})
    assert names == ["roc_techniques", *SCATTERS]
    names = available_figures(
        ["crop"], {"crop": ["1", "2"]}, {"crop": ["crop", "none"]}, ["a", "b"]
    )
    assert {"roc_checkpoints", "attacker_crop", "attacker_matrix", "roc_attacks"} <= set(names)
    assert {"attacker_cifar_policy", "attacker_all"} <= set(NAMES)


def test_many_curves_make_a_figure_tall_enough_for_their_legend(study):
    rows = study.roc[(study.roc["technique"] == "none") & (study.roc["attack"] == "lira_online")]
    points = pd.concat([rows.assign(attack=f"attack_{place}") for place in range(28)])
    figure = figures.draw("roc_attacks_none", dataclasses.replace(study, roc=points), STYLE)
    for text, box in _texts(figure):
        assert box.y0 >= -1 and box.y1 <= figure.bbox.height + 1, text.get_text()


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_files_are_the_same_every_time(study, tmp_path, kind):
    paths = [tmp_path / f"{place}.{kind}" for place in range(2)]
    for path in paths:
        figures.write(figures.draw("attacker_all", study, STYLE), path, kind, STYLE)
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert len(first) > 5000


def test_width_palette_and_dpi_are_obeyed(study, tmp_path):
    style = figures.Style(palette="tab10", width=4.0, dpi=50)
    figure = figures.draw("attacker_all", study, style)
    assert figure.get_size_inches()[0] == 4.0
    figures.write(figure, tmp_path / "a.png", "png", style)
    header = (tmp_path / "a.png").read_bytes()[16:20]
    assert int.from_bytes(header, "big") == 200


def test_unknown_names_are_errors(study, tmp_path):
    with pytest.raises(InputError, match="figure nothing: unknown"):
        figures.draw("nothing", study, STYLE)
    with pytest.raises(InputError, match="no such technique"):
        figures.draw("attacker_nothing", study, STYLE)
    with pytest.raises(InputError, match=r"figures\.palette"):
        figures.draw("roc_techniques", study, figures.Style(palette="nothing"))
    with pytest.raises(InputError, match=r"figures\.formats"):
        figures.write(figures.draw("attacker_all", study, STYLE), tmp_path / "a.bmp", "bmp", STYLE)
