"""A GPU is never waited for within an epoch: no value is read back, no copy is made that blocks.

Tensors on the ``meta`` device have no values: whatever needs one fails there, as it would stall
a GPU. A copy from the host to it must go by ``layout.move``, which on CUDA does not block.
"""

import traceback

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from miagap import augment
from miagap.augment import PARAMETERS, Augmentation
from miagap.device_pool import place
from miagap.extraction import apply_query, phi_and_loss
from miagap.models import ModelSettings
from miagap.numerics import ComputeSettings, resolve
from miagap.queries import Query
from miagap.training import Task, TrainingSettings
from miagap.training.batches import epoch_batches
from miagap.training.trainer import Trainer

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "equal", "is_nonzero")


class NoWaiting(TorchDispatchMode):
    """Fails on operators that make a host wait, as ``item`` and boolean indices do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in WAITING, f"{func} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "boolean index"
        return func(*args, **(kwargs or {}))


class NoBlockingCopies(TorchDispatchMode):
    """Fails on copies from the host to ``meta`` that ``layout.move`` does not make."""

    moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [a for a in args if isinstance(a, torch.Tensor) and a.ndim]
        if isinstance(out, torch.Tensor) and out.is_meta and any(not a.is_meta for a in given):
            callers = [(frame.name, frame.line) for frame in traceback.extract_stack()]
            assert "move" in [name for name, _ in callers], f"{func} copies: {callers[-3:]}"
            self.moved += 1
        return out


VARIANTS = [
    *((name, {}) for name in PARAMETERS),
    ("crop", {"padding_mode": "reflect"}),
    ("cutout", {"value": "mean"}),
    ("cutout", {"value": "random"}),
    ("cifar_policy", {"interpolation": "bilinear", "fill": 7}),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("name", "parameters"), VARIANTS)
def test_augmentations(name, parameters, channels):
    pipeline = augment.build([Augmentation(name, parameters)], [100.0] * channels)
    images = torch.empty((300, channels, 20, 20), dtype=torch.uint8, device="meta")
    images = images.contiguous(memory_format=torch.channels_last)
    with NoBlockingCopies() as copies:
        assert pipeline(images, torch.Generator().manual_seed(0)).shape == images.shape
    assert copies.moved


def task(model, **training):
    numerics = resolve(ComputeSettings(device="cpu"))
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    pool = place(images, np.arange(64) % 4, 4, numerics)
    settings = TrainingSettings(epochs=2, checkpoints=(), batch_size=16, **training)
    member = np.arange(64) % 2 == 0
    return Task(pool, member, ~member & False, None, model, settings, numerics, 0)


@pytest.mark.parametrize(
    "training",
    [
        {},
        {"mixup": 0.2, "label_smoothing": 0.1, "dropout": 0.3, "gradient_clip": 1.0},
        {"momentum": 0.0, "nesterov": False},
    ],
)
def test_training_steps(training):
    given = task(ModelSettings(widths=(8, 16), blocks=(1, 1)), **training)
    trainer = Trainer(given)
    trainer.model.train()
    batches = epoch_batches(
        given.pool, trainer.train_ids, None, given.settings, 0, 1, given.numerics.dtype
    )
    total = torch.zeros(())
    with NoWaiting():
        for batch in batches:
            total += trainer.step(batch, 0.1)
    assert float(total) > 0


def test_answers_to_queries():
    images = torch.empty((10, 3, 8, 8), device="meta")
    with NoBlockingCopies() as copies:
        view = apply_query(images, Query(mirror=True, dx=1, dy=-2))
        phi, loss = phi_and_loss(view[:, :, 0, 0], torch.zeros(10, dtype=int, device="meta"))
    assert phi.shape == loss.shape == (10,)
    assert not copies.moved


def test_waiting_is_noticed():
    values = torch.arange(3)
    with NoWaiting():
        for wait in (values.sum().item, (values > 1).nonzero, lambda: values[values > 1]):
            with pytest.raises(AssertionError):
                wait()
    with NoBlockingCopies(), pytest.raises(AssertionError):
        values.to("meta")
