import numpy as np
import pytest
import torch
from augment_images import make_images
from scipy.stats import ks_2samp
from torchvision.transforms import RandomErasing, functional

from miagap import augment
from miagap.augment.cutout import apply_cutout, draw_cutout
from miagap.errors import InputError

SHAPES = [(1, 8, 8), (3, 16, 16), (3, 32, 32), (3, 9, 13)]


def cutout_parameters(**given):
    return augment.check(augment.Augmentation("cutout", {"probability": 0.8, **given}))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [0, 200, "vector", "random"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_cutout_equals_torchvision_image_by_image(shape, value, channels_last):
    images = make_images(40, *shape, channels_last=channels_last)
    parameters = cutout_parameters(value=value if value != "vector" else 0)
    if value == "vector":
        parameters["value"] = (10, 20, 30)[: shape[0]]
    draws = draw_cutout(40, shape, parameters, torch.Generator().manual_seed(1))
    erased = apply_cutout(images, draws, parameters)
    assert erased.dtype == torch.uint8
    for index, (image, result) in enumerate(zip(images, erased, strict=True)):
        top, left, height, width = (
            int(draws[name][index]) for name in ("top", "left", "height", "width")
        )
        if value == "random":
            noise = draws["noise"][index].permute(2, 0, 1)
            filling = noise[:, top : top + height, left : left + width]
        else:
            filling = torch.tensor(parameters["value"], dtype=torch.uint8).view(-1, 1, 1)
        expected = functional.erase(image, top, left, height, width, filling)
        assert torch.equal(result, expected)


@pytest.mark.parametrize("size", [(8, 8), (32, 32), (16, 24)])
def test_cutout_regions_have_the_distribution_of_random_erasing(size):
    parameters = cutout_parameters(probability=1.0)
    draws = draw_cutout(4_000, (3, *size), parameters, torch.Generator().manual_seed(4))
    ours = np.stack([draws[name].numpy() for name in ("top", "left", "height", "width")], axis=1)
    torch.manual_seed(5)
    image = torch.zeros(1, *size)
    theirs = np.array(
        [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(4_000)]
    )
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3
    assert ks_2samp(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]).pvalue > 1e-3


def test_cutout_leaves_images_that_no_candidate_fits():
    parameters = cutout_parameters(probability=1.0, scale=[1.0, 1.0], ratio=[1.0, 1.0])
    draws = draw_cutout(50, (3, 8, 8), parameters, torch.Generator().manual_seed(6))
    images = make_images(50, 3, 8, 8)
    assert torch.equal(apply_cutout(images, draws, parameters), images)


def test_cutout_takes_a_later_candidate_when_the_first_does_not_fit():
    # About half of these candidates are as high as the image; ten all but never are.
    parameters = cutout_parameters(probability=1.0, scale=[0.3, 0.3], ratio=[1.0, 9.0])
    draws = draw_cutout(2_000, (3, 16, 16), parameters, torch.Generator().manual_seed(7))
    assert (draws["height"] > 0).double().mean() > 0.99
    assert draws["height"].max() < 16
    assert (draws["top"] + draws["height"]).max() <= 16
    assert (draws["left"] + draws["width"]).max() <= 16


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_cutout_probability(probability):
    parameters = cutout_parameters(probability=probability)
    draws = draw_cutout(20_000, (1, 32, 32), parameters, torch.Generator().manual_seed(8))
    share = (draws["height"] > 0).double().mean().item()
    assert share == pytest.approx(probability, abs=0.0 if probability in (0, 1) else 0.015)


def test_cutout_noise_is_uniform_over_all_values():
    parameters = cutout_parameters(value="random")
    draws = draw_cutout(50, (3, 32, 32), parameters, torch.Generator().manual_seed(9))
    counts = torch.bincount(draws["noise"].flatten().int(), minlength=256)
    assert (counts - 600).abs().max() < 6 * 600**0.5


def test_cutout_mean_is_the_pools_mean_pixel():
    chosen = augment.Augmentation("cutout", {"value": "mean", "probability": 1.0})
    images = torch.zeros((64, 3, 16, 16), dtype=torch.uint8)
    pipeline = augment.build([chosen], [125.3, 122.9, 113.8])
    erased = pipeline(images, torch.Generator().manual_seed(10))
    assert erased.amax((0, 2, 3)).tolist() == [125, 123, 114]
    with pytest.raises(InputError, match=r"augmentations\.cutout\.value"):
        augment.build([chosen])
