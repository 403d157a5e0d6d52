"""scikit-learn's digits: 1,797 grey images of 8x8 pixels, embedded, no download."""

import numpy as np

from miagap.datasets.settings import DatasetSettings
from miagap.datasets.source import Source, from_arrays


def read(settings: DatasetSettings) -> Source:
    """Read the digits; their values 0..16 are scaled to 0..255."""
    from sklearn.datasets import load_digits  # slow to import, and needed here only

    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    names = tuple(str(digit) for digit in data.target_names)
    return from_arrays("digits", "digits", images, data.target.astype(np.int64), names)
