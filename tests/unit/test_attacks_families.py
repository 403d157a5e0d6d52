"""Each attack but LiRA against values by hand or a brute-force path."""

import dataclasses
import itertools
from decimal import Decimal, localcontext

import numpy as np
import pytest
from attack_pools import make_pool
from scipy.stats import norm

from miagap.attacks import (
    Signals,
    networks,
    parse,
    perceptrons,
    posteriors,
    quantiles,
    regression,
    rmia,
    score_targets,
    threshold,
)
from miagap.attacks import neighbours as neighbours_module
from miagap.attacks.problem import Problem, Task
from miagap.attacks.references import draw_nonmembers, group_generator
from miagap.errors import InputError


def leave_one_out(signals, reserve, name="a"):
    tasks = tuple(Task(t, (int(p),)) for t, p in enumerate(signals.pair))
    return Problem(name, signals, signals, tasks, reserve, 0)


def scores_of(signals, reserve, **settings):
    return score_targets(signals, signals, parse("a", settings), reserve, 0)


def others(signals, target):
    return np.flatnonzero(signals.pair != signals.pair[target])


# --- thresholds ---------------------------------------------------------------------------


def single(logits, label):
    """Return signals of one model and sample with these logits."""
    wide = np.array(logits, dtype=np.float64)
    phi = wide[label] - np.logaddexp.reduce(np.delete(wide, label))
    loss = np.logaddexp(0, -phi)
    return Signals(
        np.full((1, 1, 1), phi),
        np.full((1, 1), loss),
        np.ones((1, 1), dtype=bool),
        np.zeros(1, dtype=np.int64),
        np.zeros(1, dtype=np.int64),
        np.array([label]),
        np.array([[logits]], dtype=np.float32),
    )


def test_statistics_by_hand():
    # Probabilities 1/2, 1/4, 1/4.
    signals = single([np.log(2.0), 0.0, 0.0], 1)
    assert threshold.correctness(signals, 0)[0] == 0.0
    assert threshold.confidence(signals, 0)[0] == pytest.approx(0.25)
    assert threshold.negative_loss(signals, 0)[0] == pytest.approx(np.log(0.25))
    assert threshold.negative_entropy(signals, 0)[0] == pytest.approx(-1.5 * np.log(2), rel=1e-6)
    by_hand = 0.75 * np.log(0.25) + 0.5 * np.log(0.5) + 0.25 * np.log(0.75)
    assert threshold.negative_modified_entropy(signals, 0)[0] == pytest.approx(by_hand, rel=1e-6)
    assert threshold.correctness(single([2.0, 0.0], 0), 0)[0] == 1.0


def test_modified_entropy_keeps_its_digits_when_saturated():
    right = threshold.negative_modified_entropy(single([50.0, 0.0, 0.0], 0), 0)[0]
    # p_y = 1 - 2 e^-50: (1 - p_y) log p_y = -4 e^-100, and e^-100 from each other class.
    assert right == pytest.approx(-6 * np.exp(-100), rel=1e-6)
    wrong = threshold.negative_modified_entropy(single([30.0, 0.0, 0.0], 1), 0)[0]
    # p_y = e^-30, the wrong class has 1 - 2 e^-30: -(30 + (30 - log 2)).
    assert wrong == pytest.approx(-(60 - np.log(2)), rel=1e-6)


def exact_probabilities(logits):
    """Return p and 1 - p of every class to 60 digits."""
    weights = [Decimal(float(z)).exp() for z in logits]
    total = sum(weights)
    rest = [total - weight for weight in weights]
    return [w / total for w in weights], [r / total for r in rest]


