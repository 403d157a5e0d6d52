"""Which target is attacked with which shadow models.

Every attack is a function of a ``Problem``. Leave-one-out, fixed-split, cross-technique
attackers and threshold calibration are all problems with different tasks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from miagap import seeds
from miagap.attacks.moments import SelectedSide, Side
from miagap.attacks.selection import Selection, common_count, last_rank, order
from miagap.errors import InputError
from miagap.signals import Signals, require_array


@dataclass(frozen=True)
class Task:
    """One model to attack: its index among the targets and the pairs not to use as shadows."""

    target: int
    excluded_pairs: tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """Tasks that may use the same shadow models.

    Attributes:
        tasks: int64 (K,), positions in ``Problem.tasks``.
        targets: int64 (K,), the tasks' indices among the targets.
        kept: int64, indices of the shadow models to use.
        excluded: int64, indices of the shadow models not to use.
        each: how many IN and how many OUT models of ``kept`` count for each sample; None: all
            of them, for every sample has equally many (``selection``).
    """

    tasks: np.ndarray
    targets: np.ndarray
    kept: np.ndarray
    excluded: np.ndarray
    each: int | None = None


@dataclass(frozen=True)
class Problem:
    """Models to attack and what the attacker has.

    Attributes:
        name: the attack's name in the config, for error messages and random states.
        targets: the models that tasks refer to. Their membership is never read by an
            attack: it is there for the metrics.
        shadows: the attacker's models, with known membership.
        tasks: which targets to attack, and which shadow pairs are out of bounds.
        reserve: bool (n,), samples that no model trains on.
        rng_seed: the attack's random state derives from this, its name and the task.
    """

    name: str
    targets: Signals
    shadows: Signals
    tasks: tuple[Task, ...]
    reserve: np.ndarray
    rng_seed: int
    _out: dict[int | None, Side] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        samples = self.shadows.samples
        if self.targets.samples != samples:
            raise InputError(
                f"signals: targets have {self.targets.samples} samples, shadow models {samples}; "
                "both must come from the same pool"
            )
        if not np.array_equal(self.targets.labels, self.shadows.labels):
            raise InputError("signals: targets and shadow models have different labels")
        require_array("reserve", self.reserve, (samples,), np.bool_)

    @property
    def labels(self) -> np.ndarray:
        """int64 (n,): true class of each sample."""
        return self.shadows.labels

    @cached_property
    def used(self) -> np.ndarray:
        """bool (n,): samples outside the reserve."""
        return ~self.reserve

    @cached_property
    def _inside(self) -> np.ndarray:
        """int64 (n,): how many shadow models trained on each sample."""
        return self.shadows.member.sum(axis=0)

    @cached_property
    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """Every sample's order of the OUT and of the IN shadow models: int16 (M, n) each.

        It begins at a random model; a group leaves out the models that it may not use.
        """
        rng = seeds.generator(self.rng_seed, "selection")
        member = self.shadows.member
        start = rng.integers(0, self.shadows.models, self.shadows.samples)
        return order(~member, start), order(member, start)

    @cached_property
    def most_excluded(self) -> int:
        """The most shadow models that a task of the problem may not use."""
        return max((group.excluded.size for group in self._groups), default=0)

    def groups(self) -> Iterator[Group]:
        """Yield the tasks by the shadow models they may use, in order of first appearance.

        Raises:
            InputError: a group has no shadow model left.
        """
        yield from self._groups

    @cached_property
    def _groups(self) -> list[Group]:
        by_pairs: dict[tuple[int, ...], list[int]] = {}
        for position, task in enumerate(self.tasks):
            by_pairs.setdefault(tuple(sorted(set(task.excluded_pairs))), []).append(position)
        return [self._group(pairs, positions) for pairs, positions in by_pairs.items()]

    def _group(self, pairs: Sequence[int], positions: Sequence[int]) -> Group:
        """Return the tasks at some positions as a group that may not use some pairs."""
        out = np.isin(self.shadows.pair, np.asarray(pairs, dtype=np.int64))
        if out.all():
            raise InputError(
                f"attacks.{self.name}: no shadow model is left for pair {pairs[0]} of splits; "
                "raise splits.count or import more models"
            )
        kept, excluded = np.flatnonzero(~out), np.flatnonzero(out)
        group = Group(
            tasks=np.asarray(positions, dtype=np.int64),
            targets=np.asarray([self.tasks[p].target for p in positions], dtype=np.int64),
            kept=kept,
            excluded=excluded,
        )
        inside = self.inside(group)[self.used]
        return replace(group, each=common_count(inside, kept.size - inside))

    def without(self, group: Group, model: int) -> Group:
        """Return a group's shadow models without the pair of one of them, for no task."""
        pairs = {int(pair) for pair in self.shadows.pair[group.excluded]}
        return self._group(sorted({*pairs, int(self.shadows.pair[model])}), [])

    def sides(
        self, group: Group, samples: slice | np.ndarray = slice(None)
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which of a group's shadow models count as OUT and as IN: bool (kept, c) each.

        Attacks learn the membership of shadow models from this alone. With paired splits every
        model is one of the two at every sample; else equally many of each, see ``selection``.

        Args:
            group: one of the problem's groups.
            samples: c of the samples.
        """
        if group.each is None:
            inside = self.shadows.member[:, samples][group.kept]
            return ~inside, inside
        outside, inside = (
            rank[group.kept] <= last_rank(rank[group.excluded], group.each)
            for rank in (ranks[:, samples] for ranks in self.ranks)
        )
        return outside, inside

    def sides_at(
        self, group: Group, models: np.ndarray, samples: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return :meth:`sides` at (model, sample) points: OUT and IN, bool (k,) each.

        Args:
            group: one of the problem's groups.
            models: int64 (k,), indices of shadow models of the group.
            samples: int64 (k,).
        """
        if group.each is None:
            inside = self.shadows.member[models, samples]
            return ~inside, inside
        outside, inside = (
            ranks[models, samples] <= last_rank(ranks[group.excluded][:, samples], group.each)
            for ranks in self.ranks
        )
        return outside, inside

    def out_phi(self, each: int | None) -> Side:
        """Return phi at query 0 under OUT models, for groups of which so many count (or all)."""
        if each not in self._out:
            phi = self.shadows.phi[:, :1]
            if each is None:
                self._out[each] = Side(phi, ~self.shadows.member, median=False)
            else:
                chosen = Selection(self.ranks[0], each, self.most_excluded)
                self._out[each] = SelectedSide(phi, chosen, median=False)
        return self._out[each]

    def inside(self, group: Group) -> np.ndarray:
        """Return how many of a group's shadow models trained on each sample: int64 (n,)."""
        return np.asarray(self._inside - self.shadows.member[group.excluded].sum(axis=0))

    def usable(self, group: Group) -> np.ndarray:
        """Return the samples outside the reserve that have enough IN and OUT models: bool (n,)."""
        if group.each is None:
            return self.used
        inside = self.inside(group)
        return self.used & (np.minimum(inside, group.kept.size - inside) >= group.each)

    def generator(self, *key: str | int) -> np.random.Generator:
        """Return the random state that belongs to this attack and ``key``."""
        return seeds.generator(self.rng_seed, "attack", self.name, *key)


def chunks(samples: int, size: int) -> Iterator[slice]:
    """Yield slices that cover ``range(samples)`` in pieces of at most ``size``."""
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))
