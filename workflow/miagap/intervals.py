"""Confidence intervals: binomial for one target, bootstrap over splits for many.

Targets that share a split share members, so they are resampled together: the unit of the
bootstrap (the *cluster*) is the split, or the seed where all targets share one split.

Sources: Clopper & Pearson (1934) and Wilson (1927) for binomial shares; Hesterberg (2015),
"What Teachers Should Know About the Bootstrap", for the expanded percentile interval; Zou &
Donner (2008) for intervals of sums (MOVER). Nothing here imports scipy.stats, which costs
more to load than most jobs need to run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]

# Below this number of clusters the percentile that an expanded interval asks for lies beyond
# the most extreme resample, so the interval would end at the data's own range (3 clusters:
# 75% coverage at best). A t interval with the bootstrap's standard error takes over.
FEW_CLUSTERS = 6

# Target-level weights are built in blocks of at most this many numbers (64 MB of float64).
BLOCK = 8_000_000


class Estimate(NamedTuple):
    """A value and its interval; floats, or arrays of one shape."""

    value: Any
    lo: Any
    hi: Any


def clopper_pearson(k: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Exact binomial interval of ``k`` successes in ``n`` trials; arrays broadcast.

    ``n == 0`` gives NaN. Coverage is at least ``confidence`` for every share and n.
    """
    hits, trials = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    tail = (1.0 - confidence) / 2.0
    # betaincinv needs positive parameters; the clamped places are replaced just below.
    lo = special.betaincinv(np.maximum(hits, 0.5), trials - hits + 1.0, tail)
    hi = special.betaincinv(hits + 1.0, np.maximum(trials - hits, 0.5), 1.0 - tail)
    lo = np.where(hits <= 0, 0.0, lo)
    hi = np.where(hits >= trials, 1.0, hi)
    empty = trials <= 0
    return np.where(empty, np.nan, lo), np.where(empty, np.nan, hi)


def wilson(k: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Score interval of ``k`` successes in ``n`` trials: shorter than exact, right on average."""
    hits, trials = np.broadcast_arrays(np.asarray(k, np.float64), np.asarray(n, np.float64))
    z2 = float(special.ndtri(0.5 + confidence / 2.0)) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        share = hits / trials
        middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
        half = np.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2)))
        half = half / (1 + z2 / trials)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def combine(value: float, lows: ArrayLike, highs: ArrayLike) -> tuple[float, float]:
    """Interval of a sum of independent parts by adding their margins in square (MOVER).

    Args:
        value: the sum's estimate.
        lows: distance of each part's estimate above its lower limit, already weighted.
        highs: distance of each part's upper limit above its estimate, already weighted.
    """
    below = float(np.sqrt(np.sum(np.square(lows))))
    above = float(np.sqrt(np.sum(np.square(highs))))
    return value - below, value + above


def binomial_quantile(tail: float, n: int, share: float) -> int:
    """Return the smallest k with P(Binomial(n, share) <= k) >= ``tail``."""
    guess = max(0, int(np.floor(special.bdtrik(tail, n, share))))
    while guess > 0 and special.bdtr(guess - 1, n, share) >= tail:
        guess -= 1
    while guess < n and special.bdtr(guess, n, share) < tail:
        guess += 1
    return guess


def resample_clusters(n_clusters: int, replicates: int, seed: int) -> Floats:
    """Draw how often each cluster occurs in each bootstrap sample, (replicates, n_clusters).

    The draw depends on the seed and the number of clusters only. Groups with the same number
    of clusters are therefore resampled alike, and their differences are not blurred by
    different draws.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, n_clusters]))
    even = np.full(n_clusters, 1.0 / n_clusters)
    return rng.multinomial(n_clusters, even, size=replicates).astype(np.float64)


