"""The white-box attack of Nasr et al. 2019, from sizes of gradients and activations.

Source: "Comprehensive Privacy Analysis of Deep Learning: Passive and Active White-box Inference
Attacks", the passive global attacker with supervision. The attack network has a component of its
own for each thing observed of the target: the posteriors, the true class, the loss, and for each
of the last ``layers`` convolutions and linear layers the gradient of the sample's loss with
respect to that layer's weights, and its activations. The components' outputs enter a joint
encoder that gives the log odds of membership.

What differs:

- The paper trains the attack network on known members of the target itself. Here it learns from
  shadow models, whose membership the attacker set (no ground truth of the target is used).
- Units of two models do not correspond to each other, so that weights learned on one model's raw
  gradients and activations mean nothing for another's. Components therefore see what does not
  depend on the order of units: of a gradient the L2 norm, the L1 norm and the largest entry (their
  logarithms), of activations the mean absolute value, the root mean square and the share of
  positive ones. The paper's convolution over a gradient's rows is thus left out, and so is its
  decoder, which serves the unsupervised attacker.
- Posteriors enter in descending order as log probabilities; each component is one layer of
  ``component`` units, the encoder one of ``hidden`` units. The authors' code has two layers (128 or
  100, and 64 units) for labels and loss, more for gradients, and an encoder of 256, 128 and 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from miagap.attacks.base import Attack, Parameter, measured_signal, require_logits
from miagap.attacks.networks import NETWORK_PARAMETERS, score_by_network
from miagap.attacks.posteriors import log_softmax
from miagap.attacks.problem import Problem
from miagap.signals import Signals

GRADIENT_SIZES = 3
SMALLEST = 1e-30


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task by the attack network, float64 (tasks, n)."""
    require_logits(problem)
    own, shadow = measured_signal(problem, ATTACK, "white_box", parameters)
    targets, shadows = problem.targets, problem.shadows
    assert shadows.logits is not None
    classes, layers = shadows.logits.shape[2], shadow.shape[2]
    sizes = [classes, classes, 1, *[shadow.shape[3]] * layers]
    unit = np.repeat(np.arange(len(sizes)), parameters["component"])
    return score_by_network(
        problem,
        lambda models, samples: observations(shadows, shadow, models, samples),
        lambda target, samples: observations(targets, own, target, samples),
        parameters,
        [unit.size, parameters["hidden"]],
        np.repeat(np.arange(len(sizes)), sizes)[:, None] == unit,
    )


def observations(
    signals: Signals, sizes: np.ndarray, models: np.ndarray | int, samples: np.ndarray
) -> np.ndarray:
    """Return what the attacker observes at points (model, sample): float64 (k, d).

    Columns: log posteriors in descending order (C), the true class (C columns of 0 and 1), log
    loss, then for each layer the sizes of its gradient (logarithms) and its activations.

    Args:
        signals: with logits.
        sizes: (M, n, layers, 6), the measured signal.
        models: int64 (k,), or one for all points.
        samples: int64 (k,).
    """
    assert signals.logits is not None
    posterior = np.sort(log_softmax(signals.logits[models, samples]), axis=1)[:, ::-1]
    label = np.eye(posterior.shape[1])[signals.labels[samples]]
    loss = np.log(np.maximum(signals.loss[models, samples], SMALLEST))
    measured = sizes[models, samples].astype(np.float64)
    gradient = measured[..., :GRADIENT_SIZES]
    measured[..., :GRADIENT_SIZES] = np.log(np.maximum(gradient, SMALLEST))
    flat = measured.reshape(len(samples), -1)
    return np.concatenate([posterior, label, loss[:, None], flat], axis=1)


ATTACK = Attack(
    method="nasr",
    family="NN-based",
    source="Nasr et al. 2019, Comprehensive Privacy Analysis of Deep Learning",
    access="weights of the target; shadow models",
    needs=frozenset({"white_box", "logits", "loss"}),
    measured={"white_box": ("layers",)},
    function=score,
    parameters={
        "layers": Parameter("int", 3, "layers observed, counted from the last", minimum=1),
        "component": Parameter("int", 8, "units of each component", minimum=1),
        **NETWORK_PARAMETERS,
    },
    cost="a gradient of every sample, per model; training of one network per pair of targets",
)
