"""Points of the ROC curve: every false positive where they are few, sparse where many."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from miagap import metrics

Points = dict[str, NDArray[np.int64] | NDArray[np.float64]]


def counts_grid(n: int, exact: int = 100, per_decade: int = 50) -> NDArray[np.int64]:
    """Counts 0, 1, 2, ... up to ``exact``, then log-spaced, up to and including ``n``."""
    first = np.arange(min(n, exact) + 1)
    if n <= exact:
        return first
    steps = int(np.ceil(np.log10(n / exact) * per_decade)) + 1
    rest = np.round(np.geomspace(exact, n, steps)).astype(np.int64)
    return np.unique(np.concatenate([first, rest]))


def points(scores: ArrayLike, member: ArrayLike, valid: ArrayLike | None = None) -> Points:
    """ROC points of one attack on one target.

    Args:
        scores: (n,) higher means more likely a member.
        member: (n,) bool.
        valid: (n,) bool, False for the reserve.

    Returns:
        Arrays of one length (about 230 for 30,000 non-members): false_positives int64 (how
        many the attacker is allowed), fpr = false_positives / n_out, tpr and threshold
        float64. tpr follows the rule of :func:`metrics.tpr_at_fpr`, ties against the attacker;
        the last point, where all pass, is (1, 1) with threshold -inf.
    """
    return points_ranked(metrics.rank(scores, member, valid))


def points_ranked(ranked: metrics.Ranked, fprs: Sequence[float] = metrics.FPRS) -> Points:
    """:func:`points` of scores that are sorted already.

    The rates ``fprs`` of the metrics table are always among the points.
    """
    n_out = len(ranked.nonmembers)
    named = [metrics.false_positives_allowed(fpr, n_out) for fpr in fprs]
    allowed = np.union1d(counts_grid(n_out), np.asarray(named, np.int64))
    thresholds = metrics.thresholds_at(ranked.nonmembers, allowed)
    tpr = metrics.above(ranked.members, thresholds) / len(ranked.members)
    tpr[-1] = 1.0
    return {
        "false_positives": allowed,
        "fpr": allowed / n_out,
        "tpr": tpr,
        "threshold": thresholds,
    }
