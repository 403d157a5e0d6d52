"""Images per second of training, beside a plain PyTorch loop and the device's matmul rate.

    python benchmarks/training.py --small                  # narrow networks of the small studies
    python benchmarks/training.py --full                   # ResNet-18 on 32x32 images
    python benchmarks/training.py --full --device cuda --batch-size 512

Both loops train the same network on the same random images with the same batch size,
SGD and augmentations (crop and mirror; nothing else in the plain loop's favour or against
it). The plain loop is how public ports of LiRA train: DataLoader, torchvision transforms
on PIL images, float32, NCHW. Ours is ``miagap.training.train`` itself, augmentation and
all, its rate read from its own history. ``--processes`` runs as many copies of each loop
at once and adds their rates up. Rates are those of the best epoch of all rounds, since other
load on a machine only ever slows one down. Matrix products and both loops run with the same
number of threads. Prints a Markdown table.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from miagap import augment
from miagap.augment import Augmentation
from miagap.device_pool import place
from miagap.models import ModelSettings, build_model
from miagap.numerics import ComputeSettings, Numerics, configure, resolve
from miagap.training import Task, TrainingSettings, train

CLASSES = 10
PADDING = 4


@dataclass(frozen=True)
class Case:
    """A network and the images it trains on."""

    name: str
    model: ModelSettings
    size: int
    channels: int
    batch_size: int


SMALL = (
    Case("resnet 16-32, 8x8x1", ModelSettings(), 8, 1, 64),
    Case(
        "resnet 16-32-64, 16x16x3",
        ModelSettings(widths=(16, 32, 64), blocks=(1, 1, 1)),
        16,
        3,
        64,
    ),
    Case(
        "resnet 32-64-128, 16x16x3",
        ModelSettings(widths=(32, 64, 128), blocks=(1, 1, 1)),
        16,
        3,
        64,
    ),
)
FULL = (Case("resnet18, 32x32x3", ModelSettings(name="resnet18"), 32, 3, 128),)


def images_and_labels(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    shape = (count, case.size, case.size, case.channels)
    return rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, CLASSES, count)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def repeated_rate(work: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Return calls per second of ``work``, the best of five stretches."""
    work()
    synchronize(device)
    rates = []
    for _ in range(5):
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 5:
            work()
            synchronize(device)
            done += 1
        rates.append(done / (time.perf_counter() - start))
    return max(rates)


def matmul_flops(numerics: Numerics, seconds: float) -> float:
    """Return the measured rate of square matrix products in floating-point operations/s."""
    configure(numerics)
    n = 8192 if numerics.device.type == "cuda" else 1536
    a = torch.randn(n, n, device=numerics.device).to(numerics.dtype)
    b = torch.randn(n, n, device=numerics.device).to(numerics.dtype)
    return 2 * n**3 * repeated_rate(lambda: torch.mm(a, b), numerics.device, seconds)


def flops_per_image(case: Case) -> float:
    """Return the operations of one image's training step: three times the forward pass."""
    model = build_model(case.model, CLASSES, case.channels, case.size, rng_seed=0)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, case.channels, case.size, case.size))
    return 3 * counter.get_total_flops()


def our_rate(case: Case, numerics: Numerics, count: int, epochs: int) -> float:
    """Return images per second of ``train``: the best epoch after the first."""
    configure(numerics)
    images, labels = images_and_labels(case, 2 * count)
    pool = place(images, labels, CLASSES, numerics)
    member = np.arange(2 * count) < count
    pipeline = augment.build(
        [Augmentation("crop", {"padding": PADDING}), Augmentation("mirror", {})],
        pool.mean.tolist(),
    )
    settings = TrainingSettings(
        epochs=epochs,
        checkpoints=(),
        batch_size=case.batch_size,
        evaluate_every=epochs + 1,
    )
    none = np.zeros(2 * count, bool)
    task = Task(pool, member, none, pipeline, case.model, settings, numerics, rng_seed=0)
    history = train(task, lambda name, weights: None, log=lambda line: None)
    return float(max(history["images_per_second"].to_pylist()[1:]))


