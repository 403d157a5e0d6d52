"""Activations below the last layer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from miagap.errors import InputError
from miagap.measurements.subject import Asking, Subject


@torch.inference_mode()
def measure(subject: Subject, parameters: Mapping[str, Any]) -> np.ndarray:
    """Return what enters the model's last linear layer, float16 (n, d).

    Raises:
        InputError: the model has no linear layer, or does not use its last one once.
    """
    asking = Asking(subject)
    linear = [module for module in asking.model.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(
            "attacks: features: penultimate needs a model whose last layer is linear, and "
            "model.name has none; use features: logits"
        )
    seen: list[Tensor] = []
    hook = linear[-1].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    found = []
    for part in asking.parts():
        seen.clear()
        asking.logits(part.pixels)
        if len(seen) != 1:
            raise InputError(
                "attacks: features: penultimate needs a model that uses its last linear layer "
                f"once, and model.name used it {len(seen)} times; use features: logits"
            )
        found.append(seen[0].flatten(1).to(torch.float16).cpu().numpy())
    hook.remove()
    return np.concatenate(found)
