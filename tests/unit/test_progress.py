"""Progress is read from files: what is there, when it came, what failed and what is at work."""

import os
import time
from pathlib import Path

import pytest

from miagap import job, progress
from miagap.costs import Cost
from miagap.plan import Job

NOW = 1_000_000.0
ENGINE = """\
[Mon Nov 23 20:02:56 2026]
Error in rule train_seed0_split0to1:
    message: SLURM-job '12' failed, SLURM status is: 'TIMEOUT'. For further error details see ...
    jobid: 7
    log: R/logs/train/none/a.log (check log file(s) for error details)
Trying to restart job 7.
Error in rule train_seed0_split0to1:
    message: None
    log: R/logs/train/none/a.log (check log file(s) for error details)
Error in rule table:
    message: None
    log: R/logs/table/main.log (check log file(s) for error details)
Error in rule train_seed0_split0to1:
    message: None
    log: other/logs/train/none/a.log (check log file(s) for error details)
Exiting because a job execution failed. Look above for error messages
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text="x", age=0.0):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (NOW - age, NOW - age))


def training(name, seconds=100.0):
    """A job that trains two models of two checkpoints each."""
    outputs = tuple(f"R/models/{name}/{run}/{k}" for run in ("r0", "r1") for k in (1, 2))
    stores = (f"R/state/{name}/r0", f"R/state/{name}/r1")
    own = f"train/none/{name}"
    cost = Cost(seconds, 1.0, 1.0)
    return Job("train", cost, outputs, f"R/benchmarks/{own}.tsv", f"R/logs/{own}.log", 2, stores)


def attack(name, seconds=50.0):
    own = f"attack/none/{name}"
    cost, outputs = Cost(seconds, 1.0, 1.0), (f"R/attacks/{name}",)
    return Job("attack", cost, outputs, f"R/benchmarks/{own}.tsv", f"R/logs/{own}.log")


def finish(one, age, took):
    for path in one.outputs:
        write(path, age=age)
    write(one.log, "[     1.0 s] done\n", age)
    write(one.benchmark, f"s\th:m:s\n{took}\t0:00:00\n", age)


def look(jobs):
    return progress.measure(jobs, Path("R"), Path("engine"), NOW)


def started(seconds_ago):
    """Hold the lock of a run that has been at work for so long."""
    held = job.hold(Path("R/.lock"))
    os.utime("R/.lock", (NOW - seconds_ago, NOW - seconds_ago))
    return held


def test_models_and_work_are_counted_by_their_files(place):
    jobs = [training("a"), training("b"), attack("c")]
    finish(jobs[0], age=100, took=200.0)  # twice the estimate
    write("R/state/b/r1/complete", "identity", age=50)
    write("R/models/b/r0/1")  # one checkpoint is no model
    held = started(1000)
    found = look(jobs)
    os.close(held)
    assert {s.name: (s.done, s.total) for s in found.stages} == {"train": (3, 4), "attack": (0, 1)}
    # Corrected by what the finished job took: 200 + 200 + 50 seconds, of which 300 are done.
    assert found.share == pytest.approx(300 / 450)
    assert found.running is True
    assert found.models_per_hour == pytest.approx(3 * 3600 / 1000)
    assert found.seconds_left == pytest.approx(150 / (300 / 1000))


def test_speed_is_that_of_the_last_hour_of_this_run(place):
    jobs = [training(str(k)) for k in range(30)]
    for k in range(20):
        finish(jobs[k], age=20_000 - k, took=100.0)  # long ago
    for k in range(20, 25):
        finish(jobs[k], age=1000, took=100.0)
    held = started(30_000)
    assert look(jobs).models_per_hour == pytest.approx(2 * 10 * 3600 / 19_986, rel=1e-3)
    for k in range(25, 30):
        finish(jobs[k], age=500, took=100.0)
    assert look(jobs).models_per_hour == pytest.approx(20.0)
    os.utime("R/.lock", (NOW - 700, NOW - 700))  # a run that began since
    assert look(jobs).models_per_hour == pytest.approx(10 * 3600 / 700)
    os.close(held)


def test_a_study_that_is_not_running_has_no_time_left(place):
    jobs = [training("a"), training("b")]
    assert look(jobs).running is False and look(jobs).seconds is None
    finish(jobs[0], age=100, took=100.0)
    os.close(started(1000))
    found = look(jobs)
    assert (found.running, found.seconds_left, found.models_per_hour) == (False, None, None)
    assert "not running" in progress.summary(found)


def test_failures_are_those_of_this_run_and_study_with_their_cause(place):
    jobs = [training("a"), training("b"), training("killed")]
    write("engine/1.snakemake.log", ENGINE.replace("/a.log", "/old.log"), age=5000)
    write("engine/2.snakemake.log", ENGINE)
    write(jobs[0].log, "[     3.5 s] error: training diverged\n")
    write("R/logs/table/main.log", "[     3.5 s] done\n")
    # Snakemake may have been asked for silence: what a job's own log says counts too.
    write(jobs[1].log, "Traceback (most recent call last):\nValueError: a defect\n")
    write(jobs[2].log, "[     3.5 s] epoch 3/50, 1:00:00 left\n", age=60)
    os.close(started(1000))
    found = look(jobs)
    a, table, b = found.failures
    assert (a.times, a.cause, a.mended) == (2, "training diverged", False)
    assert (table.times, table.mended) == (1, True)
    assert (b.log, b.cause) == (jobs[1].log, "ValueError: a defect")
    assert [name for name, _, _ in found.at_work] == ["train none/killed"]
    write(jobs[0].log, "[     3.5 s] epoch 3/50\n", age=60)
    assert look(jobs).failures[0].cause == "no last words: killed, or out of memory"
    text = progress.describe("small", found)
    assert "table/main.log: failed 1 time(s); done since" in text
    assert "epoch 3/50, 1:00:00 left (60 s ago)" in text
    assert "jobs that failed: 3 (1 done since)" in progress.summary(found)


def test_the_cause_that_slurm_gives_is_told(place):
    write("engine/1.snakemake.log", ENGINE.split("Trying")[0])
    write("R/logs/train/none/a.log", "[     3.5 s] epoch 3/50\n")
    os.close(started(1000))
    assert look([training("a")]).failures[0].cause == "Slurm says TIMEOUT"


def test_progress_is_written_as_long_as_it_changes(tmp_path):
    moments = iter([0, 1, 1, 1])
    shown: list[str] = []

    def moment():
        done = next(moments, 2)
        stages = (progress.Stage("train", done, 2),)
        return progress.Progress(True, 1.0, stages, done / 2, None, None, (), ())

    end = progress.follow(moment, tmp_path / "logs/progress.log", shown.append, 0.01)
    deadline = time.monotonic() + 20
    while len(shown) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    end.set()
    assert [line.split()[1] for line in shown] == ["0", "1", "2"]
    assert len((tmp_path / "logs/progress.log").read_text().splitlines()) == 3
