"""Stochastic gradient descent in one fused operation per step.

The bits are those of ``torch.optim.SGD(fused=True)``, whose import of torch's compiler costs
every process more than a second.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Sgd:
    """Momentum, Nesterov and weight decay over float32 parameters of one device.

    Attributes:
        parameters: what is trained.
        momenta: one buffer per parameter in its memory layout; none without momentum.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        # A first step from zeros is torch's, which starts from the first gradient.
        zeros = [torch.zeros_like(parameter, requires_grad=False) for parameter in self.parameters]
        self.momenta = zeros if momentum else []

    def zero_grad(self) -> None:
        """Forget all gradients; the next backward pass writes instead of adding."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every parameter that has a gradient, at learning rate ``rate``."""
        used = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        torch._fused_sgd_(
            [self.parameters[i] for i in used],
            _gradients(self.parameters),
            [self.momenta[i] for i in used] if self.momenta else [],
            weight_decay=self.weight_decay,
            momentum=self.momentum,
            lr=rate,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
            is_first_step=False,
        )


def _gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]
