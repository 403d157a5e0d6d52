"""The history of a training run: one row per epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        ("epoch", pa.int32()),
        ("learning_rate", pa.float64()),
        ("train_loss_running", pa.float64()),
        ("images_per_second", pa.float64()),
        ("train_accuracy", pa.float64()),
        ("test_accuracy", pa.float64()),
        ("train_loss", pa.float64()),
        ("test_loss", pa.float64()),
        ("validation_accuracy", pa.float64()),
        ("validation_loss", pa.float64()),
    ]
)


def to_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return the history as a table.

    ``learning_rate`` is that of the epoch's first step; ``train_loss_running`` the mean
    of the loss that was minimised (augmented images, train mode); ``images_per_second``
    a timing, the one column that differs between runs. The rest is measured in eval mode on
    un-augmented images, and null on epochs that were not evaluated. Epoch 0, the untrained
    model, has a row if it is a checkpoint.
    """
    return pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
