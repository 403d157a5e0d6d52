import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from miagap import intervals


@given(st.integers(1, 40_000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_equals_scipy(n, share, confidence):
    k = round(share * n)
    lo, hi = intervals.clopper_pearson(k, n, confidence)
    expected = stats.binomtest(k, n).proportion_ci(confidence, "exact")
    assert float(lo) == pytest.approx(expected.low, abs=1e-9)
    assert float(hi) == pytest.approx(expected.high, abs=1e-9)


def test_clopper_pearson_by_hand_and_at_the_ends():
    lo, hi = intervals.clopper_pearson([0, 10, 0], [10, 10, 0])
    assert lo[0] == 0.0 and hi[0] == pytest.approx(1 - 0.025**0.1)
    assert hi[1] == 1.0 and lo[1] == pytest.approx(0.025**0.1)
    assert np.isnan(lo[2]) and np.isnan(hi[2])


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilson_equals_scipy(n, share):
    k = round(share * n)
    lo, hi = intervals.wilson(k, n)
    expected = stats.binomtest(k, n).proportion_ci(0.95, "wilson")
    assert (float(lo), float(hi)) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(st.floats(0.001, 0.999), st.integers(1, 30_000), st.sampled_from([1e-4, 0.001, 0.1]))
def test_binomial_quantile_equals_scipy(tail, n, share):
    assert intervals.binomial_quantile(tail, n, share) == stats.binom.ppf(tail, n, share)


@pytest.mark.parametrize("p", [0.0005, 0.01, 0.3])
def test_binomial_coverage(p):
    hits = np.random.default_rng(0).binomial(30_000, p, size=4000)
    lo, hi = intervals.clopper_pearson(hits, 30_000)
    assert np.mean((lo <= p) & (p <= hi)) >= 0.945
    lo, hi = intervals.wilson(hits, 30_000)
    assert np.mean((lo <= p) & (p <= hi)) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("n", [3, 5, 8, 16])
@pytest.mark.parametrize("skewed", [False, True])
def test_bootstrap_mean_covers_with_few_splits(n, skewed):
    """Coverage as that of the t interval on the same draws, within what simulation tells.

    With skewed values (log-normal, as low true-positive rates are) no interval of eight
    numbers reaches 95%; the t interval is the yardstick there too.
    """
    rng = np.random.default_rng(n)
    draws = rng.normal(1.0, 0.3, size=(n, 1500))
    values, truth = (np.exp(draws), np.exp(1 + 0.045)) if skewed else (draws, 1.0)
    found = intervals.bootstrap_mean(values, np.arange(n), replicates=1000)
    covered = np.mean((found.lo <= truth) & (truth <= found.hi))
    half = stats.t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    student = np.mean(np.abs(values.mean(axis=0) - truth) <= half)
    assert covered >= student - 0.025
    assert covered >= 0.92
    plain = intervals.resample_clusters(n, 1000, 0) @ values / n
    lo, hi = np.quantile(plain, [0.025, 0.975], axis=0)
    assert np.mean((lo <= truth) & (truth <= hi)) < covered


def test_bootstrap_covers_where_targets_of_a_split_agree():
    """16 splits of 4 seeds: resampling targets instead of splits would cover about 2/3."""
    rng = np.random.default_rng(4)
    splits = np.repeat(np.arange(16), 4)
    values = rng.normal(size=(16, 800))[splits] + 0.3 * rng.normal(size=(64, 800))
    by_split = intervals.bootstrap_mean(values, splits, replicates=1000)
    by_target = intervals.bootstrap_mean(values, np.arange(64), replicates=1000)
    assert np.mean((by_split.lo <= 0) & (by_split.hi >= 0)) == pytest.approx(0.95, abs=0.03)
    assert np.mean((by_target.lo <= 0) & (by_target.hi >= 0)) < 0.8


def test_bootstrap_mean_is_repeatable_and_handles_small_cases():
    values, splits = np.array([0.1, 0.2, 0.4, 0.3]), np.array([0, 0, 1, 2])
    first = intervals.bootstrap_mean(values, splits, seed=5)
    assert first == intervals.bootstrap_mean(values, splits, seed=5)
    assert first.value == pytest.approx(0.25)
    one = intervals.bootstrap_mean(values, np.zeros(4))
    assert one.value == pytest.approx(0.25) and np.isnan([one.lo, one.hi]).all()
    gaps = intervals.bootstrap_mean(np.array([[1.0, np.nan], [3.0, np.nan]]), [0, 1])
    assert gaps.value[0] == 2.0 and np.isnan(gaps.value[1]) and np.isnan(gaps.lo[1])
    some = intervals.bootstrap_mean(np.array([1.0, np.nan, 3.0]), [0, 1, 2])
    assert some.value == 2.0 and some.lo < 2.0 < some.hi


def test_bounds_cut_the_interval():
    found = intervals.bootstrap_mean([0.0, 0.0, 0.9], [0, 1, 2], bounds=(0.0, 1.0))
    assert found.lo == 0.0 and found.hi == 1.0


def test_equal_shares_get_the_binomial_interval():
    value, zero = np.array([0.0, 0.5]), np.array([0.0, 0.5])
    lo, hi = intervals.without_spread(value, zero, zero, 1000)
    assert lo.tolist() == [0.0, 0.5] and hi[1] == 0.5
    assert hi[0] == pytest.approx(1 - 0.025 ** (1 / 1000))


@given(st.lists(st.integers(0, 6), min_size=3, max_size=25), st.randoms(use_true_random=False))
def test_weighted_statistics_equal_repeated_rows(values, random):
    x = np.array(values, float)
    y = np.array([random.randint(0, 5) for _ in values], float)
    weights = np.array([random.randint(0, 3) for _ in values])
    a, b = np.repeat(x, weights), np.repeat(y, weights)
    if len(a) < 2 or len(set(a)) < 2 or len(set(b)) < 2:
        return
    w = weights[None, :].astype(float)
    assert intervals.weighted_mean(x, w)[0] == pytest.approx(a.mean())
    assert intervals.weighted_pearson(x, y, w)[0] == pytest.approx(stats.pearsonr(a, b)[0])
    assert intervals.weighted_spearman(x, y, w)[0] == pytest.approx(stats.spearmanr(a, b)[0])


def test_correlation_of_a_constant_is_nan():
    found = intervals.correlation([0.1] * 8, np.arange(8), np.arange(8))
    assert np.isnan(found).all()


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_correlation_covers(kind):
    rng = np.random.default_rng(2)
    truth = 0.6 if kind == "pearson" else 6 / np.pi * np.arcsin(0.3)
    inside = 0
    for repeat in range(200):
        x = rng.normal(size=80)
        y = 0.6 * x + 0.8 * rng.normal(size=80)
        found = intervals.correlation(x, y, np.arange(80) % 20, kind, replicates=400, seed=repeat)
        inside += found.lo <= truth <= found.hi
    assert 0.88 <= inside / 200 <= 1.0


def test_correlation_difference_sees_the_better_predictor():
    rng = np.random.default_rng(6)
    y = rng.normal(size=200)
    near, far = y + 0.2 * rng.normal(size=200), -y + 2 * rng.normal(size=200)
    found = intervals.correlation_difference(near, far, y, np.arange(200) % 16)
    assert found.lo > 0.2
    same = intervals.correlation_difference(near, -near, y, np.arange(200) % 16)
    assert same.value == pytest.approx(0.0) and same.lo == pytest.approx(0.0)


def test_bootstrap_takes_any_statistic():
    x = np.arange(12.0)
    found = intervals.bootstrap(lambda w: intervals.weighted_mean(x, w), np.arange(12), seed=1)
    assert found == pytest.approx(intervals.bootstrap_mean(x, np.arange(12), seed=1))
