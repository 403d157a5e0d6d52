"""RMIA: the robust attack of Zarifzadeh et al. 2024, online and offline.

Source: "Low-Cost High-Power Membership Inference Attacks" (ICML 2024). A sample's likelihood ratio
under the target is r(x) = p(x | target) / p(x); the score is the share of population samples z
with r(x) / r(z) >= gamma. It is counted by one sort of the r(z) and a binary search per sample,
not by a matrix of all pairs.

- online: p(x) is the mean of p(x | model) over reference models, IN and OUT weighing the same
- offline: p(x) = ((1 + a) mean over OUT models + (1 - a)) / 2, the paper's linear estimate of
  the IN models from the OUT ones

The population is the reserve, as the target answers it; p(z) is then always the offline estimate,
no model having been trained on z. Without a reserve, z are samples that shadow models were not
trained on, each with r(z) under that shadow model, its pair kept out of p(z) as the target's is
out of p(x). (The authors' scripts take the target's own non-members as z, which an attacker does
not know.)

gamma = 2 and a = 0.3 are what the authors' scripts have for CIFAR-10.

``signal``: softmax, or the sm_taylor that the authors' scripts use on images: the Taylor
polynomial of degree 4 in place of exp, soft margin 0.6, temperature 2.

``queries: majority`` is the authors' way to use several queries: z counts as dominated where
r(x) / r(z) >= gamma at more than half of the queries. It has to look at every pair (x, z), in
blocks. ``queries: mean`` averages the scores of the queries, by sorts. Both need phi only, so
they go with softmax.

``compat`` reproduces public code, with the reserve as population:

- rmia_2024 (the paper's scripts): p(x) is the mean over reference models without the smallest and
  the largest fifth, IN and OUT in one; online p(z) is that mean, offline it is over half of the
  models; r(x) / r(z) must be greater than gamma; ``taylor_n: 4`` gives degree 3 there, which is
  negative below -1.6.
- privacy_meter (the current ml_privacy_meter, offline only; it has gamma = 1, which must be set):
  p(z) is over the half of the models with the largest p(z | model); with one pair of reference
  models p(x) is the mean of both, the IN one corrected by a; r(x) / r(z) must be greater.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from miagap.attacks.base import Attack, Parameter, require_logits
from miagap.attacks.problem import Group, Problem, chunks
from miagap.attacks.references import (
    POPULATION_SIZE,
    Means,
    ReferenceMeans,
    draw_nonmembers,
    group_generator,
)
from miagap.errors import InputError
from miagap.signals import Signals

TAYLOR_DEGREE = {"none": 4, "rmia_2024": 3, "privacy_meter": 4}
SOFT_MARGIN = 0.6
TEMPERATURE = 2.0
TRIMMED = 0.2
TINY = 1e-300
PAIRS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Ratios:
    """Likelihood ratios at one query.

    Attributes:
        samples: float64 (tasks, n), r(x) of every sample.
        population: for each task float64 (k,), r(z); one z has one place at every query.
    """

    samples: np.ndarray
    population: list[np.ndarray]


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task, float64 (tasks, n) in [0, 1].

    Raises:
        InputError: a sample is left without IN (online) or OUT models, or settings do not go
            together.
    """
    _check(problem, parameters)
    several = parameters["queries"] != "first"
    queries = range(problem.shadows.phi.shape[1] if several else 1)
    gamma, strict = parameters["gamma"], parameters["compat"] != "none"
    if parameters["queries"] == "majority":
        found = [_ratios(problem, parameters, query) for query in queries]
        return np.stack(
            [
                majority_share(
                    np.stack([one.samples[task] for one in found]),
                    np.stack([one.population[task] for one in found]),
                    gamma,
                    strict,
                )
                for task in range(len(problem.tasks))
            ]
        )
    total = np.zeros((len(problem.tasks), problem.shadows.samples))
    for query in queries:
        one = _ratios(problem, parameters, query)
        for task, population in enumerate(one.population):
            ordered = np.sort(population)
            total[task] += dominated_share(one.samples[task], ordered, gamma, strict)
    return total / len(queries)


def _check(problem: Problem, parameters: Mapping[str, Any]) -> None:
    """Raise InputError unless the settings go together and the problem has what they need."""
    name = f"attacks.{problem.name}"
    if parameters["signal"] == "sm_taylor":
        require_logits(problem)
        if parameters["queries"] != "first" and problem.shadows.phi.shape[1] > 1:
            raise InputError(
                f"{name}.queries: logits exist of the first query only; "
                "use queries: first with signal: sm_taylor"
            )
    if parameters["compat"] != "none" and not problem.reserve.any():
        raise InputError(f"{name}.compat: needs a population; raise splits.reserve")
    if parameters["compat"] == "privacy_meter" and parameters["online"]:
        raise InputError(f"{name}.compat: privacy_meter is offline only; set online: false")


