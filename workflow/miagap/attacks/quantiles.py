"""Attacks P, R and D of Ye et al. 2022, "Enhanced Membership Inference Attacks against ML Models".

They ask how small the target's loss is among losses of non-members: the score is -log(alpha),
where alpha is the level at which the hypothesis test just calls the sample a member.

- Attack P compares with losses of population samples under the target (the reserve; without
  one, losses of shadow models on their own non-members).
- Attack R compares with losses of the same sample under reference models not trained on it.
- Attack D compares with losses of the same sample under ``students``: models trained anew to
  give the target's answers (soft labels) on population samples, this one not among them. They
  share the target's randomness as far as its answers show it. Each student learns from a half of
  the population (the reserve; without one the whole pool), drawn without regard to membership,
  two students from complementary halves; a sample is compared with the students that did not
  learn from it. Student 0 and 1, 2 and 3 and so on are such pairs: without a reserve half of the
  students count for each sample.

Few reference values cannot resolve a small alpha, hence ``smoothing``:

- none: alpha is the share of reference losses that are not greater
- linear: k reference losses lie at alpha = 1/(k + 1), ..., k/(k + 1), a loss of 0 at 0 and one of
  1000 at 1, with straight lines between them
- gaussian: a normal fitted to the logit-scaled confidences
- minimum: the smaller threshold of linear and gaussian, that is the larger alpha
- mean: the mean alpha of linear and gaussian

These are the four of the paper's scripts (ml_privacy_meter, research/2022_enhanced_mia), which
for attack P have ``none``. What differs: with ``none``, alpha = 0 is taken as half of the smallest
share that the references resolve, and equal losses count as not greater.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from miagap.attacks.base import Attack, Parameter, measured_signal
from miagap.attacks.problem import Group, Problem, chunks
from miagap.attacks.references import (
    POPULATION_SIZE,
    STD_FLOOR,
    draw_nonmembers,
    group_generator,
    out_moments,
)
from miagap.errors import InputError

TINY = 1e-300
# The loss at which alpha is 1 under linear smoothing.
GREATEST = 1000.0


def level(
    loss: np.ndarray, below: np.ndarray, low: np.ndarray, high: np.ndarray, count: np.ndarray
) -> np.ndarray:
    """Return log alpha under linear smoothing.

    Args:
        loss: the target's losses.
        below: number of reference losses <= loss.
        low: largest reference loss <= loss, 0 if there is none.
        high: smallest reference loss > loss, infinite if there is none.
        count: number of reference losses.
    """
    span = np.where(np.isfinite(high), high, GREATEST) - low
    step = np.where(span > 0, (loss - low) / np.where(span > 0, span, 1.0), 1.0)
    return np.asarray(np.log(np.maximum((below + np.clip(step, 0, 1)) / (count + 1), TINY)))


def empirical_level(below: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return log alpha without smoothing: log of the share of reference losses <= loss."""
    return np.asarray(np.log(np.maximum(below, 0.5) / count))


def _combine(
    smoothing: str,
    loss: np.ndarray,
    below: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    count: np.ndarray,
    z: np.ndarray,
) -> np.ndarray:
    """Return -log alpha under a smoothing; ``z`` are standardised confidences."""
    if smoothing == "none":
        return -empirical_level(below, count)
    if smoothing == "gaussian":
        return np.asarray(-log_ndtr(-z))
    linear = level(loss, below, low, high, count)
    if smoothing == "linear":
        return -linear
    if smoothing == "mean":
        return np.asarray(np.log(2) - np.logaddexp(linear, log_ndtr(-z)))
    return -np.maximum(linear, log_ndtr(-z))


def population_scores(
    loss: np.ndarray,
    phi: np.ndarray,
    reference_loss: np.ndarray,
    reference_phi: np.ndarray,
    smoothing: str,
) -> np.ndarray:
    """Return -log alpha of samples against one population.

    Args:
        loss, phi: float64 (n,), of the samples to score.
        reference_loss, reference_phi: float64 (k,), of the population.
        smoothing: "none", "linear", "gaussian", "minimum" or "mean".
    """
    ordered = np.sort(reference_loss)
    below = np.searchsorted(ordered, loss, side="right")
    padded = np.concatenate(([0.0], ordered, [np.inf]))
    z = (phi - reference_phi.mean()) / max(float(reference_phi.std()), STD_FLOOR)
    count = np.asarray(ordered.size)
    return _combine(smoothing, loss, below, padded[below], padded[below + 1], count, z)


