"""LiRA: the likelihood ratio attack of Carlini et al. 2022, for all targets of a pool at once.

Source: "Membership Inference Attacks From First Principles", Algorithm 1 (online), section on
the offline attack (one-sided test against OUT models only), the variant with one variance for
all samples, and spherical Gaussians for several queries.

Each sample's phi under shadow models trained with it (IN) and without it (OUT) is taken as
normal. Let mu and s be a sample's mean and deviation (population, divided by the count):

- online: log N(phi; mu_in, s_in^2) - log N(phi; mu_out, s_out^2)
- offline (Eq. 4): Lambda = 1 - Pr[Z > phi] with Z ~ N(mu_out, s_out^2), given as
  -log Pr[Z > phi]. That is the same order; but Lambda itself is 1 in float64 from 8.3 deviations
  on, and log Lambda is 0 from 38 on, where few shadow models put members and non-members alike
- ``variance: fixed``: s_in is one number, the deviation of phi about each sample's own IN mean
  over all samples; s_out likewise from OUT models
- several queries: a spherical Gaussian, that is one s per sample for all queries (root mean
  square over queries), the log densities added up; ``queries: independent`` gives every query
  its own s, as the public code does. Sums over queries are divided by their number, which
  changes no order and keeps scores of one scale. Offline, Z > phi
  then means that it is so at every query

A deviation below ``STD_FLOOR`` is raised to it: shadow models that agree to the last digit
would otherwise divide by zero. Logits are float32, so that smaller deviations are rounding.

What differs from the public code (tensorflow/privacy, research/mi_lira_2021/plot.py): it takes
medians for means, adds 1e-30 to deviations and has no floor, its fixed variance is the deviation
of all IN phi about one common mean and serves OUT as well, and its offline score is the negative
log density, which also calls samples members whose phi is far *below* the OUT mean.
``compat: mi_lira_2021`` does the same. For splits in which samples have unequally many IN
models, that code keeps of each sample the first ones only, as many as every sample has; so does
compat. All else here uses all models of paired splits, and of others equally many for each sample
(:mod:`miagap.attacks.selection`).

How leave-one-out is fast: see :mod:`miagap.attacks.moments`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from miagap.attacks.base import Attack, Parameter
from miagap.attacks.moments import Moments, SelectedSide, Side
from miagap.attacks.problem import Group, Problem, chunks
from miagap.attacks.references import STD_FLOOR
from miagap.attacks.selection import Selection, order
from miagap.errors import InputError

CHUNK_BYTES = 32 << 20
COMPAT_EPSILON = 1e-30


@dataclass(frozen=True)
class _Plan:
    """Parameters of a LiRA variant, resolved."""

    online: bool
    fixed: bool
    median: bool
    spherical: bool
    compat: bool


def _plan(parameters: Mapping[str, Any]) -> _Plan:
    """Resolve parameters; ``compat`` brings its own centre and treatment of queries."""
    compat = parameters["compat"] == "mi_lira_2021"
    return _Plan(
        online=bool(parameters["online"]),
        fixed=parameters["variance"] == "fixed",
        median=compat or parameters["statistic"] == "median",
        spherical=not compat and parameters["queries"] == "spherical",
        compat=compat,
    )


def score(problem: Problem, parameters: Mapping[str, Any]) -> np.ndarray:
    """Score every task with one LiRA variant.

    Returns:
        float64 (tasks, n). A sample without IN models (the reserve) has no online score: NaN.

    Raises:
        InputError: a sample is left with too few IN or OUT models.
    """
    plan = _plan(parameters)
    groups = list(problem.groups())
    _check_counts(problem, groups, plan)
    scores = np.empty((len(problem.tasks), problem.shadows.samples))
    counts = [_counts(problem, group, plan) for group in groups]
    deviations = _fixed_deviations(problem, groups, counts, plan) if plan.fixed else None
    for part in chunks(problem.shadows.samples, _chunk_size(problem)):
        all_moments = _all_moments(problem, groups, counts, part, plan)
        for number, (group, moments) in enumerate(zip(groups, all_moments, strict=True)):
            stds = [
                _deviation(m, plan, None if deviations is None else deviations[number][i])
                for i, m in enumerate(moments)
            ]
            for task, target in zip(group.tasks, group.targets, strict=True):
                values = problem.targets.phi[target, :, part]
                scores[task, part] = _statistic(values, moments, stds, plan)
    return scores


def _counts(problem: Problem, group: Group, plan: _Plan) -> list[int | None]:
    """Return how many OUT and, online, IN models count for a group; None: all of them.

    Where splits are not paired, the public code uses of every sample as many as the sample with
    the fewest has, IN and OUT apart.
    """
    sides = 2 if plan.online else 1
    if group.each is None or not plan.compat:
        return [group.each] * sides
    inside = problem.inside(group)[problem.used]
    fewest = [int((group.kept.size - inside).min()), int(inside.min())]
    return [*fewest[:sides]]


def _chunk_size(problem: Problem) -> int:
    """Return how many samples are worked on at a time, to bound memory and stay in cache."""
    models, queries, _ = problem.shadows.phi.shape
    return max(64, CHUNK_BYTES // (8 * models * queries))


def _all_moments(
    problem: Problem, groups: list[Group], counts: list[list[int | None]], part: slice, plan: _Plan
) -> Iterator[list[Moments]]:
    """Yield for each group the moments of a chunk's OUT side and, online, of its IN side."""
    phi = problem.shadows.phi[:, :, part]
    member = problem.shadows.member[:, part]
    sides: dict[tuple[int, int | None], Side] = {}
    for group, each in zip(groups, counts, strict=True):
        for key in enumerate(each):
            if key not in sides:
                sides[key] = _side(problem, phi, (~member, member)[key[0]], part, key, plan)
        yield [sides[key].without(group.excluded) for key in enumerate(each)]


