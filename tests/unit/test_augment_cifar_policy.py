import pytest
import torch
from augment_images import make_images
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.autoaugment import _apply_op

from miagap import augment
from miagap.augment.cifar_policy import (
    BINS,
    IDENTITY,
    OPERATIONS,
    SUB_POLICIES,
    action,
    apply_actions,
    apply_cifar_policy,
    draw_cifar_policy,
)

SHAPES = [(1, 8, 8), (3, 8, 8), (3, 16, 16), (3, 32, 32), (1, 28, 28), (3, 17, 30), (3, 2, 40)]
TORCHVISION = AutoAugment(AutoAugmentPolicy.CIFAR10)


def policy_parameters(**given):
    return augment.check(augment.Augmentation("cifar_policy", given))


def torchvision_operation(image, name, level, sign, parameters):
    magnitudes, signed = TORCHVISION._augmentation_space(BINS, tuple(image.shape[1:]))[name]
    value = float(magnitudes[level]) if magnitudes.ndim else 0.0
    value = -value if signed and sign == 0 else value
    fill = parameters["fill"]
    fill = None if fill is None else [float(fill)] * image.shape[0]
    mode = InterpolationMode(parameters["interpolation"])
    return _apply_op(image, name, value, interpolation=mode, fill=fill)


def assert_operation_equals_torchvision(name, shape, parameters, batch, channels_last=True):
    images = make_images(batch, *shape, channels_last=channels_last)
    for level in range(BINS):
        for sign in (0, 1):
            actions = torch.full((batch,), action(name, level, sign))
            results = apply_actions(images, actions, parameters)
            for image, result in zip(images, results, strict=True):
                expected = torchvision_operation(image, name, level, sign, parameters)
                assert torch.equal(result, expected), (level, sign)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_at_every_magnitude_equals_torchvision(name, shape):
    assert_operation_equals_torchvision(name, shape, policy_parameters(), batch=8)


@pytest.mark.parametrize("name", OPERATIONS[:5])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
@pytest.mark.parametrize("fill", [None, 0, 133])
def test_geometric_operations_equal_torchvision(name, interpolation, fill):
    parameters = policy_parameters(interpolation=interpolation, fill=fill)
    for shape in ((3, 16, 16), (1, 9, 14)):
        assert_operation_equals_torchvision(name, shape, parameters, 4, channels_last=False)


def test_the_sub_policies_are_torchvisions():
    theirs = [
        tuple((name, probability, level or 0) for name, probability, level in pair)
        for pair in TORCHVISION.policies
    ]
    assert list(SUB_POLICIES) == theirs


@pytest.mark.parametrize("shape", SHAPES[:5])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_the_policy_equals_torchvision_on_the_same_draws(shape, interpolation, monkeypatch):
    batch = 200
    images = make_images(batch, *shape)
    parameters = policy_parameters(interpolation=interpolation)
    draws = draw_cifar_policy(batch, shape, parameters, torch.Generator().manual_seed(1))
    results = apply_cifar_policy(images, draws, parameters)
    policy = AutoAugment(AutoAugmentPolicy.CIFAR10, InterpolationMode(interpolation))
    for index, (image, result) in enumerate(zip(images, results, strict=True)):
        drawn = (int(draws["policy"][index]), draws["uniform"][index], draws["sign"][index])
        monkeypatch.setattr(policy, "get_params", lambda count, drawn=drawn: drawn)
        assert torch.equal(result, policy(image)), drawn


def test_the_draws_have_the_policys_distribution():
    count = 100_000
    draws = draw_cifar_policy(
        count, (3, 8, 8), policy_parameters(), torch.Generator().manual_seed(2)
    )
    assert draws["applied"].all()
    policies = torch.bincount(draws["policy"], minlength=25)
    assert len(policies) == 25
    assert (policies - count / 25).abs().max() < 5 * (count / 25) ** 0.5
    assert (draws["sign"].double().mean(0) - 0.5).abs().max() < 0.01
    for threshold in (0.1, 0.5, 0.9):
        share = (draws["uniform"] <= threshold).double().mean(0)
        assert (share - threshold).abs().max() < 0.01


def test_probability_is_that_of_the_whole_policy():
    parameters = policy_parameters(probability=0.25)
    draws = draw_cifar_policy(20_000, (3, 8, 8), parameters, torch.Generator().manual_seed(3))
    assert draws["applied"].double().mean().item() == pytest.approx(0.25, abs=0.015)
    images = make_images(2_000, 3, 8, 8)
    none = {name: draw[:2_000] for name, draw in draws.items()}
    none["applied"] = torch.zeros(2_000, dtype=torch.bool)
    assert torch.equal(apply_cifar_policy(images, none, parameters), images)


@pytest.mark.parametrize("channels_last", [True, False])
def test_images_without_an_action_and_the_input_stay_as_they_are(channels_last):
    images = make_images(6, 3, 16, 16, channels_last=channels_last)
    before = images.clone()
    actions = torch.tensor([IDENTITY, action("Invert")] * 3)
    results = apply_actions(images, actions, policy_parameters())
    assert torch.equal(images, before)
    assert torch.equal(results[::2], images[::2])
    assert torch.equal(results[1::2], 255 - images[1::2])
