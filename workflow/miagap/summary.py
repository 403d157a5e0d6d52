"""Many targets together: pooled rates, mean ROC curves, per-sample results, summary tables.

Plain functions: arrays or data frames in, arrays or data frames out. Intervals resample whole
clusters of targets (see :mod:`miagap.intervals`). Under leave-one-out a cluster is a split.
Under the fixed-split protocol all targets share one split, so the cluster is the training
seed: such an interval covers the training's randomness and not the choice of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from miagap import intervals, metrics, roc
from miagap.errors import InputError

if TYPE_CHECKING:  # attack jobs use the array functions and should not pay for pandas
    import pandas as pd

Floats = NDArray[np.float64]

LEAVE_ONE_OUT = "leave-one-out"
FIXED_SPLIT = "fixed-split"

GROUP = ("technique", "attacker_technique", "checkpoint", "protocol", "attack")
GENERALIZATION_GROUP = ("technique", "checkpoint")
# Measures that stay within [0, 1], by how their names begin, and those of them that are counts
# out of all members or non-members, so that a binomial interval may stand in.
COUNTED = ("tpr_at_fpr", "recall", "false_positive_rate", "train_accuracy", "test_accuracy")
SHARES = (*COUNTED, "auc", "precision", "ppv_at", "balanced_accuracy")


@dataclass(frozen=True)
class Pool:
    """What :func:`pool_group` finds out about the targets of one group.

    Attributes:
        row: columns of one row of the pooled table, see :func:`pool_group`.
        curve: arrays of one length, the columns of the aggregated ROC curve.
    """

    row: dict[str, float | int | bool]
    curve: dict[str, Floats]


def rank_targets(
    scores: ArrayLike, member: ArrayLike, valid: ArrayLike | None = None
) -> list[metrics.Ranked]:
    """Sort the scores of every target once, for all functions of this module.

    Args:
        scores: (T, n) float.
        member: (T, n) bool.
        valid: (n,) or (T, n) bool, False for the reserve and other samples without a score;
            None: all.
    """
    values = np.asarray(scores)
    usable = np.broadcast_to(True if valid is None else np.asarray(valid, bool), values.shape)
    pairs = zip(values, np.asarray(member, bool), usable, strict=True)
    return [metrics.rank(target, inside, counts) for target, inside, counts in pairs]


def pool_group(
    ranked: Sequence[metrics.Ranked],
    clusters: ArrayLike,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    fprs: Sequence[float] = metrics.FPRS,
) -> Pool:
    """Attack success over all targets of one (technique, attacker, checkpoint, attack).

    Two ways of putting targets together, both with intervals over clusters:

    - *mean*: the mean over targets of each target's TPR at the FPR. Unresolved where a target
      has too few non-members for the FPR.
    - *pooled*: one threshold for all targets together, over the concatenated scores; resolved
      down to 1 / (number of non-members of all targets).

    Args:
        ranked: T targets' scores, from :func:`rank_targets`.
        clusters: (T,) the split of every target (the seed, if all share one split).
        confidence: e.g. 0.95.
        replicates: bootstrap samples.
        seed: makes the intervals repeatable.
        fprs: false-positive rates of the row's columns.

    Returns:
        row: n_targets, n_clusters, pooled_n_members, pooled_n_nonmembers and for every FPR
        pooled_tpr_at_fpr_X with _lo, _hi, _resolved, _threshold and
        _false_positives_allowed. curve: fpr (ascending, log-spaced, with ``fprs`` and 1 among
        them); mean_tpr, mean_tpr_lo, mean_tpr_hi (NaN where a target does not resolve the
        FPR); pooled_tpr, pooled_tpr_lo, pooled_tpr_hi.
    """
    labels = np.asarray(clusters)
    n_out = np.array([len(target.nonmembers) for target in ranked])
    grid = _fpr_grid(int(n_out.sum()), fprs)
    wanted = np.concatenate([np.asarray(fprs, np.float64), grid])
    mean = _mean_tpr(ranked, grid, labels, (confidence, replicates, seed))
    pooled, thresholds = _pooled_tpr(ranked, wanted, labels, (confidence, replicates, seed))
    row: dict[str, float | int | bool] = {
        "n_targets": len(ranked),
        "n_clusters": len(np.unique(labels)),
        "pooled_n_members": sum(len(target.members) for target in ranked),
        "pooled_n_nonmembers": int(n_out.sum()),
    }
    for place, fpr in enumerate(fprs):
        name = f"pooled_tpr_at_fpr_{fpr:g}"
        allowed = metrics.false_positives_allowed(fpr, int(n_out.sum()))
        row |= {name: float(pooled.value[place])}
        row |= {f"{name}_lo": float(pooled.lo[place]), f"{name}_hi": float(pooled.hi[place])}
        row |= {f"{name}_resolved": allowed >= 1, f"{name}_threshold": float(thresholds[place])}
        row |= {f"{name}_false_positives_allowed": allowed}
    rest = slice(len(fprs), None)
    curve = {"fpr": grid}
    for kind, estimate in (
        ("mean", mean),
        ("pooled", intervals.Estimate(*(part[rest] for part in pooled))),
    ):
        curve |= {f"{kind}_tpr": estimate.value}
        curve |= {f"{kind}_tpr_lo": estimate.lo, f"{kind}_tpr_hi": estimate.hi}
    return Pool(row, curve)


def pooled_tpr(
    ranked: Sequence[metrics.Ranked],
    clusters: ArrayLike,
    fpr: float,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> intervals.Estimate:
    """TPR at one FPR under one threshold over all targets; see :func:`pool_group`."""
    settings = (confidence, replicates, seed)
    found, _ = _pooled_tpr(ranked, np.array([fpr]), np.asarray(clusters), settings)
    return intervals.Estimate(*(float(part[0]) for part in found))


def _fpr_grid(n_nonmembers: int, fprs: Sequence[float], per_decade: int = 25) -> Floats:
    """FPRs from one false positive among all targets up to 1."""
    steps = int(np.ceil(np.log10(max(n_nonmembers, 2)) * per_decade)) + 1
    spaced = np.geomspace(1.0 / max(n_nonmembers, 2), 1.0, steps)
    spaced[-1] = 1.0
    extra = [fpr for fpr in fprs if spaced[0] < fpr < 1.0]
    return np.unique(np.concatenate([spaced, extra]))


def _allowed(fprs: Floats, n: ArrayLike) -> NDArray[np.int64]:
    """:func:`metrics.false_positives_allowed` for arrays that broadcast."""
    total = np.asarray(n, np.float64)
    return np.minimum(np.floor(fprs * total + 1e-9), total).astype(np.int64)


def _mean_tpr(
    ranked: Sequence[metrics.Ranked],
    fprs: Floats,
    clusters: NDArray[Any],
    settings: tuple[float, int, int],
) -> intervals.Estimate:
    """Mean over targets of the TPR at every FPR, (F,); NaN where any target is unresolved."""
    confidence, replicates, seed = settings
    table = np.empty((len(ranked), len(fprs)))
    for place, target in enumerate(ranked):
        allowed = _allowed(fprs, len(target.nonmembers))
        table[place] = _tpr_at_counts(target, allowed)
        table[place, allowed < 1] = np.nan
    table[:, np.isnan(table).any(axis=0)] = np.nan
    return intervals.bootstrap_mean(table, clusters, confidence, replicates, seed, (0.0, 1.0))


def _tpr_at_counts(target: metrics.Ranked, allowed: NDArray[np.int64]) -> Floats:
    """TPR of one target where ``allowed`` non-members may pass; 1 where all may."""
    hits = metrics.above(target.members, metrics.thresholds_at(target.nonmembers, allowed))
    return np.where(allowed >= len(target.nonmembers), 1.0, hits / len(target.members))


def _pooled_tpr(
    ranked: Sequence[metrics.Ranked],
    fprs: Floats,
    clusters: NDArray[Any],
    settings: tuple[float, int, int],
) -> tuple[intervals.Estimate, Floats]:
    """TPR at FPRs under common thresholds, (F,), with those thresholds.

    A bootstrap sample repeats whole clusters, so its counts above any threshold are weighted
    sums of the clusters' counts. These are taken once, on a grid of thresholds that has every
    score down to the 1000th largest and steps of 2% in the count beyond.
    """
    confidence, replicates, seed = settings
    pool = metrics.Ranked(
        np.sort(np.concatenate([target.members for target in ranked])),
        np.sort(np.concatenate([target.nonmembers for target in ranked])),
    )
    allowed = _allowed(fprs, len(pool.nonmembers))
    value = _tpr_at_counts(pool, allowed)
    grid = roc.counts_grid(len(pool.nonmembers), exact=1000, per_decade=115)
    cuts = metrics.thresholds_at(pool.nonmembers, grid)
    labels, index = np.unique(clusters, return_inverse=True)
    alarms, hits = np.zeros((2, len(labels), len(cuts)))
    sizes = np.zeros((len(labels), 2))
    for cluster, target in zip(index, ranked, strict=True):
        alarms[cluster] += metrics.above(target.nonmembers, cuts)
        hits[cluster] += metrics.above(target.members, cuts)
        sizes[cluster] += len(target.nonmembers), len(target.members)
    weights = intervals.resample_clusters(len(labels), replicates, seed)
    totals = weights @ sizes
    budget = _allowed(fprs, totals[:, :1])
    samples = _resampled_tpr(weights @ alarms, weights @ hits, budget, np.diff(grid) == 1)
    samples /= totals[:, 1:]
    samples[budget >= totals[:, :1]] = 1.0
    lo, hi = intervals.interval_of(samples, value, len(labels), confidence, (0.0, 1.0))
    lo, hi = intervals.without_spread(value, lo, hi, len(pool.members), confidence)
    return intervals.Estimate(value, lo, hi), metrics.thresholds_at(pool.nonmembers, allowed)


def _resampled_tpr(
    alarms: Floats, hits: Floats, budget: NDArray[np.int64], exact: NDArray[np.bool_]
) -> Floats:
    """Members found by each bootstrap sample within its budgets of false positives, (R, F).

    Args:
        alarms: (R, G) false positives above each of G falling thresholds.
        hits: (R, G) members above them.
        budget: (R, F) false positives allowed.
        exact: (G - 1,) whether no score lies between a threshold and the next. There the
            loosest threshold within budget is taken; elsewhere counts are interpolated, since
            the coarser grid would cost up to a step of false positives.
    """
    place = np.empty(budget.shape, np.int64)
    for sample, row in enumerate(alarms):
        place[sample] = np.searchsorted(row, budget[sample], side="right") - 1
    place = np.clip(place, 0, alarms.shape[1] - 2)
    start, end = (np.take_along_axis(alarms, at, axis=1) for at in (place, place + 1))
    part = np.clip((budget - start) / np.maximum(end - start, 1.0), 0.0, 1.0)
    part = np.where(exact[place], np.floor(part), part)
    low, high = (np.take_along_axis(hits, at, axis=1) for at in (place, place + 1))
    return np.asarray(low + part * (high - low))


def vulnerability(
    scores: ArrayLike,
    member: ArrayLike,
    valid: ArrayLike | None = None,
    ranked: Sequence[metrics.Ranked] | None = None,
    fpr: float = 0.001,
    confidence: float = 0.95,
) -> dict[str, NDArray[Any]]:
    """How exposed each sample is, over all targets of one group.

    Args:
        scores: (T, n).
        member: (T, n) bool.
        valid: (n,) bool, False for the reserve, whose rows are NaN, or (T, n), False too where a
            target's sample has no score; None: all.
        ranked: the same scores sorted, if the caller has them.
        fpr: false-positive rate at which a sample counts as found.
        confidence: of the binomial interval of found_share.

    Returns:
        Columns of length n: sample_id int32; n_in and n_out int32, targets that did and did
        not train on the sample; score_in and score_out, mean score over those; rank_in and
        rank_out in [0, 1], the mean over those targets of the share of the target's
        non-members that score lower (ties half); found int32 and found_share (with _lo, _hi),
        among targets that trained on it, those whose attack names it at ``fpr``;
        alarm_share, the same among targets that did not.
    """
    values, inside = np.asarray(scores, np.float64), np.asarray(member, bool)
    counted = np.broadcast_to(True if valid is None else np.asarray(valid, bool), values.shape)
    sorted_targets = rank_targets(values, inside, counted) if ranked is None else ranked
    inside, outside = inside & counted, ~inside & counted
    n, usable = values.shape[1], counted.any(axis=0)
    found, alarm = np.zeros((2, n), np.int32)
    rank_sum = np.zeros((2, n))
    for target, row, is_in, is_out in zip(sorted_targets, values, inside, outside, strict=True):
        threshold = metrics.ranked_tpr_at_fpr(target, fpr).threshold
        found += (row > threshold) & is_in
        alarm += (row > threshold) & is_out
        placement = _placement(target.nonmembers, row)
        rank_sum += np.where(is_in, placement, 0.0), np.where(is_out, placement, 0.0)
    n_in, n_out = inside.sum(axis=0), outside.sum(axis=0)
    score_in = np.where(inside, values, 0.0).sum(axis=0)
    score_out = np.where(outside, values, 0.0).sum(axis=0)
    lo, hi = intervals.clopper_pearson(found, n_in, confidence)
    columns: dict[str, NDArray[Any]] = {"sample_id": np.arange(n, dtype=np.int32)}
    columns |= {"n_in": n_in.astype(np.int32), "n_out": n_out.astype(np.int32), "found": found}
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = {
            "score_in": score_in / n_in,
            "score_out": score_out / n_out,
            "rank_in": rank_sum[0] / n_in,
            "rank_out": rank_sum[1] / n_out,
            "found_share": found / n_in,
            "found_share_lo": lo,
            "found_share_hi": hi,
            "alarm_share": alarm / n_out,
        }
    return columns | {name: np.where(usable, column, np.nan) for name, column in shares.items()}


def _placement(nonmembers: Floats, scores: Floats) -> Floats:
    """Share of a target's non-members below each score, ties half, (n,)."""
    order = np.argsort(scores)  # looking up ascending values is several times faster
    ascending = scores[order]
    below = np.searchsorted(nonmembers, ascending, side="left")
    up_to = np.searchsorted(nonmembers, ascending, side="right")
    placed = np.empty(len(scores))
    placed[order] = (below + up_to) / (2 * len(nonmembers))
    return placed


