"""Tables: numbers, intervals, the paper's column, formats."""

import dataclasses
import io

import numpy as np
import pandas as pd
import pytest

import synthetic_study
from miagap import reference, tables
from miagap.errors import InputError


@pytest.fixture(scope="module")
def study():
    return synthetic_study.study()


@pytest.fixture(scope="module")
def small():
    """900 non-members a target: 0.1% of them is less than one."""
    return synthetic_study.study(n=900, splits=8, dataset="digits")


@pytest.mark.parametrize(
    ("value", "lo", "hi", "text"),
    [
        (0.196, 0.189, 0.203, "19.6 [18.9, 20.3]"),
        (0.0018, 0.0015, 0.0021, "0.18 [0.15, 0.21]"),
        (0.09996, 0.09, 0.11, "10.0 [9.0, 11.0]"),
        (0.5, np.nan, np.nan, "50.0"),
        (np.nan, 0.1, 0.2, "–"),
    ],
)
def test_percent_with_interval(value, lo, hi, text):
    assert tables.percent_interval(value, lo, hi) == text


def test_augmentation_table_has_every_technique_in_order_of_the_config(study):
    table = tables.build("augmentation", study)
    assert list(table.frame["technique"]) == list(reference.AUGMENTATION)
    assert set(table.frame["checkpoint"]) == {"60"}
    assert set(table.frame["n_targets"]) == {16}


def test_numbers_are_means_over_targets_within_their_intervals(study):
    frame = tables.build("augmentation", study).frame.set_index("technique")
    rows = study.headline[study.headline["checkpoint"] == "60"]
    for value in ("train_accuracy", "accuracy_gap", "loss_gap", study.tpr):
        expected = rows.groupby("technique")[value].mean()
        assert np.allclose(frame[value], expected[frame.index])
        assert (frame[f"{value}_lo"] <= frame[value]).all()
        assert (frame[value] <= frame[f"{value}_hi"]).all()


def test_paper_stands_beside_ours_for_cifar10_only(study, small):
    table = tables.build("augmentation", study)
    assert "Paper: TPR@0.1%" in table.display
    assert list(table.frame["paper_tpr"]) == [r.tpr for r in reference.AUGMENTATION.values()]
    assert any(reference.SOURCE in note for note in table.footnotes)
    assert not any(c.startswith("Paper") for c in tables.build("augmentation", small).display)


def test_unresolved_rates_carry_a_dagger_and_a_footnote(study, small):
    table = tables.build("augmentation", small)
    assert table.display["TPR@0.1% (%)"].str.endswith(tables.DAGGER).all()
    assert not table.display["Pooled TPR@0.1% (%)"].str.contains(tables.DAGGER).any()
    assert any(note.startswith(tables.DAGGER) for note in table.footnotes)
    assert tables.DAGGER not in tables.to_markdown(tables.build("augmentation", study))


def test_early_stopping_follows_the_epochs(study):
    table = tables.build("early_stopping", study)
    assert list(table.frame["epoch"]) == [0, 10, 30, 60]
    assert set(table.frame["technique"]) == {"none"}
    assert "Checkpoint (epoch)" in table.display
    assert "paper_tpr" not in table.frame  # three trained checkpoints are not the paper's six


def test_six_checkpoints_of_cifar10_stand_beside_the_papers_six():
    study = synthetic_study.study(("none",), epochs=(0, 1, 2, 3, 4, 5, 6), splits=4)
    frame = tables.build("early_stopping", study).frame
    expected = [np.nan, *(row.tpr for row in reference.EARLY_STOPPING.values())]
    assert np.allclose(frame["paper_tpr"], expected, equal_nan=True)


