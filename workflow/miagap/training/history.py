"""The history of a training run: one row per epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from miagap.columns import column

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
    return pa.table([_column(field, rows) for field in SCHEMA], schema=SCHEMA)


def _column(field: pa.Field, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    found = [row.get(field.name) for row in rows]
    missing = np.array([value is None for value in found], dtype=bool)
    values = [0 if value is None else value for value in found]
    return column(np.array(values, dtype=field.type.to_pandas_dtype()), missing)
