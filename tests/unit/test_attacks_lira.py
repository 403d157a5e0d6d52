"""LiRA against a plain loop over targets, samples and queries with scipy.stats.norm."""

import itertools

import numpy as np
import pytest
from attack_pools import make_pool, without_membership
from scipy.stats import norm

from miagap.attacks import Signals, parse, score_targets
from miagap.attacks import lira as lira_module
from miagap.errors import InputError


def loop_scores(targets, shadows, reserve, parameters):
    """Return LiRA scores, one target, sample and query at a time."""
    models, queries, samples = targets.phi.shape
    scores = np.full((models, samples), np.nan)
    compat = parameters["compat"] != "none"
    centre = np.median if compat or parameters["statistic"] == "median" else np.mean
    for t in range(models):
        kept = shadows.pair != targets.pair[t]
        phi, member = shadows.phi[kept], shadows.member[kept]
        fixed = fixed_stds(phi, member, reserve, parameters)
        for i in range(samples):
            total = 0.0
            for q in range(queries):
                sides = []
                for inside in (True, False):
                    every = phi[member[:, i] == inside, :, i]
                    if len(every) == 0:
                        sides.append(None)
                        continue
                    std = every[:, q].std()
                    if parameters["queries"] == "spherical" and not compat:
                        std = np.sqrt(np.mean(every.std(axis=0) ** 2))
                    if fixed is not None:
                        std = fixed[inside][q]
                    sides.append((centre(every[:, q]), std + 1e-30))
                total += one_score(targets.phi[t, q, i], sides, parameters["online"], compat)
            scores[t, i] = total / queries
    return scores


def one_score(x, sides, online, compat):
    inside, outside = sides
    if online and inside is None:
        return np.nan
    if online:
        return norm.logpdf(x, *inside) - norm.logpdf(x, *outside)
    return -norm.logpdf(x, *outside) if compat else -norm.logsf(x, *outside)


def fixed_stds(phi, member, reserve, parameters):
    if parameters["variance"] != "fixed":
        return None
    queries = phi.shape[1]
    result = {}
    for inside in (True, False):
        centred, raw = [], []
        for i in np.flatnonzero(~reserve):
            every = phi[member[:, i] == inside, :, i]
            raw.append(every)
            centred.append(every - every.mean(axis=0))
        if parameters["compat"] != "none":
            result[inside] = np.full(queries, np.concatenate(raw).std())
        elif parameters["queries"] == "spherical":
            result[inside] = np.full(queries, np.sqrt(np.mean(np.concatenate(centred) ** 2)))
        else:
            result[inside] = np.sqrt(np.mean(np.concatenate(centred) ** 2, axis=0))
    if parameters["compat"] != "none" and parameters["online"]:
        result[False] = result[True]
    return result


VARIANTS = [
    {"online": o, "variance": v, "statistic": s, "queries": q}
    for o, v, s, q in itertools.product(
        (True, False), ("per_example", "fixed"), ("mean", "median"), ("spherical", "independent")
    )
] + [
    {"online": o, "variance": v, "compat": "mi_lira_2021"}
    for o, v in itertools.product((True, False), ("per_example", "fixed"))
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_leave_one_out_equals_the_loop(variant, monkeypatch):
    monkeypatch.setattr(lira_module, "CHUNK_BYTES", 12 * 64 * 2 * 8)
    signals, reserve = make_pool(np.random.default_rng(1), samples=90, reserve_share=0.1)
    spec = parse("a", {"method": "lira", **variant})
    scores = score_targets(signals, signals, spec, reserve, 0)
    expected = loop_scores(signals, signals, reserve, spec.parameters)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS[::3], ids=str)
