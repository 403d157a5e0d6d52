"""Attacks by noise: is the sample at a dent of the loss? (Jayaraman et al. 2021).

Source: "Revisiting Membership Inference Under Realistic Assumptions". The signal ``merlin`` is the
share of ``repetitions`` copies of a sample, each with Gaussian noise of deviation ``sigma`` added
to its pixels (as a share of the pixel range 0..255; not clipped), whose loss under the model
exceeds the sample's own. Losses are compared through phi, of which they are a falling function:
losses that round to 0 keep their order. The defaults, 100 copies and 0.01, are those of the
authors' code (EvaluatingDPML, improved_mi), which adds the noise to features as they are.

- ``merlin``: the share is the score.
- ``morgan``: a member is who has a loss between two thresholds and a share of at least a third
  one: very small losses are left out, which non-members have too. The score is the share within
  the interval of losses and the share - 2 outside, so that the decision is one threshold on the
  score, and other thresholds move the third one.

What differs: thresholds come from shadow models. Morgan's three are those of the greatest share of
members among boxes with at most ``fpr`` of the non-members. The paper asks for the greatest
positive predictive value, on known members of its own; over boxes that greatest value belongs to
those around single records. The authors' code takes the two losses at false positive rates
written into it (0.22 and 0.30), and the share's at a bound given by the user. The interval's ends
are quantiles of the shadow models' losses (``levels`` of them), the lowest being 0 and the highest
infinite. All models of a study see the same noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miagap.attacks.base import Attack, Parameter, measured_signal
from miagap.attacks.problem import Problem


def score_merlin(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score by the share of noisy copies with a greater loss, float64 (tasks, n)."""
    share, _ = measured_signal(problem, MERLIN, "merlin", parameters)
    return share[[task.target for task in problem.tasks]].astype(np.float64)


@dataclass(frozen=True)
class Box:
    """Morgan's thresholds: a member has ``low < loss <= high`` and a share ``>= share``."""

    low: float
    high: float
    share: float


def score_morgan(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score by the share within the interval of losses, share - 2 outside, (tasks, n)."""
    share, shadow_share = measured_signal(problem, MORGAN, "merlin", parameters)
    shadows, used = problem.shadows, ~problem.reserve
    scores = np.empty((len(problem.tasks), shadows.samples))
    for group in problem.groups():
        box = best_box(
            shadows.loss[group.kept][:, used].ravel(),
            shadow_share[group.kept][:, used].ravel().astype(np.float64),
            shadows.member[group.kept][:, used].ravel(),
            parameters["fpr"],
            parameters["levels"],
        )
        loss = problem.targets.loss[group.targets]
        within = (loss > box.low) & (loss <= box.high)
        scores[group.tasks] = share[group.targets] - np.where(within, 0.0, 2.0)
    return scores


def best_box(
    loss: np.ndarray, share: np.ndarray, member: np.ndarray, fpr: float, levels: int
) -> Box:
    """Return the box that holds most members and at most ``fpr`` of the non-members.

    Of equals the one with fewest non-members, then the widest interval. Where no box with a
    member keeps the bound, it is the whole range of losses with the highest share.

    Args:
        loss, share: float64 (k,).
        member: bool (k,), with both values present.
        fpr: bound on the share of non-members.
        levels: quantiles of the loss among which the interval's ends are chosen.
    """
    inner = np.unique(np.quantile(loss, np.linspace(0, 1, levels + 2)[1:-1]))
    edges = np.concatenate(([-np.inf], inner, [np.inf]))
    shares = np.unique(share)
    row = np.searchsorted(edges, loss, side="left") - 1
    column = np.searchsorted(shares, share)
    held = []
    for chosen in (member, ~member):
        counts = np.zeros((edges.size - 1, shares.size))
        np.add.at(counts, (row[chosen], column[chosen]), 1)
        above = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
        below = np.concatenate((np.zeros((1, shares.size)), above.cumsum(axis=0)))
        held.append((below[None] - below[:, None]) / chosen.sum())  # [low, high, share]
    inside, outside = held
    width = np.subtract.outer(np.arange(edges.size), np.arange(edges.size)).T[:, :, None]
    allowed = (outside <= fpr) & (inside > 0) & (width > 0)
    if not allowed.any():
        return Box(-np.inf, np.inf, float(shares[-1]))
    wide = np.broadcast_to(-width, inside.shape)
    keys = (wide, outside, np.where(allowed, -inside, np.inf))
    best = np.lexsort([key.ravel() for key in keys])[0]
    low, high, at = np.unravel_index(best, inside.shape)
    return Box(float(edges[low]), float(edges[high]), float(shares[at]))


_NOISE = {
    "repetitions": Parameter("int", 100, "noisy copies of a sample", minimum=1),
    "sigma": Parameter(
        "float", 0.01, "deviation of the noise, as a share of the pixel range", minimum=1e-6
    ),
}
_MEASURED = {"merlin": ("repetitions", "sigma")}

MERLIN = Attack(
    method="merlin",
    family="threshold-based",
    source="Jayaraman et al. 2021, Revisiting Membership Inference Under Realistic Assumptions",
    access="loss of the target at any input",
    needs=frozenset({"merlin"}),
    measured=_MEASURED,
    function=score_merlin,
    parameters=_NOISE,
    cost="`repetitions` queries of every sample, per model",
)
MORGAN = Attack(
    method="morgan",
    family="threshold-based",
    source="Jayaraman et al. 2021, Revisiting Membership Inference Under Realistic Assumptions",
    access="loss of the target at any input; shadow models for thresholds",
    needs=frozenset({"merlin", "loss"}),
    measured=_MEASURED,
    function=score_morgan,
    parameters={
        **_NOISE,
        "fpr": Parameter(
            "float", 0.01, "share of non-members to call members, at most", minimum=0, maximum=1
        ),
        "levels": Parameter("int", 30, "candidates for the ends of the interval", minimum=1),
    },
    cost="the queries of `merlin`, which it shares; a search per pair of targets",
)
