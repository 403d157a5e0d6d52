"""What imported models were trained on, and which of them may not be each other's shadows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from miagap import artifacts
from miagap.errors import InputError
from miagap.imports.arrays import read_keep
from miagap.imports.source import ImportedModel


def read_membership(models: Sequence[ImportedModel]) -> tuple[np.ndarray, np.ndarray]:
    """Return what the models were trained on, bool (M, n), and the reserve, bool (n,).

    The reserve is what no model was trained on, if it was set apart: of samples that are left
    out by chance there are fewer than of samples that exactly one model was trained on.

    Raises:
        InputError: a file is missing, no array of booleans, or of another length.
    """
    rows: list[np.ndarray] = []
    for model in models:
        path = model.membership_file
        own = read_keep(path) if model.keep else _member_column(path)
        if rows and own.size != rows[0].size:
            first = models[0].membership_file
            raise InputError(f"{path}: {own.size} samples, but {first} has {rows[0].size}")
        if own.all() or not own.any():
            raise InputError(f"{path}: {own.sum()} of {own.size} samples are members; need both")
        rows.append(own)
    member = np.stack(rows)
    times = member.sum(axis=0)
    apart = (times == 0).sum() > (times == 1).sum()
    reserve = (times == 0) if apart else np.zeros(times.size, np.bool_)
    for model, own in zip(models, member[:, ~reserve], strict=True):
        if own.all():
            raise InputError(
                f"{model.membership_file}: members are all samples that "
                "any model was trained on, so that attacks have no known non-members of it; "
                "models must be trained on different samples"
            )
    return member, reserve


def _member_column(path: str) -> np.ndarray:
    values = artifacts.read_parquet(path, ["member"])["member"].to_numpy()
    if values.dtype != np.bool_:
        raise InputError(f"{path}: member is {values.dtype}, expected bool")
    return values


def find_pairs(member: np.ndarray, reserve: np.ndarray) -> tuple[np.ndarray, bool]:
    """Number models so that those of one number may not be each other's shadows.

    Models of equal or of complementary splits get one number.

    Args:
        member: bool (M, n).
        reserve: bool (n,).

    Returns:
        int64 (M,), and whether the splits are complementary pairs: every split has its
        complement, trained equally often.
    """
    used = member[:, ~reserve]
    numbers: dict[bytes, int] = {}
    pairs = np.empty(len(used), dtype=np.int64)
    sides: dict[int, list[int]] = {}
    for row, own in enumerate(used):
        first = own if own[0] else ~own
        key = np.packbits(first).tobytes()
        pairs[row] = numbers.setdefault(key, len(numbers))
        sides.setdefault(int(pairs[row]), [0, 0])[int(own[0])] += 1
    return pairs, all(out == inside for out, inside in sides.values())
