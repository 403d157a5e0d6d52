"""Jobs share GPUs without more jobs or memory on one than it takes. The devices are fake."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from miagap import gpu_slots
from miagap.errors import InputError
from miagap.gpu_slots import Gpu, claim

TWO = [Gpu("GPU-a", 10_000.0), Gpu("GPU-b", 10_000.0)]


@pytest.fixture(autouse=True)
def _poll_fast(monkeypatch):
    monkeypatch.setattr(gpu_slots, "POLL_SECONDS", 0.02)


def take(stack, folder, memory=1000.0, per_gpu=1, gpus=TWO):
    return stack.enter_context(claim(gpus, per_gpu, memory, folder, lambda text: None))


def test_jobs_spread_over_gpus_and_then_share_them(tmp_path):
    with ExitStack() as stack:
        names = [take(stack, tmp_path, per_gpu=2).identity for _ in range(4)]
        assert sorted(names[:2]) == ["GPU-a", "GPU-b"]
        assert sorted(names) == ["GPU-a", "GPU-a", "GPU-b", "GPU-b"]
        assert gpu_slots._try_claim(TWO, 2, 1.0, tmp_path) is None


def test_slots_come_back(tmp_path):
    for _ in range(3):
        with ExitStack() as stack:
            assert {take(stack, tmp_path).identity for _ in TWO} == {"GPU-a", "GPU-b"}


def test_memory_is_never_promised_twice(tmp_path):
    with ExitStack() as stack:
        assert take(stack, tmp_path, 6000.0, per_gpu=4).identity != (
            take(stack, tmp_path, 6000.0, per_gpu=4).identity
        )
        assert gpu_slots._try_claim(TWO, 4, 6000.0, tmp_path) is None
        assert gpu_slots._try_claim(TWO, 4, 3000.0, tmp_path) is not None


def test_another_study_with_more_slots_counts(tmp_path):
    one = TWO[:1]
    with ExitStack() as stack:
        for _ in range(3):
            take(stack, tmp_path, per_gpu=3, gpus=one)
        assert gpu_slots._try_claim(one, 1, 1.0, tmp_path) is None


def test_too_large_a_job_is_told_so(tmp_path):
    with pytest.raises(InputError, match="batch_size"), ExitStack() as stack:
        take(stack, tmp_path, 9_900.0)


def test_a_killed_job_frees_its_slot_and_the_waiting_one_gets_it(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from miagap.gpu_slots import Gpu, claim\n"
        "with claim([Gpu('GPU-a', 10000.0)], 1, 9000.0, Path(sys.argv[1]), print):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-u", "-c", code, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(gpu_slots.__file__).parents[1])},
    )
    while holder.stdout.readline() != "held\n":
        pass
    assert gpu_slots._try_claim(TWO[:1], 1, 1000.0, tmp_path) is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    lines: list[str] = []
    with claim(TWO[:1], 1, 1000.0, tmp_path, lines.append) as gpu:
        assert gpu.identity == "GPU-a"


def _work(folder, index):
    gpu_slots.POLL_SECONDS = 0.01
    with claim(TWO, 2, 4000.0, folder, lambda text: None) as gpu:
        mark = folder / f"using-{gpu.identity}.{index}"
        mark.touch()
        seen = len(list(folder.glob(f"using-{gpu.identity}.*")))
        time.sleep(0.05)
        mark.unlink()
    return seen


def test_many_processes_at_once_never_exceed_the_slots(tmp_path):
    with multiprocessing.get_context("fork").Pool(8) as processes:
        seen = processes.starmap(_work, [(tmp_path, index) for index in range(24)])
    assert max(seen) <= 2


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, False),
        ({"CUDA_VISIBLE_DEVICES": "1"}, True),
        ({"CUDA_VISIBLE_DEVICES": ""}, True),
        ({"SLURM_JOB_ID": "7"}, True),
    ],
)
def test_what_slurm_or_the_user_assigned_stays(environment, expected):
    assert gpu_slots.assigned(environment) is expected


def test_gpus_are_read_from_nvidia_smi(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho '0, GPU-x, 81559'\necho '1, GPU-y, 81559'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpu_slots.visible_gpus({}) == [Gpu("GPU-x", 81559.0), Gpu("GPU-y", 81559.0)]
    assert gpu_slots.visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == [Gpu("GPU-y", 81559.0)]
    monkeypatch.setattr(gpu_slots, "default_folder", lambda: tmp_path / "slots")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with gpu_slots.job_gpu("auto", 1, 500.0, lambda text: None):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-x"
    with gpu_slots.job_gpu("cpu", 1, 500.0, lambda text: None):
        pass
