"""How well an attack tells members from non-members.

Scores are higher for "more likely a member". An attack says "member" where the score is
strictly greater than a threshold. Every metric comes from one sort of the scores: see
:class:`Ranked`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from miagap import intervals
from miagap.errors import InputError

Floats = NDArray[np.float64]

FPRS = (0.1, 0.01, 0.001, 0.0001)
RECALLS = (0.1, 0.5)
PRIORS = (0.5, 0.1, 0.01, 0.001)
PPV_FPR = 0.001  # the false-positive rate at which predictive values are given


@dataclass(frozen=True)
class Ranked:
    """Scores of one target, sorted ascending: what all metrics and ROC points start from.

    Attributes:
        members: (n_members,) float64.
        nonmembers: (n_nonmembers,) float64.
    """

    members: Floats
    nonmembers: Floats


class TprAtFpr(NamedTuple):
    """The true-positive rate at a false-positive rate; see :func:`tpr_at_fpr`."""

    tpr: float
    threshold: float
    false_positives_allowed: int
    resolved: bool


def rank(scores: ArrayLike, member: ArrayLike, valid: ArrayLike | None = None) -> Ranked:
    """Sort the scores of one target's members and non-members.

    Args:
        scores: (n,) numbers; infinite ones are allowed (an attack that makes no guess about a
            sample gives -inf).
        member: (n,) bool.
        valid: (n,) bool; samples of the reserve are neither member nor non-member. None: all.

    Raises:
        InputError: shapes differ, a score is NaN, or one of the two classes is empty.
    """
    values = np.asarray(scores, np.float64)
    inside = np.asarray(member, bool)
    usable = np.ones(values.shape, bool) if valid is None else np.asarray(valid, bool)
    if values.ndim != 1 or not values.shape == inside.shape == usable.shape:
        raise InputError(
            f"scores: shapes {values.shape}, member {inside.shape}, valid {usable.shape}; "
            "all must be the same (n,)"
        )
    return rank_groups(values[inside & usable], values[~inside & usable])


def rank_groups(member_scores: ArrayLike, nonmember_scores: ArrayLike) -> Ranked:
    """Sort scores that are already apart; raises InputError as :func:`rank` does."""
    members = np.sort(np.asarray(member_scores, np.float64))
    nonmembers = np.sort(np.asarray(nonmember_scores, np.float64))
    for name, group in (("members", members), ("non-members", nonmembers)):
        if not len(group):
            raise InputError(f"scores: no {name}; a target needs at least one of each")
        if np.isnan(group[-1]):  # NaN sorts last
            bad = int(np.isnan(group).sum())
            raise InputError(f"scores: {bad} of {len(group)} scores of {name} are NaN")
    return Ranked(members, nonmembers)


def above(ascending: Floats, threshold: ArrayLike) -> NDArray[np.int64]:
    """Count the scores of an ascending array that are strictly greater than a threshold."""
    found = np.searchsorted(ascending, np.asarray(threshold, np.float64), side="right")
    return np.asarray(len(ascending) - found, dtype=np.int64)


def false_positives_allowed(fpr: float, n_nonmembers: int) -> int:
    """floor(fpr * n), where 0.001 * 3000 is 3 although the product of floats may fall short."""
    return min(n_nonmembers, math.floor(fpr * n_nonmembers + 1e-9))


def thresholds_at(nonmembers: Floats, allowed: ArrayLike) -> Floats:
    """Threshold that lets at most ``allowed`` non-members pass: the (allowed + 1)-th largest.

    Where all of them may pass there is no such score, and the threshold is -inf.

    Args:
        nonmembers: (n,) ascending.
        allowed: integers in 0..n, any shape.
    """
    place = len(nonmembers) - 1 - np.asarray(allowed, np.int64)
    return np.where(place >= 0, nonmembers[np.maximum(place, 0)], -np.inf)


def tpr_at_fpr(member_scores: ArrayLike, nonmember_scores: ArrayLike, fpr: float) -> TprAtFpr:
    """True-positive rate at a false-positive rate, ties counted against the attacker.

    The threshold is the (floor(fpr * n_out) + 1)-th largest non-member score; the rate is the
    share of members with a score strictly greater. Where fpr * n_out < 1 the estimate rests on
    zero false positives and is marked unresolved.

    Args:
        member_scores: (n_in,) numbers, any order.
        nonmember_scores: (n_out,) numbers, any order.
        fpr: in [0, 1].
    """
    return ranked_tpr_at_fpr(rank_groups(member_scores, nonmember_scores), fpr)


def ranked_tpr_at_fpr(ranked: Ranked, fpr: float) -> TprAtFpr:
    """:func:`tpr_at_fpr` of scores that are sorted already."""
    allowed = false_positives_allowed(fpr, len(ranked.nonmembers))
    if allowed == len(ranked.nonmembers):
        return TprAtFpr(1.0, -np.inf, allowed, True)
    threshold = float(thresholds_at(ranked.nonmembers, allowed))
    hits = int(above(ranked.members, threshold))
    return TprAtFpr(hits / len(ranked.members), threshold, allowed, allowed >= 1)


def auc(member_scores: ArrayLike, nonmember_scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a member outscores a non-member, ties half."""
    ranked = rank_groups(member_scores, nonmember_scores)
    below = np.searchsorted(ranked.nonmembers, ranked.members, side="left").sum()
    up_to = np.searchsorted(ranked.nonmembers, ranked.members, side="right").sum()
    return float((below + up_to) / (2 * len(ranked.members) * len(ranked.nonmembers)))


