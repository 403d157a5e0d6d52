"""How fast devices train and answer, for estimates made before anything runs.

A network's arithmetic per image is known; how much of it a device does per second depends
on how wide the layers are, so a device is described by its rate at 64 channels and a power
of the width, with a ceiling, and by the fixed time of a step. CPU figures were measured with
``miagap.training.train`` on one thread; GPU figures are taken from published training times
of ResNet-18 on CIFAR-10 and are marked as not measured. A user's own measurement scales a
device (``plan.images_per_second``); a study's own finished jobs replace all of this (see
``miagap.plan``).
"""

import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

WIDTH = 64
# ResNet-18 on 32 x 32 images: operations of training on one image; mean channels of its layers.
RESNET18_FLOPS, RESNET18_WIDTH = 6 * 556.7e6, 234.0
# A rate that a user has measured says nothing of other networks: less sure than finished jobs.
CALIBRATED_FACTOR = 1.5


@dataclass(frozen=True)
class Device:
    """What one job gets of a device (one GPU, or one CPU thread).

    Attributes:
        name: in the plan.
        pattern: regular expression for the name that the maker gives it.
        train_rate: FLOP per second of a training step at 64 channels.
        exponent: power of (channels / 64) that the rate grows with.
        train_peak: ceiling of the rate.
        infer_rate: FLOP per second of float32 inference.
        step_seconds: fixed time of a training step.
        factor: how far off an estimate may be, either way.
        measured: whether the figures were measured with this code.
    """

    name: str
    pattern: str
    train_rate: float
    exponent: float
    train_peak: float
    infer_rate: float
    step_seconds: float
    factor: float
    measured: bool

    def training_rate(self, width: float) -> float:
        """FLOP per second of training a network of this mean width."""
        return min(self.train_peak, self.train_rate * (width / WIDTH) ** self.exponent)


def _gpu(name: str, pattern: str, images_per_second: float) -> Device:
    """Describe a GPU by its published ResNet-18 rate on 32x32 images, batches of 256."""
    peak = images_per_second * RESNET18_FLOPS
    return Device(name, pattern, peak / 3, 1.0, peak, peak / 4, 0.006, 3.0, False)


DEVICES = (
    Device(
        "CPU thread with bfloat16", r"cpu: .*bf16", 2.6e11, 1.13, 1.2e12, 1.3e11, 2.5e-3, 2, True
    ),
    Device("CPU thread", r"cpu: ", 1.0e11, 0.3, 1.5e11, 1.2e11, 2.5e-3, 2.5, False),
    _gpu("H200", r"H200", 20_000),
    _gpu("H100", r"H100|GH200", 18_000),
    _gpu("A100", r"A100", 10_000),
    _gpu("L40S, L40, RTX 4090 or newer", r"L40|4090|5090|RTX 6000", 9_000),
    _gpu("A40, A30, A10, RTX 3090", r"A40|A30|A10|3090|3080|A6000|L4\b", 4_500),
    _gpu("V100", r"V100", 4_000),
    _gpu("T4, RTX 2080", r"T4|2080|P100", 1_500),
    _gpu("GPU of another kind", r"", 4_000),
)


def device_named(name: str) -> Device:
    """Return the entry for a device's name, such as ``NVIDIA A100-SXM4-80GB``."""
    return next(one for one in DEVICES if re.search(one.pattern, name, re.IGNORECASE))


def gpu_names() -> list[str]:
    """Return the names of this machine's NVIDIA GPUs, without importing torch."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(query, capture_output=True, text=True, check=False)
    return found.stdout.split("\n")[:-1] if found.returncode == 0 else []


def cpu_name() -> str:
    """Return ``cpu: `` and the CPU's name, with ``bf16`` where it multiplies bfloat16."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "cpu: unknown"
    model = re.search(r"^model name\s*:\s*(.*)$", text, re.MULTILINE)
    bf16 = " bf16" if re.search(r"\b(avx512_bf16|amx_bf16)\b", text) else ""
    return f"cpu: {model[1] if model else 'unknown'}{bf16}"


def find_device(setting: str) -> tuple[str, Device]:
    """Return (name, entry) of the device that jobs will use.

    Args:
        setting: ``auto`` (a GPU where this machine has one), ``cpu``, ``cuda``, or a name.
    """
    if setting in ("auto", "cuda"):
        names = gpu_names()
        name = names[0] if names else ("GPU" if setting == "cuda" else cpu_name())
    else:
        name = cpu_name() if setting == "cpu" else setting
    return name, device_named(name)


def calibrated(device: Device, images_per_second: float | None) -> Device:
    """Return a device scaled to a measured rate of training ResNet-18 on 32 x 32 images."""
    if images_per_second is None:
        return device
    times = images_per_second * RESNET18_FLOPS / device.training_rate(RESNET18_WIDTH)
    return replace(
        device,
        train_rate=times * device.train_rate,
        train_peak=times * device.train_peak,
        infer_rate=times * device.infer_rate,
        step_seconds=device.step_seconds / max(1.0, times),
        factor=CALIBRATED_FACTOR,
        measured=True,
    )


def study_device(setting: str, images_per_second: float | None) -> tuple[str, Device]:
    """Return (name, entry) of the device that jobs will use, with the user's own measurement."""
    name, device = find_device(setting)
    return name, calibrated(device, images_per_second)
