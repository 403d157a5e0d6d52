"""Small networks that tell members from non-members, several of one shape side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

BATCH = 128
LEARNING_RATE = 0.01
FIRST_DECAY, SECOND_DECAY, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Networks:
    """K attack networks of one shape, evaluated together.

    Attributes:
        mean, scale: float64 (K, 1, d), standardisation of the inputs.
        weights: float64 arrays of shape (K, in, out) and (K, 1, out), alternately.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: list[np.ndarray]

    def log_odds(self, inputs: np.ndarray, network: int) -> np.ndarray:
        """Return the log odds of membership (r,) of inputs (r, d) under one network."""
        values = (inputs - self.mean[network]) / self.scale[network]
        own = [weight[network] for weight in self.weights]
        return np.asarray(_forward(values, own)[-1][..., 0])


def fit(
    inputs: np.ndarray,
    member: np.ndarray,
    hidden: int | Sequence[int],
    epochs: int,
    rng: np.random.Generator,
    joined: np.ndarray | None = None,
) -> Networks:
    """Train K networks side by side by Adam on the mean cross-entropy, in float32.

    Args:
        inputs: float64 (K, r, d).
        member: bool (K, r).
        hidden: units of the hidden layer, or of each of several; 0 for none.
        epochs: passes over the records.
        rng: initial weights and batch order.
        joined: bool (d, units of the first hidden layer), which inputs enter which unit; None
            for all.
    """
    mean = inputs.mean(axis=1, keepdims=True)
    scale = np.maximum(inputs.std(axis=1, keepdims=True), 1e-6)
    values = ((inputs - mean) / scale).astype(np.float32)
    target = member.astype(np.float32)[..., None]
    initial = _initial_weights(inputs.shape[0], inputs.shape[2], hidden, rng)
    if joined is not None:
        initial[0] *= joined * np.sqrt(inputs.shape[2] / joined.sum(axis=0))
    # All weights lie in one array, so that a step of Adam is a few operations and not a few each.
    together = np.concatenate([weight.ravel() for weight in initial]).astype(np.float32)
    gradient = np.zeros_like(together)
    weights, gradients = _views(together, initial), _views(gradient, initial)
    adam = _Adam(together)
    for _ in range(epochs):
        order = rng.permutation(len(values[0]))
        shuffled, wanted = values[:, order], target[:, order]
        for start in range(0, order.size, BATCH):
            rows = slice(start, start + BATCH)
            _gradients(shuffled[:, rows], wanted[:, rows], weights, gradients)
            if joined is not None:
                gradients[0] *= joined
            adam.step(gradient)
    return Networks(mean, scale, [weight.astype(np.float64) for weight in weights])


def _initial_weights(
    networks: int, width: int, hidden: int | Sequence[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """Draw weights of variance 2 / inputs (He et al. 2015), biases of 0."""
    layers = [hidden] if isinstance(hidden, int) else hidden
    sizes = [width, *(size for size in layers if size), 1]
    weights: list[np.ndarray] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        weights.append(rng.normal(0, np.sqrt(2 / fan_in), (networks, fan_in, fan_out)))
        weights.append(np.zeros((networks, 1, fan_out)))
    return weights


def _views(together: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return the parts of an array that have the shapes of ``like``."""
    ends = np.cumsum([array.size for array in like])
    parts = np.split(together, ends[:-1])
    return [part.reshape(array.shape) for part, array in zip(parts, like, strict=True)]


def _forward(values: np.ndarray, weights: list[np.ndarray]) -> list[np.ndarray]:
    """Return the values of every layer, the last one without rectification."""
    layers = [values]
    for position in range(0, len(weights), 2):
        values = values @ weights[position]
        values += weights[position + 1]
        if position + 2 < len(weights):
            np.maximum(values, 0.0, out=values)
        layers.append(values)
    return layers


def _gradients(
    values: np.ndarray, target: np.ndarray, weights: list[np.ndarray], gradients: list[np.ndarray]
) -> None:
    """Write the gradients of the mean cross-entropy into ``gradients``, as ``weights`` are."""
    layers = _forward(values, weights)
    error = (expit(layers[-1]) - target) / values.shape[1]
    for position in range(len(weights) - 2, -1, -2):
        below = layers[position // 2]
        np.matmul(below.swapaxes(1, 2), error, out=gradients[position])
        np.sum(error, axis=1, keepdims=True, out=gradients[position + 1])
        if position > 0:
            error = error @ weights[position].swapaxes(1, 2)
            error *= below > 0


class _Adam:
    """Adam (Kingma & Ba 2015) on an array of weights, in place."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights = weights
        self.first, self.second = np.zeros_like(weights), np.zeros_like(weights)
        self.steps = 0

    def step(self, gradient: np.ndarray) -> None:
        """Take one step; ``gradient`` is overwritten."""
        self.steps += 1
        correction = np.sqrt(1 - SECOND_DECAY**self.steps) / (1 - FIRST_DECAY**self.steps)
        self.first += (1 - FIRST_DECAY) * (gradient - self.first)
        gradient *= gradient
        gradient -= self.second
        gradient *= 1 - SECOND_DECAY
        self.second += gradient
        np.sqrt(self.second, out=gradient)
        gradient += ADAM_EPSILON
        np.divide(self.first, gradient, out=gradient)
        gradient *= float(LEARNING_RATE * correction)
        self.weights -= gradient