class Placements(NamedTuple):
    """Where each class's scores fall among the other's; counts, each (n of its class,)."""

    members_below: NDArray[np.int64]  # non-members below each member
    members_up_to: NDArray[np.int64]  # non-members not above each member
    nonmembers_below: NDArray[np.int64]  # members below each non-member
    nonmembers_up_to: NDArray[np.int64]  # members not above each non-member


def placements(ranked: Ranked) -> Placements:
    """Compare members with non-members once, for AUC, its variance and the best threshold."""
    inside, outside = ranked.members, ranked.nonmembers
    return Placements(
        np.searchsorted(outside, inside, side="left"),
        np.searchsorted(outside, inside, side="right"),
        np.searchsorted(inside, outside, side="left"),
        np.searchsorted(inside, outside, side="right"),
    )


def auc_interval(placed: Placements, confidence: float = 0.95) -> intervals.Estimate:
    """AUC with DeLong's variance (DeLong et al. 1988) and an interval on the logit scale.

    The logit keeps the limits inside (0, 1) (Pepe 2003, section 5.2). Where the classes are
    wholly apart the variance is zero and says nothing; the exact binomial limit for the
    smaller class stands in, which is wider than any other that one could argue for.
    """
    n_in, n_out = len(placed.members_below), len(placed.nonmembers_below)
    wins = int(placed.members_below.sum()) + int(placed.members_up_to.sum())
    value = wins / (2 * n_in * n_out)
    if value in (0.0, 1.0) or min(n_in, n_out) < 2:
        few = min(n_in, n_out)
        lo, hi = intervals.clopper_pearson(value * few, few, confidence)
        return intervals.Estimate(value, float(lo), float(hi))
    of_members = (placed.members_below + placed.members_up_to) / (2 * n_out)
    of_nonmembers = (placed.nonmembers_below + placed.nonmembers_up_to) / (2 * n_in)
    variance = of_members.var(ddof=1) / n_in + of_nonmembers.var(ddof=1) / n_out
    margin = special.ndtri(0.5 + confidence / 2) * math.sqrt(variance) / (value * (1 - value))
    logit = special.logit(value)
    return intervals.Estimate(
        value, float(special.expit(logit - margin)), float(special.expit(logit + margin))
    )


def ppv(tpr: ArrayLike, fpr: float, prior: float) -> Floats:
    """Positive predictive value: share of true members among those an attack names.

    Args:
        tpr: true-positive rate.
        fpr: false-positive rate of new non-members, greater than 0.
        prior: share of members among the samples that the attacker looks at.
    """
    named = prior * np.asarray(tpr, np.float64)
    return np.asarray(named / (named + (1 - prior) * fpr))


