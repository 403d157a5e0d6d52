"""Random pools of models for the tests of attacks."""

import dataclasses

import numpy as np

from miagap.attacks import Signals


def make_pool(
    rng,
    *,
    pairs=6,
    seeds=1,
    queries=2,
    samples=200,
    classes=5,
    reserve_share=0.0,
    effect=2.0,
    with_logits=True,
):
    """Return (signals, reserve) of ``2 * pairs * seeds`` models.

    Logits are noise around a difficulty of each sample; membership raises the true class's
    logit by ``effect``. With ``effect=0`` members and non-members are exchangeable.
    """
    labels = rng.integers(0, classes, samples)
    reserve = np.zeros(samples, dtype=bool)
    reserve[: int(reserve_share * samples)] = True
    halves = np.zeros((pairs, samples), dtype=bool)
    free = np.flatnonzero(~reserve)
    for half in halves:
        half[rng.choice(free, free.size // 2, replace=False)] = True
    of_split = np.empty((2 * pairs, samples), dtype=bool)
    of_split[0::2], of_split[1::2] = halves, ~halves & ~reserve
    split = np.repeat(np.arange(2 * pairs), seeds)
    member = of_split[split]
    models = split.size
    base = rng.normal(0, 1, (samples, classes))
    base[np.arange(samples), labels] += rng.normal(2, 1, samples)
    views = base + rng.normal(0, 1, (models, queries, samples, classes))
    views[:, :, np.arange(samples), labels] += effect * member[:, None, :]
    phi, loss = phi_and_loss(views, labels)
    signals = Signals(
        phi=phi,
        loss=np.ascontiguousarray(loss[:, 0]),
        member=member,
        split=split.astype(np.int64),
        seed=np.tile(np.arange(seeds), 2 * pairs).astype(np.int64),
        labels=labels.astype(np.int64),
        logits=views[:, 0].astype(np.float32) if with_logits else None,
    )
    return signals, reserve


def phi_and_loss(views, labels):
    """Return phi and loss (M, Q, n) of logits (M, Q, n, C)."""
    rows = np.arange(labels.size)
    own = views[:, :, rows, labels]
    others = views.copy()
    others[:, :, rows, labels] = -np.inf
    rest = np.logaddexp.reduce(others, axis=-1)
    return own - rest, np.logaddexp(own, rest) - own


def without_membership(signals):
    """Return the same signals, every membership inverted: no attack may notice."""
    return dataclasses.replace(signals, member=~signals.member)