def stability(first: ArrayLike, second: ArrayLike, top: int) -> dict[str, float]:
    """How far two groups agree on which samples are exposed.

    Args:
        first: (n,) vulnerability in one group, e.g. found_share; NaN rows are left out.
        second: (n,) the same samples in the other group.
        top: size of the sets of most exposed samples.

    Returns:
        spearman: rank correlation over all samples. jaccard: overlap of the two top sets,
        size of intersection over size of union; ties are broken by sample number. expected:
        the overlap that two random sets of that size have on average.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known], b[known]
    size = min(top, len(a))
    once = np.ones((1, len(a)))
    heads = [set(np.argsort(-column, kind="stable")[:size].tolist()) for column in (a, b)]
    both = size * size / max(len(a), 1)
    return {
        "spearman": float(intervals.weighted_spearman(a, b, once)[0]),
        "jaccard": len(heads[0] & heads[1]) / max(1, len(heads[0] | heads[1])),
        "expected": both / max(2 * size - both, 1e-12),
    }


def cluster_labels(frame: pd.DataFrame) -> Any:
    """Unit that the bootstrap resamples, per row: the split, or the seed under fixed-split."""
    if "protocol" not in frame:
        return frame["split"].to_numpy()
    fixed = (frame["protocol"] == FIXED_SPLIT).to_numpy()
    return np.where(fixed, frame["seed"].to_numpy(), frame["split"].to_numpy())


def over_targets(
    metrics_table: pd.DataFrame,
    group: Sequence[str] = GROUP,
    confidence: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
    pooled: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Average a per-target table over the targets of each group.

    Args:
        metrics_table: tables/metrics.parquet or generalization.parquet.
        group: columns that name a group.
        confidence: of the intervals.
        replicates: bootstrap samples.
        seed: makes the intervals repeatable. Groups with equally many clusters are resampled
            alike, so differences between them are paired.
        pooled: one row per group with the columns of :func:`pool_group`, joined if given.

    Returns:
        One row per group, sorted by :func:`sort_rows`: the group's columns, n_targets,
        n_clusters, then for every numeric metric its mean over targets and the bootstrap
        interval over clusters (_lo, _hi), counts (n_members, n_nonmembers) as means without
        an interval, and each _resolved flag as whether all targets resolve it.

    Raises:
        InputError: the table lacks a column of ``group``.
    """
    import pandas as pd

    missing = [name for name in group if name not in metrics_table]
    if missing:
        raise InputError(f"summary: the table lacks the column {', '.join(missing)}")
    names = [name for name in metrics_table.columns if _is_measure(metrics_table, name)]
    flags = [name for name in metrics_table.columns if name.endswith("_resolved")]
    kept = [name for name in ("study", "dataset", "epoch") if name in metrics_table]
    rows = []
    for key, part in metrics_table.groupby(list(group), sort=False, dropna=False):
        labels = cluster_labels(part)
        row: dict[str, Any] = {name: part[name].iloc[0] for name in kept}
        row |= dict(zip(group, key if isinstance(key, tuple) else (key,), strict=True))
        row |= {"n_targets": len(part), "n_clusters": len(np.unique(labels))}
        row |= {name: part[name].mean() for name in ("n_members", "n_nonmembers") if name in part}
        row |= _means(part, names, labels, (confidence, replicates, seed))
        row |= {name: bool(part[name].all()) for name in flags}
        rows.append(row)
    result = pd.DataFrame(rows)
    if pooled is not None and len(result):
        extra = [name for name in pooled.columns if name.startswith("pooled_")]
        result = result.merge(pooled[[*group, *extra]], on=list(group), how="left", validate="1:1")
    return sort_rows(result, group) if len(result) else result


