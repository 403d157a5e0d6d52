"""Paired splits: which samples each model trains on, and which no model trains on.

Splits come in complementary pairs. The reserve is drawn first; pair k then is a random
half of the other samples (split 2k) and the other half (split 2k + 1), drawn from
(split seed, k) alone, so that a study grows by pairs and keeps those that it has. Each
sample outside the reserve is a member of exactly half of all splits. If their number is
odd, split 2k has one sample less than split 2k + 1.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from miagap import artifacts, seeds
from miagap.errors import InputError

BoolArray = NDArray[np.bool_]


def membership(
    n: int, count: int, split_seed: int, reserve_share: float
) -> tuple[BoolArray, BoolArray]:
    """Draw all splits of a study.

    Args:
        n: number of samples of the pool.
        count: number of splits, even.
        split_seed: the config's ``splits.seed``.
        reserve_share: share of the pool that no split holds, in [0, 1).

    Returns:
        Members, bool (count, n), and the reserve, bool (n,).

    Raises:
        InputError: the count is odd or below 2, or a share leaves no two samples.
    """
    if count < 2 or count % 2:
        raise InputError(f"`splits.count` is {count}, expected an even number of 2 or more")
    reserve = reserve_members(n, split_seed, reserve_share)
    halves = [_half(reserve, pair, split_seed) for pair in range(count // 2)]
    member = np.stack([side for half in halves for side in (half, ~half & ~reserve)])
    return member, reserve


def split_members(n: int, split: int, split_seed: int, reserve_share: float) -> BoolArray:
    """Return the members of one split, bool (n,), as :func:`membership` draws them."""
    if split < 0:
        raise InputError(f"split {split} does not exist; splits are numbered from 0")
    reserve = reserve_members(n, split_seed, reserve_share)
    half = _half(reserve, split // 2, split_seed)
    return ~half & ~reserve if split % 2 else half


def reserve_members(n: int, split_seed: int, reserve_share: float) -> BoolArray:
    """Return which samples no model trains on, bool (n,): round(share x n) of them.

    Raises:
        InputError: the share is outside [0, 1), rounds to no sample or leaves less than two.
    """
    if not 0 <= reserve_share < 1:
        raise InputError(f"`splits.reserve` is {reserve_share}, expected 0 or more and below 1")
    size = round(reserve_share * n)
    if reserve_share > 0 and size == 0:
        raise InputError(
            f"`splits.reserve` is {reserve_share}, less than one of {n} samples; raise it or set 0"
        )
    if n - size < 2:
        raise InputError(
            f"`splits.reserve` is {reserve_share}: {n - size} of {n} samples remain to be split, "
            "expected at least 2"
        )
    reserve = np.zeros(n, np.bool_)
    reserve[_order(n, seeds.derive(split_seed, "reserve"))[:size]] = True
    return reserve


def _half(reserve: BoolArray, pair: int, split_seed: int) -> BoolArray:
    candidates = np.flatnonzero(~reserve)
    order = _order(candidates.size, seeds.derive(split_seed, "pair", pair))
    half = np.zeros(reserve.size, np.bool_)
    half[candidates[order[: candidates.size // 2]]] = True
    return half


def _order(n: int, state: np.random.SeedSequence) -> NDArray[np.int64]:
    """Return a random order of n things.

    NumPy keeps the raw output of its bit generators for ever, but not what ``permutation``
    makes of it; a study that grows under a later NumPy must find its splits unchanged.
    """
    return np.argsort(np.random.PCG64(state).random_raw(n), kind="stable")


def write_membership(
    path: str | os.PathLike[str],
    member: BoolArray,
    reserve: BoolArray,
    metadata: Mapping[str, str],
) -> None:
    """Write members (count, n) and reserve (n,) as Parquet.

    Columns: sample_id int32, reserve bool, split0, split1, ... bool.
    """
    columns: dict[str, NDArray[np.generic]] = {
        "sample_id": np.arange(reserve.size, dtype=np.int32),
        "reserve": reserve,
    }
    columns |= {f"split{split}": row for split, row in enumerate(member)}
    artifacts.write_parquet(pa.table(columns), path, metadata)


def read_membership(
    path: str | os.PathLike[str], splits: Sequence[int] | None = None
) -> tuple[BoolArray, BoolArray]:
    """Read members, bool (count, n), and reserve, bool (n,), of all splits or of those named.

    Raises:
        InputError: the file is missing, truncated, lacks a split or is not a membership.
    """
    if splits is None:
        table = artifacts.read_parquet(path)
        names = [f"split{split}" for split in range(table.num_columns - 2)]
    else:
        names = [f"split{split}" for split in splits]
        table = artifacts.read_parquet(path, ["sample_id", "reserve", *names])
    if set(table.column_names) != {"sample_id", "reserve", *names}:
        raise InputError(f"{path}: not a table of splits; delete it and run again")
    if not np.array_equal(table["sample_id"].to_numpy(), np.arange(table.num_rows)):
        raise InputError(f"{path}: sample_id does not count from 0; delete it and run again")
    member = np.stack([table[name].to_numpy() for name in names])
    return member, table["reserve"].to_numpy()
