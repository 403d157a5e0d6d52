import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from miagap import metrics, roc


@given(st.integers(1, 200_000))
def test_grid_is_exact_then_sparse(n):
    grid = roc.counts_grid(n)
    assert grid[0] == 0 and grid[-1] == n
    assert (np.diff(grid) > 0).all()
    assert (grid[: min(n, 100) + 1] == np.arange(min(n, 100) + 1)).all()
    assert len(grid) < 400


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=60), st.randoms())
def test_every_point_follows_the_rule(values, random):
    scores = np.array(values, float)
    member = np.array([random.random() < 0.5 for _ in values])
    member[0], member[1] = True, False
    curve = roc.points(scores, member)
    assert curve["fpr"][-1] == curve["tpr"][-1] == 1.0
    assert (np.diff(curve["tpr"]) >= 0).all()
    for fpr, tpr, threshold in zip(curve["fpr"], curve["tpr"], curve["threshold"], strict=True):
        found = metrics.tpr_at_fpr(scores[member], scores[~member], fpr)
        assert (tpr, threshold) == (found.tpr, found.threshold)


def test_points_hold_the_rates_of_the_table():
    rng = np.random.default_rng(3)
    member = np.arange(60_000) < 30_000
    scores = rng.normal(size=60_000) + member
    curve = roc.points(scores, member)
    row = metrics.evaluate(scores, member)
    for fpr in metrics.FPRS:
        place = np.flatnonzero(np.isclose(curve["fpr"], fpr))
        assert curve["tpr"][place] == pytest.approx(row[f"tpr_at_fpr_{fpr:g}"])
    assert curve["false_positives"].dtype == np.int64
    area = np.trapezoid(curve["tpr"], curve["fpr"])
    assert area == pytest.approx(row["auc"], abs=2e-3)


def test_reserve_is_left_out():
    scores, member = np.arange(6.0), np.array([0, 1, 0, 1, 0, 1], bool)
    valid = np.array([1, 1, 1, 1, 0, 0], bool)
    curve = roc.points(scores, member, valid)
    assert curve["false_positives"].tolist() == [0, 1, 2]
    assert curve["tpr"].tolist() == [0.5, 1.0, 1.0]
