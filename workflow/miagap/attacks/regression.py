"""The quantile regression attack of Bertran et al. 2023, from logits.

Source: "Scalable Membership Inference Attacks via Quantile Regression" (NeurIPS 2023): learn, on
non-members only, the distribution of the target's confidence given the sample; a sample is called
a member where its confidence exceeds the learned quantile. As in the authors' code, the confidence
is the hinge (logit of the true class less the largest other one), and the form is the Gaussian one:
a mean and a log deviation given the sample and its class, which minimise the mean of
log deviation + ((confidence - mean) / deviation)^2 / 2. The score is
(confidence - mean) / deviation, so that the quantile of every level is one threshold.

What differs: the paper's regressor is a network on images; ours is linear in what OUT reference
models say of the sample (mean logits, mean and log deviation of the confidence) and its class.
The target's own answer on a sample is never an input. Training non-members are the reserve under
the target, or, without a reserve, shadow models on samples that they were not trained on.
``signal: phi`` puts the logit-scaled confidence in place of the hinge.
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
from miagap.signals import Signals

RIDGE = 1e-3
ROUNDS = 15
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
        std = np.exp(self._log_std(features))
        return np.asarray((values - features @ self.mean) / std)

    def loss(self, features: np.ndarray, values: np.ndarray) -> float:
        """Return the mean of log deviation + ((value - mean) / deviation)^2 / 2."""
        z = self.standardise(features, values)
        return float((self._log_std(features) + 0.5 * z * z).mean())

    def _log_std(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(np.clip(features @ self.log_std, np.log(self.floor), 50.0))


def fit(features: np.ndarray, values: np.ndarray) -> Regression:
    """Fit mean and log deviation, linear in the features, to the least Gaussian loss.

    From least squares (of the values, then of log residuals) on, by Fisher scoring: weighted
    least squares for the mean and a step for the log deviation in turn, as long as the loss falls.
    Weights are slightly drawn to 0 except for the constants.

    Args:
        features: float64 (k, d), the first column constant.
        values: float64 (k,).
    """
    mean = _ridge(features, values)
    residual = values - features @ mean
    floor = max(1e-3 * float(residual.std()), 1e-9)
    log_squares = np.log(residual**2 + floor**2) - LOG_CHI2
    best = Regression(mean, _ridge(features, 0.5 * log_squares), floor)
    least = best.loss(features, values)
    for _ in range(ROUNDS):
        found = _scored(best, features, values)
        loss = found.loss(features, values)
        if not loss < least - 1e-9:
            break
        best, least = found, loss
    return best


def _scored(start: Regression, features: np.ndarray, values: np.ndarray) -> Regression:
    """Return the regression after one round of Fisher scoring."""
    weight = np.exp(-2 * start._log_std(features))
    mean = _ridge(features, values, weight / weight.mean())
    z = Regression(mean, start.log_std, start.floor).standardise(features, values)
    step = _ridge(features, 0.5 * (z * z - 1))
    # A step that moves no deviation by more than a factor e.
    step /= max(1.0, float(np.abs(features @ step).max()))
    return Regression(mean, start.log_std + step, start.floor)


def _ridge(
    features: np.ndarray, values: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return (weighted) least squares weights, slightly drawn to 0 except for the constant."""
    penalty = RIDGE * len(features) * np.eye(features.shape[1])
    penalty[0, 0] = 0.0
    weighted = features if weight is None else features * weight[:, None]
    return np.asarray(np.linalg.solve(weighted.T @ features + penalty, weighted.T @ values))


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by its standardised confidence, float64 (tasks, n)."""
    require_logits(problem)
    shadow = confidences(problem.shadows, parameters["signal"])
    same = problem.targets is problem.shadows
    own = shadow if same else confidences(problem.targets, parameters["signal"])
    scores = np.empty((len(problem.tasks), problem.shadows.samples))
    reserve = np.flatnonzero(problem.reserve)
    for group in problem.groups():
        features = sample_features(problem, group, shadow)
        common = None
        if reserve.size == 0:
            common = fit_on_shadows(problem, group, shadow, parameters["models"])
        elif reserve.size < 2 * features.shape[1]:
            raise InputError(
                f"attacks.{problem.name}: {reserve.size} reserve samples are too few for "
                f"{features.shape[1]} features; raise splits.reserve, or set it to 0 to learn "
                "from shadow models"
            )
        for task, target in zip(group.tasks, group.targets, strict=True):
            fitted = common or fit(features[reserve], own[target, reserve])
            scores[task] = fitted.standardise(features, own[target])
    return scores


def confidences(signals: Signals, signal: str) -> np.ndarray:
    """Return the confidence in the true class at query 0, float64 (M, n).

    Args:
        signals: with logits.
        signal: "hinge", the logit of the true class less the largest other one, or "phi".
    """
    if signal == "phi":
        return signals.phi[:, 0]
    assert signals.logits is not None
    rows = np.arange(signals.samples)
    found = np.empty((signals.models, signals.samples))
    for model, logits in enumerate(signals.logits):
        others = logits.copy()
        others[rows, signals.labels] = -np.inf
        right = logits[rows, signals.labels].astype(np.float64)
        found[model] = right - others.max(axis=1)
    return found


def fit_on_shadows(problem: Problem, group: Group, shadow: np.ndarray, models: int) -> Regression:
    """Fit to what some shadow models answer on their own non-members.

    A model's pair is kept out of its features, as the target's is out of the target's.

    Args:
        problem: what to attack.
        group: one of its groups.
        shadow: float64 (M, n), confidences of the shadow models.
        models: how many of them to learn from.
    """
    rng = group_generator(problem, group)
    chosen = rng.choice(group.kept, min(models, group.kept.size), replace=False)
    features, values = [], []
    for model in np.sort(chosen):
        out = ~problem.shadows.member[model]
        others = problem.without(group, int(model))
        features.append(sample_features(problem, others, shadow)[out])
        values.append(shadow[model, out])
    return fit(np.concatenate(features), np.concatenate(values))


def sample_features(problem: Problem, group: Group, shadow: np.ndarray) -> np.ndarray:
    """Return what a group's OUT models say of each sample: float64 (n, 2 + 2 C).

    A constant, mean and log deviation of the confidence, mean logits, the class; standardised.

    Args:
        problem: what to attack.
        group: one of its groups.
        shadow: float64 (M, n), confidences of the shadow models.
    """
    shadows = problem.shadows
    assert shadows.logits is not None
    moments = out_moments(problem, group, shadow)
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
        "signal": Parameter(
            "choice",
            "hinge",
            "the paper's hinge of the logits, or the logit-scaled confidence",
            choices=("hinge", "phi"),
        ),
        "models": Parameter("int", 4, "shadow models to learn from without a reserve", minimum=1),
    },
    cost="a few weighted least squares fits per target",
    least_pairs=2,  # a shadow model's features leave its own pair out
)