def score_population(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by attack P, float64 (tasks, n)."""
    targets, shadows = problem.targets, problem.shadows
    scores = np.empty((len(problem.tasks), shadows.samples))
    reserve = np.flatnonzero(problem.reserve)
    for group in problem.groups():
        if reserve.size == 0:
            rng = group_generator(problem, group)
            models, samples = draw_nonmembers(problem, group, parameters["population"], rng)
            loss, phi = shadows.loss[models, samples], shadows.phi[models, 0, samples]
        else:
            samples = reserve
        for task, target in zip(group.tasks, group.targets, strict=True):
            if reserve.size:
                loss, phi = targets.loss[target, reserve], targets.phi[target, 0, reserve]
            for rows, chosen in _scopes(problem, samples, parameters["scope"]):
                scores[task, rows] = population_scores(
                    targets.loss[target, rows],
                    targets.phi[target, 0, rows],
                    loss[chosen],
                    phi[chosen],
                    parameters["smoothing"],
                )
    return scores


def _scopes(
    problem: Problem, samples: np.ndarray, scope: str
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (samples to score, population to use), once in all or once per class."""
    every = np.arange(problem.shadows.samples)
    if scope == "global":
        return [(every, np.arange(samples.size))]
    parts = []
    for label in np.unique(problem.labels):
        chosen = np.flatnonzero(problem.labels[samples] == label)
        if chosen.size < 2:
            raise InputError(
                f"attacks.{problem.name}.scope: class {label} has {chosen.size} population "
                "samples, 2 are needed; raise splits.reserve or use scope: global"
            )
        parts.append((every[problem.labels == label], chosen))
    return parts


def score_reference(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by attack R, float64 (tasks, n)."""
    scores = np.empty((len(problem.tasks), problem.shadows.samples))
    for group in problem.groups():
        outside = problem.sides(group)[0].sum(axis=0)
        if outside[problem.usable(group)].min(initial=2) < 2:
            raise InputError(
                f"attacks.{problem.name}: needs at least 2 OUT shadow models of every sample; "
                "raise splits.count"
            )
        scores[group.tasks] = _score_group(problem, group, parameters["smoothing"])
    return scores


def _score_group(problem: Problem, group: Group, smoothing: str) -> np.ndarray:
    """Return attack R's scores of one group's tasks, float64 (K, n)."""
    targets, shadows = problem.targets, problem.shadows
    moments = out_moments(problem, group)
    scores = np.empty((group.tasks.size, shadows.samples))
    for part in chunks(shadows.samples, 8192):
        out, _ = problem.sides(group, part)
        references = _ordered(shadows.loss[group.kept, part], out)
        count = np.maximum(out.sum(axis=0), 1)
        for row, target in enumerate(group.targets):
            loss = targets.loss[target, part]
            z = (targets.phi[target, 0, part] - moments.mean[part]) / moments.std[part]
            scores[row, part] = _against(references, count, loss, z, smoothing)
    return scores


def _ordered(loss: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Sort reference losses (k, n) per sample, those not to be used at the end as infinite."""
    return np.sort(np.where(out, loss, np.inf), axis=0)


def _against(
    references: np.ndarray, count: np.ndarray, loss: np.ndarray, z: np.ndarray, smoothing: str
) -> np.ndarray:
    """Return -log alpha of losses (n,), each against its own references: float64 (n,).

    Args:
        references: float64 (k, n) from :func:`_ordered`.
        count: int64 (n,), how many of them are used.
        loss: float64 (n,), of the target.
        z: float64 (n,), the target's confidence, standardised by the references'.
        smoothing: "none", "linear", "gaussian", "minimum" or "mean".
    """
    below = (references <= loss).sum(axis=0)
    columns = np.arange(loss.size)
    low = np.where(below > 0, references[np.maximum(below - 1, 0), columns], 0.0)
    top = np.minimum(below, len(references) - 1)
    high = np.where(below < len(references), references[top, columns], np.inf)
    return _combine(smoothing, loss, below, low, high, count, z)


def score_distilled(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by attack D, float64 (tasks, n)."""
    students, _ = measured_signal(problem, DISTILLED, "distilled", parameters)
    targets = problem.targets
    scores = np.empty((len(problem.tasks), targets.samples))
    for position, task in enumerate(problem.tasks):
        phi = students[task.target].T.astype(np.float64)
        out = ~np.isnan(phi)
        count = out.sum(axis=0)
        if count[~problem.reserve].min(initial=2) < 2:
            raise InputError(
                f"attacks.{problem.name}: needs at least 2 students that did not learn from a "
                "sample; raise students"
            )
        known = np.where(out, phi, 0.0)
        mean = known.sum(axis=0) / np.maximum(count, 1)
        centred = np.where(out, phi - mean, 0.0)
        std = np.sqrt((centred * centred).sum(axis=0) / np.maximum(count, 1))
        z = (targets.phi[task.target, 0] - mean) / np.maximum(std, STD_FLOOR)
        references = _ordered(np.logaddexp(0.0, -known), out)
        loss = targets.loss[task.target]
        scores[position] = _against(
            references, np.maximum(count, 1), loss, z, parameters["smoothing"]
        )
    return scores


def _smoothing(default: str) -> Parameter:
    return Parameter(
        "choice",
        default,
        "how levels finer than the references resolve are formed",
        choices=("none", "linear", "gaussian", "minimum", "mean"),
    )


POPULATION = Attack(
    method="ye_population",
    family="likelihood ratio",
    source="Ye et al. 2022, Enhanced Membership Inference Attacks, attack P",
    access="loss of the target; a population (reserve), or shadow models",
    needs=frozenset({"loss", "phi", "reserve"}),
    function=score_population,
    parameters={
        "smoothing": _smoothing("linear"),
        "scope": Parameter(
            "choice", "global", "one population, or one per class", choices=("global", "class")
        ),
        "population": POPULATION_SIZE,
    },
    cost="milliseconds per target",
)
REFERENCE = Attack(
    method="ye_reference",
    family="likelihood ratio",
    source="Ye et al. 2022, Enhanced Membership Inference Attacks, attack R",
    access="loss of the target; shadow models (OUT only)",
    needs=frozenset({"loss", "phi"}),
    function=score_reference,
    parameters={"smoothing": _smoothing("minimum")},
    cost="a sort of the reference losses per pair of targets",
    least_models=2,
)
DISTILLED = Attack(
    method="ye_distillation",
    family="likelihood ratio",
    source="Ye et al. 2022, Enhanced Membership Inference Attacks, attack D",
    access="answers of the target to a population (reserve), or to the pool",
    needs=frozenset({"distilled", "loss", "phi"}),
    measured={"distilled": ("students", "epochs")},
    function=score_distilled,
    parameters={
        "students": Parameter("int", 8, "models distilled from each target", minimum=2),
        "epochs": Parameter("int", 0, "epochs of a student's training; 0: the target's", minimum=0),
        "smoothing": _smoothing("minimum"),
    },
    cost="`students` trainings per model",
)
