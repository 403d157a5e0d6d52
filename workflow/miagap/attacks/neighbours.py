"""The vulnerability-based attack of Long et al. 2020.

Source: "A Pragmatic Approach to Membership Inferences on Machine Learning Models" (generalised
attack): records with few neighbours in a feature space are vulnerable; only these are attacked,
by a one-sided test of the target's loss against losses of reference models that were not trained
on the record; of all others nothing is guessed.

Features are those of ``references`` shadow models, joined: the activations below the last layer,
as in the paper (``features: penultimate``, which must be measured), or the logits, centred
(``features: logits``, which every study has). The distance is the cosine's. Vulnerable is the
``share`` of samples that lie farthest from their ``neighbours``-th nearest among ``population``
samples (there: an expected number of neighbours below a bound that must be found by hand for each
data set). The test takes the logit-scaled confidence as normal (there: an interpolated empirical
distribution, which ends at the smallest loss seen).

The authors published no code; the numbers of reference models, neighbours and population samples
are ours.

The score is -log p of the test for vulnerable samples and -1 for the rest, below every score
that a guess can have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from miagap.attacks.base import Attack, Parameter, measured_signal, require_logits
from miagap.attacks.problem import Problem, chunks
from miagap.attacks.references import out_moments

NO_GUESS = -1.0


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task, float64 (tasks, n); -1 where nothing is guessed."""
    scores = np.empty((len(problem.tasks), problem.shadows.samples))
    selected: dict[tuple[int, ...], np.ndarray] = {}
    for group in problem.groups():
        references = tuple(int(m) for m in group.kept[: parameters["references"]])
        if references not in selected:
            selected[references] = vulnerable(problem, references, parameters)
        moments = out_moments(problem, group)
        phi = problem.targets.phi[group.targets, 0]
        test = -log_ndtr(-(phi - moments.mean) / moments.std)
        scores[group.tasks] = np.where(selected[references], test, NO_GUESS)
    return scores


def vulnerable(
    problem: Problem, references: tuple[int, ...], parameters: Mapping[str, Any]
) -> np.ndarray:
    """Select the samples that lie farthest from their neighbours: bool (n,).

    Exactly ``ceil(share * n)`` samples are selected; equal distances go by sample number.
    """
    features = unit_features(problem, references, parameters)
    rng = problem.generator("neighbours", *references)
    size = min(parameters["population"], len(features))
    population = rng.choice(len(features), size, replace=False)
    distance = neighbour_distance(features, population, parameters["neighbours"])
    count = int(np.ceil(parameters["share"] * len(features)))
    chosen = np.zeros(len(features), dtype=bool)
    chosen[np.argsort(-distance, kind="stable")[:count]] = True
    return chosen


def unit_features(
    problem: Problem, references: tuple[int, ...], parameters: Mapping[str, Any]
) -> np.ndarray:
    """Return the joined features of reference models at unit length: float32 (n, d)."""
    if parameters["features"] == "penultimate":
        _, measured = measured_signal(problem, ATTACK, "features", parameters)
        parts = [measured[m].astype(np.float32) for m in references]
    else:
        require_logits(problem)
        logits = problem.shadows.logits
        assert logits is not None
        parts = [logits[m] - logits[m].mean(axis=1, keepdims=True) for m in references]
    joined = np.concatenate(parts, axis=1)
    length = np.linalg.norm(joined, axis=1, keepdims=True)
    return np.asarray(joined / np.maximum(length, 1e-30), dtype=np.float32)


def neighbour_distance(features: np.ndarray, population: np.ndarray, neighbours: int) -> np.ndarray:
    """Return each sample's cosine distance to its k-th nearest in the population, itself aside.

    Args:
        features: float32 (n, d) of unit length.
        population: int64 (p,) sample numbers, distinct.
        neighbours: k >= 1; at most the population's size without the sample itself.
    """
    distance = np.empty(len(features))
    others = features[population]
    place = np.full(len(features), -1)
    place[population] = np.arange(population.size)
    nearest = min(neighbours, max(population.size - 1, 1))
    for part in chunks(len(features), max(64, (32 << 20) // (4 * population.size))):
        cosine = features[part] @ others.T
        own = place[part]
        cosine[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        cosine.partition(population.size - nearest, axis=1)
        distance[part] = 1.0 - cosine[:, population.size - nearest]
    return distance


ATTACK = Attack(
    method="long",
    family="vulnerability-based",
    source="Long et al. 2020, A Pragmatic Approach to Membership Inferences",
    access="logits of the target; shadow models, their features with `features: penultimate`",
    needs=frozenset({"phi"}),
    needs_if={
        ("features", "logits"): frozenset({"logits"}),
        ("features", "penultimate"): frozenset({"features"}),
    },
    function=score,
    parameters={
        "features": Parameter(
            "choice",
            "logits",
            "what distances are taken in",
            choices=("logits", "penultimate"),
        ),
        "references": Parameter("int", 4, "shadow models that give features", minimum=1),
        "neighbours": Parameter("int", 1, "distance to which nearest neighbour", minimum=1),
        "share": Parameter("float", 0.1, "share of samples attacked", minimum=0, maximum=1),
        "population": Parameter("int", 5000, "samples searched for neighbours", minimum=2),
    },
    cost="n x population distances, once for most targets of a pool",
)
