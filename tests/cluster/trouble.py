"""A small network whose making goes wrong, as a cluster does: once for each word in a file.

Copied beside a study and named as its model (``trouble:build``). Every call takes the next
word of ``trouble.txt`` (if any is left) and does what it says; it notes the call, what it
did, and the job's number and GPU, in ``trouble/``.
"""

import json
import os
import time
import uuid
from pathlib import Path

import numpy as np
from torch import nn

HANG = 600.0


def build(classes: int, channels: int, size: int) -> nn.Module:
    words = Path("trouble.txt").read_text().split() if Path("trouble.txt").exists() else []
    Path("trouble").mkdir(exist_ok=True)
    Path("trouble", f"call-{uuid.uuid4().hex}").touch()
    for index, word in enumerate(words):
        note = Path("trouble") / f"{index}-{word}.json"
        if _take(note):
            _go_wrong(word)
            break
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))


def _take(note: Path) -> bool:
    """Write the note unless another process has taken this word."""
    try:
        descriptor = os.open(note, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError:
        return False
    names = ("SLURM_JOB_ID", "CUDA_VISIBLE_DEVICES")
    with os.fdopen(descriptor, "w") as handle:
        json.dump({name: os.environ.get(name) for name in names}, handle)
    return True


def _go_wrong(word: str) -> None:
    if word == "fail":
        raise RuntimeError("a failure that comes once")
    if word == "memory":
        held = np.ones(300_000_000)  # 2.4 GB, more than the job has asked for
        time.sleep(30)
        raise RuntimeError(f"{held.nbytes} bytes, and not killed")
    if word.startswith("slow"):
        time.sleep(float(word.removeprefix("slow")))
    if word == "hang":
        time.sleep(HANG)
        raise RuntimeError("hung, and not ended")
