import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from miagap import generalization, metrics
from miagap.errors import InputError

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)


def slow_tpr(members, nonmembers, fpr_numerator, fpr_denominator):
    """The rule by its words, in integers."""
    allowed = fpr_numerator * len(nonmembers) // fpr_denominator
    descending = sorted(nonmembers, reverse=True)
    threshold = descending[allowed]
    return sum(score > threshold for score in members) / len(members)


def test_tpr_by_hand():
    nonmembers = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    members = [10, 9, 8.5, 8, 7.5, 1]
    # one false positive allowed: threshold is the second largest, 8; 8 itself does not count
    assert metrics.tpr_at_fpr(members, nonmembers, 0.1) == (3 / 6, 8.0, 1, True)
    # fewer than one allowed: threshold is the largest, and the estimate is unresolved
    assert metrics.tpr_at_fpr(members, nonmembers, 0.05) == (1 / 6, 9.0, 0, False)
    assert metrics.tpr_at_fpr(members, nonmembers, 1.0).tpr == 1.0


@given(SCORES, SCORES, st.integers(0, 99))
def test_tpr_equals_the_rule_in_words(members, nonmembers, percent):
    found = metrics.tpr_at_fpr(members, nonmembers, percent / 100)
    assert found.tpr == slow_tpr(members, nonmembers, percent, 100)
    assert found.resolved == (percent * len(nonmembers) >= 100)
    assert metrics.above(np.sort(nonmembers), found.threshold) <= found.false_positives_allowed


@pytest.mark.parametrize("fpr", [0.1, 0.01, 0.001, 0.0001])
def test_floor_survives_floating_point(fpr):
    per = round(1 / fpr)
    for k in range(1, 400):
        assert metrics.false_positives_allowed(fpr, k * per) == k
        assert metrics.false_positives_allowed(fpr, k * per - 1) == k - 1


def test_constant_scores_find_nobody():
    scores = np.zeros(40)
    row = metrics.evaluate(scores, np.arange(40) < 20, threshold=0.0)
    assert row["auc"] == 0.5
    assert row["tpr_at_fpr_0.1"] == 0.0
    assert row["balanced_accuracy"] == row["balanced_accuracy_best"] == 0.5
    assert math.isnan(row["precision"])


@given(SCORES, SCORES)
def test_auc_equals_sklearn(members, nonmembers):
    labels = [1] * len(members) + [0] * len(nonmembers)
    expected = roc_auc_score(labels, members + nonmembers)
    assert metrics.auc(members, nonmembers) == pytest.approx(expected, abs=1e-12)
    ranked = metrics.rank_groups(members, nonmembers)
    area = metrics.auc_interval(metrics.placements(ranked))
    assert area.value == pytest.approx(expected, abs=1e-12)
    assert area.lo <= area.value + 1e-12 and area.value - 1e-12 <= area.hi


@given(SCORES, SCORES)
def test_best_thresholds_equal_trying_all(members, nonmembers):
    inside, outside = np.array(members), np.array(nonmembers)
    cuts = [-math.inf, *members, *nonmembers]
    right = [((inside > cut).sum(), (outside <= cut).sum()) for cut in cuts]
    row = metrics.evaluate_ranked(metrics.rank_groups(members, nonmembers))
    balanced = max(a / len(inside) + b / len(outside) for a, b in right) / 2
    plain = max(a + b for a, b in right) / (len(inside) + len(outside))
    for name, best in (("balanced_accuracy_best", balanced), ("accuracy_best", plain)):
        assert row[name] == pytest.approx(best)
        assert row[f"{name}_lo"] - 1e-12 <= row[name] <= row[f"{name}_hi"] + 1e-12


def test_decision_columns_by_hand():
    members, nonmembers = [3.0, 2.0, 1.0, 0.0], [2.5, 1.0, 0.0, 0.0, -1.0, -2.0]
    row = metrics.evaluate_ranked(metrics.rank_groups(members, nonmembers), threshold=1.0)
    assert row["recall"] == 2 / 4
    assert row["false_positive_rate"] == 1 / 6
    assert row["precision"] == 2 / 3
    assert row["balanced_accuracy"] == pytest.approx((2 / 4 + 5 / 6) / 2)
    assert row["accuracy"] == pytest.approx((2 + 5) / 10)
    # half of the members is two of them: scores of 2 and more, one of which is an alarm
    assert row["precision_at_recall_0.5"] == 2 / 3


def test_predictive_value_by_hand():
    # 1 of 100 is a member; named are 0.2 of members and 0.001 of the others
    assert metrics.ppv(0.2, 0.001, 0.01) == pytest.approx(0.002 / (0.002 + 0.00099))
    row = metrics.evaluate(np.r_[np.ones(10), np.zeros(5000)], np.arange(5010) < 50)
    # 4 of 4960 non-members may pass: of new ones 5 / 4961 are expected to
    assert row["ppv_at_prior_0.5"] == pytest.approx(0.2 / (0.2 + 5 / 4961))
    assert row["ppv_at_prior_0.5_lo"] < row["ppv_at_prior_0.5"] < row["ppv_at_prior_0.5_hi"]


