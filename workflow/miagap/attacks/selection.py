"""Equal numbers of IN and OUT shadow models for every sample, where splits are not paired.

With complementary pairs, dropping the target's pair leaves every sample IN exactly half of the
shadow models. With any other design it does not: where every sample is IN exactly half of all
models, the others are IN one time less for the target's members than for its non-members, and
scores tell members by that count alone. So of every sample only ``each`` IN and ``each`` OUT
models are used, and

- ``each`` is one number for all samples of a target;
- which models are used is decided by the other models' membership and a seeded order of the
  models, never by the target's membership.

Where membership has no effect on the models, a score then is made of the target's answer, ``each``
IN answers and ``each`` OUT answers, all alike, for members and non-members: its distribution is
the same for both, whatever the design of the splits. Tests show it for random halves, for exactly
balanced designs and for independent coin flips.
"""

from __future__ import annotations

import numpy as np

ENOUGH = 4
SHARE = 0.99


def common_count(inside: np.ndarray, outside: np.ndarray) -> int | None:
    """Return how many IN and how many OUT models to use of every sample; None for all there are.

    All, where every sample has as many IN models as every other. Else as many as the sample with
    the fewest has. If that is less than ``ENOUGH``, poor samples go without a score for the sake
    of all others: as many then as ``SHARE`` of the samples have, though not more than ``ENOUGH``
    nor, if any sample has 2, less than 2.

    Args:
        inside, outside: int (n,), shadow models that did and did not train on each sample,
            without the reserve.
    """
    if inside.size == 0 or inside.min() == inside.max():
        return None
    fewest = np.sort(np.minimum(inside, outside))
    least, most = int(fewest[0]), int(fewest[-1])
    usual = int(fewest[int((1 - SHARE) * fewest.size)])
    return max(least, min(most, ENOUGH, max(usual, 2)))


def ranks(mask: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Number the true rows of every column from row ``start`` on, cyclically: int16 (K, c).

    Args:
        mask: bool (K, c).
        start: int (c,), in 0..K-1.

    Returns:
        1, 2, ... at true rows; elsewhere no meaning.
    """
    place = np.cumsum(mask, axis=0, dtype=np.int16)
    columns = np.arange(mask.shape[1])
    before = np.where(start > 0, place[start - 1, columns], 0).astype(np.int16)
    total = place[-1].copy()
    place -= before
    place += np.where(place <= 0, total, np.int16(0))
    return place


def first(mask: np.ndarray, start: np.ndarray, count: int) -> np.ndarray:
    """Keep, of every column, the first ``count`` true rows from row ``start`` on, cyclically.

    A column that has fewer keeps all it has.
    """
    return np.asarray(mask & (ranks(mask, start) <= count))
