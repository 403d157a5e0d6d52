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

How leave-one-out is fast: a sample's sums over all shadow models are formed once, and for each
target the contribution of its own pair is taken off; medians come from sorted columns by rank.
Splits that are not paired (:class:`SelectedSide`) add the next models of the sample's order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_ndtr

from miagap.attacks.base import Attack, Parameter
from miagap.attacks.problem import Group, Problem, chunks
from miagap.attacks.references import STD_FLOOR
from miagap.attacks.selection import ranks
from miagap.errors import InputError

CHUNK_BYTES = 4 << 20
COMPAT_EPSILON = 1e-30
CANCELLED = 1e-7


@dataclass(frozen=True)
class Moments:
    """Statistics of one side (IN or OUT): count (c,), centre and variance (Q, c)."""

    count: np.ndarray
    centre: np.ndarray
    variance: np.ndarray


class Side:
    """IN or OUT phi of a chunk of samples, from which models can be taken off.

    Args:
        phi: float64 (M, Q, c).
        mask: bool (M, c), which model counts for which sample.
        median: centre by the median instead of the mean.
    """

    def __init__(self, phi: np.ndarray, mask: np.ndarray, median: bool) -> None:
        self.phi = phi
        self.mask = mask
        self.count = mask.sum(axis=0)
        weights = mask[:, None, :]
        safe = np.maximum(self.count, 1)
        self.shift = np.einsum("mqc,mc->qc", phi, mask.astype(np.float64)) / safe
        # Centred before squaring: phi near 50 with deviations near 0.1 would lose digits.
        self.delta = np.where(weights, phi - self.shift, 0.0)
        self.total = self.delta.sum(axis=0)
        self.squares = np.einsum("mqc,mqc->qc", self.delta, self.delta)
        self.ranked = self._rank() if median else None

    def _rank(self) -> np.ndarray:
        """Sort each sample's values, those of other models last: float64 (Q * c, M)."""
        models, queries, size = self.phi.shape
        values = np.where(self.mask[:, None, :], self.phi, np.inf)
        ranked = np.ascontiguousarray(values.reshape(models, queries * size).T)
        ranked.sort(axis=1)
        return ranked

    def without(self, excluded: np.ndarray) -> Moments:
        """Return the statistics that remain when the models in ``excluded`` are taken off."""
        gone = self.delta[excluded]
        count = self.count - self.mask[excluded].sum(axis=0)
        total = self.total - gone.sum(axis=0)
        squares = self.squares - np.einsum("eqc,eqc->qc", gone, gone)
        moments = self._moments(count, total, squares, self.mask, excluded)
        if self.ranked is None:
            return moments
        return Moments(count, self._median(excluded, count), moments.variance)

    def _moments(
        self,
        count: np.ndarray,
        total: np.ndarray,
        squares: np.ndarray,
        mask: np.ndarray,
        excluded: np.ndarray,
    ) -> Moments:
        """Return mean and variance from sums about the shift; ``mask``: what was summed."""
        safe = np.maximum(count, 1)
        offset = total / safe
        variance = squares / safe - offset * offset
        self._repair(variance, mask, excluded, count)
        return Moments(count, self.shift + offset, variance)

    def whole(self) -> Moments:
        """Return the statistics of all models of the side."""
        return self.without(np.empty(0, dtype=np.int64))

    def _repair(
        self, variance: np.ndarray, mask: np.ndarray, excluded: np.ndarray, count: np.ndarray
    ) -> None:
        """Recompute, in place, variances that subtraction left with too few digits."""
        lost = variance < CANCELLED * self.squares / np.maximum(self.count, 1)
        if not lost.any():
            return
        columns = np.flatnonzero(lost.any(axis=0))
        mask = mask[:, columns].copy()
        mask[excluded] = False
        weights = mask[:, None, :]
        values = np.where(weights, self.phi[:, :, columns], 0.0)
        safe = np.maximum(count[columns], 1)
        centred = np.where(weights, values - values.sum(axis=0) / safe, 0.0)
        variance[:, columns] = (centred * centred).sum(axis=0) / safe

    def _median(self, excluded: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Return medians (Q, c) without the excluded models.

        The k-th value that remains is found from the k-th of all by stepping over every
        removed value that is not greater; equal values need no care, being equal.
        """
        assert self.ranked is not None
        models, queries, size = self.phi.shape
        removed = np.where(self.mask[excluded][:, None, :], self.phi[excluded], np.inf)
        removed = np.sort(removed.reshape(excluded.size, queries * size), axis=0)
        flat = self.ranked.ravel()
        start = np.arange(queries * size) * models
        middle = []
        for position in (np.maximum(count - 1, 0) // 2, count // 2):
            index = start + np.tile(position, queries)
            for value in removed:
                index = index + (value <= flat[index])
            middle.append(flat[np.minimum(index, start + models - 1)])
        return (0.5 * (middle[0] + middle[1])).reshape(queries, size)


class SelectedSide(Side):
    """IN or OUT phi of which equally many models count for each sample, see ``selection``.

    The sums are over the first ``each`` models of the side in each sample's order. A group that
    may not use some of these uses the next ones instead: ``spares`` of them are kept ready.

    Args:
        phi: float64 (M, Q, c).
        mask: bool (M, c), models of the side.
        start: int64 (c,), where each sample's order begins.
        each: models that count.
        spares: most models that a group may not use.
    """

    def __init__(
        self, phi: np.ndarray, mask: np.ndarray, start: np.ndarray, each: int, spares: int
    ) -> None:
        self.each, self.every = each, mask
        self.rank = np.where(mask, ranks(mask, start), np.iinfo(np.int16).max)
        super().__init__(phi, self.rank <= each, median=False)
        self.delta = np.where(mask[:, None, :], phi - self.shift, 0.0)
        self.spares = [self._at(each + 1 + number) for number in range(spares)]

    def _at(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the centred phi (Q, c) of the model of a rank, and bool (c,), if there is one."""
        is_it = self.rank == rank
        model = is_it.argmax(axis=0)
        return self.delta[model, :, np.arange(model.size)].T, is_it.any(axis=0)

    def without(self, excluded: np.ndarray) -> Moments:
        """Return the statistics of the first ``each`` models that are not in ``excluded``."""
        rank = self.rank[excluded]
        last = np.full(rank.shape[1], self.each)
        for one in np.sort(rank, axis=0):
            last += one <= last
        gone = np.where((rank <= last)[:, None, :], self.delta[excluded], 0.0)
        count = self.count - (rank <= last).sum(axis=0)
        total = self.total - gone.sum(axis=0)
        squares = self.squares - np.einsum("eqc,eqc->qc", gone, gone)
        for number, (delta, there) in enumerate(self.spares):
            used = there & (last > self.each + number)
            own = np.where(used, delta, 0.0)
            count, total, squares = count + used, total + own, squares + own * own
        return self._moments(count, total, squares, self.rank <= last, excluded)


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
    shadows = problem.shadows
    groups = list(problem.groups())
    _check_counts(problem, groups, plan)
    scores = np.empty((len(problem.tasks), shadows.samples))
    if plan.compat:
        for group in groups:
            if group.each is not None:
                scores[group.tasks] = _score_truncated(problem, group, plan)
        groups = [group for group in groups if group.each is None]
    deviations = _fixed_deviations(problem, groups, plan) if plan.fixed else None
    for part in chunks(shadows.samples, _chunk_size(problem)):
        all_moments = _all_moments(problem, groups, part, plan)
        for number, (group, moments) in enumerate(zip(groups, all_moments, strict=True)):
            stds = [
                _deviation(m, plan, None if deviations is None else deviations[number][i])
                for i, m in enumerate(moments)
            ]
            values = problem.targets.phi[group.targets, :, part]
            scores[group.tasks, part] = _statistic(values, moments, stds, plan)
    return scores


def _score_truncated(problem: Problem, group: Group, plan: _Plan) -> np.ndarray:
    """Return a group's scores (K, n) as the public code forms them for uneven splits.

    It uses of every sample only the first models, as many as the sample with the fewest has,
    IN and OUT apart, in the order of the models.
    """
    member = problem.shadows.member[group.kept]
    masks = [~member, member] if plan.online else [~member]
    used = ~problem.reserve
    masks = [m & (np.cumsum(m, axis=0) <= m.sum(axis=0)[used].min()) for m in masks]
    fixed = None
    if plan.fixed:
        sums = _sums(problem, group.kept, masks[-1] & used)
        fixed = [_spread(problem, sums)] * len(masks)
    scores = np.empty((group.tasks.size, problem.shadows.samples))
    for part in chunks(problem.shadows.samples, _chunk_size(problem)):
        phi = problem.shadows.phi[group.kept, :, part]
        moments = [Side(phi, mask[:, part], plan.median).whole() for mask in masks]
        stds = [
            _deviation(m, plan, None if fixed is None else fixed[i]) for i, m in enumerate(moments)
        ]
        values = problem.targets.phi[group.targets, :, part]
        scores[:, part] = _statistic(values, moments, stds, plan)
    return scores


def _chunk_size(problem: Problem) -> int:
    """Return how many samples are worked on at a time, to bound memory and stay in cache."""
    models, queries, _ = problem.shadows.phi.shape
    return max(64, CHUNK_BYTES // (8 * models * queries))


def _all_moments(
    problem: Problem, groups: list[Group], part: slice, plan: _Plan
) -> Iterator[list[Moments]]:
    """Yield for each group the moments of a chunk's OUT side and, online, of its IN side."""
    phi = problem.shadows.phi[:, :, part]
    member = problem.shadows.member[:, part]
    masks = [~member, member] if plan.online else [~member]
    common: list[Side] = []
    selected: dict[int, list[SelectedSide]] = {}
    if any(group.each is None for group in groups):
        common = [Side(phi, mask, plan.median) for mask in masks]
    for group in groups:
        if group.each is None:
            yield [side.without(group.excluded) for side in common]
        elif not plan.median:
            if group.each not in selected:
                spares = max(one.excluded.size for one in groups)
                selected[group.each] = [
                    SelectedSide(phi, mask, problem.start(part), group.each, spares)
                    for mask in masks
                ]
            yield [side.without(group.excluded) for side in selected[group.each]]
        else:
            chosen = problem.sides(group, part)[: 2 if plan.online else 1]
            yield [Side(phi[group.kept], mask, plan.median).whole() for mask in chosen]


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
                    f"{group.kept.size}; raise splits.count"
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
    """Return scores (K, c) of phi values (K, Q, c), the mean over queries."""
    outside = (values - moments[0].centre) / stds[0]
    if plan.online:
        inside = (values - moments[1].centre) / stds[1]
        ratio = 0.5 * (outside * outside - inside * inside) + np.log(stds[0] / stds[1])
        scores = ratio.mean(axis=1)
        scores[:, moments[1].count == 0] = np.nan
        return np.asarray(scores)
    if plan.compat:
        log_density = -0.5 * outside * outside - np.log(stds[0]) - 0.5 * np.log(2 * np.pi)
        return np.asarray(-log_density.mean(axis=1))
    return np.asarray(-log_ndtr(-outside).mean(axis=1))


def _fixed_deviations(problem: Problem, groups: list[Group], plan: _Plan) -> list[list[np.ndarray]]:
    """Return for each group the deviations (Q,) of the OUT and, online, the IN side."""
    queries = problem.shadows.phi.shape[1]
    if plan.compat:
        return _uncentred_deviations(problem, groups, plan)
    sides = 2 if plan.online else 1
    squares = np.zeros((len(groups), sides, queries))
    counts = np.zeros((len(groups), sides))
    mean_only = _Plan(plan.online, True, False, plan.spherical, False)
    for part in chunks(problem.shadows.samples, _chunk_size(problem)):
        used = ~problem.reserve[part]
        for g, both in enumerate(_all_moments(problem, groups, part, mean_only)):
            for s, moments in enumerate(both):
                weight = moments.count * used
                squares[g, s] += np.maximum(moments.variance, 0.0) @ weight
                counts[g, s] += weight.sum()
    variance = squares / np.maximum(counts, 1)[:, :, None]
    if plan.spherical:
        variance[:] = variance.mean(axis=2, keepdims=True)
    if not np.all(variance > 0):
        raise InputError(
            f"attacks.{problem.name}: variance: fixed finds no spread among shadow models of any "
            "sample; raise splits.count"
        )
    return [list(np.sqrt(row)) for row in variance]


def _uncentred_deviations(
    problem: Problem, groups: list[Group], plan: _Plan
) -> list[list[np.ndarray]]:
    """Return the public code's fixed deviations: of all phi of one side about one mean.

    Online, the IN deviation serves both sides.
    """
    shadows = problem.shadows
    member = shadows.member if plan.online else ~shadows.member
    sums = _sums(problem, np.arange(shadows.models), member & ~problem.reserve)
    sides = 2 if plan.online else 1
    return [[_spread(problem, sums[group.kept])] * sides for group in groups]


def _sums(problem: Problem, models: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return count, sum and sum of squares of the chosen phi of each model: float64 (k, 3)."""
    phi = problem.shadows.phi
    shift = float(phi[0].mean())
    sums = np.zeros((models.size, 3))
    for row, model in enumerate(models):
        values = phi[model][:, chosen[row]] - shift
        sums[row] = values.size, values.sum(), np.einsum("qn,qn->", values, values)
    return sums


def _spread(problem: Problem, sums: np.ndarray) -> np.ndarray:
    """Return the deviation about the common mean, from :func:`_sums`, once per query: (Q,)."""
    count, total, squares = sums.sum(axis=0)
    std = np.sqrt(max(squares / count - (total / count) ** 2, 0.0))
    return np.full(problem.shadows.phi.shape[1], std)


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
)
