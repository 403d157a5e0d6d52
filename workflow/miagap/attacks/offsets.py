"""Attacks that shift the loss by what reference models make of the same sample.

- Sablayrolles et al. 2019, "White-box vs Black-box: Bayes Optimal Strategies for Membership
  Inference" (ICML 2019), MAST, a threshold per sample: it lies midway between the mean losses of
  IN and of OUT models; the score is threshold - loss.
- Watson et al. 2022, "On the Importance of Difficulty Calibration in Membership Inference
  Attacks" (ICLR 2022): the score is the mean loss of OUT models - loss.

``signal: phi`` does the same with the logit-scaled confidence, which spreads out the losses near
zero; the papers use the loss.

The authors of MAST published no code that we found; ours equals ``compute_score_offset`` of
tensorflow_privacy (advanced_mia.py) with ``median_or_mean="mean"``, whose default is the median,
at the first query. The authors' code of difficulty calibration subtracts the loss of one reference
model trained on other data; ours is its mean over all OUT models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from miagap.attacks.base import Attack, Parameter
from miagap.attacks.problem import Problem
from miagap.attacks.references import ReferenceMeans
from miagap.errors import InputError
from miagap.signals import Signals


def _signal(signals: Signals, name: str) -> np.ndarray:
    """Return minus the loss, or phi at query 0: float64 (M, n), higher = fits better."""
    return signals.phi[:, 0] if name == "phi" else -signals.loss


def _score(problem: Problem, signal: str, midpoint: bool) -> np.ndarray:
    """Score by the signal minus each sample's offset, float64 (tasks, n)."""
    shadows = problem.shadows
    references = ReferenceMeans(problem, _signal(shadows, signal))
    values = _signal(problem.targets, signal)
    scores = np.empty((len(problem.tasks), shadows.samples))
    for group in problem.groups():
        means = references.means(group)
        offset = 0.5 * (means.inside + means.outside) if midpoint else means.outside
        if np.isnan(offset[problem.usable(group)]).any():
            raise InputError(
                f"attacks.{problem.name}: needs an IN and an OUT shadow model of every sample; "
                "raise splits.count"
            )
        scores[group.tasks] = values[group.targets] - offset
    return scores


def score_sablayrolles(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score by the distance to the midpoint of IN and OUT means; NaN at reserve samples."""
    return _score(problem, parameters["signal"], midpoint=True)


def score_watson(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score by the distance to the mean over OUT models, float64 (tasks, n)."""
    return _score(problem, parameters["signal"], midpoint=False)


SABLAYROLLES = Attack(
    method="sablayrolles",
    family="adaptive threshold",
    source="Sablayrolles et al. 2019, White-box vs Black-box (MAST)",
    access="loss of the target; shadow models",
    needs=frozenset({"loss"}),
    needs_if={("signal", "phi"): frozenset({"phi"})},
    function=score_sablayrolles,
    parameters={
        "signal": Parameter(
            "choice",
            "loss",
            "the papers' loss, or the logit-scaled confidence",
            choices=("loss", "phi"),
        )
    },
    cost="milliseconds per target",
)
WATSON = replace(
    SABLAYROLLES,
    method="watson",
    source="Watson et al. 2022, Difficulty Calibration in Membership Inference Attacks",
    access="loss of the target; shadow models (OUT only)",
    function=score_watson,
)
