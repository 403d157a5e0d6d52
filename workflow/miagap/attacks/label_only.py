"""Attacks that see nothing but the predicted label (Choquette-Choo et al. 2021).

Source: "Label-Only Membership Inference Attacks" (ICML 2021).

- ``label_only_augment``: is the label right at the sample and at its augmented views? Views are
  the sample's shifts by (dx, dy) pixels with abs(dx) + abs(dy) = ``extent`` (4 * extent of them),
  or its rotations by plus and minus ``extent`` degrees. ``model: network`` is a network per class
  on the vector of right and wrong answers, trained on shadow models, two hidden layers of 10
  units as in the authors' code; ``model: count`` counts the right ones.
- ``label_only_distance``: how far is the sample from the decision boundary?
  ``estimate: noise`` is the cheap one: the share of noisy copies whose label is right, averaged
  over ``levels`` strengths of Gaussian noise, ``sigma`` (a share of the pixel range) and its
  halves. ``estimate: search`` looks for the nearest point with another label by HopSkipJump
  (Chen et al. 2020), in ``steps`` steps of ``queries`` queries. A sample whose label is wrong has
  distance 0 either way. The score is the share or the distance.

What differs: shifted views fill the border by reflection (the study's queries do; the authors'
code repeats the border's pixels), rotated ones by black, as there. The authors' code rotates by
every whole degree from -``extent`` to ``extent``. The networks' training is that of all networks
here, with rectified units that do not leak. The noise is one for all models of a study, and
strengths are averaged where the authors' code tries 0.02, 0.03, ..., 0.1 with up to 5,000 copies
and sets a threshold for each on a shadow model; ours lie in that range. The search starts from the
first of 20 random images that has another label; where none has, the distance is that of the
farthest. Distances are in units of the pixel range, in the L2 norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from miagap.attacks.base import Attack, Parameter, measured_signal
from miagap.attacks.networks import NETWORK_PARAMETERS, score_by_class
from miagap.attacks.problem import Problem


def score_augment(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score by the vector of right answers at all views, float64 (tasks, n)."""
    right, shadow = measured_signal(problem, AUGMENT, "augmented", parameters)
    if parameters["model"] == "count":
        targets = [task.target for task in problem.tasks]
        return right[targets].sum(axis=2, dtype=np.float64)
    return score_by_class(
        problem,
        lambda models, samples: shadow[models, samples].astype(np.float64),
        lambda target, samples: right[target, samples].astype(np.float64),
        parameters,
        [parameters["hidden"]] * 2,
    )


def score_distance(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score by the estimated distance to the boundary, float64 (tasks, n)."""
    kind = "robustness" if parameters["estimate"] == "noise" else "boundary"
    values, _ = measured_signal(problem, DISTANCE, kind, parameters)
    chosen = values[[task.target for task in problem.tasks]].astype(np.float64)
    if kind == "boundary":
        return chosen
    # The first column is the sample itself: right or wrong.
    return np.asarray(chosen[..., 0] * chosen[..., 1:].mean(axis=2))


AUGMENT = Attack(
    method="label_only_augment",
    family="threshold-based",
    source="Choquette-Choo et al. 2021, Label-Only Membership Inference Attacks",
    access="labels of the target at any input; shadow models",
    needs=frozenset({"augmented"}),
    measured={"augmented": ("views", "extent")},
    function=score_augment,
    parameters={
        "views": Parameter(
            "choice", "shifts", "kind of augmented views", choices=("shifts", "rotations")
        ),
        "extent": Parameter("int", 1, "pixels of a shift, or degrees of a rotation", minimum=1),
        "model": Parameter(
            "choice", "network", "how answers become a score", choices=("network", "count")
        ),
        **NETWORK_PARAMETERS,
        "hidden": Parameter(
            "int", 10, "units of each of two hidden layers; 0: logistic regression", minimum=0
        ),
    },
    cost="4 * `extent` + 1 (rotations: 3) queries of every sample, per model",
)
DISTANCE = Attack(
    method="label_only_distance",
    family="threshold-based",
    source="Choquette-Choo et al. 2021, Label-Only Membership Inference Attacks",
    access="labels of the target at any input",
    needs=frozenset(),
    needs_if={
        ("estimate", "noise"): frozenset({"robustness"}),
        ("estimate", "search"): frozenset({"boundary"}),
    },
    measured={
        "robustness": ("repetitions", "levels", "sigma"),
        "boundary": ("steps", "queries"),
    },
    function=score_distance,
    parameters={
        "estimate": Parameter(
            "choice", "noise", "how the distance is estimated", choices=("noise", "search")
        ),
        "repetitions": Parameter("int", 25, "noise: copies at each strength", minimum=1),
        "levels": Parameter("int", 3, "noise: strengths, each half of the one before", minimum=1),
        "sigma": Parameter(
            "float", 0.1, "noise: the strongest, as a share of the pixel range", minimum=1e-6
        ),
        "steps": Parameter("int", 10, "search: steps along the boundary", minimum=0),
        "queries": Parameter("int", 50, "search: queries of a step's direction", minimum=2),
    },
    cost="noise: `repetitions` * `levels` queries of every sample; search: about "
    "`steps` * (`queries` + 20), per model",
)
