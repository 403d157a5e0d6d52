"""Sizes of every sample's gradients and activations in the last layers of a model."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from miagap.errors import InputError
from miagap.extraction import phi_and_loss
from miagap.measurements.subject import Asking, Part, Subject

# Bytes of per-sample gradients held at once.
GRADIENT_BYTES = 256 << 20


def weighted_layers(model: nn.Module, count: int) -> dict[str, nn.Module]:
    """Return the last layers that have a matrix of weights (convolutions, linear), by name.

    Raises:
        InputError: the model has fewer.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if getattr(module, "weight", None) is not None and module.weight.ndim >= 2
    }
    if len(found) < count:
        raise InputError(
            f"attacks: layers: {count} given, but model.name has {len(found)} layers with weights; "
            "lower it"
        )
    return dict(list(found.items())[-count:])


def gradient_sizes(
    model: nn.Module, layers: Mapping[str, nn.Module]
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a function of images (B, C, H, W) and labels (B,) that gives (B, layers, 3).

    For each sample's loss and each layer: L2 norm, L1 norm and largest entry of the gradient
    with respect to the layer's own parameters. Only these layers' gradients are formed.
    """
    owned = {
        name: [f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)]
        for name, module in layers.items()
    }
    parameters = dict(model.named_parameters())
    chosen = {key: parameters[key].detach() for keys in owned.values() for key in keys}

    def loss(weights: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, weights, (image[None],))
        return phi_and_loss(logits, label[None])[1].squeeze(0)

    def sizes(image: Tensor, label: Tensor) -> Tensor:
        gradient = grad(loss)(chosen, image, label)
        rows = []
        for keys in owned.values():
            entries = torch.cat([gradient[key].flatten() for key in keys]).abs()
            rows.append(torch.stack([entries.norm(), entries.sum(), entries.max()]))
        return torch.stack(rows)

    size = 4 * sum(weights.numel() for weights in chosen.values())
    return vmap(sizes, chunk_size=max(1, GRADIENT_BYTES // (3 * size)))


class Activations:
    """Collects sizes of the outputs of layers during a forward pass."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self.rows: dict[str, Tensor] = {}
        self.hooks = [
            module.register_forward_hook(self._keep(name)) for name, module in layers.items()
        ]

    def _keep(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(_: nn.Module, given: Any, output: Tensor) -> None:
            values = output.flatten(1).float()
            self.rows[name] = torch.stack(
                [
                    values.abs().mean(dim=1),
                    values.square().mean(dim=1).sqrt(),
                    (values > 0).float().mean(dim=1),
                ],
                dim=1,
            )

        return keep

    def take(self, layers: Mapping[str, nn.Module]) -> Tensor:
        """Return what the last forward pass left, (B, layers, 3)."""
        return torch.stack([self.rows[name] for name in layers], dim=1)

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self.hooks:
            hook.remove()


def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return sizes of gradients and activations, float32 (n, layers, 6).

    Per layer: the gradient's L2 norm, L1 norm and largest entry; the outputs' mean absolute
    value, root mean square and share of positive ones. The loss is formed so that its gradient
    keeps its digits where the model is certain.

    Args:
        subject: the model and the samples.
        parameters: ``layers``, how many, counted from the last.
    """
    asking = Asking(subject)
    model = subject.model.eval().requires_grad_(False)
    asking.model = model  # not the folded one: its weights are other weights
    layers = weighted_layers(model, parameters["layers"])
    gradients = gradient_sizes(model, layers)
    found = []
    for part in asking.parts():
        activations = _activations(asking, part, layers)
        sizes = gradients(subject.pool.normalize(part.pixels), part.labels)
        found.append(torch.cat([sizes, activations], dim=2).cpu().numpy())
    return np.concatenate(found).astype(np.float32)


def _activations(asking: Asking, part: Part, layers: Mapping[str, nn.Module]) -> Tensor:
    collected = Activations(layers)
    with torch.no_grad():
        asking.logits(part.pixels)
    collected.close()
    return collected.take(layers)
