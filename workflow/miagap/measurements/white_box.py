"""Sizes of every sample's gradients and activations in the last layers of a model.

One backward pass serves all samples asked about together: the sum of their losses has, with
respect to a layer's outputs, each sample's own gradient, and from that and the layer's inputs
follows the sample's gradient with respect to the weights. (In eval mode no sample's answer
depends on another.) Gradients of one layer and some samples are held at a time.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from miagap.errors import InputError
from miagap.measurements.subject import Asking, Subject

# Bytes of per-sample gradients held at once.
GRADIENT_BYTES = 128 << 20
Layer = nn.Conv2d | nn.Linear


def weighted_layers(model: nn.Module, count: int) -> dict[str, Layer]:
    """Return the last convolutions and linear layers of a model, by name.

    Raises:
        InputError: the model has fewer.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }
    if len(found) < count:
        raise InputError(
            f"attacks: layers: {count} given, but model.name has {len(found)} convolutions and "
            "linear layers; lower it"
        )
    return dict(list(found.items())[-count:])


class Watched:
    """What enters and leaves layers during a forward pass."""

    def __init__(self, layers: Mapping[str, Layer]) -> None:
        self.inputs: dict[str, Tensor] = {}
        self.outputs: dict[str, Tensor] = {}
        self.hooks = [
            module.register_forward_hook(
                lambda _, given, out, name=name: self._keep(name, given, out)
            )
            for name, module in layers.items()
        ]

    def _keep(self, name: str, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if name in self.outputs:
            raise InputError(
                f"attacks: layers: model.name uses its layer {name} more than once; lower layers"
            )
        self.inputs[name], self.outputs[name] = given[0].detach(), output
        # The model goes on with a copy: what it does to that in place leaves ours as it was.
        return output.clone()

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self.hooks:
            hook.remove()


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of the samples' cross-entropies, in float64.

    As ``extraction.phi_and_loss`` forms them, so that gradients keep their digits where the
    model is certain; by a mask in place of an index, whose gradient has no deterministic form
    on a GPU.
    """
    z = logits.double()
    own = torch.arange(z.shape[1], device=z.device) == labels[:, None]
    rest = torch.where(own, -torch.inf, z).logsumexp(dim=1)
    phi = torch.where(own, z, 0.0).sum(dim=1) - rest
    return torch.logaddexp(torch.zeros_like(phi), -phi).sum()


def padded(layer: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return a convolution's inputs (B, C, H, W) with the border that it puts around them."""
    ends: list[int] = []
    for dimension in (1, 0):  # functional.pad counts from the last dimension
        if isinstance(layer.padding, str):
            reach = layer.dilation[dimension] * (layer.kernel_size[dimension] - 1)
            both = reach if layer.padding == "same" else 0
        else:
            both = 2 * int(layer.padding[dimension])
        ends += [both // 2, both - both // 2]
    if not any(ends):
        return inputs
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return functional.pad(inputs, ends, mode)


def sample_gradients(layer: Layer, given: Tensor, gradient: Tensor) -> Iterator[Tensor]:
    """Yield every sample's gradient with respect to a layer's weights and bias, (b, entries).

    Args:
        layer: a convolution or linear layer.
        given: its inputs (B, ...).
        gradient: the loss's gradient with respect to its outputs (B, ...).
    """
    size = max(1, GRADIENT_BYTES // (12 * layer.weight.numel()))
    for inputs, outputs in zip(given.split(size), gradient.split(size), strict=True):
        count = len(inputs)
        if isinstance(layer, nn.Conv2d):
            patches = functional.unfold(
                padded(layer, inputs), layer.kernel_size, layer.dilation, stride=layer.stride
            )
            places = patches.shape[2]
            left = outputs.reshape(count, layer.groups, -1, places)
            weights = left @ patches.reshape(count, layer.groups, -1, places).mT
            bias = outputs.flatten(2).sum(dim=2)
        else:
            left = outputs.reshape(count, -1, layer.out_features)
            weights = left.mT @ inputs.reshape(count, -1, layer.in_features)
            bias = left.sum(dim=1)
        parts = [weights.flatten(1)] + ([bias] if layer.bias is not None else [])
        yield torch.cat(parts, dim=1)


def gradient_sizes(layer: Layer, given: Tensor, gradient: Tensor) -> Tensor:
    """Return L2 norm, L1 norm and largest entry of each sample's gradient: (B, 3)."""
    rows = []
    for entries in sample_gradients(layer, given, gradient):
        sizes = entries.abs_()
        rows.append(torch.stack([sizes.norm(dim=1), sizes.sum(dim=1), sizes.amax(dim=1)], dim=1))
    return torch.cat(rows)


def activation_sizes(outputs: Tensor) -> Tensor:
    """Return mean absolute value, root mean square and share of positive outputs: (B, 3)."""
    values = outputs.detach().flatten(1)
    share = (values > 0).float().mean(dim=1)
    return torch.stack([values.abs().mean(dim=1), values.square().mean(dim=1).sqrt(), share], dim=1)


def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return sizes of gradients and activations, float32 (n, layers, 6).

    Per layer: the gradient's L2 norm, L1 norm and largest entry; the outputs' mean absolute
    value, root mean square and share of positive ones.

    Args:
        subject: the model and the samples.
        parameters: ``layers``, how many, counted from the last.
    """
    asking = Asking(subject)
    asking.model = subject.model.eval()  # not the folded one: its weights are other weights
    layers = weighted_layers(subject.model, parameters["layers"])
    # The backward pass need not go below the first of these layers.
    subject.model.requires_grad_(False)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    found = []
    for part in asking.parts():
        watched = Watched(layers)
        with torch.enable_grad():
            loss = summed_loss(asking.logits(part.pixels), part.labels)
        watched.close()
        gradients = torch.autograd.grad(loss, [watched.outputs[name] for name in layers])
        rows = [
            torch.cat(
                [
                    gradient_sizes(layer, watched.inputs[name], gradient),
                    activation_sizes(watched.outputs[name]),
                ],
                dim=1,
            )
            for (name, layer), gradient in zip(layers.items(), gradients, strict=True)
        ]
        found.append(torch.stack(rows, dim=1).cpu().numpy())
    return np.concatenate(found).astype(np.float32)
