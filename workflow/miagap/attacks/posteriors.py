"""Probabilities of classes from logits, in float64, and what attacks make of them.

Nothing is formed from a rounded probability: a confident model's 1 - p would be 0. Arrays are
turned to have classes first where sums over classes are many.
"""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float64 (n, C), of logits (n, C)."""
    weights = np.exp(_shifted(logits))
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities, float64 (n, C), of logits (n, C)."""
    shifted = _shifted(logits)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def _shifted(logits: np.ndarray) -> np.ndarray:
    """Return logits less the largest of each row, float64 (n, C)."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted


def negative_entropy(logits: np.ndarray) -> np.ndarray:
    """Return minus the prediction's entropy in nats, float64 (n,), of logits (n, C)."""
    shifted, top, best = _classes_first(logits)
    shifted -= best
    weights = np.exp(shifted)
    weights[top, np.arange(top.size)] = 0.0
    rest = weights.sum(axis=0)  # in units of the most likely class's weight, without it
    weights *= shifted
    return np.asarray(weights.sum(axis=0) / (1.0 + rest) - np.log1p(rest))


def negative_modified_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return minus the modified entropy of Song & Mittal 2021 (Eq. 8), float64 (n,).

    Mentr = -(1 - p_y) log p_y - sum over other classes of p_i log(1 - p_i). Of the most likely
    class, p / (1 - p) is formed from the other classes' logits, and log p and log(1 - p) from that.

    Args:
        logits: (n, C), at least two classes.
        labels: int64 (n,), the true class y.
    """
    z, top, best = _classes_first(logits)
    every = np.arange(labels.size)
    log_weight = z[labels, every] - best
    z[top, every] = -np.inf
    second = z.max(axis=0)
    z -= second
    others = np.exp(z, out=z)
    total, gap = others.sum(axis=0), best - second
    odds = total * np.exp(-gap)  # of all other classes against the most likely one
    log_top = -np.log1p(odds)
    log_rest = np.log(total) - gap + log_top
    others *= np.exp(-gap) / (1.0 + odds)  # probabilities, but 0 for the most likely class
    p_label, log_label = others[labels, every], log_weight + log_top
    others[labels, every] = 0.0
    rest = (others * np.log1p(-others)).sum(axis=0)
    right = odds / (1.0 + odds) * log_top
    wrong = (1.0 - p_label) * log_label + log_rest / (1.0 + odds)
    return np.asarray(rest + np.where(labels == top, right, wrong))


def _classes_first(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits as float64 (C, n), each sample's most likely class and its logit (n,)."""
    top = logits.argmax(axis=1)
    wide = np.ascontiguousarray(logits.T, dtype=np.float64)
    return wide, top, wide[top, np.arange(top.size)]
