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


WHOLE = """\
echo '0, GPU-8f1a, 81559'
echo '1, GPU-8f2b, 40960'
"""
LISTED = """\
echo 'GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-8f1a)'
echo 'GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-8f2b)'
"""
DIVIDED = (
    LISTED
    + """\
echo '  MIG 1g.5gb      Device  0: (UUID: MIG-aa)'
echo '  MIG 1c.3g.20gb  Device  1: (UUID: MIG-bb)'
"""
)
A, B = Gpu("GPU-8f1a", 81559.0, "0"), Gpu("GPU-8f2b", 40960.0, "1")
PARTS = [Gpu("MIG-aa", 4850.0, "1"), Gpu("MIG-bb", 19_400.0, "1")]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose nvidia-smi answers as it is told to."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", gpu_slots.ASSIGNED):
        monkeypatch.setenv(name, "")  # so that the test's end restores it
        monkeypatch.delenv(name)
    monkeypatch.setattr(gpu_slots, "default_folder", lambda: tmp_path / "slots")

    def answers(listing):
        fake = tmp_path / "nvidia-smi"
        fake.write_text(f"#!/bin/sh\nif [ $1 = -L ]; then\n{listing}else\n{WHOLE}fi\n")
        fake.chmod(0o755)

    answers(LISTED)
    return answers


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("1", [B]),
        ("1,0", [B, A]),
        ("GPU-8f2b", [B]),
        ("GPU-8f2", [B]),
        ("GPU-8f1a, GPU-8f2b", [A, B]),
        ("0,0", [A]),
        ("0,-1,1", [A]),
        ("0,7,1", [A]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_gpus_are_those_that_cuda_would_see(machine, chosen, expected):
    assert gpu_slots.visible_gpus({"CUDA_VISIBLE_DEVICES": chosen}) == expected
    assert gpu_slots.visible_gpus({}) == [A, B]


def test_parts_of_a_divided_gpu_are_gpus(machine):
    machine(DIVIDED)
    assert gpu_slots.visible_gpus({}) == [A, *PARTS]
    assert gpu_slots.visible_gpus({"CUDA_VISIBLE_DEVICES": "MIG-bb,0"}) == [PARTS[1], A]
    assert gpu_slots.visible_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == PARTS


def test_a_broken_driver_means_no_gpus(machine, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA-SMI has failed\nexit 9\n")
    assert gpu_slots.visible_gpus({}) == []


def test_a_job_sees_one_gpu_and_a_job_without_sees_what_it_saw(machine):
    with gpu_slots.job_gpu("auto", 1, 500.0, lambda text: None):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-8f1a"
    os.environ["CUDA_VISIBLE_DEVICES"] = "1"
    with gpu_slots.job_gpu("cpu", 1, 500.0, lambda text: None):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize("within", [{}, {"SLURM_JOB_ID": "7"}], ids=["workstation", "allocation"])
def test_a_single_gpu_is_shared_by_no_more_than_its_slots(machine, tmp_path, monkeypatch, within):
    """Also where the user, or Slurm for a whole workflow, has chosen that GPU."""
    for name, value in {"CUDA_VISIBLE_DEVICES": "1", **within}.items():
        monkeypatch.setenv(name, value)
    with gpu_slots.job_gpu("auto", 1, 500.0, lambda text: None):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-8f2b"
        assert gpu_slots._try_claim([B], 1, 1.0, tmp_path / "slots") is None


def test_what_a_scheduler_assigned_stays(machine, tmp_path, monkeypatch):
    monkeypatch.setenv(gpu_slots.ASSIGNED, "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with gpu_slots.job_gpu("auto", 1, 500.0, lambda text: None):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
        assert not (tmp_path / "slots").exists()
