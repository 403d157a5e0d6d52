"""Networks: the CIFAR ResNet-18, smaller residual networks, and the user's own.

The residual network is written out here, with torchvision's layer names and
initialisation, because importing torchvision costs each process more than a second;
a test loads torchvision's weights and compares the outputs.
"""

import copy
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from miagap.errors import InputError

RESNET18_WIDTHS = (64, 128, 256, 512)
RESNET18_BLOCKS = (2, 2, 2, 2)

_FOLDED = (("conv1", "bn1"), ("conv2", "bn2"))


@dataclass(frozen=True)
class ModelSettings:
    """The keys of the config's section ``model``.

    Attributes:
        name: ``resnet18``, ``resnet``, or ``package.module:function``.
        widths: ``resnet`` only, channels per stage; the first stage has stride 1, the
            others stride 2.
        blocks: ``resnet`` only, basic blocks per stage.
        parameters: keyword arguments of a user's own function.
    """

    name: str = "resnet"
    widths: tuple[int, ...] = (16, 32)
    blocks: tuple[int, ...] = (1, 1)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "ModelSettings":
        """Build from the config's section; missing keys take their defaults."""
        values = dict(section)
        for key in ("widths", "blocks"):
            if key in values:
                values[key] = tuple(values[key])
        return cls(**values)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, projected by 1x1 where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(x)).add_(shortcut), inplace=True)


class ResNet(nn.Module):
    """Residual network for small images: 3x3 stem with stride 1 and no pooling after it.

    With ``RESNET18_WIDTHS`` and ``RESNET18_BLOCKS`` it is torchvision's ``resnet18`` in
    which ``conv1`` is 3x3 with stride 1 and ``maxpool`` the identity: the same names in
    its state, the same function, the same distribution of initial weights.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = []
        channels = widths[0]
        for stage, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            layer = nn.Sequential()
            for block in range(count):
                stride = 2 if stage > 1 and block == 0 else 1
                layer.append(BasicBlock(channels, width, stride))
                channels = width
            self.add_module(f"layer{stage}", layer)
            self.stages.append(f"layer{stage}")
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images (B, C, H, W) to logits (B, classes)."""
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        for stage in self.stages:
            x = getattr(self, stage)(x)
        # Not x.mean((2, 3)): its gradient would not be channels-last, which costs a tenth
        # of a narrow network's step on a CPU.
        x = functional.avg_pool2d(x, x.shape[2:]).flatten(1)
        if self.dropout:
            x = functional.dropout(x, self.dropout, self.training)
        logits: Tensor = self.fc(x)
        return logits


def build_model(
    settings: ModelSettings,
    num_classes: int,
    in_channels: int,
    image_size: int,
    rng_seed: int,
    dropout: float = 0.0,
) -> nn.Module:
    """Build a model with initial weights that depend on ``rng_seed`` alone.

    The model is built on the CPU, so its initial weights are the same on every device.

    Args:
        settings: which network.
        num_classes: number of logits.
        in_channels: channels of the images, 1 or 3.
        image_size: height (= width) of the images in pixels.
        rng_seed: non-negative integer below 2**63.
        dropout: probability of dropping a feature before the last layer (built-in
            networks only).

    Raises:
        InputError: names ``model.name`` and what is wrong with it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng_seed)
        if ":" in settings.name:
            if dropout:
                raise InputError(
                    f"training.dropout: {dropout} given, but the user's own model "
                    f"{settings.name} does its own; give it in model.parameters"
                )
            return _build_own(settings, num_classes, in_channels, image_size)
        widths, blocks = _architecture(settings)
        return ResNet(num_classes, in_channels, widths, blocks, dropout)


def _architecture(settings: ModelSettings) -> tuple[Sequence[int], Sequence[int]]:
    if settings.name == "resnet18":
        return RESNET18_WIDTHS, RESNET18_BLOCKS
    if settings.name != "resnet":
        raise InputError(
            f"model.name: {settings.name!r} given, resnet18, resnet or "
            "package.module:function expected"
        )
    if not settings.widths or len(settings.widths) != len(settings.blocks):
        raise InputError(
            f"model.widths, model.blocks: {len(settings.widths)} and {len(settings.blocks)} "
            "stages given, the same number (at least one) expected"
        )
    return settings.widths, settings.blocks


def _build_own(
    settings: ModelSettings, num_classes: int, in_channels: int, image_size: int
) -> nn.Module:
    module_name, _, function_name = settings.name.partition(":")
    where = f"model.name: {settings.name}"
    # A user's module lies beside the config, in the folder the study is run from.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except ImportError as error:
        raise InputError(
            f"{where}: module {module_name} cannot be imported ({error}); put it into the "
            "folder that the study is run from, or on PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise InputError(
            f"{where}: module {module_name} has no function {function_name}"
        ) from error
    try:
        model = function(num_classes, in_channels, image_size, **settings.parameters)
    except Exception as error:
        raise InputError(
            f"{where}: calling it with ({num_classes}, {in_channels}, {image_size}) and "
            f"model.parameters failed: {type(error).__name__}: {_one_line(error)}"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{where}: returned {type(model).__name__}, a torch.nn.Module expected")
    return model


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to the device, its weights float32 and channels-last in memory."""
    model = model.to(device, torch.float32)
    for parameter in model.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return model


def for_inference(model: nn.Module) -> nn.Module:
    """Return the model in eval mode, for questions only, as fast as it can answer them.

    In eval mode a BatchNorm is an affine map per channel: in our networks it is folded
    into the convolution before it (the same function up to rounding, up to 1.8 times as
    fast on a CPU). A user's own model is returned as it is.
    """
    model.eval()
    if not isinstance(model, ResNet):
        return model
    folded = copy.deepcopy(model)
    for module in list(folded.modules()):
        pairs = [("0", "1")] if isinstance(module, nn.Sequential) else _FOLDED
        for conv_name, norm_name in pairs:
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, nn.utils.fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return folded


def check_output(model: nn.Module, name: str, images: Tensor, num_classes: int) -> None:
    """Ask an untrained model for two images' logits and check their shape.

    Args:
        model: the model, on the images' device.
        name: the config's ``model.name``, for the message.
        images: normalised images (2, C, H, W).
        num_classes: logits expected per image.

    Raises:
        InputError: the model fails on the images or gives another shape.
    """
    model.eval()
    try:
        with torch.inference_mode():
            shape = tuple(model(images).shape)
    except Exception as error:
        raise InputError(
            f"model.name: {name} fails on images of shape {tuple(images.shape)}: "
            f"{type(error).__name__}: {_one_line(error)}"
        ) from error
    if shape != (len(images), num_classes):
        raise InputError(
            f"model.name: {name} gives an output of shape {shape} for {len(images)} images, "
            f"({len(images)}, {num_classes}) expected"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
