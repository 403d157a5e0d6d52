"""Threshold attacks: one number per sample from the target's own answer.

Sources: correctness, the gap attack (Yeom et al. 2018; Leino & Fredrikson 2020); loss (Yeom et
al. 2018); confidence, entropy and modified entropy, global or per class (Song & Mittal 2021,
"Systematic Evaluation of Privacy Risks of Machine Learning Models", whose Eq. 8 is the modified
entropy).

``scope: global`` scores by the statistic itself. ``scope: class`` subtracts, for each class, the
threshold that separates members best (balanced accuracy) on the shadow models, so that one
threshold at zero stands for all the classes' thresholds and scores of different classes compare.
Loss and confidence rank a target's samples alike (confidence is exp(-loss)) up to rounding:
probabilities within 1e-16 of 1 tie.

What differs from the public code of Song & Mittal: it calls "member" what is at least as great as
the best of the shadow models' values, ours what exceeds the middle between that value and the
next smaller one; of several that are equally good it takes the first, ours is the lowest. It takes
logarithms of probabilities, which it raises to 1e-30, and of 1 - p as rounded; ours are formed
from logits. Yeom et al. set their threshold at the mean training loss; ours are calibrated on
shadow models, and scores need none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from miagap.attacks import posteriors
from miagap.attacks.base import Attack, Parameter, require_logits
from miagap.attacks.problem import Group, Problem
from miagap.signals import Signals


def correctness(signals: Signals, model: int) -> np.ndarray:
    """Return 1.0 where the model's most likely class is the true one, else 0.0: float64 (n,)."""
    return (_logits(signals, model).argmax(axis=1) == signals.labels).astype(np.float64)


def negative_loss(signals: Signals, model: int) -> np.ndarray:
    """Return minus the cross-entropy: float64 (n,)."""
    return -signals.loss[model]


def confidence(signals: Signals, model: int) -> np.ndarray:
    """Return the probability of the true class: float64 (n,)."""
    return np.asarray(np.exp(-signals.loss[model]))


def negative_entropy(signals: Signals, model: int) -> np.ndarray:
    """Return minus the prediction's entropy, in nats: float64 (n,)."""
    return posteriors.negative_entropy(_logits(signals, model))


def negative_modified_entropy(signals: Signals, model: int) -> np.ndarray:
    """Return minus the modified entropy of Song & Mittal 2021: float64 (n,)."""
    return posteriors.negative_modified_entropy(_logits(signals, model), signals.labels)


def _logits(signals: Signals, model: int) -> np.ndarray:
    """Return the logits of one model, float32 (n, C)."""
    assert signals.logits is not None
    return signals.logits[model]


STATISTICS: dict[str, Callable[[Signals, int], np.ndarray]] = {
    "loss": negative_loss,
    "confidence": confidence,
    "entropy": negative_entropy,
    "modified_entropy": negative_modified_entropy,
    "correctness": correctness,
}
NEED_LOGITS = ("entropy", "modified_entropy", "correctness")


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by a statistic of the target's answer, float64 (tasks, n)."""
    statistic = parameters["statistic"]
    if statistic in NEED_LOGITS:
        require_logits(problem)
    function = STATISTICS[statistic]
    targets, shadows = problem.targets, problem.shadows
    if parameters["scope"] == "global":
        return np.stack([function(targets, task.target) for task in problem.tasks])
    shadow = np.stack([function(shadows, model) for model in range(shadows.models)])
    scores = np.empty((len(problem.tasks), shadows.samples))
    for position, task in enumerate(problem.tasks):
        known = targets is shadows
        scores[position] = shadow[task.target] if known else function(targets, task.target)
    groups = list(problem.groups())
    thresholds = class_thresholds(problem, groups, shadow)
    for group, own in zip(groups, thresholds, strict=True):
        scores[group.tasks] -= own[problem.labels]
    return scores


def class_thresholds(problem: Problem, groups: Sequence[Group], shadow: np.ndarray) -> np.ndarray:
    """Return each class's threshold, calibrated on each group's shadow models.

    A class's statistics are sorted once for all groups. A class without members or without
    non-members gets the threshold of all classes together.

    Args:
        problem: gives labels and memberships.
        groups: of the problem.
        shadow: float64 (M, n), the statistic under every shadow model.

    Returns:
        float64 (groups, classes).
    """
    used = np.flatnonzero(problem.used)
    thresholds = np.full((len(groups), int(problem.labels.max()) + 1), np.nan)
    for label in np.unique(problem.labels[used]):
        columns = used[problem.labels[used] == label]
        thresholds[:, label] = _thresholds(problem, groups, shadow, columns)
    for number, own in enumerate(thresholds):
        if np.isnan(own).any():
            own[np.isnan(own)] = _thresholds(problem, [groups[number]], shadow, used)[0]
    return thresholds


def _thresholds(
    problem: Problem, groups: Sequence[Group], shadow: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Return each group's threshold for some samples, (groups,); NaN where one side is empty."""
    values = shadow[:, columns].ravel()
    order = np.argsort(values)  # equal scores are one step, whatever their order
    values = values[order]
    found = np.full(len(groups), np.nan)
    for number, group in enumerate(groups):
        sides = np.zeros((2, len(shadow), columns.size), dtype=bool)
        for side, one in zip(sides, problem.sides(group, columns), strict=True):
            side[group.kept] = one
        outside, inside = (side.ravel()[order] for side in sides)
        counted = outside | inside
        if outside.any() and inside.any():
            found[number] = _best_of_ordered(values[counted], inside[counted])
    return found


def best_threshold(scores: np.ndarray, member: np.ndarray) -> float:
    """Return the threshold t that maximises balanced accuracy of "member iff score > t".

    t lies midway between neighbouring distinct scores, so that a score equal to none of the
    calibration scores is decided by the nearer side; with several best ones, the lowest. Calling
    everything a member is not considered; calling nothing one (t = the highest score) is.

    Args:
        scores: float64 (k,).
        member: bool (k,), with both values present.
    """
    order = np.argsort(scores)  # equal scores are one step, whatever their order
    return _best_of_ordered(scores[order], member[order])


def _best_of_ordered(ordered: np.ndarray, inside: np.ndarray) -> float:
    """Return :func:`best_threshold` of ascending scores."""
    members = int(inside.sum())
    outsiders = len(inside) - members
    # After position i: scores up to i are called non-members.
    true_positive = 1.0 - np.cumsum(inside) / members
    true_negative = np.cumsum(~inside) / outsiders
    boundary = np.append(ordered[1:] > ordered[:-1], True)
    balanced = np.where(boundary, true_positive + true_negative, -np.inf)
    best = int(np.argmax(balanced))
    if best == len(ordered) - 1:
        return float(ordered[best])
    low, high = float(ordered[best]), float(ordered[best + 1])
    middle = low + (high - low) / 2
    return middle if low <= middle < high else low


ATTACK = Attack(
    method="threshold",
    family="threshold-based",
    source="Yeom et al. 2018; Leino & Fredrikson 2020; Song & Mittal 2021",
    access="logits of the target; shadow models for thresholds only",
    needs=frozenset({"loss"}),
    needs_if={("statistic", name): frozenset({"logits"}) for name in NEED_LOGITS},
    function=score,
    parameters={
        "statistic": Parameter(
            "choice", "loss", "what is compared to the threshold", choices=tuple(STATISTICS)
        ),
        "scope": Parameter(
            "choice",
            "global",
            "one threshold, or one per class set on shadow models",
            choices=("global", "class"),
        ),
    },
    cost="milliseconds per target; per class: a sort of the shadow models' statistics",
)