def evaluate(
    scores: ArrayLike,
    member: ArrayLike,
    valid: ArrayLike | None = None,
    threshold: float | None = None,
    confidence: float = 0.95,
    fprs: Sequence[float] = FPRS,
) -> dict[str, float | int | bool]:
    """All metrics of one attack on one target: the columns of a row of tables/metrics.parquet.

    Args:
        scores: (n,) higher means more likely a member.
        member: (n,) bool.
        valid: (n,) bool, False for the reserve; None: all count.
        threshold: the shadow-calibrated threshold; None leaves its columns NaN.
        confidence: of every interval (columns ending in _lo and _hi).
        fprs: false-positive rates for the tpr_at_fpr_ columns.

    Raises:
        InputError: see :func:`rank`.
    """
    return evaluate_ranked(rank(scores, member, valid), threshold, confidence, fprs)


def evaluate_ranked(
    ranked: Ranked,
    threshold: float | None = None,
    confidence: float = 0.95,
    fprs: Sequence[float] = FPRS,
) -> dict[str, float | int | bool]:
    """:func:`evaluate` of scores that are sorted already (ROC points may share the sort)."""
    placed = placements(ranked)
    area = auc_interval(placed, confidence)
    row: dict[str, float | int | bool] = {
        "n_members": len(ranked.members),
        "n_nonmembers": len(ranked.nonmembers),
    }
    row |= _named("auc", area)
    row |= _at_threshold(ranked, threshold, confidence)
    row |= _best_threshold(ranked, placed, confidence)
    for fpr in fprs:
        row |= _tpr_columns(ranked, fpr, confidence)
    for recall in RECALLS:
        row |= _precision_at_recall(ranked, recall, confidence)
    row |= _predictive_values(ranked, confidence)
    return row


def _named(name: str, estimate: intervals.Estimate) -> dict[str, float]:
    """Spread an estimate over the columns name, name_lo, name_hi."""
    value, lo, hi = (float(part) for part in estimate)
    return {name: value, f"{name}_lo": lo, f"{name}_hi": hi}


def _share(k: int, n: int, confidence: float) -> intervals.Estimate:
    lo, hi = intervals.clopper_pearson(k, n, confidence)
    return intervals.Estimate(k / n if n else math.nan, float(lo), float(hi))


def _weighted_sum(
    first: intervals.Estimate, second: intervals.Estimate, weight: float
) -> intervals.Estimate:
    """Estimate of weight * first + (1 - weight) * second, two independent shares."""
    value = weight * first.value + (1 - weight) * second.value
    lows = [weight * (first.value - first.lo), (1 - weight) * (second.value - second.lo)]
    highs = [weight * (first.hi - first.value), (1 - weight) * (second.hi - second.value)]
    return intervals.Estimate(value, *intervals.combine(value, lows, highs))


def _at_threshold(ranked: Ranked, threshold: float | None, confidence: float) -> dict[str, float]:
    """Columns of the decision at the shadow-calibrated threshold; NaN without one.

    Precision is NaN where the attack names nobody.
    """
    names = ("balanced_accuracy", "accuracy", "precision", "recall", "false_positive_rate")
    if threshold is None or math.isnan(threshold):
        empty = intervals.Estimate(math.nan, math.nan, math.nan)
        return {key: value for name in names for key, value in _named(name, empty).items()} | {
            "threshold": math.nan
        }
    n_in, n_out = len(ranked.members), len(ranked.nonmembers)
    hits, alarms = int(above(ranked.members, threshold)), int(above(ranked.nonmembers, threshold))
    recall = _share(hits, n_in, confidence)
    specificity = _share(n_out - alarms, n_out, confidence)
    estimates = (
        _weighted_sum(recall, specificity, 0.5),
        _weighted_sum(recall, specificity, n_in / (n_in + n_out)),
        _share(hits, hits + alarms, confidence),
        recall,
        _share(alarms, n_out, confidence),
    )
    columns: dict[str, float] = {}
    for name, estimate in zip(names, estimates, strict=True):
        columns |= _named(name, estimate)
    return columns | {"threshold": float(threshold)}


def _best_threshold(ranked: Ranked, placed: Placements, confidence: float) -> dict[str, float]:
    """Both accuracies at the thresholds that the target's own labels favour: upper bounds.

    Every useful cut lies at a non-member's score, from which raising it loses members only, or
    below all scores. Each accuracy has the cut that is best for it.
    """
    n_in, n_out = len(ranked.members), len(ranked.nonmembers)
    hits = np.append(n_in - placed.nonmembers_up_to, n_in)
    alarms = np.append(above(ranked.nonmembers, ranked.nonmembers), n_out)
    columns: dict[str, float] = {}
    for name, weight in (("balanced_accuracy", 0.5), ("accuracy", n_in / (n_in + n_out))):
        right = weight * hits / n_in + (1 - weight) * (1 - alarms / n_out)
        best = int(np.argmax(right))
        estimate = _weighted_sum(
            _share(int(hits[best]), n_in, confidence),
            _share(n_out - int(alarms[best]), n_out, confidence),
            weight,
        )
        columns |= _named(f"{name}_best", estimate)
    return columns


