"""The logits that both sides see, and the rows of the table that compares them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import log_softmax, logsumexp
from scipy.stats import spearmanr

from miagap import metrics
from miagap.attacks import Signals, parse, score_targets

SAMPLES, RESERVE, CLASSES, QUERIES, PAIRS = 8000, 2000, 10, 2, 8
TARGET = 0


@dataclass(frozen=True)
class Study:
    """Models, one of which is attacked with all but itself and its twin.

    Attributes:
        signals: of M models over n samples, with logits.
        logits: float32 (M, n, Q, C), at every query.
        reserve: bool (n,), samples that no model was trained on.
    """

    signals: Signals
    logits: np.ndarray
    reserve: np.ndarray

    @property
    def used(self) -> np.ndarray:
        """Indices of the samples that are attacked, int64."""
        return np.flatnonzero(~self.reserve)

    @property
    def kept(self) -> np.ndarray:
        """Indices of the shadow models, int64."""
        return np.flatnonzero(self.signals.pair != self.signals.pair[TARGET])

    @property
    def member(self) -> np.ndarray:
        """Membership of the attacked samples in the target, bool."""
        return self.signals.member[TARGET, self.used]

    def score(self, **settings: Any) -> np.ndarray:
        """Attack the target with settings as in the config: float64 (n,)."""
        spec = parse("attack", settings)
        target = self.signals.take([TARGET])
        return score_targets(target, self.signals, spec, self.reserve, 0)[0]


def make_study() -> Study:
    """Draw the logits: members are surer, some samples' members more so than others'."""
    rng = np.random.default_rng(0)
    n = SAMPLES + RESERVE
    reserve = np.arange(n) >= SAMPLES
    half = np.stack([rng.permutation(n) for _ in range(PAIRS)]) < n // 2
    member = np.empty((2 * PAIRS, n), dtype=bool)
    member[::2], member[1::2] = half & ~reserve, ~half & ~reserve
    labels = rng.integers(0, CLASSES, n)
    of_class = rng.normal(0, 1.2, (n, CLASSES))
    of_class[np.arange(n), labels] += rng.normal(4.0, 3.0, n)
    effect = rng.gamma(1.5, 1.5, n)
    logits = of_class + rng.normal(0, 0.8, (2 * PAIRS, n, CLASSES))
    logits[:, np.arange(n), labels] += effect * member
    views = logits[:, :, None] + rng.normal(0, 0.3, (2 * PAIRS, n, QUERIES, CLASSES))
    views = views.astype(np.float32)
    phi = logit_scaled(views, labels).swapaxes(1, 2)
    number = np.arange(2 * PAIRS, dtype=np.int64)
    signals = Signals(
        phi=np.ascontiguousarray(phi),
        loss=np.logaddexp(0, -phi[:, 0]),
        member=member,
        split=number,
        seed=0 * number,
        labels=labels,
        logits=np.ascontiguousarray(views[:, :, 0]),
    )
    return Study(signals, views, reserve)


def logit_scaled(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return phi of logits (M, n, Q, C): float64 (M, n, Q)."""
    wide = logits.astype(np.float64)
    rows = np.arange(labels.size)
    own = wide[:, rows, :, labels].swapaxes(0, 1).copy()
    wide[:, rows, :, labels] = -np.inf
    return np.asarray(own - logsumexp(wide, axis=-1))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities in float64, over the last axis."""
    return np.asarray(np.exp(log_softmax(logits.astype(np.float64), axis=-1)))


@dataclass(frozen=True)
class Row:
    """One comparison, as the table shows it."""

    ours: str
    public: str
    agreement: str
    reason: str

    def markdown(self) -> str:
        """Return the row in Markdown."""
        cells = (self.ours, self.public, self.agreement, self.reason)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def equal(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Say by how much two sets of the same values differ."""
    largest = np.abs(ours - theirs).max()
    if largest == 0.0:
        return "identical"
    return f"largest difference {largest:.1e}, of values up to {np.abs(theirs).max():.2g}"


def alike(study: Study, ours: np.ndarray, theirs: np.ndarray) -> str:
    """Say how alike two scores of the attacked samples are, and how well each does."""
    rank = spearmanr(ours, theirs).statistic
    found = [_quality(values, study.member) for values in (ours, theirs)]
    return (
        f"Spearman {rank:.4f}; AUC {found[0][0]:.4f} / {found[1][0]:.4f}; "
        f"TPR at 1% FPR {found[0][1]:.2%} / {found[1][1]:.2%}"
    )


def _quality(scores: np.ndarray, member: np.ndarray) -> tuple[float, float]:
    """Return AUC and TPR at 1% FPR."""
    inside, outside = scores[member], scores[~member]
    return metrics.auc(inside, outside), float(metrics.tpr_at_fpr(inside, outside, 0.01).tpr)