def _ratios(problem: Problem, parameters: Mapping[str, Any], query: int) -> Ratios:
    """Return the likelihood ratios of samples and population at one query."""
    shadows = problem.shadows
    p_shadow = _probabilities(shadows, parameters, query)
    same = problem.targets is shadows
    p_target = p_shadow if same else _probabilities(problem.targets, parameters, query)
    compat = parameters["compat"] != "none"
    references = None if compat else ReferenceMeans(problem, p_shadow)
    reserve = np.flatnonzero(problem.reserve)
    ratios = np.empty((len(problem.tasks), shadows.samples))
    population = [np.empty(0)] * len(problem.tasks)
    for group in problem.groups():
        if references is None:
            marginal = public_marginal(problem, group, p_shadow, parameters)
        else:
            marginal = _marginal(references.means(group), parameters)
        if np.isnan(marginal[problem.usable(group)]).any():
            raise InputError(
                f"attacks.{problem.name}: needs an OUT (online: and an IN) shadow model of every "
                "sample; raise splits.count"
            )
        # Public code may have p(x) < 0; ours is greater than 0 but for rounding.
        below = marginal if compat else np.maximum(marginal, TINY)
        ratios[group.tasks] = p_target[group.targets] / below
        drawn = np.empty(0)
        if references is not None and reserve.size == 0:
            drawn = _drawn_ratios(problem, group, p_shadow, references, parameters)
        for task in group.tasks:
            population[task] = ratios[task, reserve] if reserve.size else drawn
    return Ratios(ratios, population)


def _drawn_ratios(
    problem: Problem,
    group: Group,
    p_shadow: np.ndarray,
    references: ReferenceMeans,
    parameters: Mapping[str, Any],
) -> np.ndarray:
    """Return r(z) of samples z under shadow models not trained on them: float64 (k,).

    The draws are the same at every query.
    """
    rng = group_generator(problem, group)
    models, samples = draw_nonmembers(problem, group, parameters["population"], rng)
    marginal = _marginal(references.means_at(group, models, samples), parameters)
    ratios = p_shadow[models, samples] / np.maximum(marginal, TINY)
    known = ratios[np.isfinite(ratios)]
    if known.size == 0:
        raise InputError(
            f"attacks.{problem.name}: no shadow model of another pair is left to weigh shadow "
            "models' non-members with; raise splits.count"
        )
    return np.asarray(known)


def dominated_share(
    ratio: np.ndarray, ordered: np.ndarray, gamma: float, strict: bool = False
) -> np.ndarray:
    """Return the share of population ratios z with ratio / z >= gamma.

    Args:
        ratio: float64 (n,), likelihood ratios of the samples.
        ordered: float64 (k,), likelihood ratios of the population, ascending.
        gamma: how much greater the ratio must be.
        strict: ratio / z must be greater than gamma; z may be negative, as public code has it.
    """
    least = ratio / gamma
    if not strict:
        return np.searchsorted(ordered, least, side="right") / ordered.size
    negative = int(np.searchsorted(ordered, 0.0))
    below = np.searchsorted(ordered[negative:], least, side="left")
    above = negative - np.searchsorted(ordered[:negative], least, side="right")
    return (below + above) / ordered.size