def test_checkpoint_best_comes_last_and_is_not_final():
    metrics = synthetic_study.metrics_table(("none",), {}, splits=4)
    best = metrics[metrics["checkpoint"] == "60"].assign(checkpoint="best", epoch=44)
    study = dataclasses.replace(
        synthetic_study.study(("none",)), metrics=pd.concat([metrics, best])
    )
    assert study.final == {"none": "60"}
    display = tables.build("early_stopping", study).display
    assert display["Checkpoint (epoch)"].tolist()[-1] == "best (mean 44)"


def test_fixed_split_has_its_own_column(study):
    fixed = study.metrics[study.metrics["split"] < 3].copy()
    fixed["seed"], fixed["split"], fixed["protocol"] = fixed["split"] + 1, 0, "fixed-split"
    both = dataclasses.replace(study, metrics=pd.concat([study.metrics, fixed]))
    table = tables.build("augmentation", both)
    assert "TPR@0.1% (%), fixed split" in table.display
    assert set(table.frame["n_targets"]) == {16}


def test_attack_comparison_names_families(study):
    table = tables.build("attack_comparison", study)
    assert len(table.frame) == 10 * len(synthetic_study.ATTACKS)
    assert set(table.frame["family"]) == {"likelihood ratio", "threshold"}
    assert (table.frame["auc_lo"] <= table.frame["auc_hi"]).all()


def test_decisions_have_an_interval_for_every_measure(study):
    shares = ("accuracy", "accuracy_best", "ppv_at_prior_0.01", "precision_at_recall_0.5")
    rows = study.metrics.assign(**dict.fromkeys(shares, 0.75))
    table = tables.build("decisions", dataclasses.replace(study, metrics=rows))
    order = [(name, attack) for name in study.techniques for attack in study.attacks]
    assert list(zip(table.frame["technique"], table.frame["attack"], strict=True)) == order
    for share in shares:
        assert {share, f"{share}_lo", f"{share}_hi"} <= set(table.frame)
    assert "PPV, 1% members (%)" in table.display
    assert set(table.display["Accuracy, bound (%)"]) == {"75.0 [75.0, 75.0]"}


def test_notes_say_what_was_resampled(study):
    assert "over splits" in tables.build("augmentation", study).footnotes[0]
    rows = study.metrics.assign(protocol="fixed-split")
    rows = rows.assign(seed=rows["split"], split=0)
    fixed = dataclasses.replace(study, metrics=rows, pooled=None)
    for name in ("augmentation", "claims"):
        assert "over training seeds" in tables.build(name, fixed).footnotes[0]


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_format_has_every_row(study, name):
    table = tables.build(name, study)
    rows = len(table.frame)
    assert len(pd.read_csv(io.StringIO(tables.to_csv(table)))) == rows
    markdown = [li for li in tables.to_markdown(table).splitlines() if li.startswith("|")]
    assert len(markdown) == rows + 2
    columns = {line.replace(r"\|", "").count("|") for line in markdown}
    assert len(columns) == 1
    latex = tables.to_latex(table, name)
    assert latex.count(r" \\") == rows + 1
    assert latex.count("{") == latex.count("}")
    assert latex.count(r"\begin{") == latex.count(r"\end{")
    text = latex.replace(r"\&", "").splitlines()
    assert {line.count("&") for line in text if line.endswith(r" \\")} == {
        len(table.display.columns) - 1
    }
    assert tables.to_html(table).count("<tr>") == rows + 1


def test_latex_and_html_escape_what_they_must(study):
    table = tables.build("augmentation", study)
    assert r"cifar\_policy" in tables.to_latex(table, "augmentation")
    odd = dataclasses.replace(table, title="a < b & c")
    assert "a &lt; b &amp; c" in tables.to_html(odd)
    assert r"a $<$ b \& c" in tables.to_latex(odd, "odd")


def test_unknown_table_and_missing_column_are_named(study):
    with pytest.raises(InputError, match="table nothing: unknown"):
        tables.build("nothing", study)
    with pytest.raises(InputError, match=r"metrics\.parquet: column missing: epoch"):
        dataclasses.replace(study, metrics=study.metrics.drop(columns="epoch"))
