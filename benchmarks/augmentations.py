"""Images per second of each augmentation, beside torchvision's v2 transforms.

Compares, on the same images in memory and on one device:

* ``miagap``: draws per image, computed for the whole batch;
* ``v2 per image``: torchvision's transform called once per image, draws per image;
* ``v2 per batch``: torchvision's transform called once per batch, **one draw for all its
  images**: quicker, but another training technique.

    python benchmarks/augmentations.py --small
    python benchmarks/augmentations.py --full --device cuda

Needs no network. Prints a Markdown table.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.transforms import v2

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow"))

from miagap import augment

NAMES = ("crop", "mirror", "cutout", "cifar_policy")
ALL = ("crop", "mirror", "cifar_policy", "cutout")
SMALL: dict[str, Any] = {
    "shapes": ((1, 8, 8), (3, 16, 16), (3, 32, 32)),
    "batches": (64, 2000),
    "seconds": 0.3,
}
FULL: dict[str, Any] = {
    "shapes": ((1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32)),
    "batches": (64, 256, 2000, 30_000),
    "seconds": 2.0,
}
PER_IMAGE = 64  # images per measurement of torchvision's transform on single images


def main() -> None:
    """Measure and print."""
    options = _arguments()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    setting = FULL if options.full else SMALL
    device = torch.device(options.device)
    print(f"Device: {_describe(device)}, {options.threads} thread(s); ", end="")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}\n")
    print("| augmentation | image | batch | miagap /s | v2 per image /s | v2 per batch /s | gain |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in _rows(setting, device):
        print(row, flush=True)
    print("\nGain: miagap over v2 per image. v2 per batch: one draw for the whole batch.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", action="store_true", help="half a minute (default)")
    size.add_argument("--full", action="store_true", help="more sizes, longer measurements")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser.parse_args()


def _rows(setting: dict[str, Any], device: torch.device) -> Iterator[str]:
    seconds = setting["seconds"]
    for shape in setting["shapes"]:
        size = f"{shape[1]}x{shape[2]}x{shape[0]}"
        for title, names in (*((name, (name,)) for name in NAMES), ("all", ALL)):
            reference = _torchvision(names, shape)
            single = _rate(
                partial(_one_by_one, reference), _images(PER_IMAGE, shape, device), seconds
            )
            pipeline = augment.build([augment.Augmentation(name) for name in names])
            ours = partial(pipeline, generator=torch.Generator().manual_seed(0))
            for batch in setting["batches"]:
                images = _images(batch, shape, device)
                rate = _rate(ours, images, seconds)
                shared = _rate(reference, images, seconds)
                yield (
                    f"| {title} | {size} | {batch:,} | {rate:,.0f} | {single:,.0f} "
                    f"| {shared:,.0f} | {rate / single:.0f}x |"
                )


def _one_by_one(transform: Callable[[Tensor], Tensor], images: Tensor) -> list[Tensor]:
    return [transform(image) for image in images]


def _torchvision(names: tuple[str, ...], shape: tuple[int, int, int]) -> v2.Transform:
    transforms = {
        "crop": v2.RandomCrop(shape[1:], padding=4),
        "mirror": v2.RandomHorizontalFlip(),
        "cutout": v2.RandomErasing(),
        "cifar_policy": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    }
    return v2.Compose([transforms[name] for name in names])


def _images(batch: int, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Return smooth images with noise, uint8 channels-last: histograms as photographs have."""
    _, height, width = shape
    ramp = torch.linspace(20, 200, height)[:, None] + torch.linspace(-20, 20, width)
    images = ramp * torch.rand(batch, shape[0], 1, 1) + 30 * torch.rand(batch, *shape)
    images = images.clamp(0, 255).to(torch.uint8).to(device)
    return images.contiguous(memory_format=torch.channels_last)


def _rate(apply: Callable[[Tensor], object], images: Tensor, seconds: float) -> float:
    """Return images per second over the calls that fit in ``seconds``, at least 5.

    The mean and not the best call: a transform with one draw per batch does nothing at
    all in its luckiest calls.
    """
    apply(images)
    _synchronize(images.device)
    start = time.perf_counter()
    calls = 0
    while calls < 5 or time.perf_counter() - start < seconds:
        apply(images)
        _synchronize(images.device)
        calls += 1
    return len(images) * calls / (time.perf_counter() - start)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else "CPU"


if __name__ == "__main__":
    main()
