"""The share of noisy copies of a sample with the right label, at each of several strengths."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from miagap.measurements.subject import Asking, Subject, noise_like


@torch.inference_mode()
def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return the shares, float32 (n, 1 + levels); column 0: is the sample's own label right?

    Args:
        subject: the model and the samples.
        parameters: ``repetitions`` copies at each of ``levels`` strengths, ``sigma`` and its
            halves.
    """
    asking = Asking(subject)
    repetitions, levels = parameters["repetitions"], parameters["levels"]
    share = np.empty((len(subject.pool), 1 + levels), np.float32)
    for part in asking.parts():
        generator = asking.generator("noise", part.rows.start)
        share[part.rows, 0] = asking.right(part.pixels, part.labels).cpu().numpy()
        for level in range(levels):
            sigma = parameters["sigma"] / 2**level
            count = torch.zeros(len(part.labels), device=part.pixels.device)
            for _ in range(repetitions):
                noisy = part.pixels + noise_like(part.pixels, sigma, generator)
                count += asking.right(noisy, part.labels)
            share[part.rows, 1 + level] = (count / repetitions).cpu().numpy()
    return share