def _tpr_columns(ranked: Ranked, fpr: float, confidence: float) -> dict[str, float | int | bool]:
    """Columns of the true-positive rate at one false-positive rate.

    _lo and _hi are the exact binomial limits of the members at the threshold taken as given.
    _joint_lo and _joint_hi also cover that the threshold is itself estimated from the
    non-members: under the null, where both errors weigh the same, the former hold the nominal
    rate in about 84% of cases and the latter in 95%.
    """
    name = f"tpr_at_fpr_{fpr:g}"
    found = ranked_tpr_at_fpr(ranked, fpr)
    n_in = len(ranked.members)
    estimate = _share(round(found.tpr * n_in), n_in, confidence)
    low, high = _threshold_limits(ranked, fpr, confidence)
    joint = intervals.combine(
        estimate.value,
        [estimate.value - estimate.lo, max(0.0, estimate.value - low)],
        [estimate.hi - estimate.value, max(0.0, high - estimate.value)],
    )
    return {
        **_named(name, estimate),
        f"{name}_resolved": found.resolved,
        f"{name}_false_positives_allowed": found.false_positives_allowed,
        f"{name}_false_positives": int(above(ranked.nonmembers, found.threshold)),
        f"{name}_threshold": found.threshold,
        f"{name}_joint_lo": max(0.0, joint[0]),
        f"{name}_joint_hi": min(1.0, joint[1]),
    }


def _threshold_limits(ranked: Ranked, fpr: float, confidence: float) -> tuple[float, float]:
    """TPR at the limits of the threshold: the interval of a quantile by order statistics.

    The number of non-members above the true threshold is Binomial(n_out, fpr), so the truth
    lies between the scores whose ranks are that distribution's quantiles.
    """
    n_out, tail = len(ranked.nonmembers), (1 - confidence) / 2
    few = intervals.binomial_quantile(tail, n_out, fpr)
    many = intervals.binomial_quantile(1 - tail, n_out, fpr)
    # No score is the 0-th largest: the true threshold may lie above everything.
    strict = math.inf if few == 0 else float(thresholds_at(ranked.nonmembers, few - 1))
    loose = float(thresholds_at(ranked.nonmembers, many))
    low, high = above(ranked.members, [strict, loose]) / len(ranked.members)
    return float(low), float(high)


def _precision_at_recall(ranked: Ranked, recall: float, confidence: float) -> dict[str, float]:
    """Precision where just enough are named to find the share ``recall`` of the members.

    Scores that tie with the last member needed are all named.
    """
    needed = max(1, math.ceil(recall * len(ranked.members) - 1e-9))
    least = ranked.members[-needed]
    hits = len(ranked.members) - int(np.searchsorted(ranked.members, least, side="left"))
    alarms = len(ranked.nonmembers) - int(np.searchsorted(ranked.nonmembers, least, side="left"))
    return _named(f"precision_at_recall_{recall:g}", _share(hits, hits + alarms, confidence))


def _predictive_values(ranked: Ranked, confidence: float) -> dict[str, float]:
    """Predictive values at FPR 0.1% under several priors; limits follow from those of the TPR.

    They are about new candidates: of new non-members the share (k + 1) / (n_out + 1) is expected
    above the (k + 1)-th largest of n_out scores. With the nominal rate instead, an attack that
    knows nothing would seem to do better than the prior (87% at 50% with 150 non-members).
    """
    found = ranked_tpr_at_fpr(ranked, PPV_FPR)
    n_in = len(ranked.members)
    fpr = (found.false_positives_allowed + 1) / (len(ranked.nonmembers) + 1)
    estimate = _share(round(found.tpr * n_in), n_in, confidence)
    columns: dict[str, float] = {}
    for prior in PRIORS:
        values = ppv(estimate, fpr, prior)
        columns |= _named(f"ppv_at_prior_{prior:g}", intervals.Estimate(*values))
    return columns
