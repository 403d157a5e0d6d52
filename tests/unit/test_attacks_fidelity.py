"""What attacks must have in common with their papers and with public code, by slow loops.

The loops say what the public code does (see docs/fidelity.md); the code itself is not needed.
"""

import dataclasses
import itertools

import numpy as np
import pytest
from attack_pools import make_pool
from scipy.special import softmax
from scipy.stats import trim_mean
from test_attacks_families import leave_one_out, others, scores_of

from miagap.attacks import perceptrons, quantiles, regression, rmia
from miagap.attacks.references import draw_nonmembers, group_generator
from miagap.errors import InputError

# --- RMIA ---------------------------------------------------------------------------------


def taylor_softmax(logits, labels, degree):
    """Return the soft-margin Taylor softmax of the true class by the series: (M, n)."""
    scaled = logits.astype(np.float64) / 2
    found = np.empty(logits.shape[:2])
    for model, sample in np.ndindex(found.shape):
        row = scaled[model, sample].copy()
        row[labels[sample]] -= 0.6
        term, series = np.ones_like(row), np.ones_like(row)
        for power in range(1, degree + 1):
            term = term * row / power
            series = series + term
        found[model, sample] = series[labels[sample]] / series.sum()
    return found


def p_of(signals, signal, degree=4):
    """Return p(x | model) of query 0: (M, n)."""
    if signal == "sm_taylor":
        return taylor_softmax(signals.logits, signals.labels, degree)
    return softmax(signals.logits.astype(np.float64), axis=2)[
        :, np.arange(signals.samples), signals.labels
    ]


def estimate(p, inside, online, a):
    """Return p(x) of one sample from p under models and their membership."""
    outside = p[~inside].mean()
    if online and inside.any():
        return (p[inside].mean() + outside) / 2
    return ((1 + a) * outside + (1 - a)) / 2


def population_ratios(problem, group, p, settings):
    """Return r(z) of non-members drawn from shadow models, one by one."""
    signals = problem.shadows
    rng = group_generator(problem, group)
    ratios = []
    for model, sample in zip(*draw_nonmembers(problem, group, 200, rng), strict=True):
        assert not signals.member[model, sample]
        kept = group.kept[signals.pair[group.kept] != signals.pair[model]]
        inside = signals.member[kept, sample]
        below = estimate(p[kept, sample], inside, settings["online"], settings["a"])
        ratios.append(p[model, sample] / below)
    return ratios


@pytest.mark.parametrize("reserve_share", [0.0, 0.3])
@pytest.mark.parametrize("signal", ["softmax", "sm_taylor"])
@pytest.mark.parametrize("online", [True, False])
def test_rmia_equals_a_loop_over_all_pairs(online, signal, reserve_share):
    rng = np.random.default_rng(0)
    signals, reserve = make_pool(rng, samples=40, reserve_share=reserve_share, effect=1.0)
    settings = {"online": online, "a": 0.4}
    found = scores_of(
        signals, reserve, method="rmia", signal=signal, gamma=1.1, population=200, **settings
    )
    p = p_of(signals, signal)
    problem = leave_one_out(signals, reserve)
    for group in itertools.islice(problem.groups(), 2):
        for task, target in zip(group.tasks, group.targets, strict=True):
            kept = others(signals, target)
            ratio = [
                p[target, x] / estimate(p[kept, x], signals.member[kept, x], online, 0.4)
                for x in range(40)
            ]
            if reserve.any():
                z = [ratio[x] for x in np.flatnonzero(reserve)]
            else:
                z = population_ratios(problem, group, p, settings)
            for x in range(40):
                dominated = sum(ratio[x] / one >= 1.1 for one in z) / len(z)
                assert found[task, x] == pytest.approx(dominated, abs=1e-12)


@pytest.mark.parametrize("reserve_share", [0.0, 0.3])
@pytest.mark.parametrize("queries", [2, 3])
def test_rmia_majority_equals_a_vote_at_every_pair(queries, reserve_share):
    rng = np.random.default_rng(1)
    signals, reserve = make_pool(rng, samples=30, queries=queries, reserve_share=reserve_share)
    found = scores_of(signals, reserve, method="rmia", queries="majority", population=50)
    problem = leave_one_out(signals, reserve)
    group = next(problem.groups())
    p = 1 / (1 + np.exp(-signals.phi))
    votes = 0
    for query in range(queries):
        ratio = np.array(
            [
                p[0, query, x]
                / estimate(p[group.kept, query, x], signals.member[group.kept, x], True, 0.3)
                for x in range(30)
            ]
        )
        z = ratio[reserve]
        if not reserve.any():
            models, samples = draw_nonmembers(problem, group, 50, group_generator(problem, group))
            z = []
            for model, sample in zip(models, samples, strict=True):
                kept = group.kept[signals.pair[group.kept] != signals.pair[model]]
                below = estimate(p[kept, query, sample], signals.member[kept, sample], True, 0.3)
                z.append(p[model, query, sample] / below)
        votes = votes + (ratio[:, None] / np.array(z) >= 2.0)
    np.testing.assert_allclose(found[0], (votes > queries / 2).mean(axis=1), atol=1e-12)


