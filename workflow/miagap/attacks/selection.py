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

NOWHERE = np.int16(np.iinfo(np.int16).max)
"""Rank of a model that is not of the side."""
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


def order(mask: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return :func:`ranks`, with ``NOWHERE`` at false rows: int16 (K, c)."""
    return np.where(mask, ranks(mask, start), NOWHERE)


def last_rank(gone: np.ndarray, each: int) -> np.ndarray:
    """Return the rank of the last model that counts if those of some ranks may not: int (c,).

    Args:
        gone: int16 (E, c), ranks of the models that may not be used.
        each: how many models count.
    """
    last = np.full(gone.shape[1], each, dtype=np.int16)
    for one in np.sort(gone, axis=0):
        last += one <= last
    return last


class Selection:
    """The first ``each`` models of one side in every sample's order, for any excluded models.

    Whatever models a group may not use, the models that count are among the first
    ``each + spares``, and all but a few of these: sums over them can be formed once.

    Args:
        rank: int16 (M, c), place of each model in each sample's order, see :func:`order`.
        each: how many models count.
        spares: most models that a group may not use.
    """

    def __init__(self, rank: np.ndarray, each: int, spares: int) -> None:
        self.rank, self.each = rank, each
        self.base = rank <= each + spares
        self._spare = np.arange(each + 1, each + spares + 1, dtype=np.int16)[:, None]
        # A rank that no model of a sample has is given any model; it is not there.
        is_it = [rank == one for one in self._spare]
        shape = (spares, rank.shape[1])
        self.spares = np.array([one.argmax(axis=0) for one in is_it], np.int64).reshape(shape)
        self._there = np.array([one.any(axis=0) for one in is_it], np.bool_).reshape(shape)

    def removed(self, excluded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which models of the base do not count, for a group.

        Args:
            excluded: int64 (E,), models that the group may not use, at most ``spares``.

        Returns:
            int64 (E + spares, c), models: first ``excluded``, then ``self.spares``; and bool
            (E + spares, c), whether to leave them out.
        """
        gone = self.rank[excluded]
        last = last_rank(gone, self.each)
        models = np.broadcast_to(excluded[:, None], gone.shape)
        out = np.concatenate([gone <= last, self._there & (self._spare > last)])
        return np.concatenate([models, self.spares]), out