def test_other_pool_and_several_seeds_equal_the_loop(variant):
    shadows, reserve = make_pool(np.random.default_rng(2), pairs=4, seeds=3, samples=50)
    own, _ = make_pool(np.random.default_rng(2), pairs=4, seeds=2, samples=50, effect=1.0)
    targets = own.take([0, 1, 2, 3, 9, 15])
    targets = Signals(
        targets.phi,
        targets.loss,
        targets.member,
        np.array([0, 0, 3, 3, 7, 40]),
        targets.seed,
        shadows.labels,
    )
    spec = parse("a", {"method": "lira", **variant})
    scores = score_targets(targets, shadows, spec, reserve, 0)
    expected = loop_scores(targets, shadows, reserve, spec.parameters)
    np.testing.assert_allclose(scores, expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_membership_of_targets_is_not_read(variant):
    signals, reserve = make_pool(np.random.default_rng(3), samples=60)
    spec = parse("a", {"method": "lira", **variant})
    first = score_targets(signals, signals, spec, reserve, 0)
    second = score_targets(without_membership(signals), signals, spec, reserve, 0)
    np.testing.assert_array_equal(first, second)


def test_values_by_hand():
    # IN phi 4, 6 (mean 5, deviation 1); OUT phi 0, 4 (mean 2, deviation 2); target phi 5.
    phi = np.array([[[4.0]], [[0.0]], [[6.0]], [[4.0]]])
    member = np.array([[True], [False], [True], [False]])
    labels = np.zeros(1, dtype=np.int64)
    shadows = Signals(
        phi, np.ones((4, 1)), member, np.arange(4), np.zeros(4, dtype=np.int64), labels
    )
    target = Signals(
        np.array([[[5.0]]]),
        np.ones((1, 1)),
        np.array([[True]]),
        np.array([8]),
        np.array([0]),
        labels,
    )
    reserve = np.zeros(1, dtype=bool)
    online = score_targets(target, shadows, parse("a", {"method": "lira"}), reserve, 0)
    assert online[0, 0] == pytest.approx(1.5**2 / 2 + np.log(2))
    spec = parse("a", {"method": "lira", "online": False})
    offline = score_targets(target, shadows, spec, reserve, 0)
    assert offline[0, 0] == pytest.approx(-np.log(1 - 0.9331927987311419))


def test_outliers_and_large_offsets_keep_their_digits():
    rng = np.random.default_rng(4)
    signals, reserve = make_pool(rng, samples=40, queries=1)
    signals.phi[:] = 1e6 + 1e-3 * rng.normal(size=signals.phi.shape)
    signals.phi[3, 0, ::2] += 1e4  # taken off again when model 3 or its twin is the target
    spec = parse("a", {"method": "lira"})
    scores = score_targets(signals.take([2]), signals, spec, reserve, 0)
    expected = loop_scores(signals.take([2]), signals, reserve, spec.parameters)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_equal_phi_gives_finite_scores():
    signals, reserve = make_pool(np.random.default_rng(5), samples=20)
    signals.phi[:] = 1.0
    for online in (True, False):
        spec = parse("a", {"method": "lira", "online": online})
        assert np.isfinite(score_targets(signals, signals, spec, reserve, 0)).all()
    with pytest.raises(InputError, match=r"attacks\.a: variance: fixed finds no spread"):
        score_targets(
            signals, signals, parse("a", {"method": "lira", "variance": "fixed"}), reserve, 0
        )


def test_offline_orders_far_outliers():
    """Few shadow models, small deviations: scores at 50 and at 500 deviations do not tie."""
    signals, reserve = make_pool(np.random.default_rng(5), samples=20, queries=1)
    target = signals.take([0])
    mean = np.array([signals.phi[2:][~signals.member[2:, i], 0, i].mean() for i in range(20)])
    target.phi[0, 0] = mean + np.linspace(50, 1000, 20)
    spec = parse("a", {"method": "lira", "online": False, "variance": "fixed"})
    scores = score_targets(target, signals, spec, reserve, 0)
    assert (np.diff(scores[0]) > 0).all()


def test_too_few_shadow_models_is_an_input_error():
    signals, reserve = make_pool(np.random.default_rng(6), pairs=2, samples=20)
    spec = parse("mine", {"method": "lira"})
    with pytest.raises(InputError, match=r"attacks\.mine: .*splits\.count"):
        score_targets(signals, signals, spec, reserve, 0)
    one, reserve = make_pool(np.random.default_rng(6), pairs=1, samples=20)
    with pytest.raises(InputError, match="no shadow model is left"):
        score_targets(one, one, spec, reserve, 0)


def test_reserve_has_no_online_score():
    signals, reserve = make_pool(np.random.default_rng(7), samples=40, reserve_share=0.25)
    online = score_targets(signals, signals, parse("a", {"method": "lira"}), reserve, 0)
    assert np.isnan(online[:, reserve]).all()
    assert np.isfinite(online[:, ~reserve]).all()
    spec = parse("a", {"method": "lira", "online": False})
    assert np.isfinite(score_targets(signals, signals, spec, reserve, 0)).all()


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("variance", ["per_example", "fixed"])
def test_compat_truncates_uneven_splits(online, variance):
    """Splits drawn without pairs: of each sample the first models only, equally many."""
    rng = np.random.default_rng(8)
    member = rng.random((14, 60)) < 0.5
    member[:4] = np.array([True, False, True, False])[:, None]
    phi = rng.normal(size=(14, 2, 60)) + member[:, None]
    numbers = np.arange(14)
    signals = Signals(
        phi, np.ones((14, 60)), member, 2 * numbers, 0 * numbers, np.zeros(60, dtype=np.int64)
    )
    reserve = np.zeros(60, dtype=bool)
    settings = {"method": "lira", "online": online, "variance": variance, "compat": "mi_lira_2021"}
    scores = score_targets(signals, signals, parse("a", settings), reserve, 0)
    for target in (0, 9):
        kept = np.delete(numbers, target)
        inside = [phi[kept[member[kept, i]], :, i] for i in range(60)]
        outside = [phi[kept[~member[kept, i]], :, i] for i in range(60)]
        inside = np.array([x[: min(map(len, inside))] for x in inside])
        outside = np.array([x[: min(map(len, outside))] for x in outside])
        std_in, std_out = inside.std(axis=1), outside.std(axis=1)
        if variance == "fixed":
            std_in, std_out = inside.std(), (inside if online else outside).std()
        x = phi[target].T
        expected = -norm.logpdf(x, np.median(outside, axis=1), std_out)
        if online:
            expected = expected + norm.logpdf(x, np.median(inside, axis=1), std_in)
        np.testing.assert_allclose(scores[target], expected.mean(axis=1), rtol=1e-9, atol=1e-9)