def majority_share(
    ratios: np.ndarray, population: np.ndarray, gamma: float, strict: bool = False
) -> np.ndarray:
    """Return the share of population samples dominated at more than half of the queries.

    Args:
        ratios: float64 (Q, n), likelihood ratios of the samples.
        population: float64 (Q, k), likelihood ratios of the population.
        gamma, strict: as for :func:`dominated_share`.
    """
    queries, size = population.shape
    share = np.empty(ratios.shape[1])
    for part in chunks(ratios.shape[1], max(1, PAIRS_AT_ONCE // size)):
        votes = np.zeros((ratios[0, part].size, size), dtype=np.int16)
        for own, z in zip(ratios[:, part] / gamma, population, strict=True):
            if strict:
                votes += (own[:, None] > z) ^ (z < 0)
            else:
                votes += own[:, None] >= z
        share[part] = (2 * votes > queries).mean(axis=1)
    return share


def _marginal(means: Means, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return p(x): the mean of IN and OUT means, or the offline estimate where IN is absent."""
    offline = _offline(means.outside, parameters["a"])
    if not parameters["online"]:
        return offline
    both = 0.5 * (means.inside + means.outside)
    return np.where(np.isnan(means.inside), offline, both)


def _offline(outside: np.ndarray, a: float) -> np.ndarray:
    """Return p(x) estimated from the mean over OUT models."""
    return np.asarray(0.5 * ((1 + a) * outside + (1 - a)))


def public_marginal(
    problem: Problem, group: Group, p_shadow: np.ndarray, parameters: Mapping[str, Any]
) -> np.ndarray:
    """Return p(x) as the public code of ``compat`` forms it, float64 (n,).

    Args:
        problem: what to attack.
        group: one of its groups.
        p_shadow: float64 (M, n), p(x | model) of the shadow models.
        parameters: of the attack.
    """
    p, a = p_shadow[group.kept], parameters["a"]
    outside, inside = problem.sides(group)
    half = group.kept.size // 2
    if parameters["compat"] == "rmia_2024":
        if parameters["online"]:
            return trimmed_mean(p, outside | inside)
        # Half of the models stand for OUT there, of z (OUT of all) as of x.
        outside = outside & ~(problem.reserve & (np.arange(len(p)) >= half)[:, None])
        return _offline(trimmed_mean(p, outside), a)
    if half <= 1:
        slope = a if a != 0 else 0.3
        corrected = np.where(inside, (p - 1 + slope) / slope, p)
        return _offline(corrected.mean(axis=0), a)
    count = half if group.each is None else group.each
    largest = -np.sort(-(p * outside), axis=0)[:count]
    return _offline(largest.mean(axis=0), a)


def trimmed_mean(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the mean of each column's chosen values without the extreme fifths: float64 (n,).

    Args:
        values: float64 (m, n).
        chosen: bool (m, n). A column without any gives NaN.
    """
    ordered = np.sort(np.where(chosen, values, np.inf), axis=0)
    count = chosen.sum(axis=0)
    cut = (TRIMMED * count).astype(np.int64)
    row = np.arange(len(values))[:, None]
    middle = (row >= cut) & (row < count - cut)
    kept = middle.sum(axis=0)
    total = np.where(middle, ordered, 0.0).sum(axis=0)
    return np.where(kept > 0, total / np.maximum(kept, 1), np.nan)


def _probabilities(signals: Signals, parameters: Mapping[str, Any], query: int) -> np.ndarray:
    """Return p(x | model) of the true class: float64 (M, n)."""
    if parameters["signal"] == "softmax":
        return np.asarray(expit(signals.phi[:, query]))
    assert signals.logits is not None
    degree = TAYLOR_DEGREE[parameters["compat"]]
    return np.stack([sm_taylor(logits, signals.labels, degree) for logits in signals.logits])


def sm_taylor(logits: np.ndarray, labels: np.ndarray, degree: int = 4) -> np.ndarray:
    """Return the soft-margin Taylor softmax of the true class, float64 (n,).

    Args:
        logits: float32 (n, C).
        labels: int64 (n,).
        degree: of the polynomial in place of exp; even ones are positive everywhere.
    """
    scaled = logits.astype(np.float64) / TEMPERATURE
    rows = np.arange(labels.size)
    terms = _taylor(scaled, degree)
    own = _taylor(scaled[rows, labels] - SOFT_MARGIN, degree)
    return np.asarray(own / (own + terms.sum(axis=1) - terms[rows, labels]))


def _taylor(x: np.ndarray, degree: int) -> np.ndarray:
    """Return the Taylor polynomial of exp."""
    coefficients = [1.0 / math.factorial(k) for k in range(degree + 1)]
    return np.asarray(np.polynomial.polynomial.polyval(x, coefficients))


ATTACK = Attack(
    method="rmia",
    family="likelihood ratio",
    source="Zarifzadeh et al. 2024, Low-Cost High-Power Membership Inference Attacks",
    access="logits of the target; shadow models; a population (reserve), or shadow models' OUT",
    needs=frozenset({"phi", "reserve"}),
    needs_if={("signal", "sm_taylor"): frozenset({"logits"})},
    function=score,
    parameters={
        "online": Parameter("bool", True, "use IN and OUT reference models; false: OUT only"),
        "gamma": Parameter(
            "float", 2.0, "a population sample is dominated at this ratio", minimum=1e-6
        ),
        "a": Parameter(
            "float", 0.3, "offline estimate of p(x) from OUT models", minimum=0, maximum=1
        ),
        "signal": Parameter("choice", "softmax", "p(x | model)", choices=("softmax", "sm_taylor")),
        "queries": Parameter(
            "choice",
            "first",
            "the first query, a majority vote of all, or the mean score of all",
            choices=("first", "majority", "mean"),
        ),
        "population": POPULATION_SIZE,
        "compat": Parameter(
            "choice",
            "none",
            "reproduce public code",
            choices=("none", "rmia_2024", "privacy_meter"),
        ),
    },
    cost="a sort per target; with `queries: majority` n x population comparisons per query",
    least_pairs=2,  # shadow models' non-members are asked without that model's own pair
)
