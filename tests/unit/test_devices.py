"""Every device of this machine gives what the CPU gives, and the same bits again.

Where there is a GPU, all of its tests: ``python -m pytest tests/unit -k cuda``.
"""

import numpy as np
import pytest
import torch

from miagap import augment
from miagap.augment import Augmentation
from miagap.device_pool import place
from miagap.extraction import extract
from miagap.models import ModelSettings, build_model, on_device
from miagap.numerics import ComputeSettings, Numerics, configure, resolve
from miagap.queries import parse_queries
from miagap.training import Resume, Task, TrainingSettings, train
from miagap.training.batches import epoch_batches
from miagap.training.trainer import Trainer

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
ALL = [Augmentation(name) for name in ("crop", "mirror", "cifar_policy", "cutout")]
NETWORK = ModelSettings(widths=(16, 32), blocks=(1, 1))
MEMBER = np.arange(256) % 2 == 0


@pytest.fixture(autouse=True)
def undo_configure():
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def task(device, precision="float32", **training):
    numerics = resolve(ComputeSettings(device=device, precision=precision))
    configure(numerics)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (256, 16, 16, 3), dtype=np.uint8)
    pool = place(images, rng.integers(0, 5, 256), 5, numerics)
    settings = TrainingSettings(
        **{"epochs": 2, "checkpoints": (1, 2), "batch_size": 32, **training}
    )
    pipeline = augment.build(ALL, pool.mean.tolist())
    return Task(pool, MEMBER, MEMBER & False, pipeline, NETWORK, settings, numerics, 3)


def trained(given, **arguments):
    saved = {}
    history = train(given, saved.__setitem__, log=lambda line: None, **arguments)
    return saved, history.drop_columns("images_per_second")


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[epoch][name], other[epoch][name]) for epoch in one for name in one[epoch]
    )


def one_step(given):
    trainer = Trainer(given)
    trainer.model.train()
    batch = next(
        epoch_batches(
            given.pool, trainer.train_ids, given.augment, given.settings, 3, 1, given.numerics.dtype
        )
    )
    loss = trainer.step(batch, 0.1)
    weights = {name: tensor.cpu() for name, tensor in trainer.model.state_dict().items()}
    return batch.images.float().cpu(), float(loss), weights


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_is_the_cpus(device):
    images, loss, weights = one_step(task(device))
    expected_images, expected_loss, expected = one_step(task("cpu"))
    assert torch.equal(images, expected_images)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    assert all(
        torch.allclose(t, expected[name], rtol=1e-3, atol=1e-4) for name, t in weights.items()
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("change", [{}, {"mixup": 0.3, "dropout": 0.2, "gradient_clip": 1.0}])
def test_a_run_repeats_bit_for_bit(device, change):
    first, again = (trained(task(device, "auto", **change)) for _ in range(2))
    assert same(first[0], again[0])
    assert first[1].equals(again[1])


@pytest.mark.parametrize("device", DEVICES)
def test_a_killed_run_gives_the_same_bits(device, tmp_path):
    whole, _ = trained(task(device, "auto", epochs=3, checkpoints=(3,), dropout=0.2))
    resume = Resume(tmp_path / "state.safetensors", every=1)

    def die(name, weights):
        raise KeyboardInterrupt

    given = task(device, "auto", epochs=3, checkpoints=(3,), dropout=0.2)
    with pytest.raises(KeyboardInterrupt):
        train(given, die, resume, log=lambda line: None)
    assert resume.path.exists()
    assert same(trained(given, resume=resume)[0], whole)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_is_near_float32(device):
    numerics = resolve(ComputeSettings(device=device))
    _, exact, _ = one_step(task(device))
    _, loss, _ = one_step(task(device, numerics.precision))
    assert loss == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("device", DEVICES)
def test_answers_are_the_cpus(device):
    queries = parse_queries(["identity", "mirror", "shift(1,-2)"])
    tables = []
    for name in (device, "cpu"):
        pool = task(name).pool
        model = on_device(build_model(NETWORK, 5, 3, 16, rng_seed=0), pool.images.device)
        tables.append(extract(model, pool, MEMBER, queries))
    for column in ("logits", "phi", "loss"):
        one, other = (np.array(table[column].to_pylist()) for table in tables)
        assert np.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_the_pool_is_normalised_alike(device):
    images = np.random.default_rng(1).integers(0, 256, (9, 4, 4, 3), dtype=np.uint8)
    found = []
    for name in (device, "cpu"):
        pool = place(images, np.zeros(9, int), 2, Numerics(torch.device(name), "float32"))
        found.append(pool.normalize(pool.images).cpu())
    assert torch.equal(*found)
