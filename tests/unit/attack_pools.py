"""Random pools of models for the tests of attacks."""

import dataclasses

import numpy as np

from miagap.attacks import Signals
from miagap.attacks.base import Measurement
from miagap.attacks.registry import ATTACKS


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
    # Drawn last, so that they change nothing above.
    extra = {one.key: draw_signal(one, rng, phi[:, 0]) for one in default_measurements()}
    return dataclasses.replace(signals, extra=extra), reserve


def default_measurements():
    """Return every signal that attacks need beyond logits, with default parameters."""
    found = set()
    for attack in ATTACKS.values():
        parameters = {key: parameter.default for key, parameter in attack.parameters.items()}
        choices = [parameters] + [{**parameters, key: value} for key, value in attack.needs_if]
        for one in choices:
            found.update(attack.measurements(one))
    return sorted(found, key=lambda one: one.key)


def draw_signal(measurement: Measurement, rng, phi):
    """Return a signal (M, n, ...) that follows phi (M, n), and so membership, with noise."""

    def share(times, *columns):
        wide = phi.reshape(*phi.shape, *[1] * len(columns))
        odds = 1 / (1 + np.exp(-wide))
        return rng.binomial(times, odds * np.ones(columns)) / times

    given = dict(measurement.parameters)
    if measurement.kind == "merlin":
        return share(given["repetitions"]).astype(np.float32)
    if measurement.kind == "augmented":
        return share(1, 5).astype(np.uint8)
    if measurement.kind == "robustness":
        right = (phi > 0).astype(np.float64)[..., None]
        found = share(given["repetitions"], given["levels"])
        return np.concatenate([right, found], axis=2).astype(np.float32)
    if measurement.kind == "boundary":
        return (np.maximum(phi, 0) * rng.uniform(0.5, 1, phi.shape)).astype(np.float32)
    noise = rng.normal(size=(*phi.shape, 6 * given.get("layers", 1)))
    if measurement.kind == "white_box":
        sizes = np.exp(noise - phi[..., None])
        return sizes.reshape(*phi.shape, given["layers"], 6).astype(np.float32)
    if measurement.kind == "features":
        return noise.astype(np.float16)
    assert measurement.kind == "distilled"
    students = (phi + 2 * rng.normal(size=phi.shape))[..., None]
    students = students + rng.normal(size=(*phi.shape, given["students"]))
    learned = rng.random((phi.shape[1], given["students"] // 2)) < 0.5
    students[:, np.stack([learned, ~learned], axis=2).reshape(len(learned), -1)] = np.nan
    return students.astype(np.float32)


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
