"""Mean, median and variance of phi over IN or OUT models, from which models can be taken off.

A sample's sums over all models are formed once; for each target the contribution of the models
that it may not use is taken off. Medians come from sorted columns by rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from miagap.attacks.selection import Selection

CANCELLED = 1e-7


@dataclass(frozen=True)
class Moments:
    """Statistics of one side (IN or OUT): count (c,), centre and variance (Q, c)."""

    count: np.ndarray
    centre: np.ndarray
    variance: np.ndarray


class Side:
    """IN or OUT phi of a chunk of samples.

    Args:
        phi: float64 (M, Q, c).
        mask: bool (M, c), which model counts for which sample.
        median: centre by the median instead of the mean.
    """

    def __init__(self, phi: np.ndarray, mask: np.ndarray, median: bool) -> None:
        self.phi = phi
        self.mask = mask
        self.count = mask.sum(axis=0)
        self.shift = np.zeros(phi.shape[1:])
        own = np.empty_like(self.shift)
        for values, weight in zip(phi, mask, strict=True):
            self.shift += np.multiply(values, weight, out=own)
        self.shift /= np.maximum(self.count, 1)
        # Centred before squaring: phi near 50 with deviations near 0.1 would lose digits.
        self.squares = np.zeros_like(self.shift)
        for values, weight in zip(phi, mask, strict=True):
            np.subtract(values, self.shift, out=own)
            own *= own
            own *= weight
            self.squares += own
        self.ranked = self._rank() if median else None

    def _rank(self) -> np.ndarray:
        """Sort each sample's values, those of other models last: float64 (M, Q, c)."""
        values = np.where(self.mask[:, None, :], self.phi, np.inf)
        columns = np.ascontiguousarray(values.reshape(len(values), -1).T)
        columns.sort(axis=1)
        return np.ascontiguousarray(columns.T).reshape(values.shape)

    def without(self, excluded: np.ndarray) -> Moments:
        """Return the statistics that remain when the models in ``excluded`` are taken off."""
        out = self.mask[excluded]
        models = np.broadcast_to(excluded[:, None], out.shape)
        return self._moments(models, self.phi[excluded], out)

    def _moments(self, models: np.ndarray, values: np.ndarray, out: np.ndarray) -> Moments:
        """Return the statistics that remain when some models are taken off.

        Args:
            models: int64 (R, c), some models of each sample.
            values: float64 (R, Q, c), their phi.
            out: bool (R, c), whether to take them off; models that are, are of the side.
        """
        count = self.count - out.sum(axis=0)
        safe = np.maximum(count, 1).astype(np.float64)
        gone = (values - self.shift) * out[:, None, :]
        total, squares = gone.sum(axis=0), np.einsum("rqc,rqc->qc", gone, gone)
        offset = np.divide(total, -safe, out=total)
        np.subtract(self.squares, squares, out=squares)
        variance = np.divide(squares, safe, out=squares)
        variance -= offset * offset
        self._repair(variance, models, out, count)
        if self.ranked is None:
            return Moments(count, self.shift + offset, variance)
        return Moments(count, self._median(values, out, count), variance)

    def _repair(
        self, variance: np.ndarray, models: np.ndarray, out: np.ndarray, count: np.ndarray
    ) -> None:
        """Recompute, in place, variances that subtraction left with too few digits."""
        lost = variance < self.squares * (CANCELLED / np.maximum(self.count, 1))
        if not lost.any():
            return
        columns = np.flatnonzero(lost.any(axis=0))
        mask, places = self.mask[:, columns].copy(), np.arange(columns.size)
        for model, gone in zip(models[:, columns], out[:, columns], strict=True):
            mask[model[gone], places[gone]] = False
        weights = mask[:, None, :]
        values = np.where(weights, self.phi[:, :, columns], 0.0)
        safe = np.maximum(count[columns], 1)
        centred = np.where(weights, values - values.sum(axis=0) / safe, 0.0)
        variance[:, columns] = (centred * centred).sum(axis=0) / safe

    def _median(self, values: np.ndarray, out: np.ndarray, count: np.ndarray) -> np.ndarray:
        """Return medians (Q, c) without the values that are taken off.

        The k-th value that remains is found from the k-th of all by stepping over every
        removed value that is not greater; equal values need no care, being equal.
        """
        steps = len(values)
        removed = np.sort(np.where(out[:, None, :], values, np.inf), axis=0)
        first = np.maximum(count - 1, 0) // 2
        window = self._window(first, steps + 2)
        lower = _step(window[: steps + 1], removed)
        if not (count % 2 == 0).any():
            return lower
        upper = _step(window[1:], removed)
        return np.where(count % 2 == 0, 0.5 * (lower + upper), lower)

    def _window(self, first: np.ndarray, length: int) -> list[np.ndarray]:
        """Return the sorted values at ``first`` and the places that follow: (Q, c) each."""
        assert self.ranked is not None
        top = len(self.ranked) - 1
        if first.min() == first.max():
            return [self.ranked[min(int(first[0]) + step, top)] for step in range(length)]
        places = [np.minimum(first + step, top)[None, None, :] for step in range(length)]
        return [np.take_along_axis(self.ranked, place, axis=0)[0] for place in places]


def _step(window: list[np.ndarray], removed: np.ndarray) -> np.ndarray:
    """Return the first value of a window, one further for every removed value not above it."""
    window = list(window)
    for number, value in enumerate(removed):
        over = value <= window[0]
        left = len(removed) - number
        window = [np.where(over, window[k + 1], window[k]) for k in range(left)]
    return window[0]


class SelectedSide(Side):
    """IN or OUT phi of which equally many models count for each sample, see ``selection``.

    Args:
        phi: float64 (M, Q, c).
        chosen: which models count.
        median: centre by the median instead of the mean.
    """

    def __init__(self, phi: np.ndarray, chosen: Selection, median: bool) -> None:
        super().__init__(phi, chosen.base, median)
        self.chosen = chosen
        samples = np.arange(phi.shape[2])
        self.spares = phi[chosen.spares, :, samples].swapaxes(1, 2)

    def without(self, excluded: np.ndarray) -> Moments:
        """Return the statistics of the models that count where ``excluded`` may not."""
        models, out = self.chosen.removed(excluded)
        return self._moments(models, np.concatenate([self.phi[excluded], self.spares]), out)
