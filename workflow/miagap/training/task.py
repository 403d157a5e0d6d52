"""What a training run is: everything that its bits depend on."""

from dataclasses import asdict, dataclass

import numpy as np

from miagap.artifacts import canonical_json
from miagap.device_pool import DevicePool
from miagap.errors import InputError
from miagap.models import ModelSettings
from miagap.numerics import Numerics
from miagap.training import state
from miagap.training.batches import Augment
from miagap.training.settings import TrainingSettings


@dataclass(frozen=True)
class Task:
    """One model to train on its half of the pool.

    Attributes:
        pool: all samples, on the device of ``numerics``.
        member: bool (n,), samples to train on.
        reserve: bool (n,), samples of neither half; used only to choose ``best``.
        augment: a built pipeline (:func:`miagap.augment.build`), or None.
        model: which network.
        settings: how to train.
        numerics: device and precision; :func:`miagap.numerics.configure` was called.
        rng_seed: non-negative, below 2**63; initial weights, order, augmentation, mixup
            and dropout are derived from it.
        identity: what else the run depends on (augmentations, code), as text.

    Raises:
        InputError: ``best`` without a reserve.
        ValueError: masks of another shape or type, or without a sample to train on.
    """

    pool: DevicePool
    member: np.ndarray
    reserve: np.ndarray
    augment: Augment | None
    model: ModelSettings
    settings: TrainingSettings
    numerics: Numerics
    rng_seed: int
    identity: str = ""

    def __post_init__(self) -> None:
        expected = (len(self.pool),)
        for name, mask in (("member", self.member), ("reserve", self.reserve)):
            if mask.shape != expected or mask.dtype != np.bool_:
                raise ValueError(f"{name}: bool {expected} expected, {mask.dtype} {mask.shape}")
        if not self.member.any() or (self.member & self.reserve).any():
            raise ValueError("member: at least one sample, and none of the reserve, expected")
        if self.settings.best and not self.reserve.any():
            raise InputError(
                "training.best: true needs samples to validate on; set splits.reserve above 0"
            )

    def digest(self) -> str:
        """Return the digest of everything that the run's bits depend on."""
        facts = {
            "model": asdict(self.model),
            "training": asdict(self.settings),
            "numerics": self.numerics.describe(),
            "rng_seed": self.rng_seed,
            "extra": self.identity,
        }
        tensors = (self.pool.images, self.pool.labels)
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        return state.digest(canonical_json(facts), *arrays, self.member, self.reserve)