def _side(
    problem: Problem,
    phi: np.ndarray,
    mask: np.ndarray,
    part: slice,
    key: tuple[int, int | None],
    plan: _Plan,
) -> Side:
    """Return a chunk's OUT (0) or IN (1) side, of which all models or some number count."""
    side, each = key
    if each is None:
        return Side(phi, mask, plan.median)
    # The public code takes models in their order.
    in_order = np.zeros(mask.shape[1], dtype=np.int64)
    rank = order(mask, in_order) if plan.compat else problem.ranks[side][:, part]
    return SelectedSide(phi, Selection(rank, each, problem.most_excluded), plan.median)


def _check_counts(problem: Problem, groups: list[Group], plan: _Plan) -> None:
    """Raise InputError when a sample outside the reserve keeps too few IN or OUT models."""
    need, kind = (1, "fixed") if plan.fixed else (2, "per_example")
    used = ~problem.reserve
    member = problem.shadows.member[:, used]
    total = member.sum(axis=0)
    for group in groups:
        inside = total - member[group.excluded].sum(axis=0)
        outside = group.kept.size - inside
        if group.each is not None:
            inside = outside = np.array([group.each])
        sides = [("OUT", outside)] + ([("IN", inside)] if plan.online else [])
        for side, count in sides:
            if count.size and count.min() < need:
                raise InputError(
                    f"attacks.{problem.name}: variance: {kind} needs at least {need} {side} "
                    f"shadow models of every sample, and one sample keeps {count.min()} of "
                    f"{group.kept.size}; raise splits.count or import more models"
                    + ("" if plan.fixed else " or set variance: fixed")
                )


def _deviation(moments: Moments, plan: _Plan, fixed: np.ndarray | None) -> np.ndarray:
    """Return deviations, broadcastable to (Q, c)."""
    if fixed is not None:
        std = fixed[:, None]
    elif plan.spherical:
        std = np.sqrt(np.maximum(moments.variance.mean(axis=0, keepdims=True), 0.0))
    else:
        std = np.sqrt(np.maximum(moments.variance, 0.0))
    return std + COMPAT_EPSILON if plan.compat else np.maximum(std, STD_FLOOR)


