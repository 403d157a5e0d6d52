"""Extraction: what an attacker may know of a model, its answers to the queries.

Logits are computed in float32, unless asked otherwise, even where training used
bfloat16: attacks compare models by differences that bfloat16's three digits blur.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from miagap.columns import column, lists
from miagap.device_pool import DevicePool
from miagap.models import ModelSettings, build_model, for_inference, on_device
from miagap.numerics import Numerics
from miagap.queries import Query


def apply_query(images: Tensor, query: Query) -> Tensor:
    """Return one view of images (B, C, H, W), any dtype.

    Shifts fill the border by reflection, as LiRA's authors do for their queries
    (numpy's ``reflect``: the edge pixel is not repeated).
    """
    if query.mirror:
        images = images.flip(3)
    if query.dx == 0 and query.dy == 0:
        return images
    height, width = images.shape[2:]
    columns = _reflected(torch.arange(width, device=images.device) - query.dx, width)
    rows = _reflected(torch.arange(height, device=images.device) - query.dy, height)
    return images.index_select(2, rows).index_select(3, columns)


def _reflected(positions: Tensor, size: int) -> Tensor:
    positions = positions.abs()
    return torch.where(positions >= size, 2 * (size - 1) - positions, positions)


def phi_and_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return LiRA's logit-scaled confidence and the cross-entropy, in float64.

    ``phi = z_y - logsumexp(z over the other classes)`` and ``loss = log(1 + exp(-phi))``,
    which is ``logsumexp(z) - z_y`` without its cancellation at small losses. Nothing
    passes through softmax, whose probabilities round to 1 or underflow to 0.

    Args:
        logits: (B, classes), any floating dtype, at least two classes.
        labels: int64 (B,).

    Returns:
        Two float64 tensors (B,).
    """
    z = logits.double()
    own = z.gather(1, labels[:, None])
    is_own = labels[:, None] == torch.arange(z.shape[1], device=z.device)
    others = z.masked_fill(is_own, -torch.inf)
    phi = own.squeeze(1) - others.logsumexp(dim=1)
    loss = torch.logaddexp(torch.zeros_like(phi), -phi)
    return phi, loss


def load_model(
    weights: Mapping[str, np.ndarray], settings: ModelSettings, pool: DevicePool
) -> nn.Module:
    """Build the model of a checkpoint, in eval mode on the pool's device.

    Args:
        weights: the checkpoint's arrays, by name.
        settings: the model it was trained as.
        pool: gives classes, channels, image size and device.
    """
    model = build_model(settings, pool.num_classes, pool.in_channels, pool.image_size, rng_seed=0)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    return on_device(model, pool.images.device).eval()


def extract(
    model: nn.Module,
    pool: DevicePool,
    member: np.ndarray,
    queries: Sequence[Query],
    batch_size: int | None = None,
    numerics: Numerics | None = None,
) -> pa.Table:
    """Ask a model at every query of every sample.

    Args:
        model: on the pool's device; asked in eval mode.
        pool: all samples.
        member: bool (n,), what the model was trained on.
        queries: views in order; logits are kept of the first.
        batch_size: images per forward pass; None for what suits the device. The last
            bits of a logit may depend on it.
        numerics: ask in its precision; None for float32.

    Returns:
        A table with one row per sample, in order: ``sample_id`` int32, ``label`` int16,
        ``member`` bool, ``logits`` fixed-size list of float32 (classes), ``phi`` and
        ``loss`` fixed-size lists of float64 (queries).
    """
    numerics = numerics or Numerics(pool.images.device, "float32")
    batch_size = batch_size or numerics.inference_batch
    n, device = len(pool), pool.images.device
    # Filled on the device and copied to the host once: a GPU is not waited for in between.
    logits = torch.empty((n, pool.num_classes), device=device)
    phi = torch.empty((n, len(queries)), dtype=torch.float64, device=device)
    loss = torch.empty_like(phi)
    model = for_inference(model)
    with torch.inference_mode(), numerics.autocast():
        for start in range(0, n, batch_size):
            rows = slice(start, min(start + batch_size, n))
            images, labels = pool.normalize(pool.images[rows]), pool.labels[rows]
            for number, query in enumerate(queries):
                view = apply_query(images, query)
                answers = model(view.contiguous(memory_format=torch.channels_last)).float()
                phi[rows, number], loss[rows, number] = phi_and_loss(answers, labels)
                if number == 0:
                    logits[rows] = answers
    found = (tensor.cpu().numpy() for tensor in (pool.labels, logits, phi, loss))
    return _table(member, *found)


def extract_checkpoint(
    weights: Mapping[str, np.ndarray],
    settings: ModelSettings,
    pool: DevicePool,
    member: np.ndarray,
    queries: Sequence[Query],
    batch_size: int | None = None,
    numerics: Numerics | None = None,
) -> pa.Table:
    """Return :func:`extract`'s table of a checkpoint already written."""
    return extract(load_model(weights, settings, pool), pool, member, queries, batch_size, numerics)


def _table(
    member: np.ndarray, labels: np.ndarray, logits: np.ndarray, phi: np.ndarray, loss: np.ndarray
) -> pa.Table:
    columns = {
        "sample_id": column(np.arange(len(labels), dtype=np.int32)),
        "label": column(labels.astype(np.int16)),
        "member": column(member),
        "logits": lists(logits),
        "phi": lists(phi),
        "loss": lists(loss),
    }
    return pa.table(columns)
