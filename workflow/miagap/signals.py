"""What attacks see of models: phi, loss, logits and membership, as plain arrays.

A ``Signals`` holds any number of models over the same samples, either targets or
shadow models. It knows nothing of attacks, so that a pool of models does not depend on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

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
        require_array("phi", self.phi, (models, queries, samples), np.float64)
        require_array("loss", self.loss, (models, samples), np.float64)
        require_array("member", self.member, (models, samples), np.bool_)
        require_array("split", self.split, (models,), np.int64)
        require_array("seed", self.seed, (models,), np.int64)
        require_array("labels", self.labels, (samples,), np.int64)
        if self.pairs is not None:
            require_array("pairs", self.pairs, (models,), np.int64)
        if self.logits is not None:
            classes = self.logits.shape[-1] if self.logits.ndim == 3 else -1
            require_array("logits", self.logits, (models, samples, classes), np.float32)
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


def require_array(name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type) -> None:
    """Raise InputError unless ``array`` has this shape and dtype."""
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise InputError(
            f"signals: {name} must be {np.dtype(dtype).name} {shape}, "
            f"not {array.dtype.name} {array.shape}"
        )
