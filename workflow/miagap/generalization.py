"""The generalization gap of one model: accuracy and loss on both halves of the pool."""

import numpy as np
from numpy.typing import NDArray

from miagap.errors import InputError


def from_logits(
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    member: NDArray[np.bool_],
    valid: NDArray[np.bool_] | None = None,
    loss: NDArray[np.float64] | None = None,
) -> dict[str, float | int]:
    """Train and test accuracy, mean cross-entropy, and their gaps.

    Args:
        logits: (n, C) of un-augmented images in eval mode.
        labels: (n,) integers in 0..C-1.
        member: (n,) bool, the training half.
        valid: (n,) bool, False for the reserve, which belongs to neither half; None: all.
        loss: (n,) float64 cross-entropy; None: computed from the logits in float64.

    Returns:
        n_members, n_nonmembers; train_accuracy, test_accuracy as shares in [0, 1] and
        accuracy_gap = train - test; train_loss, test_loss and loss_gap = test - train.

    Raises:
        InputError: shapes differ, a value is NaN, or one half is empty.
    """
    n = len(labels)
    inside = np.asarray(member, bool)
    usable = np.ones(n, bool) if valid is None else np.asarray(valid, bool)
    if logits.ndim != 2 or not len(logits) == n == len(inside) == len(usable):
        raise InputError(
            f"logits: shape {logits.shape} with {n} labels, {len(inside)} memberships, "
            f"{len(usable)} valid flags; lengths must agree"
        )
    losses = cross_entropy(logits, labels) if loss is None else np.asarray(loss, np.float64)
    if losses.shape != (n,):
        raise InputError(f"loss: shape {losses.shape} where ({n},) was expected")
    if np.isnan(logits).any() or np.isnan(losses).any():
        raise InputError("logits or loss: NaN found; the model diverged or the file is damaged")
    train, test = inside & usable, ~inside & usable
    if not train.any() or not test.any():
        raise InputError("member: one of the two halves is empty")
    right = logits.argmax(axis=1) == labels
    row: dict[str, float | int] = {"n_members": int(train.sum()), "n_nonmembers": int(test.sum())}
    row["train_accuracy"] = float(right[train].mean())
    row["test_accuracy"] = float(right[test].mean())
    row["accuracy_gap"] = row["train_accuracy"] - row["test_accuracy"]
    row["train_loss"] = float(losses[train].mean())
    row["test_loss"] = float(losses[test].mean())
    row["loss_gap"] = row["test_loss"] - row["train_loss"]
    return row


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cross-entropy of each sample in float64, (n,): logsumexp(z) - z_y."""
    z = np.asarray(logits, np.float64)
    z = z - z.max(axis=1, keepdims=True)
    chosen = z[np.arange(len(z)), labels]
    return np.asarray(np.log(np.exp(z).sum(axis=1)) - chosen)