@pytest.mark.parametrize("spread", [0.1, 3.0, 30.0, 90.0])
def test_statistics_of_posteriors_keep_twelve_digits(spread):
    rng = np.random.default_rng(2)
    logits = (spread * rng.normal(size=(20, 6))).astype(np.float32)
    logits[0, 1] = logits[0, 4] = logits[0].max() + 1  # a tie for the first place
    labels = rng.integers(0, 6, 20)
    labels[::2] = logits[::2].argmax(axis=1)
    entropy, modified, log_p = [], [], []
    with localcontext() as context:
        context.prec = 400
        for row, y in zip(logits, labels, strict=True):
            p, q = exact_probabilities(row)
            entropy.append(float(sum(a * a.ln() for a in p)))
            others = sum(a * b.ln() for i, (a, b) in enumerate(zip(p, q, strict=True)) if i != y)
            modified.append(float(q[y] * p[y].ln() + others))
            log_p.append([float(a.ln()) for a in p])
    exact = {"rtol": 1e-12, "atol": 0}
    np.testing.assert_allclose(posteriors.negative_entropy(logits), entropy, **exact)
    found = posteriors.negative_modified_entropy(logits, labels)
    np.testing.assert_allclose(found, modified, **exact)
    np.testing.assert_allclose(posteriors.log_softmax(logits), log_p, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(posteriors.softmax(logits), np.exp(log_p), rtol=1e-12)


def test_statistics_of_posteriors_beyond_the_range_of_exp():
    logits = np.array([[2000.0, 0.0, 0.0], [2000.0, 0.0, 0.0]], np.float32)
    found = posteriors.negative_modified_entropy(logits, np.array([0, 1]))
    # The wrong class has 1 - 2 e^-2000: -(2000 + (2000 - log 2)).
    np.testing.assert_allclose(found, [0.0, -(4000 - np.log(2))], rtol=1e-12)
    np.testing.assert_array_equal(posteriors.negative_entropy(logits), [0.0, 0.0])


def test_best_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.integers(0, 6, 12).astype(float)
        member = rng.random(12) < 0.5
        member[:2] = True, False
        found = threshold.best_threshold(scores, member)

        def balanced(t, scores=scores, member=member):
            return (scores[member] > t).mean() + (scores[~member] <= t).mean()

        assert balanced(found) == max(balanced(t) for t in scores)


def test_class_scope_subtracts_each_class_threshold():
    signals, reserve = make_pool(np.random.default_rng(1), samples=60, classes=3)
    plain = scores_of(signals, reserve, method="threshold")
    by_class = scores_of(signals, reserve, method="threshold", scope="class")
    for target in (0, 7):
        kept = others(signals, target)
        for label in range(3):
            columns = signals.labels == label
            expected = threshold.best_threshold(
                -signals.loss[kept][:, columns].ravel(), signals.member[kept][:, columns].ravel()
            )
            moved = plain[target, columns] - by_class[target, columns]
            np.testing.assert_allclose(moved, expected)


@pytest.mark.parametrize("paired", [True, False])
def test_class_thresholds_are_those_of_each_group_alone(paired):
    rng = np.random.default_rng(3)
    signals, reserve = make_pool(rng, samples=90, classes=3, reserve_share=0.1)
    if not paired:
        flipped = signals.member ^ ((rng.random(signals.member.shape) < 0.2) & ~reserve)
        signals = dataclasses.replace(signals, member=flipped)
    lonely = (signals.labels == 2) & ~reserve
    signals.member[:, lonely] = False  # of this class there are no members
    tasks = tuple(Task(t, (int(signals.pair[t]),)) for t in range(4))
    problem = Problem("a", signals, signals, tasks, reserve, 0)
    groups = list(problem.groups())
    found = threshold.class_thresholds(problem, groups, -signals.loss)
    assert found.shape == (2, 3)
    for group, own in zip(groups, found, strict=True):
        outside, inside = problem.sides(group)
        for label in range(3):
            columns = ~reserve if label == 2 else ~reserve & (signals.labels == label)
            counted = (outside | inside)[:, columns]
            values = -signals.loss[group.kept][:, columns][counted]
            expected = threshold.best_threshold(values, inside[:, columns][counted])
            assert own[label] == expected


# --- offsets ------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["loss", "phi"])
def test_offsets_equal_means_by_loop(signal):
    signals, reserve = make_pool(np.random.default_rng(2), samples=50, seeds=2)
    value = -signals.loss if signal == "loss" else signals.phi[:, 0]
    watson = scores_of(signals, reserve, method="watson", signal=signal)
    midpoint = scores_of(signals, reserve, method="sablayrolles", signal=signal)
    for target, sample in itertools.product((0, 9, 23), range(50)):
        kept = others(signals, target)
        inside = value[kept[signals.member[kept, sample]], sample].mean()
        outside = value[kept[~signals.member[kept, sample]], sample].mean()
        own = value[target, sample]
        assert watson[target, sample] == pytest.approx(own - outside)
        assert midpoint[target, sample] == pytest.approx(own - (inside + outside) / 2)


def test_offsets_need_shadow_models_of_both_kinds():
    signals, reserve = make_pool(np.random.default_rng(3), pairs=2, samples=30)
    with pytest.raises(InputError, match=r"attacks\.a: needs an IN and an OUT"):
        score_targets(
            signals.take([0]), signals.take([2]), parse("a", {"method": "watson"}), reserve, 0
        )


# --- Ye et al. ----------------------------------------------------------------------------


def log_alpha(loss, phi, ref_loss, ref_phi, smoothing):
    """Return log alpha of one sample, by the definition."""
    k = len(ref_loss)
    ordered = np.concatenate([[0.0], np.sort(ref_loss), [1000.0]])
    linear = np.log(max(np.interp(loss, ordered, np.linspace(0, 1, k + 2)), 1e-300))
    gauss = norm.logsf(phi, ref_phi.mean(), ref_phi.std())
    return {
        "none": np.log(max((ref_loss <= loss).sum(), 0.5) / k),
        "linear": linear,
        "gaussian": gauss,
        "minimum": max(linear, gauss),
        "mean": np.log((np.exp(linear) + np.exp(gauss)) / 2),
    }[smoothing]


@pytest.mark.parametrize("smoothing", ["none", "linear", "gaussian", "minimum", "mean"])
def test_reference_attack_equals_the_definition(smoothing):
    signals, reserve = make_pool(np.random.default_rng(4), samples=40)
    scores = scores_of(signals, reserve, method="ye_reference", smoothing=smoothing)
    for target, sample in itertools.product((0, 5, 11), range(40)):
        kept = others(signals, target)
        out = kept[~signals.member[kept, sample]]
        expected = log_alpha(
            signals.loss[target, sample],
            signals.phi[target, 0, sample],
            signals.loss[out, sample],
            signals.phi[out, 0, sample],
            smoothing,
        )
        assert scores[target, sample] == pytest.approx(-expected, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("smoothing", ["none", "linear", "gaussian", "minimum", "mean"])
@pytest.mark.parametrize("scope", ["global", "class"])
def test_population_attack_equals_the_definition(smoothing, scope):
    rng = np.random.default_rng(5)
    signals, reserve = make_pool(rng, samples=90, classes=2, reserve_share=0.4)
    scores = scores_of(signals, reserve, method="ye_population", smoothing=smoothing, scope=scope)
    for target, sample in itertools.product((0, 11), range(90)):
        z = reserve & ((signals.labels == signals.labels[sample]) | (scope == "global"))
        expected = log_alpha(
            signals.loss[target, sample],
            signals.phi[target, 0, sample],
            signals.loss[target, z],
            signals.phi[target, 0, z],
            smoothing,
        )
        assert scores[target, sample] == pytest.approx(-expected, rel=1e-8, abs=1e-9)


def test_population_without_reserve_comes_from_out_models():
    signals, reserve = make_pool(np.random.default_rng(6), samples=80)
    problem = leave_one_out(signals, reserve)
    for group in problem.groups():
        models, samples = draw_nonmembers(problem, group, 500, group_generator(problem, group))
        assert not signals.member[models, samples].any()
        assert not np.isin(models, group.excluded).any()
        assert models.size == 500


# --- RMIA ---------------------------------------------------------------------------------


def p_of(signals):
    return 1.0 / (1.0 + np.exp(-signals.phi[:, 0]))


def marginal(p, signals, kept, sample, online, a):
    inside = signals.member[kept, sample]
    outside = p[kept[~inside], sample].mean()
    if online and inside.any():
        return (p[kept[inside], sample].mean() + outside) / 2
    return ((1 + a) * outside + 1 - a) / 2


@pytest.mark.parametrize("online", [True, False])
def test_rmia_equals_the_matrix_of_all_pairs(online):
    rng = np.random.default_rng(7)
    signals, reserve = make_pool(rng, samples=60, reserve_share=0.3)
    scores = scores_of(signals, reserve, method="rmia", online=online, gamma=1.2, a=0.4)
    p = p_of(signals)
    for target in (0, 7):
        kept = others(signals, target)
        ratio = np.array(
            [p[target, i] / marginal(p, signals, kept, i, online, 0.4) for i in range(60)]
        )
        matrix = ratio[:, None] / ratio[reserve][None, :]
        np.testing.assert_allclose(scores[target], (matrix >= 1.2).mean(axis=1), atol=1e-12)


@pytest.mark.parametrize("online", [True, False])
def test_rmia_without_reserve_equals_the_loop(online):
    signals, reserve = make_pool(np.random.default_rng(8), samples=40)
    scores = scores_of(signals, reserve, method="rmia", online=online, population=300)
    p = p_of(signals)
    problem = leave_one_out(signals, reserve)
    for group in itertools.islice(problem.groups(), 3):
        drawn = draw_nonmembers(problem, group, 300, group_generator(problem, group))
        z = []
        for model, sample in zip(*drawn, strict=True):
            kept = group.kept[signals.pair[group.kept] != signals.pair[model]]
            z.append(p[model, sample] / marginal(p, signals, kept, sample, online, 0.3))
        for task, target in zip(group.tasks, group.targets, strict=True):
            ratio = np.array(
                [p[target, i] / marginal(p, signals, group.kept, i, online, 0.3) for i in range(40)]
            )
            expected = (ratio[:, None] / np.array(z)[None, :] >= 2.0).mean(axis=1)
            np.testing.assert_allclose(scores[task], expected, atol=1e-12)


def test_rmia_mean_over_queries():
    signals, reserve = make_pool(np.random.default_rng(9), samples=50, reserve_share=0.4)
    both = scores_of(signals, reserve, method="rmia", queries="mean")
    first = scores_of(signals, reserve, method="rmia")
    signals.phi[:] = signals.phi[:, ::-1].copy()
    second = scores_of(signals, reserve, method="rmia")
    np.testing.assert_allclose(both, (first + second) / 2)


def test_sm_taylor_by_hand():
    def poly(x):
        return 1 + x + x**2 / 2 + x**3 / 6 + x**4 / 24

    found = rmia.sm_taylor(np.array([[2.0, -1.0, 4.0]], dtype=np.float32), np.array([2]))
    own = poly(2.0 - 0.6)
    assert found[0] == pytest.approx(own / (own + poly(1.0) + poly(-0.5)))


# --- networks -----------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [0, 5])
def test_gradients_equal_finite_differences(hidden):
    rng = np.random.default_rng(10)
    sizes = [3, hidden, 1] if hidden else [3, 1]
    weights = []
    for a, b in itertools.pairwise(sizes):
        weights += [rng.normal(size=(2, a, b)), rng.normal(size=(2, 1, b))]
    inputs = rng.normal(size=(2, 8, 3))
    target = (rng.random((2, 8, 1)) < 0.5).astype(float)

    def loss():
        z = perceptrons._forward(inputs, weights)[-1]
        return (np.logaddexp(0, z) - target * z).mean(axis=1).sum()

    gradients = [np.empty_like(weight) for weight in weights]
    perceptrons._gradients(inputs, target, weights, gradients)
    for weight, gradient in zip(weights, gradients, strict=True):
        for index in np.ndindex(weight.shape):
            keep = weight[index]
            weight[index] = keep + 1e-6
            up = loss()
            weight[index] = keep - 1e-6
            down = loss()
            weight[index] = keep
            assert gradient[index] == pytest.approx((up - down) / 2e-6, abs=1e-6)


def test_network_learns_and_logistic_regression_is_near_the_truth():
    rng = np.random.default_rng(11)
    inputs = rng.normal(size=(1, 8000, 2))
    odds = 1.5 * inputs[0, :, 0] - 0.5
    member = rng.random((1, 8000)) < 1 / (1 + np.exp(-odds))
    fitted = perceptrons.fit(inputs, member, 0, 20, rng)
    np.testing.assert_allclose(fitted.log_odds(inputs[0], 0), odds, atol=0.45)
    ring = (np.hypot(*inputs[0].T) < 1)[None]
    curved = perceptrons.fit(inputs, ring, 32, 20, rng)
    assert ((curved.log_odds(inputs[0], 0) > 0) == ring[0]).mean() > 0.95


def test_adam_steps_are_those_of_the_paper():
    rng = np.random.default_rng(12)
    weights = rng.normal(size=5)
    expected, m, v = weights.copy(), 0.0, 0.0
    adam = perceptrons._Adam(weights)
    for step in range(1, 30):
        gradient = rng.normal(size=5)
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        corrected = np.sqrt(v / (1 - 0.999**step))
        expected -= 0.01 * (m / (1 - 0.9**step)) / corrected
        adam.step(gradient)
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


def test_posterior_statistics_by_hand():
    signals = single([np.log(2.0), 0.0, 0.0], 1)
    shadows, reserve = make_pool(np.random.default_rng(12), samples=1, classes=3)
    shadows = Signals(
        shadows.phi,
        shadows.loss,
        shadows.member,
        shadows.split + 2,
        shadows.seed,
        np.array([1]),
        shadows.logits,
    )

    def value(statistic):
        spec = parse("a", {"method": "salem_3", "statistic": statistic})
        return score_targets(signals, shadows, spec, reserve, 0)[0, 0]

    assert value("maximum") == pytest.approx(0.5)
    assert value("deviation") == pytest.approx(np.std([0.5, 0.25, 0.25]))
    assert value("entropy") == pytest.approx(-1.5 * np.log(2))
    np.testing.assert_allclose(
        networks.top_three(np.array([[0.1, 0.4, 0.2, 0.3]])), [[0.4, 0.3, 0.2]]
    )


@pytest.mark.parametrize("method", ["shokri", "salem_1"])
def test_learned_attacks_find_members(method):
    signals, reserve = make_pool(np.random.default_rng(13), samples=400, effect=4.0)
    scores = scores_of(signals, reserve, method=method, records=1000)
    inside, outside = scores[signals.member], scores[~signals.member]
    assert (inside[:, None] > outside[None, ::17]).mean() > 0.75


# --- Long et al. --------------------------------------------------------------------------


def test_neighbour_distance_equals_brute_force():
    rng = np.random.default_rng(14)
    features = rng.normal(size=(70, 6)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    population = rng.choice(70, 30, replace=False)
    for k in (1, 3):
        found = neighbours_module.neighbour_distance(features, population, k)
        for i in range(70):
            distances = sorted(1 - features[i] @ features[j] for j in population if j != i)
            assert found[i] == pytest.approx(distances[k - 1], abs=1e-5)


def test_long_tests_only_the_isolated():
    signals, reserve = make_pool(np.random.default_rng(15), samples=100)
    scores = scores_of(signals, reserve, method="long", share=0.2)
    offline = scores_of(signals, reserve, method="ye_reference", smoothing="gaussian")
    guessed = scores > neighbours_module.NO_GUESS
    assert (guessed.sum(axis=1) == 20).all()
    np.testing.assert_allclose(scores[guessed], offline[guessed], rtol=1e-9)


# --- Bertran et al. -----------------------------------------------------------------------


def test_regression_recovers_a_known_model():
    rng = np.random.default_rng(16)
    features = np.column_stack([np.ones(40000), rng.normal(size=(40000, 2))])
    std = np.exp(0.3 + 0.5 * features[:, 2])
    values = 2 - features[:, 1] + std * rng.normal(size=40000)
    fitted = regression.fit(features, values)
    np.testing.assert_allclose(fitted.mean, [2, -1, 0], atol=0.06)
    np.testing.assert_allclose(fitted.log_std, [0.3, 0, 0.5], atol=0.06)
    assert fitted.standardise(features, values).std() == pytest.approx(1, abs=0.05)


def test_regression_on_a_reserve_uses_the_target_alone_for_values():
    rng = np.random.default_rng(17)
    signals, reserve = make_pool(rng, samples=300, classes=3, reserve_share=0.4)
    scores = scores_of(signals, reserve, method="bertran", signal="phi")
    problem = leave_one_out(signals, reserve)
    group = next(group for group in problem.groups() if 4 in group.targets)
    features = regression.sample_features(problem, group, signals.phi[:, 0])
    own = regression.fit(features[reserve], signals.phi[4, 0, reserve])
    np.testing.assert_allclose(scores[4], own.standardise(features, signals.phi[4, 0]))


def test_regression_names_a_reserve_that_is_too_small():
    signals, reserve = make_pool(np.random.default_rng(18), samples=60, reserve_share=0.1)
    with pytest.raises(InputError, match=r"attacks\.a: 6 reserve samples .* splits\.reserve"):
        scores_of(signals, reserve, method="bertran")


def test_attacks_without_logits_say_so():
    signals, reserve = make_pool(np.random.default_rng(19), samples=30, with_logits=False)
    with pytest.raises(InputError, match=r"attacks\.a: needs logits"):
        scores_of(signals, reserve, method="shokri")


def test_levels_at_the_ends():
    # Two references lie at 1/3 and 2/3; above both, on the way to 1 at 1000.
    found = quantiles.population_scores(
        np.array([0.0, 0.5, 501.0, 2000.0]),
        np.zeros(4),
        np.array([1.0, 2.0]),
        np.zeros(2),
        "linear",
    )
    np.testing.assert_allclose(found[1:], -np.log([1 / 6, (2 + 0.5) / 3, 1.0]), atol=1e-12)
    assert found[0] > 600
