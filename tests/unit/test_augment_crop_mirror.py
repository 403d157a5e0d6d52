import pytest
import torch
from augment_images import make_images
from torchvision.transforms import functional

from miagap import augment
from miagap.augment.crop import apply_crop, draw_crop
from miagap.augment.mirror import apply_mirror, draw_mirror
from miagap.errors import InputError

SHAPES = [(1, 8, 8), (3, 8, 8), (3, 16, 16), (3, 32, 32), (1, 9, 13), (3, 28, 17)]
MODES = ["constant", "reflect", "edge", "symmetric"]


def crop_parameters(**given):
    return augment.check(augment.Augmentation("crop", given))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_crop_equals_torchvision_image_by_image(shape, mode, channels_last):
    images = make_images(40, *shape, channels_last=channels_last)
    parameters = crop_parameters(padding=4, padding_mode=mode, fill=7)
    draws = draw_crop(40, shape, parameters, torch.Generator().manual_seed(1))
    cropped = apply_crop(images, draws, parameters)
    for image, result, top, left in zip(images, cropped, draws["top"], draws["left"], strict=True):
        padded = functional.pad(image, [4], fill=7, padding_mode=mode)
        expected = functional.crop(padded, int(top), int(left), *shape[1:])
        assert torch.equal(result, expected)


def test_crop_draws_every_window_equally_often():
    parameters = crop_parameters(padding=1)
    draws = draw_crop(90_000, (3, 8, 8), parameters, torch.Generator().manual_seed(2))
    counts = torch.bincount(draws["top"] * 3 + draws["left"], minlength=9)
    assert len(counts) == 9
    assert (counts - 10_000).abs().max() < 500  # 5 standard deviations


def test_crop_without_padding_returns_the_images():
    images = make_images(5, 3, 8, 8)
    parameters = crop_parameters(padding=0)
    draws = draw_crop(5, (3, 8, 8), parameters, torch.Generator())
    assert torch.equal(apply_crop(images, draws, parameters), images)


@pytest.mark.parametrize(("mode", "largest"), [("reflect", 7), ("symmetric", 8)])
def test_crop_names_the_padding_that_the_image_is_too_small_for(mode, largest):
    images = make_images(5, 3, 8, 8)
    for padding, fails in ((largest, False), (largest + 1, True)):
        parameters = crop_parameters(padding=padding, padding_mode=mode)
        draws = draw_crop(5, (3, 8, 8), parameters, torch.Generator())
        if fails:
            with pytest.raises(InputError, match=r"augmentations\.crop\.padding.*at most"):
                apply_crop(images, draws, parameters)
        else:
            apply_crop(images, draws, parameters)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels_last", [True, False])
def test_mirror_equals_torchvision_image_by_image(shape, channels_last):
    images = make_images(40, *shape, channels_last=channels_last)
    parameters = augment.check(augment.Augmentation("mirror"))
    draws = draw_mirror(40, shape, parameters, torch.Generator().manual_seed(1))
    assert 0 < draws["mirrored"].sum() < 40
    mirrored = apply_mirror(images, draws, parameters)
    for image, result, flag in zip(images, mirrored, draws["mirrored"], strict=True):
        assert torch.equal(result, functional.hflip(image) if flag else image)


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_mirror_probability(probability):
    parameters = augment.check(augment.Augmentation("mirror", {"probability": probability}))
    draws = draw_mirror(20_000, (1, 8, 8), parameters, torch.Generator().manual_seed(3))
    share = draws["mirrored"].double().mean().item()
    assert share == pytest.approx(probability, abs=0.0 if probability in (0, 1) else 0.015)
