"""Attacks on measured signals against values by hand or a brute-force path."""

import dataclasses
import itertools

import numpy as np
import pytest
from attack_pools import default_measurements, make_pool
from scipy.stats import norm
from test_attacks_families import log_alpha, others, scores_of

from miagap.attacks import neighbours as neighbours_module
from miagap.attacks import parse, perceptrons, perturbation, score_targets, white_box
from miagap.attacks.registry import ATTACKS, measurements
from miagap.errors import InputError


def signal_of(signals, kind):
    (key,) = (one.key for one in default_measurements() if one.kind == kind)
    return signals.extra[key]


def test_measurements_follow_methods_and_parameters():
    def keys(*entries):
        return [one.key for one in measurements([parse("a", entry) for entry in entries])]

    assert keys({"method": "lira"}, {"method": "long"}) == []
    assert keys({"method": "merlin"}, {"method": "morgan"}) == ["merlin-100-0.01"]
    assert keys({"method": "merlin"}, {"method": "merlin", "sigma": 0.5}) == [
        "merlin-100-0.01",
        "merlin-100-0.5",
    ]
    assert keys({"method": "long", "features": "penultimate"}) == ["features"]
    assert keys({"method": "label_only_distance"}) == ["robustness-25-3-0.1"]
    assert keys({"method": "label_only_distance", "estimate": "search"}) == ["boundary-10-50"]
    assert keys({"method": "nasr", "layers": 5, "hidden": 3}) == ["white_box-5"]


def test_measured_parameters_are_parameters():
    for attack in ATTACKS.values():
        assert set(itertools.chain(*attack.measured.values())) <= attack.parameters.keys()


@pytest.mark.parametrize("method", [m for m, a in ATTACKS.items() if a.measured])
def test_a_signal_that_was_not_measured_is_named(method):
    signals, reserve = make_pool(np.random.default_rng(0), samples=60)
    bare = dataclasses.replace(signals, extra={})
    with pytest.raises(InputError, match=r"attacks\.a: needs the signal .* was not measured"):
        score_targets(bare, bare, parse("a", {"method": method}), reserve, 0)


# --- Merlin and Morgan --------------------------------------------------------------------


def test_merlin_is_its_signal():
    signals, reserve = make_pool(np.random.default_rng(1), samples=50)
    found = scores_of(signals, reserve, method="merlin")
    np.testing.assert_array_equal(found, signal_of(signals, "merlin").astype(np.float64))


@pytest.mark.parametrize("fpr", [0.0, 0.1, 0.3])
def test_best_box_equals_a_search_of_all_boxes(fpr):
    rng = np.random.default_rng(2)
    loss = rng.exponential(1, 60)
    share = rng.integers(0, 5, 60) / 4
    member = rng.random(60) < 0.5
    found = perturbation.best_box(loss, share, member, fpr, levels=6)

    def held(low, high, least):
        box = (loss > low) & (loss <= high) & (share >= least)
        return box[member].mean(), box[~member].mean()

    edges = [-np.inf, *np.quantile(loss, np.linspace(0, 1, 8)[1:-1]), np.inf]
    boxes = itertools.product(edges, edges, np.unique(share))
    rates = [held(*box) for box in boxes if box[0] < box[1]]
    allowed = [(inside, outside) for inside, outside in rates if outside <= fpr]
    best = max(inside for inside, _ in allowed)
    inside, outside = held(found.low, found.high, found.share)
    assert inside == best
    assert outside == min(o for i, o in allowed if i == best)


def test_box_by_hand():
    # Members have middling losses and large shares; the smallest loss is a non-member's.
    loss = np.array([0.1, 0.2, 0.3, 0.4, 0.9, 0.9])
    share = np.array([1.0, 0.8, 0.9, 0.2, 0.9, 0.1])
    member = np.array([False, True, True, False, False, True])
    box = perturbation.best_box(loss, share, member, 0.0, levels=40)
    decided = (loss > box.low) & (loss <= box.high) & (share >= box.share)
    np.testing.assert_array_equal(decided, [False, True, True, False, False, False])


def test_morgan_ranks_the_interval_above_the_rest():
    signals, reserve = make_pool(np.random.default_rng(3), samples=120)
    scores = scores_of(signals, reserve, method="morgan", fpr=0.05)
    share = signal_of(signals, "merlin").astype(np.float64)
    for target in (0, 7):
        kept = others(signals, target)
        box = perturbation.best_box(
            signals.loss[kept].ravel(), share[kept].ravel(), signals.member[kept].ravel(), 0.05, 30
        )
        within = (signals.loss[target] > box.low) & (signals.loss[target] <= box.high)
        decided = within & (share[target] >= box.share)
        np.testing.assert_array_equal(scores[target] >= box.share, decided)
        np.testing.assert_allclose(scores[target], share[target] - 2 * ~within)


# --- labels -------------------------------------------------------------------------------


def test_label_counts_and_distances_by_hand():
    signals, reserve = make_pool(np.random.default_rng(4), samples=30)
    count = scores_of(signals, reserve, method="label_only_augment", model="count")
    np.testing.assert_array_equal(count, signal_of(signals, "augmented").sum(axis=2))
    noise = scores_of(signals, reserve, method="label_only_distance")
    values = signal_of(signals, "robustness").astype(np.float64)
    for model, sample in itertools.product(range(3), range(30)):
        right, *shares = values[model, sample]
        expected = sum(shares) / 3 if right else 0.0
        assert noise[model, sample] == pytest.approx(expected)
    search = scores_of(signals, reserve, method="label_only_distance", estimate="search")
    np.testing.assert_allclose(search, signal_of(signals, "boundary"))


