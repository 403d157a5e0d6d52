"""RMIA: the robust attack of Zarifzadeh et al. 2024, online and offline.

Source: "Low-Cost High-Power Membership Inference Attacks". A sample's likelihood ratio under the
target is r(x) = p(x | target) / p(x); the score is the share of population samples z with
r(x) / r(z) >= gamma. It is counted by one sort of the r(z) and a binary search per sample, not by
a matrix of all pairs.

- online: p(x) is the mean of p(x | model) over reference models, IN and OUT weighing the same
- offline: p(x) = ((1 + a) mean over OUT models + (1 - a)) / 2, the paper's linear estimate of
  the IN models from the OUT ones

The population is the reserve, as the target answers it; p(z) is then always the offline estimate,
no model having been trained on z. Without a reserve, z are samples that shadow models were not
trained on, each with r(z) under that shadow model, its pair kept out of p(z) as the target's is
out of p(x).

``signal``: softmax, or the paper's sm_taylor (a Taylor polynomial of order 4 in place of exp, soft
margin 0.6, temperature 2: the paper's values for CIFAR-10). ``queries: mean`` averages the scores
over the study's queries (softmax only); the paper takes a majority vote.

What differs from the public code (privacytrustlab/ml_privacy_meter): it has gamma = 1, and p(z)
is the mean over the half of the reference models with the largest p(z | model); ours is over all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import expit

from miagap.attacks.base import Attack, Parameter, require_logits
from miagap.attacks.problem import Problem
from miagap.attacks.references import (
    Means,
    ReferenceMeans,
    draw_nonmembers,
    group_generator,
)
from miagap.errors import InputError
from miagap.signals import Signals

TAYLOR_ORDER = 4
SOFT_MARGIN = 0.6
TEMPERATURE = 2.0
TINY = 1e-300


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task, float64 (tasks, n) in [0, 1].

    Raises:
        InputError: a sample is left without IN (online) or OUT models.
    """
    if parameters["signal"] == "sm_taylor":
        require_logits(problem)
    queries = problem.shadows.phi.shape[1] if parameters["queries"] == "mean" else 1
    if parameters["signal"] == "sm_taylor" and queries > 1:
        raise InputError(
            f"attacks.{problem.name}.queries: logits exist of the first query only; "
            "use queries: first with signal: sm_taylor"
        )
    total = np.zeros((len(problem.tasks), problem.shadows.samples))
    for query in range(queries):
        total += _score_query(problem, parameters, query)
    return total / queries


def _score_query(problem: Problem, parameters: Mapping[str, Any], query: int) -> np.ndarray:
    """Return the scores at one query, float64 (tasks, n)."""
    shadows = problem.shadows
    p_shadow = _probabilities(shadows, parameters["signal"], query)
    same = problem.targets is shadows
    p_target = p_shadow if same else _probabilities(problem.targets, parameters["signal"], query)
    references = ReferenceMeans(problem, p_shadow)
    reserve = np.flatnonzero(problem.reserve)
    scores = np.empty((len(problem.tasks), shadows.samples))
    for group in problem.groups():
        marginal = _marginal(references.means(group), parameters)
        if np.isnan(marginal[problem.usable(group)]).any():
            raise InputError(
                f"attacks.{problem.name}: needs an OUT (online: and an IN) shadow model of every "
                "sample; raise splits.count"
            )
        if reserve.size == 0:
            rng = group_generator(problem, group)
            models, samples = draw_nonmembers(problem, group, parameters["population"], rng)
            at = _marginal(references.means_at(group, models, samples), parameters)
            ratios = p_shadow[models, samples] / np.maximum(at, TINY)
            ordered = np.sort(ratios[np.isfinite(ratios)])
        for task, target in zip(group.tasks, group.targets, strict=True):
            ratio = p_target[target] / np.maximum(marginal, TINY)
            if reserve.size:
                ordered = np.sort(ratio[reserve])
            scores[task] = dominated_share(ratio, ordered, parameters["gamma"])
    return scores


def dominated_share(ratio: np.ndarray, ordered: np.ndarray, gamma: float) -> np.ndarray:
    """Return the share of population ratios z with ratio / z >= gamma.

    Args:
        ratio: float64 (n,), likelihood ratios of the samples.
        ordered: float64 (k,), likelihood ratios of the population, ascending.
    """
    return np.searchsorted(ordered, ratio / gamma, side="right") / ordered.size


def _marginal(means: Means, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return p(x): the mean of IN and OUT means, or the offline estimate where IN is absent."""
    a = parameters["a"]
    offline = 0.5 * ((1 + a) * means.outside + (1 - a))
    if not parameters["online"]:
        return offline
    both = 0.5 * (means.inside + means.outside)
    return np.where(np.isnan(means.inside), offline, both)


def _probabilities(signals: Signals, signal: str, query: int) -> np.ndarray:
    """Return p(x | model) of the true class: float64 (M, n)."""
    if signal == "softmax":
        return np.asarray(expit(signals.phi[:, query]))
    return np.stack([sm_taylor(logits, signals.labels) for logits in _logits(signals)])


def _logits(signals: Signals) -> np.ndarray:
    assert signals.logits is not None
    return signals.logits


def sm_taylor(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the soft-margin Taylor softmax of the true class, float64 (n,).

    Args:
        logits: float32 (n, C).
        labels: int64 (n,).
    """
    scaled = logits.astype(np.float64) / TEMPERATURE
    rows = np.arange(labels.size)
    terms = _taylor(scaled)
    own = _taylor(scaled[rows, labels] - SOFT_MARGIN)
    return np.asarray(own / (own + terms.sum(axis=1) - terms[rows, labels]))


def _taylor(x: np.ndarray) -> np.ndarray:
    """Return the Taylor polynomial of exp, positive at an even order."""
    return np.asarray(
        np.polynomial.polynomial.polyval(
            x, [1.0 / math.factorial(k) for k in range(TAYLOR_ORDER + 1)]
        )
    )


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
            "choice", "first", "the first query, or the mean over all", choices=("first", "mean")
        ),
        "population": Parameter(
            "int", 10000, "non-members drawn from shadow models without a reserve", minimum=2
        ),
    },
    cost="a sort per target",
)
