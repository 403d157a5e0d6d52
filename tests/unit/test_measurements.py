"""What models are asked beyond logits, against loops over single samples."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import rotate as scipy_rotate
from torch import nn
from torch.nn import functional

from miagap import artifacts, measured
from miagap.attacks.base import MEASURED
from miagap.device_pool import place
from miagap.errors import InputError
from miagap.measurements import augmented, boundary, distilled, merlin, robustness, white_box
from miagap.measurements import features as features_module
from miagap.measurements.subject import Asking, Subject, measure_of
from miagap.models import ModelSettings, build_model
from miagap.numerics import Numerics

torch.set_num_threads(1)
NUMERICS = Numerics(torch.device("cpu"), "float32")
MODEL = {"name": "resnet", "widths": [4, 6], "blocks": [1, 1], "parameters": {}}


def make_pool(samples=40, size=8, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    images = rng.integers(0, 160, (samples, size, size, 1))
    images[:, :4, :4, 0] += (30 * labels)[:, None, None]
    return place(images.astype(np.uint8), labels, classes, NUMERICS)


def make_subject(samples=40, **changes):
    """Return a subject with a residual network whose BatchNorm statistics are not the initial."""
    pool = make_pool(samples)
    model = build_model(ModelSettings.from_config(MODEL), pool.num_classes, 1, 8, rng_seed=1)
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(pool.normalize(pool.images) + 0.3)
    return Subject(model.eval(), pool, NUMERICS, study_seed=7, **changes)


class Linear(nn.Module):
    """Class 1 where the mean pixel (normalised) exceeds ``limit``, else class 0."""

    def __init__(self, limit=0.0, scale=3.0):
        super().__init__()
        self.limit, self.scale = limit, scale

    def forward(self, x):
        score = self.scale * (x.mean(dim=(1, 2, 3)) - self.limit)
        return torch.stack([-score, score], dim=1)


def linear_subject(samples=60):
    rng = np.random.default_rng(2)
    images = np.repeat(rng.integers(20, 236, (samples, 1, 1, 1)), 4, axis=1).repeat(4, axis=2)
    labels = (images.mean(axis=(1, 2, 3)) > 128).astype(np.int64)
    labels[:5] = 1 - labels[:5]
    pool = place(images.astype(np.uint8), labels, 2, NUMERICS)
    mean = (128 - float(pool.mean)) / float(pool.std)
    return Subject(Linear(mean).eval(), pool, NUMERICS, study_seed=3)


# --- noise --------------------------------------------------------------------------------


def test_every_signal_has_its_module():
    for kind in MEASURED:
        assert callable(measure_of(kind))


def test_merlin_counts_copies_with_a_greater_loss():
    subject = make_subject(300)  # more than one part
    share = merlin.measure(subject, {"repetitions": 8, "sigma": 0.05})
    asking, counts = Asking(subject), np.zeros(300)
    with torch.no_grad():
        for start, stop in ((0, 256), (256, 300)):
            generator = asking.generator("noise", start)
            pixels, labels = (
                subject.pool.images[start:stop].float(),
                subject.pool.labels[start:stop],
            )

            def loss(x, labels=labels):
                logits = subject.model(subject.pool.normalize(x)).double()
                return functional.cross_entropy(logits, labels, reduction="none").numpy()

            for _ in range(8):
                noise = torch.randn(pixels.shape, generator=generator) * 255 * 0.05
                counts[start:stop] += loss(pixels + noise) > loss(pixels)
    np.testing.assert_allclose(share, counts / 8, atol=1.01 / 8)
    assert (share == (counts / 8).astype(np.float32)).mean() > 0.98  # but for rounding
    assert share.dtype == np.float32


def test_merlin_is_half_on_a_linear_slope_and_all_at_a_dent():
    """Half of the noise lowers a monotone loss; at a smooth minimum nearly all of it raises it."""

    class Dent(nn.Module):
        def forward(self, x):
            depth = -x.square().mean(dim=(1, 2, 3))
            return torch.stack([depth, torch.zeros_like(depth)], dim=1)

    subject = linear_subject()
    slope = merlin.measure(subject, {"repetitions": 400, "sigma": 0.01})
    assert abs(slope.mean() - 0.5) < 0.01
    flat = place(np.full((10, 4, 4, 1), 128, np.uint8), np.zeros(10, np.int64), 2, NUMERICS)
    dent = Subject(Dent().eval(), flat, NUMERICS, study_seed=0)
    assert merlin.measure(dent, {"repetitions": 20, "sigma": 0.01}).min() == 1.0


def test_all_models_see_the_same_noise():
    first, second = linear_subject(), linear_subject()
    given = {"repetitions": 3, "levels": 2, "sigma": 0.3}
    np.testing.assert_array_equal(
        robustness.measure(first, given), robustness.measure(second, given)
    )


def test_robustness_follows_the_normal_distribution_of_a_linear_model():
    subject = linear_subject()
    share = robustness.measure(subject, {"repetitions": 2000, "levels": 2, "sigma": 2.0})
    level = subject.pool.images.float().mean(dim=(1, 2, 3)).numpy()
    side = np.where(subject.pool.labels.numpy() == 1, 1, -1)
    margin = side * (level - 128)
    np.testing.assert_array_equal(share[:, 0], margin > 0)
    for column, sigma in ((1, 2.0), (2, 1.0)):
        # The mean of 16 pixels has a quarter of a pixel's deviation.
        expected = [0.5 * math.erfc(-m / (255 * sigma / 4) / math.sqrt(2)) for m in margin]
        np.testing.assert_allclose(share[:, column], expected, atol=0.06)


# --- labels -------------------------------------------------------------------------------


def test_shifts_are_the_ring_of_the_extent():
    found = {(query.dx, query.dy) for query in augmented.shifts(2)}
    assert found == {(2, 0), (-2, 0), (0, 2), (0, -2), (1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_rotation_equals_scipy_inside():
    image = np.random.default_rng(0).uniform(0, 255, (9, 9)).astype(np.float32)
    turned = augmented.rotate(torch.from_numpy(image)[None, None], 20)[0, 0].numpy()
    options = [scipy_rotate(image, angle, reshape=False, order=1) for angle in (20, -20)]
    inside = np.s_[2:7, 2:7]
    assert min(np.abs(turned[inside] - one[inside]).max() for one in options) < 1e-2
    back = augmented.rotate(torch.from_numpy(image)[None, None], 0)[0, 0].numpy()
    np.testing.assert_allclose(back, image, atol=1e-3)


@pytest.mark.parametrize(("views", "columns"), [("shifts", 5), ("rotations", 3)])
def test_augmented_says_right_or_wrong_view_by_view(views, columns):
    subject = make_subject()
    found = augmented.measure(subject, {"views": views, "extent": 1})
    assert found.shape == (40, columns)
    pixels = subject.pool.images.float()
    if views == "shifts":
        images = [augmented.apply_query(pixels, query) for query in augmented.shifts(1)]
    else:
        images = [augmented.rotate(pixels, -1), augmented.rotate(pixels, 1)]
    with torch.no_grad():
        for column, view in enumerate([pixels, *images]):
            right = subject.model(subject.pool.normalize(view)).argmax(1) == subject.pool.labels
            assert (found[:, column] == right.numpy()).mean() > 0.97


def test_boundary_of_a_linear_model_is_its_plane():
    subject = linear_subject()
    level = subject.pool.images.float().mean(dim=(1, 2, 3)).numpy()
    side = np.where(subject.pool.labels.numpy() == 1, 1, -1)
    margin = side * (level - 128) / 255
    # The nearest point moves all 16 pixels alike: sqrt(16) times the change of the mean.
    expected = np.where(margin > 0, 4 * margin, 0)
    distance = boundary.measure(subject, {"steps": 20, "queries": 60})
    np.testing.assert_array_equal(distance[margin < 0], 0)
    assert (distance >= expected - 1e-3).all()
    np.testing.assert_allclose(distance, expected, atol=0.12)
    start = boundary.measure(subject, {"steps": 0, "queries": 2})
    assert start.mean() > distance.mean() + 0.05


# --- white box ----------------------------------------------------------------------------


def test_gradient_sizes_equal_a_loop_over_single_samples():
    subject = make_subject(12)
    found = white_box.measure(subject, {"layers": 4})
    model = subject.model.requires_grad_(True)
    layers = white_box.weighted_layers(model, 4)
    assert list(layers) == ["layer2.0.conv1", "layer2.0.conv2", "layer2.0.downsample.0", "fc"]
    for sample in range(12):
        image = subject.pool.normalize(subject.pool.images[sample : sample + 1])
        model.zero_grad()
        loss = functional.cross_entropy(
            model(image).double(), subject.pool.labels[sample : sample + 1]
        )
        loss.backward()
        for number, module in enumerate(layers.values()):
            gradient = torch.cat([p.grad.flatten() for p in module.parameters()]).abs()
            expected = [float(gradient.norm()), float(gradient.sum()), float(gradient.max())]
            np.testing.assert_allclose(found[sample, number, :3], expected, rtol=2e-3)


class Grouped(nn.Module):
    """Groups, strides, dilation, a bias, in-place steps, a linear layer over places."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2, bias=False)
        self.mix = nn.Linear(6, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        x = functional.relu(self.conv1(x), inplace=True)
        x = functional.relu(self.conv2(x), inplace=True).flatten(2).transpose(1, 2)
        return self.fc(self.mix(x).tanh_().mean(dim=1))


class Padded(Grouped):
    """Borders of unequal ends and of other pixels than zeros."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, (4, 3), padding="same", dilation=(1, 2))
        self.conv2 = nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="reflect", bias=False)


@pytest.mark.parametrize("network", [Grouped, Padded])
def test_gradient_sizes_of_other_layers_equal_the_loop(network):
    torch.manual_seed(0)
    subject = dataclasses.replace(make_subject(9), model=network().eval())
    found = white_box.measure(subject, {"layers": 4})
    model = subject.model.requires_grad_(True)
    for sample in range(9):
        model.zero_grad()
        logits = model(subject.pool.normalize(subject.pool.images[sample : sample + 1]))
        functional.cross_entropy(logits, subject.pool.labels[sample : sample + 1]).backward()
        for number, module in enumerate((model.conv1, model.conv2, model.mix, model.fc)):
            gradient = torch.cat([p.grad.flatten() for p in module.parameters()]).abs()
            expected = [float(gradient.norm()), float(gradient.sum()), float(gradient.max())]
            np.testing.assert_allclose(found[sample, number, :3], expected, rtol=2e-4)


def test_gradients_in_pieces_are_the_same(monkeypatch):
    whole = white_box.measure(make_subject(20), {"layers": 3})
    monkeypatch.setattr(white_box, "GRADIENT_BYTES", 60_000)
    np.testing.assert_allclose(white_box.measure(make_subject(20), {"layers": 3}), whole, rtol=1e-5)


def test_a_layer_used_twice_is_named():
    class Twice(Grouped):
        def forward(self, x):
            return super().forward(x) + super().forward(x)

    subject = dataclasses.replace(make_subject(4), model=Twice().eval())
    with pytest.raises(InputError, match=r"uses its layer conv2 more than once"):
        white_box.measure(subject, {"layers": 3})


def test_activations_are_those_of_the_layers():
    subject = make_subject(12)
    found = white_box.measure(subject, {"layers": 1})
    with torch.no_grad():
        logits = subject.model(subject.pool.normalize(subject.pool.images)).numpy()
    expected = [np.abs(logits).mean(1), np.sqrt((logits**2).mean(1)), (logits > 0).mean(1)]
    np.testing.assert_allclose(found[:, 0, 3:], np.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_gradients_keep_their_digits_where_the_model_is_certain():
    """At a loss of e^-60 the gradient of the last layer is of that size, not 0."""
    pool = place(np.full((2, 1, 1, 1), 7, np.uint8), np.zeros(2, np.int64), 2, NUMERICS)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([60.0, 0.0]))
    subject = Subject(model.eval(), pool, NUMERICS, study_seed=0)
    largest = white_box.measure(subject, {"layers": 1})[:, 0, 2]
    np.testing.assert_allclose(largest, math.exp(-60), rtol=1e-4)


def test_too_many_layers_name_the_key():
    with pytest.raises(InputError, match=r"layers: 99 given, but model\.name has 7 conv"):
        white_box.measure(make_subject(4), {"layers": 99})


def test_features_give_the_logits_through_the_last_layer():
    subject = make_subject()
    found = features_module.measure(subject, {})
    assert found.shape == (40, 6)
    with torch.no_grad():
        logits = subject.model(subject.pool.normalize(subject.pool.images)).numpy()
        again = subject.model.fc(torch.from_numpy(found.astype(np.float32))).numpy()
    np.testing.assert_allclose(again, logits, atol=5e-3)


def test_features_need_a_linear_layer():
    with pytest.raises(InputError, match="features: logits"):
        features_module.measure(linear_subject(), {})


# --- distillation -------------------------------------------------------------------------

RECIPE = {
    "model": MODEL,
    "training": {"epochs": 6, "batch_size": 10, "learning_rate": 0.05, "mixup": 0.5},
    "augmentations": [{"name": "mirror", "parameters": {"probability": 0.5}}],
}


def distilled_subject(samples=60, reserved=0):
    reserve = np.zeros(samples, bool)
    reserve[:reserved] = True
    return make_subject(samples, identity=("none", 0, 3, "6"), training=RECIPE, reserve=reserve)


@pytest.mark.parametrize("reserved", [0, 30])
def test_students_learn_from_halves_of_the_population(reserved):
    subject = distilled_subject(reserved=reserved)
    learned = [distilled.student_samples(subject, number) for number in range(4)]
    population = subject.reserve if reserved else np.ones(60, bool)
    for first, second in (learned[:2], learned[2:]):
        assert not (first & second).any()
        np.testing.assert_array_equal(first | second, population)
    assert (learned[0] != learned[2]).any()
    other = dataclasses.replace(subject, identity=("none", 0, 2, "6"))
    np.testing.assert_array_equal(distilled.student_samples(other, 0), learned[0])


def test_students_are_seeded_and_asked_about_other_samples_only():
    subject = distilled_subject()
    given = {"students": 2, "epochs": 1}
    phi = distilled.measure(subject, given)
    for number in range(2):
        learned = distilled.student_samples(subject, number)
        np.testing.assert_array_equal(np.isnan(phi[:, number]), learned)
    np.testing.assert_array_equal(phi, distilled.measure(subject, given))
    other = dataclasses.replace(subject, identity=("none", 0, 2, "6"))
    assert (distilled.measure(other, given) != phi)[~np.isnan(phi)].any()


def test_students_come_to_answer_as_their_teacher():
    subject = distilled_subject()
    known = np.ones(60, bool)
    model = ModelSettings.from_config(MODEL)

    def distance(epochs):
        settings = distilled.student_settings(RECIPE["training"], epochs)
        student = distilled.distil(subject, known, None, model, settings, 0)
        images = subject.pool.normalize(subject.pool.images)
        with torch.no_grad():
            return float(
                (student(images).softmax(1) - subject.model(images).softmax(1)).abs().mean()
            )

    assert distance(16) < 0.6 * distance(1)


def test_student_settings_follow_the_technique():
    settings = distilled.student_settings({**RECIPE["training"], "checkpoints": [0, 6]}, 0)
    assert (settings.epochs, settings.mixup, settings.checkpoints) == (6, 0.0, (6,))
    assert distilled.student_settings(RECIPE["training"], 2).epochs == 2


def test_a_reserve_too_small_is_named():
    with pytest.raises(InputError, match=r"raise splits\.reserve"):
        distilled.student_samples(distilled_subject(reserved=3), 0)


# --- files --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 6)])
def test_signals_survive_their_file(tmp_path, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    artifacts.write_parquet(measured.signal_table(values), tmp_path / "a.parquet", {"study": "x"})
    found = measured.read_signal(tmp_path / "a.parquet")
    np.testing.assert_array_equal(found, values)
    assert found.dtype == np.float32
    assert json.loads(artifacts.read_metadata(tmp_path / "a.parquet")["shape"]) == list(shape[1:])