def test_label_network_finds_members():
    signals, reserve = make_pool(np.random.default_rng(5), samples=400, effect=4.0)
    scores = scores_of(signals, reserve, method="label_only_augment", records=1000)
    inside, outside = scores[signals.member], scores[~signals.member]
    assert (inside[:, None] >= outside[None, ::17]).mean() > 0.7


# --- white box ----------------------------------------------------------------------------


def test_observations_by_hand():
    signals, _ = make_pool(np.random.default_rng(6), samples=5, classes=3)
    sizes = signal_of(signals, "white_box")
    seen = white_box.observations(signals, sizes, np.array([4]), np.array([2]))[0]
    logits = signals.logits[4, 2].astype(np.float64)
    posterior = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(seen[:3], np.sort(np.log(posterior))[::-1])
    np.testing.assert_array_equal(seen[3:6], np.arange(3) == signals.labels[2])
    assert seen[6] == pytest.approx(np.log(signals.loss[4, 2]))
    for layer in range(3):
        row = sizes[4, 2, layer].astype(np.float64)
        expected = [*np.log(row[:3]), *row[3:]]
        np.testing.assert_allclose(seen[7 + 6 * layer : 13 + 6 * layer], expected)


def test_components_stay_separate():
    """A unit of the first layer has weights from the inputs of its own component only."""
    rng = np.random.default_rng(7)
    inputs, member = rng.normal(size=(1, 300, 5)), rng.random((1, 300)) < 0.5
    joined = np.repeat([0, 0, 0, 1, 1], 1)[:, None] == np.array([0, 0, 1, 1])
    fitted = perceptrons.fit(inputs, member, [4, 3], 5, rng, joined)
    assert [weight.shape for weight in fitted.weights[::2]] == [(1, 5, 4), (1, 4, 3), (1, 3, 1)]
    assert (fitted.weights[0][0][~joined] == 0).all()
    assert (fitted.weights[0][0][joined] != 0).all()


def test_white_box_finds_members():
    signals, reserve = make_pool(np.random.default_rng(8), samples=400, effect=4.0)
    scores = scores_of(signals, reserve, method="nasr", records=1000)
    inside, outside = scores[signals.member], scores[~signals.member]
    assert (inside[:, None] > outside[None, ::17]).mean() > 0.75


# --- distillation -------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", ["none", "linear", "gaussian", "minimum"])
def test_distillation_equals_the_definition(smoothing):
    signals, reserve = make_pool(np.random.default_rng(9), samples=40)
    scores = scores_of(signals, reserve, method="ye_distillation", smoothing=smoothing)
    students = signal_of(signals, "distilled").astype(np.float64)
    for target, sample in itertools.product((0, 5, 11), range(40)):
        phi = students[target, sample]
        phi = phi[~np.isnan(phi)]
        assert phi.size == 4
        expected = log_alpha(
            signals.loss[target, sample],
            signals.phi[target, 0, sample],
            np.log1p(np.exp(-phi)),
            phi,
            smoothing,
        )
        assert scores[target, sample] == pytest.approx(-expected, rel=1e-8, abs=1e-9)


def test_distillation_needs_two_students_of_a_sample():
    signals, reserve = make_pool(np.random.default_rng(10), samples=20)
    students = signal_of(signals, "distilled")
    students[:, 3, 0], students[:, 3, 1:] = 0, np.nan
    with pytest.raises(InputError, match="raise students"):
        scores_of(signals, reserve, method="ye_distillation")


# --- Long et al. --------------------------------------------------------------------------


def test_long_in_penultimate_features_equals_brute_force():
    signals, reserve = make_pool(np.random.default_rng(11), samples=60)
    settings = {"method": "long", "features": "penultimate", "share": 0.25, "references": 2}
    scores = scores_of(signals, reserve, **settings)
    features = signal_of(signals, "features").astype(np.float64)
    for target in (0, 7):
        kept = others(signals, target)
        joined = np.concatenate(features[kept[:2]], axis=1)
        joined /= np.linalg.norm(joined, axis=1, keepdims=True)
        cosine = joined @ joined.T
        np.fill_diagonal(cosine, -1)
        chosen = np.argsort(cosine.max(axis=1), kind="stable")[:15]
        guessed = np.flatnonzero(scores[target] > neighbours_module.NO_GUESS)
        assert set(guessed) == set(chosen)
        for sample in chosen:
            phi = signals.phi[kept[~signals.member[kept, sample]], 0, sample]
            expected = -norm.logsf(signals.phi[target, 0, sample], phi.mean(), phi.std())
            assert scores[target, sample] == pytest.approx(expected, rel=1e-8)


def test_long_in_features_needs_no_logits():
    signals, reserve = make_pool(np.random.default_rng(12), samples=60, with_logits=False)
    settings = {"method": "long", "features": "penultimate"}
    assert np.isfinite(scores_of(signals, reserve, **settings)).all()
