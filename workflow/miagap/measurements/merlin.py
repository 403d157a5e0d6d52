"""Merlin's signal: the share of noisy copies of a sample with a greater loss than its own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from miagap.measurements.subject import Asking, Subject, noise_like


@torch.inference_mode()
def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return the share for every sample, float32 (n,).

    Losses are compared by phi, of which the loss is a falling function without ties.

    Args:
        subject: the model and the samples.
        parameters: ``repetitions`` copies with noise of deviation ``sigma``.
    """
    asking = Asking(subject)
    share = np.empty(len(subject.pool), np.float32)
    for part in asking.parts():
        generator = asking.generator("noise", part.rows.start)
        own = asking.phi(part.pixels, part.labels)
        count = torch.zeros_like(own)
        for _ in range(parameters["repetitions"]):
            noisy = part.pixels + noise_like(part.pixels, parameters["sigma"], generator)
            count += asking.phi(noisy, part.labels) < own
        share[part.rows] = (count / parameters["repetitions"]).cpu().numpy()
    return share
