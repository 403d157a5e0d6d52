"""Runs an attack over pools of models: all targets at once, and the calibration of thresholds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miagap.attacks.base import AttackSpec
from miagap.attacks.problem import Problem, Task
from miagap.attacks.registry import ATTACKS
from miagap.attacks.threshold import best_threshold
from miagap.errors import InputError
from miagap.signals import Signals


def score_targets(
    targets: Signals,
    shadows: Signals,
    spec: AttackSpec,
    reserve: np.ndarray,
    rng_seed: int,
) -> np.ndarray:
    """Attack every target with the shadow models of other pairs.

    A target's shadow models are all ``shadows`` whose pair of splits differs from the target's,
    whatever their seed. So passing one pool twice is leave-one-out without the twin; targets
    need not be in the pool (fixed-split, cross-technique attacker).

    Args:
        targets: T models over n samples. Their membership is not used.
        shadows: the attacker's models over the same samples.
        spec: the attack, from ``registry.parse``.
        reserve: bool (n,), samples that no model trains on.
        rng_seed: study seed, from which attacks with chance in them derive their states.

    Returns:
        float64 (T, n), higher = more likely a member. NaN at reserve samples, for attacks
        that need IN models, and, where splits are not paired, at samples that have fewer IN or
        OUT models than are used of all others (:mod:`miagap.attacks.selection`).

    Raises:
        InputError: signals do not fit together, or shadow models are too few.
    """
    return _run(_on_targets(spec.name, targets, shadows, reserve, rng_seed), spec)


def _on_targets(
    name: str, targets: Signals, shadows: Signals, reserve: np.ndarray, rng_seed: int
) -> Problem:
    """Return the attack on every target with the shadow models of other pairs."""
    tasks = tuple(Task(t, (int(pair),)) for t, pair in enumerate(targets.pair))
    return Problem(name, targets, shadows, tasks, reserve, rng_seed)


@dataclass(frozen=True)
class Use:
    """Which shadow models attack a target.

    Attributes:
        models: shadow models of other pairs.
        each: how many IN and how many OUT of them count for each sample; None: all.
        scored: bool (n,), samples outside the reserve that have as many.
    """

    models: int
    each: int | None
    scored: np.ndarray


def shadow_use(targets: Signals, shadows: Signals, reserve: np.ndarray, rng_seed: int) -> list[Use]:
    """Return how each target's shadow models are used, by every attack alike."""
    problem = _on_targets("", targets, shadows, reserve, rng_seed)
    found: dict[int, Use] = {}
    for group in problem.groups():
        use = Use(int(group.kept.size), group.each, problem.usable(group))
        found |= dict.fromkeys(group.tasks.tolist(), use)
    return [found[t] for t in range(targets.models)]


def _run(problem: Problem, spec: AttackSpec) -> np.ndarray:
    """Score a problem's tasks, float64 (tasks, n); NaN where a sample has too few models."""
    scores = ATTACKS[spec.method].function(problem, spec.parameters)
    for group in problem.groups():
        if group.each is not None:
            poor = problem.used & ~problem.usable(group)
            scores[np.ix_(group.tasks, np.flatnonzero(poor))] = np.nan
    return scores


@dataclass(frozen=True)
class Calibration:
    """Scores of shadow models attacked in a target's stead.

    Attributes:
        pair: the targets' pair of splits that was kept out.
        models: int64 (K,), indices among the shadow models.
        scores: float64 (K, n).
        member: bool (K, n), membership of these shadow models.
    """

    pair: int
    models: np.ndarray
    scores: np.ndarray
    member: np.ndarray


def calibration_scores(
    targets: Signals,
    shadows: Signals,
    spec: AttackSpec,
    reserve: np.ndarray,
    rng_seed: int,
    count: int = 2,
) -> list[Calibration]:
    """Attack ``count`` shadow models in the stead of each target.

    Each is attacked with the shadow models that belong neither to its own pair nor to the
    target's, so nothing of the target enters. Targets of one pair share one calibration.

    Args:
        targets, shadows, spec, reserve, rng_seed: as for :func:`score_targets`.
        count: shadow models attacked per pair of targets (config ``calibration_models``).

    Returns:
        one calibration per distinct pair among the targets, in ascending order.

    Raises:
        InputError: signals do not fit together, or shadow models are too few.
    """
    pairs = [int(pair) for pair in np.unique(targets.pair)]
    chosen = [calibration_models(shadows, pair, count) for pair in pairs]
    tasks = tuple(
        Task(int(model), (pair, int(shadows.pair[model])))
        for pair, models in zip(pairs, chosen, strict=True)
        for model in models
    )
    problem = Problem(spec.name, shadows, shadows, tasks, reserve, rng_seed)
    scores = np.split(_run(problem, spec), np.cumsum([len(models) for models in chosen])[:-1])
    return [
        Calibration(pair, models, part, shadows.member[models])
        for pair, models, part in zip(pairs, chosen, scores, strict=True)
    ]


def calibration_models(shadows: Signals, pair: int, count: int) -> np.ndarray:
    """Choose the shadow models to attack in the stead of targets of ``pair``.

    The pairs that follow the target's (cyclically), both splits of a pair together: then every
    sample is once a member and once not, and both use the same shadow models.

    Returns:
        int64 (count,) indices among the shadow models.

    Raises:
        InputError: fewer than ``count`` shadow models belong to other pairs.
    """
    index = np.flatnonzero(shadows.pair != pair)
    if index.size < count:
        raise InputError(
            f"calibration_models: {count} shadow models are wanted and {index.size} belong to "
            "other pairs than the target; lower calibration_models, raise "
            "splits.count or import more models"
        )
    behind = shadows.pair[index] < pair
    order = np.lexsort((shadows.split[index], shadows.seed[index], shadows.pair[index], behind))
    return np.asarray(index[order[:count]])


def threshold_from_calibration(scores: np.ndarray, member: np.ndarray) -> float:
    """Return the threshold t that maximises balanced accuracy of "member iff score > t".

    Args:
        scores: float64, any shape, of calibration models. NaN (no score) is left out.
        member: bool, same shape.
    """
    valid = ~np.isnan(scores)
    return best_threshold(scores[valid], member[valid])


def calibrated_thresholds(
    targets: Signals,
    shadows: Signals,
    spec: AttackSpec,
    reserve: np.ndarray,
    rng_seed: int,
    count: int = 2,
) -> np.ndarray:
    """Return a threshold for every target, from shadow models only: float64 (T,).

    Same arguments as :func:`calibration_scores`. Reserve samples are left out.
    """
    calibrations = calibration_scores(targets, shadows, spec, reserve, rng_seed, count)
    by_pair = {
        c.pair: threshold_from_calibration(c.scores[:, ~reserve], c.member[:, ~reserve])
        for c in calibrations
    }
    return np.array([by_pair[int(pair)] for pair in targets.pair])