def test_rmia_majority_of_one_query_is_the_score():
    signals, reserve = make_pool(np.random.default_rng(2), queries=1, samples=60)
    vote = scores_of(signals, reserve, method="rmia", queries="majority")
    np.testing.assert_array_equal(vote, scores_of(signals, reserve, method="rmia"))


@pytest.mark.parametrize("signal", ["softmax", "sm_taylor"])
@pytest.mark.parametrize("online", [True, False])
def test_rmia_as_in_the_papers_scripts(online, signal):
    signals, reserve = make_pool(np.random.default_rng(3), samples=60, reserve_share=0.4)
    found = scores_of(
        signals, reserve, method="rmia", compat="rmia_2024", online=online, signal=signal, gamma=1.3
    )
    p = p_of(signals, signal, degree=3)
    for target in (0, 5):
        kept = others(signals, target)
        below = np.empty(60)
        for x in range(60):
            # Five of ten models stand for OUT; of z, which none was trained on, the first five.
            used = p[kept, x] if online else p[kept[~signals.member[kept, x]], x][:5]
            below[x] = trim_mean(used, 0.2)
        if not online:
            below = 1.3 / 2 * below + 0.7 / 2
        ratio = p[target] / below
        expected = (np.outer(ratio, 1 / ratio[reserve]) > 1.3).mean(axis=1)
        np.testing.assert_allclose(found[target], expected, atol=1.5 / reserve.sum())
        assert (np.abs(found[target] - expected) < 1e-12).mean() > 0.95


@pytest.mark.parametrize("pairs", [2, 6])
@pytest.mark.parametrize("a", [0.0, 0.5])
def test_rmia_as_in_ml_privacy_meter(pairs, a):
    rng = np.random.default_rng(4)
    signals, reserve = make_pool(rng, pairs=pairs, samples=60, reserve_share=0.4)
    settings = {"method": "rmia", "compat": "privacy_meter", "online": False, "gamma": 1.0, "a": a}
    found = scores_of(signals, reserve, **settings)
    p = p_of(signals, "softmax")
    count = pairs - 1
    for target in (0, 3):
        kept = others(signals, target)
        below = np.empty(60)
        for x in range(60):
            inside = signals.member[kept, x]
            if count == 1:
                used = np.where(inside, (p[kept, x] + (a or 0.3) - 1) / (a or 0.3), p[kept, x])
            else:
                used = np.sort(p[kept, x] * ~inside)[::-1][:count]
            below[x] = (1 + a) / 2 * used.mean() + (1 - a) / 2
        ratio = p[target] / below
        expected = (ratio[:, None] / ratio[reserve] > 1.0).mean(axis=1)
        np.testing.assert_allclose(found[target], expected, atol=1.5 / reserve.sum())
        assert (np.abs(found[target] - expected) < 1e-12).mean() > 0.6


def test_rmia_compat_says_what_it_needs():
    signals, reserve = make_pool(np.random.default_rng(5), samples=30)
    with pytest.raises(InputError, match=r"attacks\.a\.compat: needs a population"):
        scores_of(signals, reserve, method="rmia", compat="rmia_2024")
    reserve[:5] = True
    with pytest.raises(InputError, match=r"attacks\.a\.compat: .* online: false"):
        scores_of(signals, reserve, method="rmia", compat="privacy_meter")


def test_trimmed_mean_by_hand():
    values = np.array([[5.0, 1.0], [1.0, 9.0], [2.0, 9.0], [9.0, 9.0], [3.0, 9.0]])
    chosen = np.array([[True, True], [True, False], [True, False], [True, False], [True, False]])
    # Of five values the smallest and the largest go; of one, none.
    np.testing.assert_allclose(rmia.trimmed_mean(values, chosen), [10 / 3, 1.0])
    assert np.isnan(rmia.trimmed_mean(values, ~chosen)[0])


# --- Ye et al. ----------------------------------------------------------------------------


