"""Attacks that learn, on shadow models, what the posteriors of members look like.

- ``shokri``: Shokri et al. 2017, "Membership Inference Attacks Against Machine Learning Models":
  one attack network per class, fed with the full posterior, trained on the answers of all shadow
  models on their own members and non-members. One hidden layer of 64 rectified units (the example
  code by one of the authors: softmax regression, or 50 tanh units).
- ``salem_1``: Salem et al. 2019, "ML-Leaks", attack 1: one shadow model, one attack network for
  all classes, fed with the three largest posteriors in descending order. One hidden layer of 64
  units; the authors' public script asks for 64 but builds a softmax regression (``hidden: 0``).
- ``salem_3``: attack 3: no shadow model, a statistic of the posterior (the largest one, which is
  all that the authors' public script has, the standard deviation, or minus the entropy).

The score is the network's log odds. What differs: inputs are standardised by the shadow models'
mean and deviation, training is Adam in float32 for a fixed number of epochs on ``records`` records
per network, drawn with replacement, as many members as non-members (the ML-Leaks script: 50 epochs
of Adam in batches of 10 on all records, with a weight penalty of 1e-6); ``hidden: 0`` makes it a
logistic regression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from miagap.attacks.base import Attack, Parameter, require_logits
from miagap.attacks.perceptrons import fit
from miagap.attacks.posteriors import negative_entropy, softmax
from miagap.attacks.problem import Group, Problem
from miagap.attacks.references import group_generator
from miagap.errors import InputError
from miagap.signals import Signals

Inputs = Callable[[np.ndarray | int, np.ndarray], np.ndarray]
"""Gives inputs (k, d) of networks at k points: models int64 (k,) or one model, samples (k,)."""


def posteriors(signals: Signals, models: np.ndarray | int, samples: np.ndarray) -> np.ndarray:
    """Return the posteriors at (model, sample) points, float64 (k, C)."""
    assert signals.logits is not None
    return softmax(signals.logits[models, samples])


def top_three(probabilities: np.ndarray) -> np.ndarray:
    """Return the three largest posteriors (or all, of fewer classes), descending."""
    return np.sort(probabilities, axis=1)[:, ::-1][:, :3]


def _draw(
    problem: Problem,
    group: Group,
    models: np.ndarray,
    samples: np.ndarray,
    records: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw points of a group's models and samples, as many IN as OUT: models, samples, member.

    With replacement, so that every class gives the same number of records.

    Raises:
        InputError: the samples are members of all of these models, or of none.
    """
    parts = []
    rows = np.searchsorted(group.kept, models)
    for side in problem.sides(group, samples):
        row, column = np.nonzero(side[rows])
        if row.size == 0:
            raise InputError(
                f"attacks.{problem.name}: shadow models lack members or non-members of a class; "
                "raise dataset.per_class or splits.count"
            )
        chosen = rng.integers(0, row.size, (records + 1) // 2)
        parts.append((models[row[chosen]], samples[column[chosen]]))
    drawn_models = np.concatenate([parts[0][0], parts[1][0]])
    drawn_samples = np.concatenate([parts[0][1], parts[1][1]])
    return drawn_models, drawn_samples, problem.shadows.member[drawn_models, drawn_samples]


def score_shokri(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by the network of each sample's class, float64 (tasks, n)."""
    require_logits(problem)
    return score_by_class(
        problem,
        partial(posteriors, problem.shadows),
        partial(posteriors, problem.targets),
        parameters,
        parameters["hidden"],
    )


def score_by_class(
    problem: Problem,
    shadow_inputs: Inputs,
    target_inputs: Inputs,
    parameters: Mapping[str, Any],
    hidden: int | Sequence[int],
) -> np.ndarray:
    """Score every task by one network per class, float64 (tasks, n).

    Args:
        problem: what to attack.
        shadow_inputs: gives the networks' inputs at points of shadow models.
        target_inputs: gives them at points of targets.
        parameters: ``records`` to train each network on and ``epochs``.
        hidden: shape of the networks, as for :func:`fit`.
    """
    scores = np.empty((len(problem.tasks), problem.shadows.samples))
    classes = np.unique(problem.labels)
    for group in problem.groups():
        rng = group_generator(problem, group)
        inputs, member = [], []
        for label in classes:
            samples = np.flatnonzero((problem.labels == label) & problem.used)
            models, points, inside = _draw(
                problem, group, group.kept, samples, parameters["records"], rng
            )
            inputs.append(shadow_inputs(models, points))
            member.append(inside)
        networks = fit(np.stack(inputs), np.stack(member), hidden, parameters["epochs"], rng)
        for number, label in enumerate(classes):
            samples = np.flatnonzero(problem.labels == label)
            for task, target in zip(group.tasks, group.targets, strict=True):
                scores[task, samples] = networks.log_odds(target_inputs(target, samples), number)
    return scores


def all_models(problem: Problem, group: Group) -> np.ndarray:
    """Return all shadow models of a group, int64."""
    return group.kept


def score_by_network(
    problem: Problem,
    shadow_inputs: Inputs,
    target_inputs: Inputs,
    parameters: Mapping[str, Any],
    hidden: int | Sequence[int],
    joined: np.ndarray | None = None,
    teachers: Callable[[Problem, Group], np.ndarray] = all_models,
) -> np.ndarray:
    """Score every task by one network for all classes, float64 (tasks, n).

    Args:
        problem: what to attack.
        shadow_inputs: gives the network's inputs at points of shadow models.
        target_inputs: gives them at points of targets.
        parameters: ``records`` to train on and ``epochs``.
        hidden, joined: shape of the network, as for :func:`fit`.
        teachers: gives the shadow models of a group that the network learns from.
    """
    scores = np.empty((len(problem.tasks), problem.shadows.samples))
    used, every = np.flatnonzero(problem.used), np.arange(problem.shadows.samples)
    for group in problem.groups():
        rng = group_generator(problem, group)
        models, samples, member = _draw(
            problem, group, teachers(problem, group), used, parameters["records"], rng
        )
        inputs = shadow_inputs(models, samples)
        network = fit(inputs[None], member[None], hidden, parameters["epochs"], rng, joined)
        for task, target in zip(group.tasks, group.targets, strict=True):
            scores[task] = network.log_odds(target_inputs(target, every), 0)
    return scores


def score_salem_1(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by one network trained on one shadow model, float64 (tasks, n)."""
    require_logits(problem)
    return score_by_network(
        problem,
        lambda models, samples: top_three(posteriors(problem.shadows, models, samples)),
        lambda target, samples: top_three(posteriors(problem.targets, target, samples)),
        parameters,
        parameters["hidden"],
        teachers=one_model,
    )


def one_model(problem: Problem, group: Group) -> np.ndarray:
    """Return one shadow model, int64 (1,): the first of the pair after the first excluded one."""
    pair = problem.shadows.pair[group.kept]
    first = problem.tasks[group.tasks[0]].excluded_pairs[0]
    order = np.lexsort((problem.shadows.split[group.kept], pair, pair < first))
    return np.asarray(group.kept[order[:1]])


STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "maximum": lambda logits: softmax(logits).max(axis=1),
    "deviation": lambda logits: softmax(logits).std(axis=1),
    "entropy": negative_entropy,
}
"""What ``salem_3`` makes of logits (n, C): float64 (n,)."""


def score_salem_3(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by a statistic of the target's posterior, float64 (tasks, n)."""
    require_logits(problem)
    logits = problem.targets.logits
    assert logits is not None
    function = STATISTICS[parameters["statistic"]]
    return np.stack([function(logits[task.target]) for task in problem.tasks])


NETWORK_PARAMETERS = {
    "records": Parameter("int", 2000, "training records of each attack network", minimum=2),
    "hidden": Parameter("int", 64, "hidden units; 0: logistic regression", minimum=0),
    "epochs": Parameter("int", 20, "passes over the records", minimum=1),
}

SHOKRI = Attack(
    method="shokri",
    family="NN-based",
    source="Shokri et al. 2017, Membership Inference Attacks Against Machine Learning Models",
    access="posteriors of the target; shadow models",
    needs=frozenset({"logits"}),
    function=score_shokri,
    parameters=NETWORK_PARAMETERS,
    cost="training of one small network per class, per pair of targets",
)
SALEM_1 = Attack(
    method="salem_1",
    family="NN-based",
    source="Salem et al. 2019, ML-Leaks, attack 1",
    access="posteriors of the target; one shadow model",
    needs=frozenset({"logits"}),
    function=score_salem_1,
    parameters=NETWORK_PARAMETERS,
    cost="training of one small network per pair of targets",
)
SALEM_3 = Attack(
    method="salem_3",
    family="NN-based",
    source="Salem et al. 2019, ML-Leaks, attack 3",
    access="posteriors of the target",
    needs=frozenset({"logits"}),
    function=score_salem_3,
    parameters={
        "statistic": Parameter(
            "choice",
            "maximum",
            "statistic of the posterior",
            choices=tuple(STATISTICS),
        )
    },
    cost="milliseconds per target",
)
