import sys

import pytest
import torch
import torchvision
from torch import nn

from miagap.errors import InputError
from miagap.models import ModelSettings, build_model, check_output, for_inference


def torchvision_resnet18(num_classes=10):
    model = torchvision.models.resnet18(num_classes=num_classes)
    model.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    model.maxpool = nn.Identity()
    return model


def test_resnet18_is_torchvisions():
    theirs = torchvision_resnet18()
    ours = build_model(ModelSettings("resnet18"), 10, 3, 32, rng_seed=0)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for mode in (True, False):
        theirs.train(mode)
        ours.train(mode)
        assert torch.allclose(ours(images), theirs(images), atol=1e-4)
    state = theirs.state_dict()
    assert all(torch.allclose(t, state[k], atol=1e-5) for k, t in ours.state_dict().items())


def test_initial_weights_have_torchvisions_scale():
    theirs = torchvision_resnet18().state_dict()
    ours = build_model(ModelSettings("resnet18"), 10, 3, 32, rng_seed=0).state_dict()
    for name in ("layer1.0.conv1.weight", "layer4.0.downsample.0.weight", "fc.weight"):
        assert float(ours[name].std()) == pytest.approx(float(theirs[name].std()), rel=0.05)


def test_initialisation_depends_on_the_seed_alone():
    first = build_model(ModelSettings(), 10, 1, 8, rng_seed=1).state_dict()
    torch.rand(3)
    again = build_model(ModelSettings(), 10, 1, 8, rng_seed=1).state_dict()
    other = build_model(ModelSettings(), 10, 1, 8, rng_seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["conv1.weight"], other["conv1.weight"])


def test_folding_batchnorm_keeps_the_function():
    model = build_model(ModelSettings(widths=(8, 16), blocks=(2, 1)), 5, 3, 16, rng_seed=0)
    images = torch.randn(32, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(20):
        model(2 * images + 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inference = for_inference(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in inference.modules())
    assert torch.allclose(inference(images), model(images), atol=1e-5)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_narrow_resnet_shapes():
    model = build_model(ModelSettings(widths=(8, 16, 32), blocks=(1, 2, 1)), 7, 3, 16, rng_seed=0)
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 7)
    strides = [m.stride[0] for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert strides == [1, 1, 1, 2, 1, 2, 1, 1, 2, 1, 2]


def test_dropout_acts_in_training_only():
    model = build_model(ModelSettings(), 4, 1, 8, rng_seed=0, dropout=0.5)
    images = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


OWN = """
from torch import nn
def small(num_classes, in_channels, image_size, hidden=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size ** 2, hidden),
                         nn.Linear(hidden, num_classes))
def broken(num_classes, in_channels, image_size):
    raise KeyError("no such\\nlayer")
def number(num_classes, in_channels, image_size):
    return 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_models.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_models", None)
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


def test_own_model_by_import_path(own):
    model = build_model(ModelSettings("own_models:small", parameters={"hidden": 6}), 5, 1, 8, 0)
    assert model[1].out_features == 6
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("own_models:absent", "has no function absent"),
        ("own_modles:small", "cannot be imported"),
        ("own_models:broken", "KeyError"),
        ("own_models:number", "returned int"),
        ("resnet19", "resnet18, resnet or"),
    ],
)
def test_wrong_names_are_one_line_errors(own, name, expected):
    with pytest.raises(InputError, match=expected) as caught:
        build_model(ModelSettings(name), 5, 1, 8, 0)
    assert str(caught.value).startswith("model.name")
    assert "\n" not in str(caught.value)


def test_output_shape_is_checked(own):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    with pytest.raises(InputError, match=r"\(2, 5\) expected"):
        check_output(model, "own", torch.zeros(2, 1, 8, 8), 5)
    with pytest.raises(InputError, match="fails on images"):
        check_output(model, "own", torch.zeros(2, 1, 9, 9), 5)
