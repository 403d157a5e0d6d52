"""Device and precision: one policy for every arm of a study, said in the log and recorded.

bfloat16 here means autocast: weights, momentum and BatchNorm statistics stay float32,
convolutions and matrix products run in bfloat16.
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from miagap.errors import InputError

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True)
class ComputeSettings:
    """The keys of the config's section ``compute``."""

    device: str = "auto"
    precision: str = "auto"
    threads: int = 1
    deterministic: bool = True
    models_per_job: int = 8
    resume_every: int = 0

    @classmethod
    def from_config(cls, section: Mapping[str, Any]) -> "ComputeSettings":
        """Build from the config's section; missing keys take their defaults."""
        return cls(**section)


@dataclass(frozen=True)
class Numerics:
    """A device and precision that this machine has.

    Attributes:
        device: where models and pool live.
        precision: ``float32`` or ``bfloat16``, for training and its evaluations.
        threads: CPU threads inside an operator. Sums are split by thread, so bits on a
            CPU depend on it: it comes from the config and never from the machine.
        deterministic: only algorithms that give the same bits in every run.
        note: what ``auto`` chose and why, for the log and the metadata.
    """

    device: torch.device
    precision: str
    threads: int = 1
    deterministic: bool = True
    note: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """The element type of activations."""
        return torch.bfloat16 if self.precision == "bfloat16" else torch.float32

    @property
    def inference_batch(self) -> int:
        """Images to ask a model about at once: what stays in a CPU's cache, or fills a GPU."""
        return 128 if self.device.type == "cpu" else 2048

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Run the block in this precision."""
        enabled = self.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled):
            yield

    def synchronize(self) -> None:
        """Wait for the device, for timings."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def describe(self) -> dict[str, str]:
        """Return what an artifact's metadata should say of the numerics that made it."""
        return {
            "device": device_name(self.device),
            "precision": self.precision,
            "precision_note": self.note,
            "threads": str(self.threads),
            "deterministic": str(self.deterministic).lower(),
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda) if self.device.type == "cuda" else "none",
            "python": platform.python_version(),
        }


def device_name(device: torch.device) -> str:
    """Return the device's name as its maker gives it, with ``cpu:`` or ``cuda:`` before it."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"cpu: {name}"


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether the device multiplies bfloat16 matrices in hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    has = torch.cpu.get_capabilities()
    return bool(has.get("avx512_bf16") or has.get("amx_bf16"))


def resolve(settings: ComputeSettings) -> Numerics:
    """Choose device and precision, without touching any state of torch.

    Raises:
        InputError: a device or precision was asked for by name and is not there.
    """
    device, device_note = _resolve_device(settings.device)
    precision, precision_note = _resolve_precision(settings.precision, device)
    if settings.threads < 1:
        raise InputError(f"compute.threads: {settings.threads} given, at least 1 expected")
    note = "; ".join(part for part in (device_note, precision_note) if part)
    return Numerics(device, precision, settings.threads, settings.deterministic, note)


def _resolve_device(asked: str) -> tuple[torch.device, str]:
    if asked not in DEVICES:
        raise InputError(f"compute.device: {asked!r} given, one of {', '.join(DEVICES)} expected")
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise InputError(
            "compute.device: cuda asked for, but torch finds no usable CUDA device; "
            "set it to auto or cpu, or install a CUDA build of torch and a driver"
        )
    if asked == "auto":
        found = "cuda" if available else "cpu"
        return torch.device(found), f"device auto: {found}"
    return torch.device(asked), ""


def _resolve_precision(asked: str, device: torch.device) -> tuple[str, str]:
    if asked not in PRECISIONS:
        expected = ", ".join(PRECISIONS)
        raise InputError(f"compute.precision: {asked!r} given, one of {expected} expected")
    capable = has_bfloat16(device)
    if asked == "bfloat16" and not capable:
        needs = "compute capability 8.0" if device.type == "cuda" else "AVX512-BF16 or AMX"
        raise InputError(
            f"compute.precision: bfloat16 asked for, but {device_name(device)} lacks {needs}; "
            "set it to auto or float32"
        )
    if asked != "auto":
        return asked, ""
    if capable:
        return "bfloat16", "precision auto: bfloat16, the device has it"
    return "float32", "precision auto: float32, the device has no bfloat16"


def configure(numerics: Numerics) -> None:
    """Set this process up for ``numerics``: threads, determinism, TF32, denormals.

    Call it once, before the first tensor operation. Denormals are flushed to zero on
    the CPU, where they cost a hundred times a normal number and mean nothing here.
    """
    torch.set_num_threads(numerics.threads)
    torch.set_flush_denormal(True)
    if numerics.device.type != "cuda":
        _keep_freed_memory()
        return
    # TF32 would make "float32" mean something else on one device than on another.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not numerics.deterministic
    torch.backends.cudnn.deterministic = numerics.deterministic
    if numerics.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(numerics.deterministic)
    # Deterministic mode would otherwise fill every new tensor, although none is read unwritten.
    torch._C._set_deterministic_fill_uninitialized_memory(False)


def _keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks, as a step asks for the same ones a moment later.

    Otherwise ResNet-18 takes 15,000 page faults per step of 64 images (up to 6% of its
    time). On another C library nothing is done, and nothing but time depends on it.
    """
    mmap_threshold, trim_threshold = -3, -1  # names and values of <malloc.h>
    with contextlib.suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)
