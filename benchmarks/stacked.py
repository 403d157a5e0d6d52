"""Training steps of several models stacked into one network, beside one model after another.

    python benchmarks/stacked.py
    python benchmarks/stacked.py --models 2 4 8 16 --device cuda

Small networks do not fill a device. Here k of them become one network: convolutions with k
groups, BatchNorms of k times the channels, a batch of last layers; their batches lie side by
side as channels. The same step (forward, backward, SGD; data and augmentation left out) is
taken by k models in turn. Rounds of both alternate and the best of each counts, in CPU time of
the thread on a CPU. Prints a Markdown table; a ratio above 1 means that stacking is faster.

miagap trains one model after another in a process and several processes at once. On one thread
of an AMD Zen 4 server (bfloat16, torch 2.15, other load on the machine) stacking 2 to 8 models
made a step 1.3 to 1.6 times as fast on the smallest network, 1.1 on the next and 1.0 on the
third: time goes to the convolutions themselves, whose grouped backward kernels are no faster.
A stack of 2, 4 and 8 gave each model the same bits, but other bits than the model by itself.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from training import CLASSES, SMALL, Case

from miagap.models import build_model, on_device
from miagap.numerics import ComputeSettings, Numerics, configure, resolve
from miagap.training.optimizer import Sgd


class Heads(nn.Module):
    """The last layers of k models: (B, k * F) to (B, k, classes)."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().t() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        own = x.view(len(x), len(self.bias), -1).transpose(0, 1)
        return torch.bmm(own, self.weight).transpose(0, 1) + self.bias


def stack(models: Sequence[nn.Module]) -> nn.Module:
    """Return one network that computes what the residual networks ``models`` compute."""
    stacked = copy.deepcopy(models[0])
    for name, module in list(stacked.named_modules()):
        parts = [model.get_submodule(name) for model in models] if name else []
        if isinstance(module, nn.Conv2d):
            _replace(stacked, name, _grouped(module, parts))
        elif isinstance(module, nn.BatchNorm2d):
            _replace(stacked, name, nn.BatchNorm2d(len(models) * module.num_features))
        elif isinstance(module, nn.Linear):
            layers = [part for part in parts if isinstance(part, nn.Linear)]
            _replace(stacked, name, Heads(layers))
    return stacked


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)


def _grouped(one: nn.Conv2d, parts: Sequence[nn.Module]) -> nn.Conv2d:
    count = len(parts)
    made = nn.Conv2d(
        count * one.in_channels,
        count * one.out_channels,
        one.kernel_size[0],
        one.stride[0],
        padding=one.padding[0] if isinstance(one.padding, tuple) else one.padding,
        groups=count,
        bias=False,
    )
    weights = [part.weight.detach() for part in parts if isinstance(part, nn.Conv2d)]
    made.weight = nn.Parameter(torch.cat(weights))
    return made


def stepper(model: nn.Module, images: Tensor, labels: Tensor, numerics: Numerics) -> Callable:
    """Return a function that takes one training step and returns the summed loss.

    ``labels`` are (B,) for one model and (B, k) for a stack of k.
    """
    optimizer = Sgd(model.parameters(), momentum=0.9, nesterov=True, weight_decay=5e-4)
    models = labels.numel() // len(labels)

    def step() -> Tensor:
        optimizer.zero_grad()
        with numerics.autocast():
            logits = model(images)
        flat = logits.float().reshape(-1, CLASSES)
        loss = models * functional.cross_entropy(flat, labels.reshape(-1))
        loss.backward()
        optimizer.step(0.1)
        return loss.detach()

    return step


def seconds(work: Callable[[], object], numerics: Numerics, repeats: int) -> float:
    """Return seconds per call: CPU time of this thread, or elapsed time on a GPU."""
    on_cpu = numerics.device.type == "cpu"
    clock = time.thread_time if on_cpu else time.perf_counter
    numerics.synchronize()
    start = clock()
    for _ in range(repeats):
        work()
    numerics.synchronize()
    return (clock() - start) / repeats


def compare(
    case: Case, count: int, numerics: Numerics, rounds: int, repeats: int
) -> tuple[float, float]:
    """Return seconds per model and step: one after another, and stacked."""
    device, batch = numerics.device, case.batch_size
    models = [
        on_device(build_model(case.model, CLASSES, case.channels, case.size, seed), device).train()
        for seed in range(count)
    ]
    together = on_device(stack(models), device).train()
    generator = torch.Generator().manual_seed(0)
    shape = (batch, count * case.channels, case.size, case.size)
    images = torch.randn(shape, generator=generator).to(device, numerics.dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch, count), generator=generator).to(device)
    alone = [
        stepper(
            model,
            part.contiguous(memory_format=torch.channels_last),
            labels[:, index].contiguous(),
            numerics,
        )
        for index, (model, part) in enumerate(
            zip(models, images.split(case.channels, dim=1), strict=True)
        )
    ]
    stacked = stepper(together, images, labels, numerics)
    separate = sum(float(step()) for step in alone)
    if abs(float(stacked()) - separate) > 0.02 * separate:
        raise RuntimeError("the stacked network computes something else")
    found = []
    for _ in range(rounds):
        one = seconds(lambda: [step() for step in alone], numerics, repeats)
        found.append((one / count, seconds(stacked, numerics, repeats) / count))
    return min(one for one, _ in found), min(other for _, other in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=8, help="steps in a row per round")
    options = parser.parse_args()
    numerics = resolve(
        ComputeSettings(device=options.device, precision=options.precision, threads=options.threads)
    )
    configure(numerics)
    facts = numerics.describe()
    print(f"{facts['device']}, {facts['precision']}, {options.threads} thread(s), ", end="")
    print(f"torch {facts['torch']}\n")
    print("| network | models | one after another, us per step | stacked, us per step | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for case in SMALL:
        for count in options.models:
            one, other = compare(case, count, numerics, options.rounds, options.repeats)
            times = f"{1e6 * one:.0f} | {1e6 * other:.0f} | {one / other:.2f}"
            print(f"| {case.name} | {count} | {times} |", flush=True)


if __name__ == "__main__":
    main()
