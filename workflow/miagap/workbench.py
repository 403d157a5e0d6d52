"""What a job that computes on the device starts with: its GPU, its numerics, the pool."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from miagap import artifacts, gpu_slots, numerics
from miagap.device_pool import DevicePool, place
from miagap.job import Log
from miagap.numerics import ComputeSettings, Numerics
from miagap.pool import read_pool


@dataclass(frozen=True)
class Workbench:
    """Device, precision and data of a job.

    Attributes:
        numerics: the device and precision that this machine has; they are set up.
        pool: all samples on the device.
        dataset: name of the dataset.
        checksum: of the pool.
    """

    numerics: Numerics
    pool: DevicePool
    dataset: str
    checksum: str


@contextlib.contextmanager
def ready(
    pool: str,
    compute: Mapping[str, Any],
    jobs_per_gpu: int,
    gpu_memory_mb: float,
    log: Log,
) -> Iterator[Workbench]:
    """Claim a GPU where there is one, set the process up, and put the pool on the device.

    Args:
        pool: path of the pool's file.
        compute: ``device``, ``precision``, ``threads``, ``deterministic`` of the config's section.
        jobs_per_gpu: jobs that may share a GPU.
        gpu_memory_mb: GPU memory that the job will use.
        log: takes one line of text.

    Raises:
        InputError: the device or precision is not there, or the pool's file is broken.
    """
    with gpu_slots.job_gpu(str(compute["device"]), jobs_per_gpu, gpu_memory_mb, log):
        found = numerics.resolve(ComputeSettings.from_config(compute))
        numerics.configure(found)
        _, metadata = artifacts.read_tensors(pool, [])
        samples = read_pool(pool)
        placed = place(samples.images, samples.labels, len(samples.class_names), found)
        yield Workbench(found, placed, samples.dataset, metadata["checksum"])