def _statistic(
    values: np.ndarray, moments: list[Moments], stds: list[np.ndarray], plan: _Plan
) -> np.ndarray:
    """Return scores (c,) of phi values (Q, c), the mean over queries."""
    outside = (values - moments[0].centre) / stds[0]
    if not plan.online and not plan.compat:
        return np.asarray(-log_ndtr(-outside).mean(axis=0))
    outside *= outside
    if not plan.online:
        log_density = -0.5 * outside - np.log(stds[0]) - 0.5 * np.log(2 * np.pi)
        return np.asarray(-log_density.mean(axis=0))
    inside = (values - moments[1].centre) / stds[1]
    inside *= inside
    outside -= inside
    scores = 0.5 * outside.mean(axis=0) + np.log(stds[0] / stds[1]).mean(axis=0)
    scores[moments[1].count == 0] = np.nan
    return np.asarray(scores)


def _fixed_deviations(
    problem: Problem, groups: list[Group], counts: list[list[int | None]], plan: _Plan
) -> list[list[np.ndarray]]:
    """Return for each group the deviations (Q,) of the OUT and, online, the IN side."""
    shape = (len(groups), 2 if plan.online else 1, problem.shadows.phi.shape[1])
    number, total, between, within = (np.zeros(shape) for _ in range(4))
    origin = float(problem.shadows.phi[0].mean())
    for part in chunks(problem.shadows.samples, _chunk_size(problem)):
        used = problem.used[part]
        every = _all_moments(problem, groups, counts, part, replace(plan, median=False))
        for g, both in enumerate(every):
            for s, moments in enumerate(both):
                weight = moments.count * used
                number[g, s] += weight.sum()
                within[g, s] += np.maximum(moments.variance, 0.0) @ weight
                if plan.compat:
                    centre = moments.centre - origin
                    total[g, s] += centre @ weight
                    between[g, s] += (centre * centre) @ weight
    number = np.maximum(number, 1)
    variance = within / number
    if plan.compat:
        # Of all phi of one side about one mean; online, IN serves both sides.
        mean = (total / number).mean(axis=2, keepdims=True)
        variance[:] = (variance + between / number).mean(axis=2, keepdims=True) - mean * mean
        variance[:] = np.maximum(variance[:, -1:], 0.0)
    elif plan.spherical:
        variance[:] = variance.mean(axis=2, keepdims=True)
    if not plan.compat and not np.all(variance > 0):
        raise InputError(
            f"attacks.{problem.name}: variance: fixed finds no spread among shadow models of any "
            "sample; raise splits.count or import more models"
        )
    return [list(np.sqrt(row)) for row in variance]


ATTACK = Attack(
    method="lira",
    family="likelihood ratio",
    source="Carlini et al. 2022, Membership Inference Attacks From First Principles",
    access="logits of the target at the study's queries; shadow models",
    needs=frozenset({"phi"}),
    function=score,
    parameters={
        "online": Parameter(
            "bool", True, "likelihood ratio of IN and OUT models; false: one-sided test, OUT only"
        ),
        "variance": Parameter(
            "choice",
            "per_example",
            "a deviation for each sample, or one for all (better with few shadow models)",
            choices=("per_example", "fixed"),
        ),
        "statistic": Parameter(
            "choice", "mean", "centre of the Gaussians", choices=("mean", "median")
        ),
        "queries": Parameter(
            "choice",
            "spherical",
            "several queries: one deviation for all of a sample's queries, or one for each",
            choices=("spherical", "independent"),
        ),
        "compat": Parameter(
            "choice",
            "none",
            "mi_lira_2021 reproduces the public code; it overrides statistic and queries",
            choices=("none", "mi_lira_2021"),
        ),
    },
    cost="seconds for all targets of a pool",
    least_models=2,  # a deviation, of each sample or about each sample's mean
)
