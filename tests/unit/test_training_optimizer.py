import itertools

import pytest
import torch
from torch import nn

from miagap.training.optimizer import Sgd

SETTINGS = [
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    {"momentum": 0.0, "nesterov": False, "weight_decay": 0.01},
]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def network(device):
    generator = torch.Generator().manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 20, 3), nn.BatchNorm2d(20), nn.ReLU(), nn.Flatten(), nn.Linear(720, 7)
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    layers[0].weight.data = layers[0].weight.data.contiguous(memory_format=torch.channels_last)
    return layers.to(device)


def losses(model, device):
    generator = torch.Generator().manual_seed(1)
    while True:
        images = torch.randn(16, 3, 8, 8, generator=generator).to(device)
        yield nn.functional.cross_entropy(model(images), torch.arange(16, device=device) % 7)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_bits_are_those_of_torch(settings, device):
    ours, theirs = network(device), network(device)
    sgd = Sgd(ours.parameters(), **settings)
    reference = torch.optim.SGD(theirs.parameters(), lr=1.0, fused=True, **settings)
    pairs = zip(losses(ours, device), losses(theirs, device), strict=False)
    for step, (one, other) in enumerate(itertools.islice(pairs, 6)):
        rate = 0.1 / (step + 1)
        sgd.zero_grad()
        one.backward()
        sgd.step(rate)
        reference.param_groups[0]["lr"] = rate
        reference.zero_grad()
        other.backward()
        reference.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b)


def test_two_steps_by_hand():
    weight = nn.Parameter(torch.tensor([1.0]))
    sgd = Sgd([weight], momentum=0.5, nesterov=True, weight_decay=0.1)
    weight.grad = torch.tensor([2.0])
    sgd.step(0.1)
    # gradient 2 + 0.1 * 1 = 2.1, momentum 2.1, step 0.1 * (2.1 + 0.5 * 2.1) = 0.315
    assert weight.item() == pytest.approx(0.685)
    sgd.zero_grad()
    assert weight.grad is None
    weight.grad = torch.tensor([1.0])
    sgd.step(0.1)
    # gradient 1.0685, momentum 0.5 * 2.1 + 1.0685 = 2.1185, step 0.1 * (1.0685 + 1.05925)
    assert weight.item() == pytest.approx(0.685 - 0.212775)


def test_parameters_without_gradient_stay():
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    sgd = Sgd([unused, frozen, used], momentum=0.9, weight_decay=0.1)
    assert len(sgd.parameters) == len(sgd.momenta) == 2
    (2 * used.sum()).backward()
    sgd.step(0.1)
    assert torch.equal(unused, torch.ones(3)) and torch.equal(frozen, torch.ones(1))
    assert torch.allclose(used, torch.full((2,), 1 - 0.1 * 2.1))
