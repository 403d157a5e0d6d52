import itertools
import math
import multiprocessing
import os
import signal

import numpy as np
import pytest
import torch

from miagap.device_pool import channel_statistics, place
from miagap.errors import InputError
from miagap.models import ModelSettings
from miagap.numerics import ComputeSettings, configure, resolve
from miagap.training import DivergedError, Resume, Task, TrainingSettings, train
from miagap.training.batches import epoch_batches, steps_per_epoch
from miagap.training.settings import learning_rate

MODEL = ModelSettings(widths=(8, 16), blocks=(1, 1))
SMALL = TrainingSettings(epochs=4, checkpoints=(0, 2, 4), batch_size=32, evaluate_every=2)


def settings(**changes):
    return TrainingSettings(**{**vars(SMALL), **changes})


@pytest.fixture(scope="module")
def numerics():
    found = resolve(ComputeSettings(device="cpu", precision="auto", threads=1))
    configure(found)
    return found


@pytest.fixture(scope="module")
def pool(numerics):
    """Two hundred 8x8 images in four classes: a bright quarter each, and noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 4
    images = rng.integers(0, 128, (200, 8, 8, 1), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 80
    return place(images, labels, 4, numerics)


@pytest.fixture(scope="module")
def member():
    mask = np.zeros(200, bool)
    mask[np.random.default_rng(1).permutation(200)[:100]] = True
    return mask


def run(
    pool, member, numerics, given=SMALL, reserve=None, *, augment=None, rng_seed=7, **arguments
):
    saved, lines = {}, []
    arguments.setdefault("on_checkpoint", saved.__setitem__)
    reserve = np.zeros_like(member) if reserve is None else reserve
    task = Task(pool, member, reserve, augment, MODEL, given, numerics, rng_seed)
    table = train(task, log=lines.append, **arguments)
    return table.to_pylist(), saved, lines


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def rows_without_timing(rows):
    return [{k: v for k, v in row.items() if k != "images_per_second"} for row in rows]


def flip_some(images, generator):
    chosen = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(chosen.view(-1, 1, 1, 1), images.flip(3), images)


def test_trains_and_reports(pool, member, numerics):
    rows, saved, lines = run(pool, member, numerics, settings(epochs=8, checkpoints=(0, 2, 8)))
    assert list(saved) == ["0", "2", "8"]
    assert [row["epoch"] for row in rows] == list(range(9))
    assert rows[-1]["train_accuracy"] > 0.9
    assert rows[0]["train_accuracy"] < 0.6
    assert rows[1]["train_accuracy"] is None
    assert all(tensor.dtype == torch.float32 for tensor in saved["8"].values() if tensor.ndim)
    assert "float" in lines[0] and "1 thread" in lines[0] and "epoch 8/8" in lines[-1]


def test_same_seed_gives_the_same_bits_and_another_seed_others(pool, member, numerics):
    first = run(pool, member, numerics, augment=flip_some)
    again = run(pool, member, numerics, augment=flip_some)
    other = run(pool, member, numerics, augment=flip_some, rng_seed=8)
    assert same(first[1]["4"], again[1]["4"])
    assert rows_without_timing(first[0]) == rows_without_timing(again[0])
    assert not same(first[1]["4"], other[1]["4"])
    assert not same(first[1]["0"], other[1]["0"])


def test_global_random_state_is_left_alone(pool, member, numerics):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run(pool, member, numerics)
    assert torch.equal(torch.rand(4), expected)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("change", [{}, {"mixup": 0.3, "dropout": 0.2, "label_smoothing": 0.1}])
def test_killed_and_resumed_gives_the_same_bits(pool, member, numerics, tmp_path, change):
    given = settings(epochs=5, checkpoints=(1, 3, 5), best=True, evaluate_every=1, **change)
    reserve = np.zeros(200, bool)
    reserve[np.flatnonzero(~member)[:40]] = True
    whole = run(pool, member, numerics, given, reserve, augment=flip_some)
    resume = Resume(tmp_path / "state.safetensors", every=2)

    def die(name, weights):
        if name == "3":
            raise KilledError

    with pytest.raises(KilledError):
        run(
            pool, member, numerics, given, reserve,
            augment=flip_some, resume=resume, on_checkpoint=die,
        )  # fmt: skip
    assert resume.path.exists()
    rows, saved, lines = run(
        pool, member, numerics, given, reserve, augment=flip_some, resume=resume
    )
    assert any("resumed after epoch 2" in line for line in lines)
    assert rows_without_timing(rows) == rows_without_timing(whole[0])
    assert saved.keys() == whole[1].keys()
    assert all(same(saved[name], whole[1][name]) for name in saved)
    assert not resume.path.exists()


def test_killed_by_the_system_leaves_a_state_to_resume(pool, member, numerics, tmp_path):
    resume = Resume(tmp_path / "state.safetensors", every=1)

    def die(name, weights):
        if name == "2":
            os.kill(os.getpid(), signal.SIGKILL)

    child = multiprocessing.get_context("fork").Process(
        target=run, args=(pool, member, numerics), kwargs={"resume": resume, "on_checkpoint": die}
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    _, saved, lines = run(pool, member, numerics, resume=resume)
    assert any("resumed after epoch 1" in line for line in lines)
    _, whole, _ = run(pool, member, numerics)
    assert list(saved) == list(whole)
    assert all(same(saved[name], whole[name]) for name in whole)
    assert list(tmp_path.iterdir()) == []


def test_state_of_other_settings_is_ignored(pool, member, numerics, tmp_path):
    resume = Resume(tmp_path / "state.safetensors", every=1)

    def die(name, weights):
        if name == "2":
            raise KilledError

    with pytest.raises(KilledError):
        run(pool, member, numerics, resume=resume, on_checkpoint=die)
    other = settings(weight_decay=0.001)
    _, saved, lines = run(pool, member, numerics, other, resume=resume)
    assert any("saved state ignored" in line for line in lines)
    assert same(saved["4"], run(pool, member, numerics, other)[1]["4"])


def test_damaged_state_is_ignored(pool, member, numerics, tmp_path):
    resume = Resume(tmp_path / "state.safetensors", every=1)
    resume.path.write_bytes(b"half a file")
    _, saved, lines = run(pool, member, numerics, resume=resume)
    assert any("saved state ignored" in line for line in lines)
    assert "4" in saved


def test_best_is_the_checkpoint_of_the_lowest_validation_loss(pool, member, numerics):
    reserve = np.zeros(200, bool)
    reserve[np.flatnonzero(~member)[:40]] = True
    given = settings(epochs=4, checkpoints=(1, 2, 3, 4), best=True)
    rows, saved, _ = run(pool, member, numerics, given, reserve)
    lowest = min(rows, key=lambda row: row["validation_loss"])
    assert same(saved["best"], saved[str(lowest["epoch"])])


def test_best_needs_a_reserve(pool, member, numerics):
    with pytest.raises(InputError, match=r"splits\.reserve"):
        run(pool, member, numerics, settings(best=True))


def test_divergence_names_epoch_and_rate(pool, member, numerics):
    with pytest.raises(DivergedError, match="learning rate 1e\\+30") as caught:
        run(pool, member, numerics, settings(learning_rate=1e30, schedule="constant"))
    assert caught.value.epoch >= 1


def test_gradient_clip_limits_the_step(pool, member, numerics):
    plain = settings(
        epochs=1, checkpoints=(0, 1), batch_size=100, learning_rate=1.0,
        momentum=0, nesterov=False, weight_decay=0, gradient_clip=0.01, schedule="constant",
    )  # fmt: skip
    _, saved, _ = run(pool, member, numerics, plain)
    moved = [
        (saved["1"][name] - saved["0"][name]).square().sum()
        for name in saved["0"]
        if name.endswith(("weight", "bias"))
    ]
    assert math.sqrt(float(sum(moved))) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "constant"])
def test_schedules(schedule):
    given = settings(
        epochs=10, learning_rate=0.4, schedule=schedule, warmup=2, milestones=(5, 8), gamma=0.1
    )
    rates = [learning_rate(given, step, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.4 / 20)
    assert rates[19] == rates[20] == pytest.approx(0.4)
    expected_at_60 = {
        "cosine": 0.4 * 0.5 * (1 + math.cos(math.pi * 0.5)),
        "linear": 0.2,
        "step": 0.04,
        "constant": 0.4,
    }
    assert rates[60] == pytest.approx(expected_at_60[schedule])
    assert all(a >= b for a, b in itertools.pairwise(rates[19:]))


def test_settings_name_what_is_wrong():
    with pytest.raises(InputError, match=r"training\.checkpoints: 9"):
        settings(checkpoints=(1, 9))
    with pytest.raises(InputError, match=r"training\.schedule"):
        settings(schedule="cosin")


def test_batches_cover_the_training_half_once(pool, member, numerics):
    ids = torch.from_numpy(np.flatnonzero(member))
    given = settings(batch_size=25)
    batches = list(epoch_batches(pool, ids, None, given, 1, 1, torch.float32))
    assert len(batches) == 4
    seen = torch.cat([batch.images for batch in batches]).flatten(1)
    expected = pool.normalize(pool.images[ids]).flatten(1)
    assert torch.equal(seen.sort(0).values, expected.sort(0).values)
    labels = torch.cat([batch.labels for batch in batches])
    assert torch.equal(labels.bincount(), pool.labels[ids].bincount())


def test_mixup_mixes_with_the_partners_label(pool, member, numerics):
    ids = torch.from_numpy(np.flatnonzero(member))
    plain = list(epoch_batches(pool, ids, None, settings(), 1, 1, torch.float32))
    mixed = list(epoch_batches(pool, ids, None, settings(mixup=1.0), 1, 1, torch.float32))
    for before, after in zip(plain, mixed, strict=True):
        assert torch.equal(before.labels, after.labels)
        assert 0 <= float(after.share) <= 1
        assert torch.equal(after.labels.bincount(minlength=4), after.partners.bincount(minlength=4))
        assert torch.allclose(before.images.mean(), after.images.mean(), atol=1e-4)


@pytest.mark.parametrize(("n", "batch", "steps"), [(100, 32, 3), (96, 32, 3), (20, 32, 1)])
def test_steps_per_epoch(n, batch, steps):
    assert steps_per_epoch(n, batch) == steps


def test_channel_statistics_are_exact():
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    assert mean == pytest.approx(images.mean(axis=(0, 1, 2)))
    assert std == pytest.approx(images.std(axis=(0, 1, 2)))
    assert channel_statistics(np.zeros((2, 4, 4, 1), np.uint8))[1] == 1.0
