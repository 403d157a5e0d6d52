"""Which GPU a job may use on a workstation without a scheduler.

Every GPU has as many slots as the config says (``compute.jobs_per_gpu``). A job claims one:
it locks the slot's file and writes into it how much memory it will use. The kernel frees
the lock when the job dies, however it dies, so no slot is ever lost. A job that finds no
slot with enough memory waits.

A job that a cluster's scheduler started has its GPU already, perhaps a share of one, and claims
nothing here. A workflow that runs as a whole within one allocation claims among its GPUs.
Memory that other users' programs hold is not seen.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from miagap.errors import InputError
from miagap.job import Log

# What is left free of a GPU's memory: the driver's own share, and errors of estimates.
SPARE = 0.95
POLL_SECONDS = 1.0
# Set where a scheduler has started the job, and so chosen its GPU.
ASSIGNED = "MIAGAP_GPU_ASSIGNED"


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine, or a part of one (MIG).

    Attributes:
        identity: what CUDA_VISIBLE_DEVICES takes.
        memory_mb: its memory in MB.
        index: of the GPU, as nvidia-smi counts.
    """

    identity: str
    memory_mb: float
    index: str = ""

    def is_named(self, name: str) -> bool:
        """Tell whether a name in CUDA_VISIBLE_DEVICES means this GPU: index, UUID or its start."""
        return name == self.index or ("-" in name and self.identity.startswith(name))


def machine_gpus() -> list[Gpu]:
    """Return this machine's GPUs in nvidia-smi's order; of one that is divided, its parts."""
    if shutil.which("nvidia-smi") is None:
        return []
    listed = _nvidia_smi("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
    parts = _parts(_nvidia_smi("-L"))
    found: list[Gpu] = []
    for line in listed:
        index, uuid, memory = (field.strip() for field in line.split(","))
        found += parts.get(index) or [Gpu(uuid, float(memory), index)]
    return found


def _nvidia_smi(*arguments: str) -> list[str]:
    found = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, check=False)
    return [] if found.returncode else found.stdout.splitlines()


def _parts(listing: list[str]) -> dict[str, list[Gpu]]:
    """Return the MIG devices of each GPU, by its index, in the output of ``nvidia-smi -L``.

    Their memory is what their profile says (``1g.10gb``), less what such names round up.
    """
    parts: dict[str, list[Gpu]] = {}
    index = ""
    for line in listing:
        if gpu := re.match(r"GPU (\d+):", line):
            index = gpu[1]
        elif part := re.match(r"\s+MIG \S*?(\d+)gb\S*\s.*\(UUID: (MIG-[^)]+)\)", line):
            parts.setdefault(index, []).append(Gpu(part[2], 970.0 * float(part[1]), index))
    return parts


def visible_gpus(environment: Mapping[str, str]) -> list[Gpu]:
    """Return the GPUs that jobs may use: all, or those that CUDA_VISIBLE_DEVICES names.

    As CUDA does, this reads the names up to the first that means nothing (such as -1).
    """
    found = machine_gpus()
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return found
    visible: list[Gpu] = []
    for name in chosen.split(","):
        named = [gpu for gpu in found if gpu.is_named(name.strip())]
        if not named:
            break
        visible += [gpu for gpu in named if gpu not in visible]
    return visible


@contextlib.contextmanager
def job_gpu(device: str, jobs_per_gpu: int, memory_mb: float, log: Log) -> Iterator[None]:
    """Let the block see the one GPU that it may use, and hold its slot meanwhile.

    Args:
        device: the config's ``compute.device``; with ``cpu`` nothing happens.
        jobs_per_gpu: slots of every GPU.
        memory_mb: GPU memory that the job will use.
        log: takes one line of text.
    """
    claims = device != "cpu" and ASSIGNED not in os.environ
    gpus = visible_gpus(os.environ) if claims else []
    if not gpus:
        yield
        return
    with claim(gpus, jobs_per_gpu, memory_mb, default_folder(), log) as gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.identity
        yield


def default_folder() -> Path:
    """Folder of the slots: one per machine and user."""
    return Path(tempfile.gettempdir()) / f"miagap-gpus-{os.getuid()}"


@contextlib.contextmanager
def claim(
    gpus: list[Gpu], jobs_per_gpu: int, memory_mb: float, folder: Path, log: Log
) -> Iterator[Gpu]:
    """Hold a slot of one of the GPUs while the block runs; wait for one if none is free.

    Raises:
        InputError: no GPU has as much memory.
    """
    if memory_mb > SPARE * max(gpu.memory_mb for gpu in gpus):
        most = max(gpu.memory_mb for gpu in gpus)
        raise InputError(
            f"GPU memory: about {memory_mb:.0f} MB needed, but the largest GPU here has "
            f"{most:.0f} MB; lower training.batch_size or extraction.batch_size"
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found, waiting = _try_claim(gpus, jobs_per_gpu, memory_mb, folder), False
    while found is None:
        if not waiting:
            log(f"waiting for a GPU with {memory_mb:.0f} MB free")
        waiting = True
        time.sleep(POLL_SECONDS)
        found = _try_claim(gpus, jobs_per_gpu, memory_mb, folder)
    gpu, handle = found
    with handle:
        log(f"GPU {gpu.identity}, {memory_mb:.0f} of {gpu.memory_mb:.0f} MB")
        yield gpu


def _try_claim(
    gpus: list[Gpu], jobs_per_gpu: int, memory_mb: float, folder: Path
) -> tuple[Gpu, IO[str]] | None:
    """Lock a slot of the GPU with the most memory left; None if there is none."""
    # Two jobs that look at the same time would both see the memory that one may take.
    with (folder / "lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        candidates = []
        for gpu in gpus:
            free, used = _slots(gpu, jobs_per_gpu, folder)
            left = SPARE * gpu.memory_mb - used
            if free and memory_mb <= left:
                candidates.append((left, len(free), gpu, free[0]))
        if not candidates:
            return None
        _, _, gpu, path = max(candidates, key=lambda one: one[:2])
        handle = path.open("w")
        fcntl.flock(handle, fcntl.LOCK_EX)
        handle.write(f"{memory_mb}\n")
        handle.flush()
        return gpu, handle


def _slots(gpu: Gpu, jobs_per_gpu: int, folder: Path) -> tuple[list[Path], float]:
    """Return a GPU's free slots and the memory that the holders of the others use.

    Slots beyond ``jobs_per_gpu`` may be held by another study with another setting: they
    count in both.
    """
    held, used, free = 0, 0.0, []
    named = {folder / f"{gpu.identity}-{k}" for k in range(jobs_per_gpu)}
    for path in sorted(named | set(folder.glob(f"{gpu.identity}-*"))):
        if _is_held(path):
            held += 1
            used += float(path.read_text(encoding="utf-8") or 0)
        elif path in named:
            free.append(path)
    return (free if held < jobs_per_gpu else []), used


def _is_held(path: Path) -> bool:
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
