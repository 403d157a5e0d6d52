"""Work that two processes were started for is done by one at a time, whoever dies."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from miagap import job


def _count(path: Path, tally: Path) -> int:
    with job.exclusive(path, lambda text: None):
        before = int(tally.read_text())
        time.sleep(0.005)
        tally.write_text(str(before + 1))
    return before


def test_no_two_of_many_processes_are_inside_at_once(tmp_path):
    tally = tmp_path / "tally"
    tally.write_text("0")
    path = tmp_path / "locks" / "work.lock"
    with multiprocessing.get_context("fork").Pool(6) as processes:
        seen = processes.starmap(_count, [(path, tally)] * 60)
    assert sorted(seen) == list(range(60))
    assert not path.parent.exists()


def _hold(path: Path, ready: Path) -> None:
    with job.exclusive(path, lambda text: None):
        ready.touch()
        time.sleep(60)


def test_a_killed_holder_lets_the_next_one_in(tmp_path):
    path, ready = tmp_path / "work.lock", tmp_path / "ready"
    holder = multiprocessing.get_context("fork").Process(target=_hold, args=(path, ready))
    holder.start()
    while not ready.exists():
        time.sleep(0.01)
    os.kill(holder.pid, signal.SIGKILL)
    said: list[str] = []
    with job.exclusive(path, said.append):
        pass
    holder.join()
    assert said in ([], ["waiting for another process that is doing the same work"])


def test_an_error_inside_is_passed_on_and_frees_the_lock(tmp_path):
    path = tmp_path / "work.lock"
    with pytest.raises(FileNotFoundError), job.exclusive(path, lambda text: None):
        raise FileNotFoundError("of the work")
    with job.exclusive(path, lambda text: None):
        pass