def interval_of(
    replicates: Floats,
    value: ArrayLike,
    n_clusters: int,
    confidence: float = 0.95,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[Floats, Floats]:
    """Turn bootstrap replicates into an interval that is right for few clusters too.

    Expanded percentiles (Hesterberg 2015, section 5.3): the plain percentile interval is too
    short by sqrt((n-1)/n) and uses normal where t quantiles belong; asking for the percentiles
    Phi(-sqrt(n/(n-1)) t) undoes both. With fewer than FEW_CLUSTERS clusters a t interval with
    the bootstrap's standard error is given instead; with one cluster, NaN.

    Args:
        replicates: (R, ...) statistic of every bootstrap sample; NaN ones are left out.
        value: (...) the statistic of the data.
        n_clusters: number of clusters resampled.
        confidence: e.g. 0.95.
        bounds: values that the statistic cannot leave; the interval is cut there.
    """
    centre = np.asarray(value, np.float64)
    if n_clusters < 2:
        return np.full(centre.shape, np.nan), np.full(centre.shape, np.nan)
    student = float(special.stdtrit(n_clusters - 1, 0.5 + confidence / 2.0))
    widened = np.sqrt(n_clusters / (n_clusters - 1.0)) * student
    missing = np.all(np.isnan(replicates), axis=0)
    known = np.where(missing, 0.0, replicates)
    if n_clusters < FEW_CLUSTERS:
        half = widened * np.nanstd(known, axis=0)
        lo, hi = centre - half, centre + half
    else:
        tail = float(special.ndtr(-widened))
        lo, hi = _quantiles(known, [tail, 1.0 - tail])
    lo = np.where(missing, np.nan, np.clip(lo, *bounds))
    hi = np.where(missing, np.nan, np.clip(hi, *bounds))
    return lo, hi


def _quantiles(values: Floats, levels: list[float]) -> Floats:
    """Quantiles along axis 0 without NaN; np.nanquantile is far slower where none occur."""
    if np.isnan(values).any():
        return np.nanquantile(values, levels, axis=0)
    return np.quantile(values, levels, axis=0)


def bootstrap_mean(
    values: ArrayLike,
    clusters: ArrayLike,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Mean over targets and its interval from resampling whole clusters.

    Args:
        values: (T,) or (T, K) one row per target; NaN is left out of its column's mean.
        clusters: (T,) labels, e.g. the split of every target.
        confidence: e.g. 0.95.
        replicates: number of bootstrap samples.
        seed: makes the interval repeatable.
        bounds: see :func:`interval_of`; (0, 1) for shares.

    Returns:
        Estimate of floats for (T,), of (K,) arrays for (T, K). A column that knows one
        cluster only has a NaN interval; one without any value is NaN altogether.
    """
    table = np.asarray(values, np.float64)
    flat = table.ndim == 1
    table = table.reshape(len(table), -1)
    labels, index = np.unique(np.asarray(clusters), return_inverse=True)
    known = ~np.isnan(table)
    sums = np.zeros((len(labels), table.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, index, np.where(known, table, 0.0))
    np.add.at(counts, index, known)
    mean, lo, hi = (np.full(table.shape[1], np.nan) for _ in range(3))
    # Columns that are known in the same clusters share one draw of those clusters.
    patterns, which = np.unique(counts > 0, axis=1, return_inverse=True)
    for column, present in enumerate(patterns.T):
        here = np.flatnonzero(which.ravel() == column)
        if not present.any():
            continue
        total, count = sums[np.ix_(present, here)], counts[np.ix_(present, here)]
        mean[here] = total.sum(axis=0) / count.sum(axis=0)
        weights = resample_clusters(int(present.sum()), replicates, seed)
        lo[here], hi[here] = interval_of(
            (weights @ total) / (weights @ count), mean[here], len(total), confidence, bounds
        )
    if flat:
        return Estimate(float(mean[0]), float(lo[0]), float(hi[0]))
    return Estimate(mean, lo, hi)


def without_spread(
    value: Floats, lo: Floats, hi: Floats, trials: ArrayLike, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Replace the empty intervals of shares that are 0 (or 1) in every target.

    Resampling equal values shows no spread, as if zero hits proved that there are none. The
    binomial interval of as many trials as all targets have together stands in; trials of 0
    leave an interval as it is.
    """
    n = np.asarray(trials, np.float64)
    stuck = (lo == hi) & ((value == 0.0) | (value == 1.0)) & (n > 0)
    low, high = clopper_pearson(np.where(value == 1.0, n, 0.0), n, confidence)
    return np.where(stuck, low, lo), np.where(stuck, high, hi)


def bootstrap(
    statistic: Callable[[Floats], Floats],
    clusters: ArrayLike,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """Estimate and interval of any statistic of a per-target table, resampling clusters.

    Args:
        statistic: maps weights (R, T), how often each target occurs in each of R samples, to
            the statistic of each sample, (R,) or (R, K); all weights 1 is the data itself.
        clusters: (T,) labels.
        confidence: e.g. 0.95.
        replicates: number of bootstrap samples.
        seed: makes the interval repeatable.
        bounds: see :func:`interval_of`; (-1, 1) for correlations.
    """
    labels, index = np.unique(np.asarray(clusters), return_inverse=True)
    value = np.asarray(statistic(np.ones((1, len(index)))))[0]
    counts = resample_clusters(len(labels), replicates, seed)
    step = max(1, BLOCK // max(1, len(index)))
    parts = [statistic(counts[at : at + step][:, index]) for at in range(0, replicates, step)]
    lo, hi = interval_of(np.concatenate(parts), value, len(labels), confidence, bounds)
    if np.ndim(value) == 0:
        return Estimate(float(value), float(lo), float(hi))
    return Estimate(value, lo, hi)


def weighted_mean(values: Floats, weights: Floats) -> Floats:
    """Mean of ``values`` (T,) in each weighted sample (R, T)."""
    return np.asarray((weights @ values) / weights.sum(axis=1))


def weighted_pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson correlation of ``x`` and ``y``, (T,) or (R, T), in each weighted sample (R, T).

    NaN where one of them is constant in the sample.
    """
    total = weights.sum(axis=1, keepdims=True)
    dx = x - (weights * x).sum(axis=1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=1, keepdims=True) / total
    spread = (weights * dx * dx).sum(axis=1) * (weights * dy * dy).sum(axis=1)
    # What rounding leaves of a constant sample's spread is no spread.
    scale = (weights * (x * x)).sum(axis=1) * (weights * (y * y)).sum(axis=1)
    covariance = (weights * dx * dy).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result = np.clip(covariance / np.sqrt(spread), -1.0, 1.0)
    return np.where(spread > 1e-24 * scale, result, np.nan)


def weighted_ranks(x: Floats, weights: Floats) -> Floats:
    """Mid-ranks of ``x`` (T,) within each weighted sample, as if targets were repeated."""
    _, group = np.unique(x, return_inverse=True)
    onehot_order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[onehot_order]) > 0])
    mass = np.add.reduceat(weights[:, onehot_order], starts, axis=1)
    before = np.cumsum(mass, axis=1) - mass
    return np.asarray((before + (mass + 1.0) / 2.0)[:, group])


def weighted_spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Spearman rank correlation of ``x`` and ``y`` (T,) in each weighted sample (R, T)."""
    return weighted_pearson(weighted_ranks(x, weights), weighted_ranks(y, weights), weights)


CORRELATIONS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "pearson": weighted_pearson,
    "spearman": weighted_spearman,
    "r2": lambda x, y, weights: weighted_pearson(x, y, weights) ** 2,
}


def correlation(
    x: ArrayLike,
    y: ArrayLike,
    clusters: ArrayLike,
    kind: str = "spearman",
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Correlation of two columns of a per-target table, with a bootstrap interval.

    Args:
        x: (T,) values without NaN.
        y: (T,) values without NaN.
        clusters: (T,) labels; targets of one label are resampled together.
        kind: "pearson", "spearman" or "r2" (share of variance that a line explains).
        confidence: e.g. 0.95.
        replicates: number of bootstrap samples.
        seed: makes the interval repeatable.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    measure = CORRELATIONS[kind]
    bounds = (0.0 if kind == "r2" else -1.0, 1.0)
    return bootstrap(
        lambda weights: measure(a, b, weights), clusters, confidence, replicates, seed, bounds
    )


def correlation_difference(
    first: ArrayLike,
    second: ArrayLike,
    y: ArrayLike,
    clusters: ArrayLike,
    kind: str = "spearman",
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> Estimate:
    """How much more strongly ``first`` than ``second`` goes with ``y``: |r1| - |r2|.

    Both correlations are taken on the same resampled targets, so that what they have in
    common cancels. Arguments as for :func:`correlation`.
    """
    a, b, target = (np.asarray(column, np.float64) for column in (first, second, y))
    measure = CORRELATIONS[kind]

    def difference(weights: Floats) -> Floats:
        return np.abs(measure(a, target, weights)) - np.abs(measure(b, target, weights))

    return bootstrap(difference, clusters, confidence, replicates, seed, (-1.0, 1.0))