class PlainDataset(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """PIL images through torchvision transforms, one at a time."""

    def __init__(self, case: Case, count: int) -> None:
        from PIL import Image
        from torchvision import transforms

        images, self.labels = images_and_labels(case, count)
        self.images = [Image.fromarray(image.squeeze()) for image in images]
        half = [0.5] * case.channels
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(case.size, padding=PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(half, half),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.images[index]), int(self.labels[index])


def plain_rate(case: Case, numerics: Numerics, count: int, epochs: int, workers: int) -> float:
    """Return images per second of the plain loop: the best epoch after the first."""
    torch.set_num_threads(numerics.threads)
    device = numerics.device
    loader = torch.utils.data.DataLoader(
        PlainDataset(case, count),
        batch_size=case.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    model = build_model(case.model, CLASSES, case.channels, case.size, rng_seed=0).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    rates = [plain_epoch(loader, model, optimizer, device) for _ in range(epochs)]
    return max(rates[1:])


def plain_epoch(
    loader: torch.utils.data.DataLoader[tuple[torch.Tensor, int]],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    device: torch.device,
) -> float:
    seen, start = 0, time.perf_counter()
    total = 0.0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
        seen += len(labels)
    return seen / (time.perf_counter() - start)


def at_once(processes: int, work: Callable[..., float], *arguments: object) -> float:
    """Run ``work`` in fresh processes, all at the same time; return the sum of their rates."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        return sum(pool.map(work, *([argument] * processes for argument in arguments)))


def measure(case: Case, numerics: Numerics, options: argparse.Namespace) -> dict[str, float]:
    """Return images per second of both loops and, of ours, the share of the matmul rate.

    Loops and matrix products take turns, round by round; the best of each counts.
    """
    count, epochs, runs = options.images, options.epochs, options.processes
    exact = Numerics(numerics.device, "float32", numerics.threads, numerics.deterministic)
    best = dict.fromkeys(("ours", "ours float32", "plain", "peak"), 0.0)
    for _ in range(options.rounds):
        found = {
            "ours": at_once(runs, our_rate, case, numerics, count, epochs),
            "ours float32": at_once(runs, our_rate, case, exact, count, epochs),
            "plain": at_once(runs, plain_rate, case, exact, count, epochs, options.workers),
            "peak": at_once(runs, matmul_flops, numerics, options.seconds),
        }
        best = {name: max(rate, found[name]) for name, rate in best.items()}
    share = best["ours"] * flops_per_image(case) / best["peak"]
    return best | {"ratio": best["ours"] / best["plain"], "share": share}


def markdown(cases: Sequence[Case], rows: Sequence[dict[str, float]], precision: str) -> str:
    """Return the table."""
    lines = [
        f"| network | batch | GFLOP/image | ours, {precision} | ours, float32 | plain loop "
        f"| ours / plain | {precision} matmul, GFLOP/s | share of it |",
        "| --- |" + " ---: |" * 8,
    ]
    lines += [
        f"| {case.name} | {case.batch_size} | {flops_per_image(case) / 1e9:.3f} "
        f"| {row['ours']:.0f} | {row['ours float32']:.0f} | {row['plain']:.0f} "
        f"| {row['ratio']:.1f} | {row['peak'] / 1e9:.0f} | {100 * row['share']:.0f}% |"
        for case, row in zip(cases, rows, strict=True)
    ]
    return "\n".join(lines)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--small", action="store_true", help="narrow networks")
    which.add_argument("--full", action="store_true", help="ResNet-18 on 32x32 images")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=1, help="torch threads per process")
    parser.add_argument("--processes", type=int, default=1, help="copies of a loop at once")
    parser.add_argument("--workers", type=int, default=0, help="DataLoader workers (plain loop)")
    parser.add_argument("--batch-size", type=int, help="instead of the study's")
    parser.add_argument("--images", type=int, help="images per epoch")
    parser.add_argument("--epochs", type=int, default=6, help="the first is not counted")
    parser.add_argument("--rounds", type=int, default=2, help="loops take turns this often")
    parser.add_argument("--seconds", type=float, default=4.0, help="of matrix products")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    numerics = resolve(
        ComputeSettings(device=options.device, precision=options.precision, threads=options.threads)
    )
    if options.images is None:
        on_cpu = numerics.device.type == "cpu"
        options.images = 512 if options.full and on_cpu else 4096 if on_cpu else 32768
    cases: Sequence[Case] = FULL if options.full else SMALL
    if options.batch_size:
        cases = [replace(case, batch_size=options.batch_size) for case in cases]
    facts = numerics.describe()
    print(
        f"{facts['device']}, torch {facts['torch']}, {options.processes} process(es) x "
        f"{options.threads} thread(s), images/s of training with crop and mirror\n"
    )
    rows = [measure(case, numerics, options) for case in cases]
    print(markdown(cases, rows, numerics.precision))


if __name__ == "__main__":
    main()
