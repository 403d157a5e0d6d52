"""A model's answers, checked, as our extraction writes them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from miagap import artifacts
from miagap.columns import EXTRACTED, column, lists, matrix
from miagap.errors import InputError
from miagap.imports.arrays import load_array, read_answers, require_finite
from miagap.imports.sizes import list_size, require_same_size
from miagap.imports.source import Imported, ImportedModel

_BATCH = 8192


def read_model(
    source: Imported, model: ImportedModel, checkpoint: str, member: np.ndarray
) -> pa.Table:
    """Return a model's answers at a checkpoint as our extraction writes them.

    Args:
        source: the folder that the model is from.
        model: one of its models.
        checkpoint: one of its checkpoints.
        member: bool (n,), what the model was trained on.

    Raises:
        InputError: a file is missing or damaged, its shape or dtype is not the layout's, its
            length is not that of the others, or it holds NaN or infinity.
    """
    path = model.logits[checkpoint]
    if source.layout == "parquet":
        return _own_table(source, path, member)
    logits = read_answers(path, source.layout)
    labels = read_labels(source)
    n, queries, classes = logits.shape
    require_same_size(source, path, queries, classes)
    if not n == labels.size == member.size:
        raise InputError(
            f"{path}: {n} samples, but {source.labels} has {labels.size} labels and {model.keep} "
            f"{member.size} entries"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"{source.labels}: labels from {labels.min()} to {labels.max()}, but {path} has "
            f"{classes} classes (0 to {classes - 1})"
        )
    phi, loss = np.empty((n, queries)), np.empty((n, queries))
    for start in range(0, n, _BATCH):
        rows = slice(start, start + _BATCH)
        require_finite(logits[rows], path, start)
        phi[rows], loss[rows] = phi_and_loss(logits[rows], labels[rows])
    columns = {
        "sample_id": column(np.arange(n, dtype=np.int32)),
        "label": column(labels.astype(np.int32)),
        "member": column(member),
        "logits": lists(np.ascontiguousarray(logits[:, 0], dtype=np.float32)),
        "phi": lists(phi),
        "loss": lists(loss),
    }
    return pa.table(columns)


def read_labels(source: Imported) -> np.ndarray:
    """Return the true classes, int64 (n,), from the file of labels."""
    assert source.labels is not None
    labels = load_array(source.labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.size == 0:
        raise InputError(
            f"{source.labels}: {labels.dtype} of shape {labels.shape}, expected integers (n,)"
        )
    return labels.astype(np.int64)


def phi_and_loss(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return LiRA's logit-scaled confidence and the cross-entropy, in float64.

    The same as ``extraction.phi_and_loss``, without torch: phi = z_y - logsumexp(z over the
    other classes), loss = log(1 + exp(-phi)).

    Args:
        logits: (n, ..., C), any floating dtype, at least two classes.
        labels: int64 (n,).

    Returns:
        Two float64 arrays (n, ...).
    """
    z = np.moveaxis(np.asarray(logits, np.float64), -1, 1).copy()
    rows = np.arange(len(z))
    own = z[rows, labels].copy()
    z[rows, labels] = -np.inf
    top = z.max(axis=1)
    phi = own - (top + np.log(np.exp(z - top[:, None]).sum(axis=1)))
    return phi, np.logaddexp(0.0, -phi)


def _own_table(source: Imported, path: str, member: np.ndarray) -> pa.Table:
    """Return a table of our own layout, checked."""
    table = artifacts.read_parquet(path, EXTRACTED)
    for name in EXTRACTED:
        if table[name].null_count:
            raise InputError(f"{path}: {name} is empty for {table[name].null_count} samples")
    widths = [list_size(table.schema, path, name) for name in ("phi", "loss", "logits")]
    if widths[0] != widths[1]:
        raise InputError(f"{path}: phi of {widths[0]} queries, loss of {widths[1]}")
    require_same_size(source, path, widths[0], widths[2])
    for name in ("logits", "phi", "loss"):
        require_finite(matrix(table[name]), path, 0)
    ids = table["sample_id"].to_numpy()
    if not np.array_equal(ids, np.arange(len(ids))):
        raise InputError(f"{path}: sample_id does not count from 0")
    _check_labels(source, path, table["label"].to_numpy(), widths[2])
    if not np.array_equal(table["member"].to_numpy(), member):
        raise InputError(f"{path}: member differs between this model's checkpoints")
    return table


def _check_labels(source: Imported, path: str, labels: np.ndarray, classes: int) -> None:
    """Raise InputError unless labels of our own layout are those of the first model's file."""
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"{path}: label must be integers from 0 to {classes - 1}")
    first = source.first_file
    if not np.array_equal(labels, artifacts.read_parquet(first, ["label"])["label"].to_numpy()):
        raise InputError(f"{path}: other labels than in {first}; models must share their samples")
