"""What attacks see of models: phi, loss, logits and membership, as plain arrays.

A ``Signals`` holds any number of models over the same samples, either targets or
shadow models. A ``Problem`` says which target is attacked with which shadow models;
every attack is a function of a problem. Leave-one-out, fixed-split, cross-technique
attackers and threshold calibration are all problems with different tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from miagap import seeds
from miagap.attacks.selection import common_count, first
from miagap.errors import InputError


@dataclass(frozen=True)
class Signals:
    """Answers of M models to n samples.

    Attributes:
        phi: float64 (M, Q, n), logit-scaled confidence of the true class, per query.
        loss: float64 (M, n), cross-entropy at query 0.
        member: bool (M, n), the sample was in the model's training split.
        split: int64 (M,), the model's split; splits 2k and 2k + 1 are a pair.
        seed: int64 (M,), the model's training seed.
        labels: int64 (n,), true class of each sample.
        logits: float32 (M, n, C) at query 0, or None where no attack needs them.
        extra: further signals that attacks need, (M, n, ...), by ``Measurement.key``.
        pairs: int64 (M,), models of one number may not be each other's shadows; None where
            splits 2k and 2k + 1 are complements.

    Raises:
        InputError: a shape or dtype is not as above, or a phi or loss is not finite.
    """

    phi: np.ndarray
    loss: np.ndarray
    member: np.ndarray
    split: np.ndarray
    seed: np.ndarray
    labels: np.ndarray
    logits: np.ndarray | None = None
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    pairs: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.phi.ndim != 3:
            raise InputError(f"signals: phi must have shape (M, Q, n), not {self.phi.shape}")
        models, queries, samples = self.phi.shape
        if models == 0 or queries == 0 or samples == 0:
            raise InputError(f"signals: phi has shape {self.phi.shape}, every axis must be >= 1")
        _require("phi", self.phi, (models, queries, samples), np.float64)
        _require("loss", self.loss, (models, samples), np.float64)
        _require("member", self.member, (models, samples), np.bool_)
        _require("split", self.split, (models,), np.int64)
        _require("seed", self.seed, (models,), np.int64)
        _require("labels", self.labels, (samples,), np.int64)
        if self.pairs is not None:
            _require("pairs", self.pairs, (models,), np.int64)
        if self.logits is not None:
            classes = self.logits.shape[-1] if self.logits.ndim == 3 else -1
            _require("logits", self.logits, (models, samples, classes), np.float32)
            if self.labels.min() < 0 or self.labels.max() >= classes:
                raise InputError(
                    f"signals: labels must lie in 0..{classes - 1}, the columns of logits"
                )
        for name, array in self.extra.items():
            if array.shape[:2] != (models, samples):
                raise InputError(
                    f"signals: {name} must have shape ({models}, {samples}, ...), not {array.shape}"
                )
        for model in range(models):  # model by model: no mask as large as phi
            if not (np.isfinite(self.phi[model]).all() and np.isfinite(self.loss[model]).all()):
                raise InputError(
                    f"signals: phi or loss of the model with split {self.split[model]}, seed "
                    f"{self.seed[model]} is not finite; train or extract that model again"
                )

    @property
    def models(self) -> int:
        """Number of models M."""
        return self.phi.shape[0]

    @property
    def samples(self) -> int:
        """Number of samples n."""
        return self.phi.shape[2]

    @property
    def pair(self) -> np.ndarray:
        """int64 (M,): the pair of complementary splits that each model belongs to."""
        return self.split // 2 if self.pairs is None else self.pairs

    def take(self, models: Sequence[int] | np.ndarray) -> Signals:
        """Return the signals of some models only (a copy)."""
        index = np.asarray(models, dtype=np.int64)
        return dataclasses.replace(
            self,
            phi=self.phi[index],
            loss=self.loss[index],
            member=self.member[index],
            split=self.split[index],
            seed=self.seed[index],
            logits=None if self.logits is None else self.logits[index],
            extra={name: array[index] for name, array in self.extra.items()},
            pairs=None if self.pairs is None else self.pairs[index],
        )


def _require(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> None:
    """Raise InputError unless ``array`` has this shape and dtype."""
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise InputError(
            f"signals: {name} must be {np.dtype(dtype).name} {shape}, "
            f"not {array.dtype.name} {array.shape}"
        )


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

    def __post_init__(self) -> None:
        samples = self.shadows.samples
        if self.targets.samples != samples:
            raise InputError(
                f"signals: targets have {self.targets.samples} samples, shadow models {samples}; "
                "both must come from the same pool"
            )
        if not np.array_equal(self.targets.labels, self.shadows.labels):
            raise InputError("signals: targets and shadow models have different labels")
        _require("reserve", self.reserve, (samples,), np.bool_)

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

    def start(self, samples: slice | np.ndarray) -> np.ndarray:
        """Return the shadow model at which each sample's selection begins: int64 (c,)."""
        return self._start[samples]

    @cached_property
    def _start(self) -> np.ndarray:
        rng = seeds.generator(self.rng_seed, "selection")
        return rng.integers(0, self.shadows.models, self.shadows.samples)

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
                "raise splits.count"
            )
        kept, excluded = np.flatnonzero(~out), np.flatnonzero(out)
        inside = (self._inside - self.shadows.member[excluded].sum(axis=0))[self.used]
        return Group(
            tasks=np.asarray(positions, dtype=np.int64),
            targets=np.asarray([self.tasks[p].target for p in positions], dtype=np.int64),
            kept=kept,
            excluded=excluded,
            each=common_count(inside, kept.size - inside),
        )

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
        inside = self.shadows.member[:, samples][group.kept]
        if group.each is None:
            return ~inside, inside
        # The first of the group's models from a model on that is the same for every group.
        start = np.searchsorted(group.kept, self.start(samples)) % group.kept.size
        return first(~inside, start, group.each), first(inside, start, group.each)

    def usable(self, group: Group) -> np.ndarray:
        """Return the samples outside the reserve that have enough IN and OUT models: bool (n,)."""
        if group.each is None:
            return self.used
        inside = self._inside - self.shadows.member[group.excluded].sum(axis=0)
        return self.used & (np.minimum(inside, group.kept.size - inside) >= group.each)

    def generator(self, *key: str | int) -> np.random.Generator:
        """Return the random state that belongs to this attack and ``key``."""
        return seeds.generator(self.rng_seed, "attack", self.name, *key)


def chunks(samples: int, size: int) -> Iterator[slice]:
    """Yield slices that cover ``range(samples)`` in pieces of at most ``size``."""
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))
