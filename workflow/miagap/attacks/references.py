"""What several attacks take from reference models: means per sample, and known non-members.

A target's own non-members are never used: populations come from the reserve, or from what
shadow models say about samples that they themselves were not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miagap.attacks.base import Parameter
from miagap.attacks.problem import Group, Problem, chunks
from miagap.attacks.selection import Selection

STD_FLOOR = 1e-6
POPULATION_SIZE = Parameter(
    "int", 10000, "non-members drawn from shadow models without a reserve", minimum=2
)
"""How many points :func:`draw_nonmembers` gives an attack."""


@dataclass(frozen=True)
class Means:
    """Mean of a value per sample over a group's IN and OUT shadow models, float64 (n,).

    A sample without models on one side has NaN there.
    """

    inside: np.ndarray
    outside: np.ndarray


class ReferenceMeans:
    """Means of a value over the IN and OUT shadow models that groups may use.

    Sums over each pair are formed once, and for a group those of its excluded pairs are taken
    off. So it is with the models that count where groups use equal numbers (``Group.each``).

    Args:
        problem: gives the shadow models.
        values: float64 (M, n), a value of every shadow model and sample.
    """

    def __init__(self, problem: Problem, values: np.ndarray) -> None:
        self.problem, self.values = problem, values
        member = problem.shadows.member
        self.pairs, self.row = np.unique(problem.shadows.pair, return_inverse=True)
        shape = (2, self.pairs.size, values.shape[1])
        # Centred per sample, so that taking a pair off does not cancel digits.
        self.shift = values.mean(axis=0)
        self.sums = np.zeros(shape)
        self.counts = np.zeros(shape, dtype=np.int32)
        for model, row in enumerate(self.row):
            centred = values[model] - self.shift
            for side, mask in enumerate((~member[model], member[model])):
                self.sums[side, row] += centred * mask
                self.counts[side, row] += mask
        self.total = self.sums.sum(axis=1)
        self.total_count = self.counts.sum(axis=1)
        self.bases: dict[int, list[tuple[Selection, np.ndarray, np.ndarray]]] = {}

    def means(self, group: Group) -> Means:
        """Return the means over a group's models."""
        if group.each is not None:
            outside, inside = self.shift + _divide(*self._chosen(group))
            return Means(inside, outside)
        gone = np.isin(self.pairs, excluded_pairs(self.problem, group))
        sums = self.total - self.sums[:, gone].sum(axis=1)
        counts = self.total_count - self.counts[:, gone].sum(axis=1)
        outside, inside = self.shift + _divide(sums, counts)
        return Means(inside, outside)

    def means_at(self, group: Group, models: np.ndarray, samples: np.ndarray) -> Means:
        """Return the means at (model, sample) points, each model's own pair excluded too.

        Args:
            group: its excluded pairs are left out at every point.
            models: int64 (k,), indices of shadow models of the group.
            samples: int64 (k,).

        Returns:
            means of shape (k,).
        """
        if group.each is not None:
            return self._chosen_at(group, models, samples)
        gone = np.isin(self.pairs, excluded_pairs(self.problem, group))
        own = self.row[models]
        sums = self.total - self.sums[:, gone].sum(axis=1)
        counts = self.total_count - self.counts[:, gone].sum(axis=1)
        sums = sums[:, samples] - self.sums[:, own, samples]
        counts = counts[:, samples] - self.counts[:, own, samples]
        outside, inside = self.shift[samples] + _divide(sums, counts)
        return Means(inside, outside)

    def _chosen(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """Return sums about the shift and counts (2, n) over the OUT and IN models that count."""
        assert group.each is not None
        if group.each not in self.bases:
            self.bases[group.each] = [self._base(rank, group.each) for rank in self.problem.ranks]
        samples = np.arange(self.shift.size)
        sums, counts = [], []
        for chosen, total, count in self.bases[group.each]:
            models, out = chosen.removed(group.excluded)
            sums.append(total - ((self.values[models, samples] - self.shift) * out).sum(axis=0))
            counts.append(count - out.sum(axis=0))
        return np.stack(sums), np.stack(counts)

    def _base(self, rank: np.ndarray, each: int) -> tuple[Selection, np.ndarray, np.ndarray]:
        """Return a side's selection, and sums and counts (n,) over all models that may count."""
        chosen = Selection(rank, each, self.problem.most_excluded)
        total = np.zeros_like(self.shift)
        for values, mask in zip(self.values, chosen.base, strict=True):
            total += (values - self.shift) * mask
        return chosen, total, chosen.base.sum(axis=0)

    def _chosen_at(self, group: Group, models: np.ndarray, samples: np.ndarray) -> Means:
        """Return :meth:`means_at` of a group that uses equal numbers of models."""
        sums, counts = self._chosen(group)
        own = np.stack(self.problem.sides_at(group, models, samples))
        value = self.values[models, samples] - self.shift[samples]
        outside, inside = self.shift[samples] + _divide(
            sums[:, samples] - own * value, counts[:, samples] - own
        )
        return Means(inside, outside)


def _divide(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return sums / counts, NaN where nothing was counted."""
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def excluded_pairs(problem: Problem, group: Group) -> np.ndarray:
    """Return the pairs of shadow models that a group may not use, int64."""
    return np.unique(problem.shadows.pair[group.excluded])


def draw_nonmembers(
    problem: Problem, group: Group, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw (shadow model, sample) points at which the sample is OUT of that model's training.

    Reserve samples are left out: they were OUT of every model, targets included.

    Returns:
        int64 (k,) models and int64 (k,) samples, k <= count, drawn with replacement.
    """
    used = np.flatnonzero(~problem.reserve)
    # Half of the points are OUT in balanced splits; three draws per point leave none wanting.
    models = rng.choice(group.kept, 3 * count)
    samples = rng.choice(used, 3 * count)
    outside, _ = problem.sides_at(group, models, samples)
    out = np.flatnonzero(outside)[:count]
    return models[out], samples[out]


def group_generator(problem: Problem, group: Group) -> np.random.Generator:
    """Return the random state of a group: it depends on the pairs kept out and nothing else."""
    return problem.generator(*(int(pair) for pair in problem.tasks[group.tasks[0]].excluded_pairs))


@dataclass(frozen=True)
class OutMoments:
    """Mean and deviation of a value over OUT models, float64 (n,)."""

    mean: np.ndarray
    std: np.ndarray


def out_moments(problem: Problem, group: Group, values: np.ndarray | None = None) -> OutMoments:
    """Return each sample's mean and population deviation of a value over a group's OUT models.

    A deviation below ``STD_FLOOR`` (agreement to the rounding of float32 logits) is raised to it.

    Args:
        problem: gives the shadow models.
        group: one of its groups.
        values: float64 (M, n), of every shadow model and sample; None: phi at query 0.
    """
    if values is None:
        moments = problem.out_phi(group.each).without(group.excluded)
        std = np.sqrt(np.maximum(moments.variance[0], 0.0))
        return OutMoments(moments.centre[0], np.maximum(std, STD_FLOOR))
    mean, std = np.empty(problem.shadows.samples), np.empty(problem.shadows.samples)
    for part in chunks(mean.size, 8192):
        weight = problem.sides(group, part)[0].astype(np.float64)
        value = values[group.kept, part]
        count = np.maximum(weight.sum(axis=0), 1)
        mean[part] = (value * weight).sum(axis=0) / count
        centred = (value - mean[part]) * weight
        std[part] = np.sqrt((centred * centred).sum(axis=0) / count)
    return OutMoments(mean, np.maximum(std, STD_FLOOR))
