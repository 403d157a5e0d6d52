import os
import subprocess
import sys

import pytest
import torch
from augment_images import make_images

from miagap import augment
from miagap.augment import pipeline as module
from miagap.augment.pipeline import OPERATORS
from miagap.errors import InputError

ALL = [augment.Augmentation(name) for name in ("crop", "mirror", "cifar_policy", "cutout")]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_augmentation_has_parameters_and_operators():
    assert set(OPERATORS) == set(augment.PARAMETERS)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (3, 32, 32)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_is_preserved_and_the_input_unchanged(shape, channels_last):
    images = make_images(50, *shape, channels_last=channels_last)
    before = images.clone()
    augmented = augment.build(ALL)(images, seeded())
    assert augmented.dtype == torch.uint8
    assert augmented.shape == images.shape
    if shape[0] > 1:
        assert augmented.stride() == images.stride()
    assert torch.equal(images, before)
    assert not torch.equal(augmented, images)


def test_memory_formats_hold_the_same_images():
    images = make_images(64, 3, 16, 16)
    plain = augment.build(ALL)(images.contiguous(), seeded())
    assert torch.equal(plain, augment.build(ALL)(images, seeded()))


def test_the_seed_decides():
    images = make_images(64, 3, 16, 16)
    pipeline = augment.build(ALL)
    first = pipeline(images, seeded(1))
    assert torch.equal(first, pipeline(images, seeded(1)))
    assert not torch.equal(first, pipeline(images, seeded(2)))
    generator = seeded(1)
    assert torch.equal(first, pipeline(images, generator))
    assert not torch.equal(first, pipeline(images, generator))


def test_the_number_of_threads_does_not_matter():
    images = make_images(3_000, 3, 32, 32)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(augment.build(ALL)(images, seeded()))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*results)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (3, 28, 28), (3, 32, 32)])
def test_every_device_gives_the_same_images(device, shape):
    images = make_images(2_000, *shape)
    steps = [*ALL, augment.Augmentation("cutout", {"value": "random"})]
    expected = augment.build(steps)(images, seeded())
    assert torch.equal(augment.build(steps)(images.to(device), seeded()).cpu(), expected)


def test_draws_may_come_from_a_generator_of_the_images_device():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = make_images(100, 3, 16, 16).to(device)
    results = [augment.build(ALL)(images, torch.Generator(device).manual_seed(1)) for _ in range(2)]
    assert torch.equal(*results)


def test_pieces_do_not_matter(monkeypatch):
    images = make_images(100, 3, 16, 16)
    random = [*ALL, augment.Augmentation("cutout", {"value": "random"})]
    whole = augment.build(random)(images, seeded())
    monkeypatch.setattr(module, "PIECE_BYTES", 7 * 3 * 16 * 16)
    assert torch.equal(whole, augment.build(random)(images, seeded()))


def test_steps_are_applied_in_order():
    images = make_images(64, 3, 16, 16)
    generator = seeded()
    crop, mirror = ALL[:2]
    pipeline = augment.build([crop, mirror])
    drawn = [
        OPERATORS[step.name][0](64, (3, 16, 16), step.parameters, generator)
        for step in pipeline.steps
    ]
    expected = images
    for step, draws in zip(pipeline.steps, drawn, strict=True):
        expected = OPERATORS[step.name][1](expected, draws, step.parameters)
    assert torch.equal(pipeline(images, seeded()), expected)


def test_each_image_has_its_own_draws():
    images = make_images(1, 3, 16, 16).expand(64, -1, -1, -1)
    augmented = augment.build([augment.Augmentation("crop")])(images, seeded())
    assert len({image.numpy().tobytes() for image in augmented}) > 30


def test_no_augmentation_returns_the_images():
    images = make_images(4, 3, 8, 8)
    assert augment.build([])(images, seeded()) is images


def test_an_empty_batch_stays_empty():
    images = make_images(4, 3, 16, 16)[:0]
    assert augment.build(ALL)(images, seeded()).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("mirrors", {}, r"augmentations\.mirrors.*did you mean mirror"),
        ("crop", {"pading": 2}, r"augmentations\.crop\.pading.*did you mean padding"),
        ("crop", {"padding": -1}, r"augmentations\.crop\.padding"),
        ("crop", {"padding": True}, r"augmentations\.crop\.padding"),
        ("crop", {"padding_mode": "wrap"}, r"augmentations\.crop\.padding_mode.*reflect"),
        ("crop", {"fill": 256}, r"augmentations\.crop\.fill"),
        ("mirror", {"probability": 1.5}, r"augmentations\.mirror\.probability"),
        ("mirror", {"probability": float("nan")}, r"augmentations\.mirror\.probability"),
        ("cutout", {"scale": [0.5, 0.1]}, r"augmentations\.cutout\.scale"),
        ("cutout", {"scale": 0.5}, r"augmentations\.cutout\.scale"),
        ("cutout", {"ratio": [0.0, 1.0]}, r"augmentations\.cutout\.ratio"),
        ("cutout", {"value": "median"}, r"augmentations\.cutout\.value"),
        ("cifar_policy", {"probability": "often"}, r"augmentations\.cifar_policy\.probability"),
        ("cifar_policy", {"interpolation": "cubic"}, r"augmentations\.cifar_policy\.interpol"),
        ("cifar_policy", {"fill": -1}, r"augmentations\.cifar_policy\.fill"),
    ],
)
def test_wrong_parameters_are_named(name, parameters, message):
    with pytest.raises(InputError, match=message) as raised:
        augment.build([augment.Augmentation(name, parameters)])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("shape", [(4, 8, 8), (4, 2, 8, 8)])
def test_images_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="uint8"):
        augment.build(ALL)(torch.zeros(shape, dtype=torch.uint8), seeded())


def test_importing_the_package_does_not_import_torch():
    code = "import sys, miagap.augment; sys.exit('torch' in sys.modules)"
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=paths)
