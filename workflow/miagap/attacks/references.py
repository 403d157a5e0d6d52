"""What several attacks take from reference models: means per sample, and known non-members.

A target's own non-members are never used: populations come from the reserve, or from what
shadow models say about samples that they themselves were not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miagap.attacks.signals import Group, Problem, chunks

STD_FLOOR = 1e-6


@dataclass(frozen=True)
class Means:
    """Mean of a value per sample over a group's IN and OUT shadow models, float64 (n,).

    A sample without models on one side has NaN there.
    """

    inside: np.ndarray
    outside: np.ndarray


class PairSums:
    """Sums of a value over each pair's IN and OUT models, from which any group's means follow.

    Args:
        values: float64 (M, n), a value of every shadow model and sample.
        member: bool (M, n).
        pair: int64 (M,), each model's pair.
    """

    def __init__(self, values: np.ndarray, member: np.ndarray, pair: np.ndarray) -> None:
        self.pairs, self.row = np.unique(pair, return_inverse=True)
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

    def means(self, excluded_pairs: np.ndarray) -> Means:
        """Return the means over the models of all but some pairs."""
        gone = np.isin(self.pairs, excluded_pairs)
        sums = self.total - self.sums[:, gone].sum(axis=1)
        counts = self.total_count - self.counts[:, gone].sum(axis=1)
        outside, inside = self.shift + _divide(sums, counts)
        return Means(inside, outside)

    def means_at(
        self, excluded_pairs: np.ndarray, models: np.ndarray, samples: np.ndarray
    ) -> Means:
        """Return the means at (model, sample) points, each model's own pair excluded too.

        Args:
            excluded_pairs: pairs left out at every point.
            models: int64 (k,), indices of shadow models, none of an excluded pair.
            samples: int64 (k,).

        Returns:
            means of shape (k,).
        """
        gone = np.isin(self.pairs, excluded_pairs)
        own = self.row[models]
        sums = self.total - self.sums[:, gone].sum(axis=1)
        counts = self.total_count - self.counts[:, gone].sum(axis=1)
        sums = sums[:, samples] - self.sums[:, own, samples]
        counts = counts[:, samples] - self.counts[:, own, samples]
        outside, inside = self.shift[samples] + _divide(sums, counts)
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
    out = np.flatnonzero(~problem.shadows.member[models, samples])[:count]
    return models[out], samples[out]


def group_generator(problem: Problem, group: Group) -> np.random.Generator:
    """Return the random state of a group: it depends on the pairs kept out and nothing else."""
    return problem.generator(*(int(pair) for pair in problem.tasks[group.tasks[0]].excluded_pairs))


@dataclass(frozen=True)
class OutMoments:
    """Mean and deviation of phi at query 0 over OUT models, float64 (n,)."""

    mean: np.ndarray
    std: np.ndarray


def out_moments(problem: Problem, models: np.ndarray) -> OutMoments:
    """Return each sample's mean and population deviation of phi over the OUT of some models.

    A deviation below ``STD_FLOOR`` (agreement to the rounding of float32 logits) is raised to it.
    """
    shadows = problem.shadows
    mean, std = np.empty(shadows.samples), np.empty(shadows.samples)
    for part in chunks(shadows.samples, 8192):
        weight = (~shadows.member[models, part]).astype(np.float64)
        phi = shadows.phi[models, 0, part]
        count = np.maximum(weight.sum(axis=0), 1)
        mean[part] = (phi * weight).sum(axis=0) / count
        centred = (phi - mean[part]) * weight
        std[part] = np.sqrt((centred * centred).sum(axis=0) / count)
    return OutMoments(mean, np.maximum(std, STD_FLOOR))