def _is_measure(frame: pd.DataFrame, name: str) -> bool:
    """Whether a column is a measured quantity, not an identity, a count or another's limit."""
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    identity = {"seed", "split", "epoch", "n_members", "n_nonmembers", "n_shadows"}
    derived = ("_lo", "_hi", "_resolved", "_threshold", "_allowed", "_false_positives")
    if name in identity or name == "threshold" or name.endswith(derived):
        return False
    return bool(is_numeric_dtype(frame[name]) and not is_bool_dtype(frame[name]))


def _means(
    part: pd.DataFrame, names: Sequence[str], labels: Any, settings: tuple[float, int, int]
) -> dict[str, float]:
    """Mean and interval of every named column; shares keep to [0, 1]."""
    row: dict[str, float] = {}
    total = float(part["n_members"].sum()) if "n_members" in part else 0.0
    shares = [
        name for name in names if name.startswith(SHARES) or name in ("accuracy", "accuracy_best")
    ]
    others = [name for name in names if name not in shares]
    for columns, bounds in ((shares, (0.0, 1.0)), (others, (-np.inf, np.inf))):
        if not columns:
            continue
        table = part[columns].to_numpy(np.float64)
        value, lo, hi = intervals.bootstrap_mean(table, labels, *settings, bounds)
        trials = [total * name.startswith(COUNTED) for name in columns]
        lo, hi = intervals.without_spread(value, lo, hi, trials, settings[0])
        for place, name in enumerate(columns):
            row[name] = float(value[place])
            row[f"{name}_lo"], row[f"{name}_hi"] = float(lo[place]), float(hi[place])
    return {key: row[key] for name in names for key in (name, f"{name}_lo", f"{name}_hi")}


def generalization_over_targets(
    table: pd.DataFrame, confidence: float = 0.95, replicates: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """:func:`over_targets` of tables/generalization.parquet, by technique and checkpoint."""
    return over_targets(table, GENERALIZATION_GROUP, confidence, replicates, seed)


def checkpoint_order(checkpoint: str) -> tuple[int, float, str]:
    """Sort key of a checkpoint's name: epochs by number, then names such as "best"."""
    text = str(checkpoint)
    return (0, float(text), "") if text.isdigit() else (1, 0.0, text)


def sort_rows(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Sort rows by columns, checkpoints in the order of their epochs."""
    keys = list(frame[list(columns)].itertuples(index=False, name=None))

    def place(row: int) -> tuple[Any, ...]:
        named = zip(columns, keys[row], strict=True)
        return tuple(
            checkpoint_order(value) if name.endswith("checkpoint") else value
            for name, value in named
        )

    return frame.iloc[sorted(range(len(frame)), key=place)].reset_index(drop=True)