def test_losses_above_all_references_keep_their_order():
    loss = np.array([3.0, 4.0, 900.0])
    for smoothing in ("linear", "minimum", "mean"):
        found = quantiles.population_scores(
            loss, -loss, np.array([1.0, 2.0]), np.array([-1.0, -2.0]), smoothing
        )
        assert found[0] > found[1] >= found[2] >= 0
        assert found[1] > found[2] or smoothing == "minimum"  # whose gaussian part rounds to 1


# --- Bertran et al. -----------------------------------------------------------------------


def test_regression_reaches_the_least_gaussian_loss():
    rng = np.random.default_rng(6)
    features = np.column_stack([np.ones(3000), rng.normal(size=(3000, 2))])
    # Heavy tails, which least squares on log residuals is not made for.
    values = 1 + features[:, 1] + np.exp(0.5 * features[:, 2]) * rng.standard_t(4, 3000)
    fitted = regression.fit(features, values)
    least = fitted.loss(features, values)
    for name, place in itertools.product(("mean", "log_std"), range(3)):
        for move in (-0.02, 0.02):
            weights = {"mean": fitted.mean.copy(), "log_std": fitted.log_std.copy()}
            weights[name][place] += move
            moved = regression.Regression(**weights, floor=fitted.floor)
            assert moved.loss(features, values) > least


def test_hinge_is_the_margin_of_the_true_class():
    signals, _ = make_pool(np.random.default_rng(7), samples=20)
    found = regression.confidences(signals, "hinge")
    for model, sample in itertools.product((0, 3), range(20)):
        logits = signals.logits[model, sample].astype(np.float64)
        label = signals.labels[sample]
        assert found[model, sample] == logits[label] - np.delete(logits, label).max()
    np.testing.assert_array_equal(regression.confidences(signals, "phi"), signals.phi[:, 0])


# --- Choquette-Choo et al. ----------------------------------------------------------------


def test_label_networks_are_one_per_class():
    """Where rights mean membership in one class and the contrary in another, both are learned."""
    signals, reserve = make_pool(np.random.default_rng(8), samples=400, classes=2)
    inverted = (signals.labels == 1)[None, :]
    right = (signals.member ^ inverted).astype(np.uint8)
    (key,) = (key for key in signals.extra if key.startswith("augmented"))
    signals.extra[key][:] = right[..., None]
    found = scores_of(signals, reserve, method="label_only_augment", records=400)
    for label in (0, 1):
        columns = signals.labels == label
        inside = found[:, columns][signals.member[:, columns]]
        outside = found[:, columns][~signals.member[:, columns]]
        assert inside.min() > outside.max()


def test_two_hidden_layers_are_two():
    rng = np.random.default_rng(9)
    fitted = perceptrons.fit(
        rng.normal(size=(3, 50, 4)), rng.random((3, 50)) < 0.5, [10, 10], 1, rng
    )
    shapes = [weight.shape for weight in fitted.weights[::2]]
    assert shapes == [(3, 4, 10), (3, 10, 10), (3, 10, 1)]


# --- null ---------------------------------------------------------------------------------


PUBLIC_RMIA = [
    {"compat": "rmia_2024"},
    {"compat": "rmia_2024", "online": False, "signal": "sm_taylor"},
    {"compat": "privacy_meter", "online": False, "gamma": 1.0},
    {"compat": "rmia_2024", "queries": "majority"},
]


@pytest.mark.parametrize("paired", [True, False], ids=["paired", "unpaired"])
@pytest.mark.parametrize("settings", PUBLIC_RMIA, ids=lambda s: "-".join(map(str, s.values())))
def test_public_variants_of_rmia_learn_nothing_from_noise(settings, paired):
    rng = np.random.default_rng(10)
    signals, reserve = make_pool(rng, samples=1500, effect=0.0, reserve_share=0.2)
    if not paired:
        halves = (rng.random(signals.member.shape) < 0.5) & ~reserve
        signals = dataclasses.replace(signals, member=halves, pairs=np.arange(signals.models))
    scores = scores_of(signals, reserve, method="rmia", **settings)
    scored = np.isfinite(scores) & ~reserve
    inside, outside = scores[signals.member & scored], scores[~signals.member & scored]
    assert inside.size > 6000
    # Of 12 x 600 scores each, twins being mirror images: 4.5 standard errors of the AUC.
    below = np.searchsorted(np.sort(outside), inside, side="left").sum()
    up_to = np.searchsorted(np.sort(outside), inside, side="right").sum()
    auc = (below + up_to) / (2 * inside.size * outside.size)
    assert abs(auc - 0.5) < 4.5 * np.sqrt(1 / (6 * 6 * 600))
