"""The error of a training run that came to nothing."""

from miagap.errors import InputError


class DivergedError(InputError):
    """The loss or a weight became infinite or NaN.

    Attributes:
        epoch: the epoch (from 1) in which it was found.
        learning_rate: at the start of that epoch.
    """

    def __init__(self, what: str, epoch: int, learning_rate: float) -> None:
        super().__init__(
            f"training diverged: {what} is not finite after epoch {epoch} at learning rate "
            f"{learning_rate:.6g}; lower training.learning_rate, or set training.warmup or "
            "training.gradient_clip"
        )
        self.epoch = epoch
        self.learning_rate = learning_rate