def test_predictive_value_of_an_attack_that_knows_nothing_is_the_prior():
    rng = np.random.default_rng(3)
    found = 0.0
    for _ in range(3000):  # 0.1% of 200 is not one sample: the plain formula gives 83%
        ranked = metrics.rank_groups(rng.normal(size=200), rng.normal(size=200))
        found += metrics.ranked_tpr_at_fpr(ranked, 0.001).tpr / 3000
    assert found == pytest.approx(1 / 201, rel=0.1)
    row = metrics.evaluate(np.r_[np.ones(1), np.zeros(400)], np.arange(401) < 201)
    assert row["ppv_at_prior_0.5"] == pytest.approx(0.5, abs=0.001)


def test_reserve_counts_nowhere():
    rng = np.random.default_rng(1)
    scores, member = rng.normal(size=500), rng.random(500) < 0.5
    valid = rng.random(500) < 0.8
    with_reserve = metrics.evaluate(scores, member, valid, 0.1)
    without = metrics.evaluate(scores[valid], member[valid], None, 0.1)
    assert with_reserve == without
    assert with_reserve["n_members"] + with_reserve["n_nonmembers"] == valid.sum()


def test_no_threshold_leaves_columns_empty():
    with_threshold = metrics.evaluate(np.arange(10.0), np.arange(10) > 4, threshold=4.5)
    row = metrics.evaluate(np.arange(10.0), np.arange(10) > 4)
    assert list(row) == list(with_threshold)
    assert math.isnan(row["recall"]) and math.isnan(row["threshold"])
    assert with_threshold["accuracy"] == 1.0


def test_perfect_separation_keeps_an_interval():
    row = metrics.evaluate(np.arange(20.0), np.arange(20) > 9)
    assert row["auc"] == 1.0 and row["auc_hi"] == 1.0
    assert 0.5 < row["auc_lo"] < 1.0


def test_minus_infinity_means_no_guess():
    scores = np.r_[5.0, np.full(9, -np.inf), np.full(10, -np.inf)]
    row = metrics.evaluate(scores, np.arange(20) < 10)
    assert row["tpr_at_fpr_0.1"] == 0.1
    assert row["auc"] == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("scores", "member", "words"),
    [
        ([1.0, math.nan, 2.0], [True, True, False], "1 of 2 scores of members are NaN"),
        ([1.0, 2.0], [True, True], "no non-members"),
        ([1.0, 2.0], [True, False, True], "shapes"),
    ],
)
def test_bad_scores_are_named(scores, member, words):
    with pytest.raises(InputError, match=words):
        metrics.evaluate(scores, member)


def coverage(name, truth, shift, n, repeats, low, high):
    rng = np.random.default_rng(7)
    rows = [
        metrics.evaluate_ranked(
            metrics.rank_groups(rng.normal(shift, size=n), rng.normal(size=n)), 0.3
        )
        for _ in range(repeats)
    ]
    inside = np.mean([row[f"{name}{low}"] <= truth <= row[f"{name}{high}"] for row in rows])
    return float(inside)


@pytest.mark.parametrize(
    ("name", "truth", "ends"),
    [
        ("auc", 0.6381632, ("_lo", "_hi")),
        ("balanced_accuracy", 0.5986659, ("_lo", "_hi")),
        ("recall", 0.5792597, ("_lo", "_hi")),
        ("tpr_at_fpr_0.01", 0.0338912, ("_joint_lo", "_joint_hi")),
    ],
)
def test_coverage_of_intervals(name, truth, ends):
    # 95% with a standard error of 1% at 500 repeats; exact parts may cover more
    assert 0.92 <= coverage(name, truth, 0.5, 2000, 400, *ends) <= 0.995


@pytest.mark.parametrize("fpr", [0.01, 0.001])
def test_null_rates_lie_within_joint_intervals(fpr):
    name = f"tpr_at_fpr_{fpr:g}"
    assert 0.92 <= coverage(name, fpr, 0.0, 6000, 300, "_joint_lo", "_joint_hi") <= 1.0


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_generalization_by_hand(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(30, 4)).astype(np.float32)
    labels, member = rng.integers(0, 4, 30), np.arange(30) < 12
    valid = np.arange(30) % 5 != 0
    row = generalization.from_logits(logits, labels, member, valid)
    z = logits.astype(np.float64)
    loss = -np.log(np.exp(z[np.arange(30), labels]) / np.exp(z).sum(axis=1))
    right = z.argmax(axis=1) == labels
    assert row["train_accuracy"] == pytest.approx(right[member & valid].mean())
    assert row["test_loss"] == pytest.approx(loss[~member & valid].mean())
    assert row["accuracy_gap"] == pytest.approx(row["train_accuracy"] - row["test_accuracy"])
    assert row["loss_gap"] == pytest.approx(row["test_loss"] - row["train_loss"])
    again = generalization.from_logits(logits, labels, member, valid, loss)
    assert again["loss_gap"] == pytest.approx(row["loss_gap"])


def test_generalization_survives_large_logits_and_names_nan():
    logits = np.array([[1000.0, 0.0], [0.0, 1000.0], [0.0, 1.0]], np.float32)
    labels, member = np.array([0, 0, 1]), np.array([True, False, False])
    row = generalization.from_logits(logits, labels, member)
    assert row["train_loss"] == 0.0 and row["test_loss"] == pytest.approx(500.1566, abs=1e-3)
    logits[0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        generalization.from_logits(logits, labels, member)
    with pytest.raises(InputError, match="empty"):
        generalization.from_logits(np.ones((3, 2), np.float32), labels, np.ones(3, bool))
