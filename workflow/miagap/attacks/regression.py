"""The quantile regression attack of Bertran et al. 2023, from logits.

Source: "Scalable Membership Inference Attacks via Quantile Regression": learn, on non-members
only, the distribution of the target's confidence given the sample; a sample is called a member
where its confidence exceeds the learned quantile. We use the paper's Gaussian form: a mean and a
deviation given the sample; the score is (phi - mean) / deviation, so that the quantile of every
level is one threshold.

What differs: the paper's regressor is a network on images; ours is linear in what OUT reference
models say of the sample (mean logits, mean and log deviation of phi) and its class, both for the
mean (least squares) and for the log deviation (least squares on log residuals). The target's own
answer on a sample is never an input. Training non-members are the reserve under the target, or,
without a reserve, shadow models on samples that they were not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miagap.attacks.base import Attack, Parameter, require_logits
from miagap.attacks.problem import Group, Problem
from miagap.attacks.references import group_generator, out_moments
from miagap.errors import InputError

RIDGE = 1e-3
# Mean of log(chi^2 with 1 degree of freedom): what log of squared standard normals is short of 0.
LOG_CHI2 = -1.2703628454614782


@dataclass(frozen=True)
class Regression:
    """Gaussian regression: weights (d,) of the mean and of the log deviation."""

    mean: np.ndarray
    log_std: np.ndarray
    floor: float

    def standardise(self, features: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return (value - mean) / deviation of features (k, d) and values (k,)."""
        std = np.exp(np.clip(features @ self.log_std, np.log(self.floor), 50.0))
        return np.asarray((values - features @ self.mean) / std)


def fit(features: np.ndarray, values: np.ndarray) -> Regression:
    """Fit mean and log deviation, linear in the features, by ridge regression.

    Args:
        features: float64 (k, d), the first column constant.
        values: float64 (k,).
    """
    mean = _ridge(features, values)
    residual = values - features @ mean
    floor = max(1e-3 * float(residual.std()), 1e-9)
    log_squares = np.log(residual**2 + floor**2) - LOG_CHI2
    return Regression(mean, _ridge(features, 0.5 * log_squares), floor)


def _ridge(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return least squares weights, slightly drawn to 0 except for the constant."""
    penalty = RIDGE * len(features) * np.eye(features.shape[1])
    penalty[0, 0] = 0.0
    return np.asarray(np.linalg.solve(features.T @ features + penalty, features.T @ values))


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by its standardised confidence, float64 (tasks, n)."""
    require_logits(problem)
    scores = np.empty((len(problem.tasks), problem.shadows.samples))
    reserve = np.flatnonzero(problem.reserve)
    for group in problem.groups():
        features = sample_features(problem, group)
        common = None
        if reserve.size == 0:
            common = fit_on_shadows(problem, group, parameters["models"])
        elif reserve.size < 2 * features.shape[1]:
            raise InputError(
                f"attacks.{problem.name}: {reserve.size} reserve samples are too few for "
                f"{features.shape[1]} features; raise splits.reserve, or set it to 0 to learn "
                "from shadow models"
            )
        for task, target in zip(group.tasks, group.targets, strict=True):
            phi = problem.targets.phi[target, 0]
            own = common or fit(features[reserve], phi[reserve])
            scores[task] = own.standardise(features, phi)
    return scores


def fit_on_shadows(problem: Problem, group: Group, models: int) -> Regression:
    """Fit to what some shadow models answer on their own non-members.

    A model's pair is kept out of its features, as the target's is out of the target's.
    """
    shadows = problem.shadows
    rng = group_generator(problem, group)
    chosen = rng.choice(group.kept, min(models, group.kept.size), replace=False)
    features, values = [], []
    for model in np.sort(chosen):
        out = ~shadows.member[model]
        features.append(sample_features(problem, problem.without(group, int(model)))[out])
        values.append(shadows.phi[model, 0, out])
    return fit(np.concatenate(features), np.concatenate(values))


def sample_features(problem: Problem, group: Group) -> np.ndarray:
    """Return what a group's OUT models say of each sample: float64 (n, 2 + 2 C).

    A constant, mean and log deviation of phi, mean logits, the class; standardised.
    """
    shadows = problem.shadows
    assert shadows.logits is not None
    moments = out_moments(problem, group)
    total = np.zeros((shadows.samples, shadows.logits.shape[2]))
    outside, _ = problem.sides(group)
    for model, out in zip(group.kept, outside, strict=True):
        total += np.where(out[:, None], shadows.logits[model], 0.0)
    count = outside.sum(axis=0)
    logits = total / np.maximum(count, 1)[:, None]
    onehot = (problem.labels[:, None] == np.arange(1, total.shape[1])).astype(np.float64)
    columns = np.column_stack([moments.mean, np.log(moments.std), logits, onehot])
    columns = (columns - columns.mean(axis=0)) / np.maximum(columns.std(axis=0), 1e-9)
    return np.column_stack([np.ones(shadows.samples), columns])


ATTACK = Attack(
    method="bertran",
    family="learned quantiles",
    source="Bertran et al. 2023, Scalable Membership Inference Attacks via Quantile Regression",
    access="logits of the target; known non-members (reserve), or shadow models",
    needs=frozenset({"logits", "phi", "reserve"}),
    function=score,
    parameters={
        "models": Parameter("int", 4, "shadow models to learn from without a reserve", minimum=1)
    },
    cost="two least squares fits per target",
)
