"""Names of models and of what is done to them, shared by every stage.

Apart from ``study``, which knows the attacks: what imports this module does not depend on
their code, so that a changed attack retrains no model (see ``digest``).
"""

import re
from dataclasses import dataclass

LEAVE_ONE_OUT = "leave-one-out"
FIXED_SPLIT = "fixed-split"
BEST = "best"
HISTORY = "history.parquet"


@dataclass(frozen=True, order=True)
class ModelId:
    """One training run: technique, seed, split."""

    technique: str
    seed: int
    split: int

    @property
    def name(self) -> str:
        """File name stem of the run within its technique."""
        return run_name(self.seed, self.split)


def run_name(seed: int, split: int) -> str:
    """Return the file name stem of a run: ``seed0-split3``."""
    return f"seed{seed}-split{split}"


def parse_run_name(text: str) -> tuple[int, int]:
    """Return (seed, split) of a file name stem made by :func:`run_name`."""
    match = re.fullmatch(r"seed(\d+)-split(\d+)", text)
    if match is None:
        raise ValueError(f"not a run name: {text}")
    return int(match[1]), int(match[2])
