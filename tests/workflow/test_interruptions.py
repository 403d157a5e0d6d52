"""Killed, crowded, broken: the same command completes the study with the same numbers."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from study_runs import SMALLEST, Sandbox, changed, contents, errors, leftovers

pytestmark = pytest.mark.xdist_group("interrupted")

TABLE = "results/smallest/tables/metrics.parquet"
# Stages in order, with a file or log that shows that a job of the stage has begun.
STAGES = {
    "dataset": "logs/dataset.log",
    "train": "logs/train/crop/*.log",
    "extract": "logs/extract/crop/*.log",
    "shadow": "logs/shadow/crop/*.log",
    "attack": "logs/attack/crop/*.log",
    "collect": "logs/collect.log",
}
PATIENCE = 120.0
MANY_QUERIES = ["identity", *(f"shift({x},{y})" for x in range(1, 6) for y in range(1, 6))]


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


def jobs_of(sandbox: Sandbox) -> list[int]:
    """Return the process ids of scripts at work in a sandbox."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0")
            here = (entry / "cwd").resolve() == sandbox.folder.resolve()
        except OSError:
            continue
        if here and any(".snakemake/scripts/" in word for word in command[:3]):
            found.append(int(entry.name))
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """Kill Snakemake and every job of its process group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def assert_same_study(sandbox: Sandbox, reference: Sandbox) -> None:
    """The numbers, models and scores are those of the uninterrupted study, bit for bit."""
    own, other = sandbox.results(SMALLEST), reference.results(SMALLEST)
    assert pq.read_table(own / "tables/metrics.parquet").equals(
        pq.read_table(other / "tables/metrics.parquet")
    )
    for pattern in ("models/**/*.safetensors", "logits/**/*.parquet", "attacks/**/*.parquet"):
        expected = contents(other, pattern)
        assert expected
        assert contents(own, pattern) == expected
    assert leftovers(own) == []


def test_killed_at_every_stage(tmp_path: Path, uninterrupted: Sandbox) -> None:
    """One study, killed whole once in each stage at a random moment and started again."""
    sandbox = Sandbox(tmp_path)
    results = sandbox.results(SMALLEST)
    moments = random.Random(0)
    for stage, pattern in STAGES.items():
        for old in results.glob(pattern):
            old.unlink()
        process = sandbox.start(SMALLEST, TABLE)
        wait_for(lambda p=pattern: any(results.glob(p)), f"stage {stage}")
        time.sleep(moments.uniform(0, 1))
        kill(process)
    sandbox.run(SMALLEST, TABLE)

    assert_same_study(sandbox, uninterrupted)
    assert sandbox.plan(SMALLEST, TABLE).jobs == []


def test_finished_models_of_a_killed_block_are_kept(tmp_path: Path, uninterrupted: Sandbox) -> None:
    sandbox = Sandbox(tmp_path)
    log = "logs/train/crop/*.log"
    results = sandbox.results(SMALLEST)

    def said(text: str) -> int:
        return sum(path.read_text().count(text) for path in results.glob(log))

    process = sandbox.start(SMALLEST, TABLE)
    wait_for(lambda: said("training on") >= 3, "the third model")
    kill(process)
    sandbox.run(SMALLEST, TABLE)

    assert said("found finished") >= 2
    assert_same_study(sandbox, uninterrupted)


def test_a_killed_job_fails_the_run_and_the_next_run_completes(
    tmp_path: Path, uninterrupted: Sandbox
) -> None:
    sandbox = Sandbox(tmp_path)
    process = sandbox.start(SMALLEST, TABLE)
    training = sandbox.results(SMALLEST) / "logs/train/crop"
    wait_for(lambda: any(training.glob("*.log")), "training")
    for job in jobs_of(sandbox):
        os.kill(job, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)

    assert process.returncode != 0
    assert not (tmp_path / TABLE).exists()
    sandbox.run(SMALLEST, TABLE)
    assert_same_study(sandbox, uninterrupted)


@pytest.mark.parametrize("stage", ["train", "extract"])
def test_an_orphan_job_and_a_new_run_do_not_harm_each_other(
    tmp_path: Path, uninterrupted: Sandbox, stage: str
) -> None:
    """Snakemake alone is killed; its job works on while the same command starts again."""
    sandbox = Sandbox(tmp_path)
    process = sandbox.start(SMALLEST, TABLE)
    wait_for(lambda: any(sandbox.results(SMALLEST).glob(STAGES[stage])), stage)
    os.kill(process.pid, signal.SIGKILL)
    orphans = jobs_of(sandbox)
    sandbox.run(SMALLEST, TABLE)
    process.communicate()
    wait_for(lambda: not set(orphans) & set(jobs_of(sandbox)), "the orphan")

    assert_same_study(sandbox, uninterrupted)


def test_a_second_run_at_once_ends_with_one_line(tmp_path: Path, uninterrupted: Sandbox) -> None:
    sandbox = uninterrupted.copy(tmp_path)
    (tmp_path / TABLE).unlink()
    more = changed(SMALLEST, "splits/count", 10)
    first = sandbox.start(more, TABLE)
    wait_for(lambda: jobs_of(sandbox), "the first run's first job")
    second = sandbox.run(more, TABLE, check=False)
    output, _ = first.communicate(timeout=PATIENCE)

    assert second.returncode != 0
    lines = list(errors(second.stdout))
    assert len(lines) == 1
    assert "another run of this study" in lines[0]
    assert "Traceback" not in second.stdout
    assert first.returncode == 0, output[-3000:]


def test_diverged_training_is_named_and_other_jobs_finish(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    wild = {"augmentations": ["mirror"], "training": {"learning_rate": 1e6, "schedule": "constant"}}
    config = changed(SMALLEST, "techniques", {"wild": wild, "none": {}})
    done = sandbox.run(config, TABLE, check=False)
    results = sandbox.results(SMALLEST)

    assert done.returncode != 0
    lines = errors(done.stdout)
    assert len(lines) == 1, done.stdout
    for word in ("technique wild", "seed 0", "split 0", "epoch ", "learning rate 1e+06"):
        assert word in next(iter(lines))
    assert "Traceback" not in done.stdout
    assert not list(results.glob("models/wild/**/*.safetensors"))
    assert len(list(results.glob("attacks/none/**/*.scores.parquet"))) == 16


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("dataset/per_class", None, "dataset/pool.safetensors"),
        ("model/widths", [32, 32], "checkpoint-6.safetensors"),
        ("extraction/queries", MANY_QUERIES, "seed0-split0.parquet"),
    ],
    ids=["dataset", "train", "extract"],
)
def test_a_full_disk_is_named_and_nothing_half_written_stays(
    tmp_path: Path, path: str, value: object, named: str
) -> None:
    """A limit on the size of files stands for the full disk."""
    sandbox = Sandbox(tmp_path)
    config = changed(SMALLEST, path, value)
    done = sandbox.run(config, TABLE, check=False, file_size=60_000)
    results = sandbox.results(SMALLEST)

    assert done.returncode != 0
    assert len(errors(done.stdout)) == 1, done.stdout
    assert named in next(iter(errors(done.stdout)))
    assert "Traceback" not in done.stdout
    assert not list(results.rglob("*.tmp"))
    assert not list(results.rglob(Path(named).name))


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("logits/crop/checkpoint-6/seed0-split2.parquet", "seed0-split2.parquet"),
        (
            "attacks/crop/attacker-crop/checkpoint-6/leave-one-out/seed0-split1.metrics.parquet",
            "split1.metrics.parquet",
        ),
    ],
)
def test_a_truncated_file_is_named(
    tmp_path: Path, uninterrupted: Sandbox, pattern: str, named: str
) -> None:
    sandbox = uninterrupted.copy(tmp_path)
    path = sandbox.results(SMALLEST) / pattern
    path.write_bytes(path.read_bytes()[:-100])
    done = sandbox.run(SMALLEST, TABLE, check=False)

    assert done.returncode != 0
    lines = errors(done.stdout)
    assert len(lines) == 1, done.stdout
    assert named in next(iter(lines))
    assert "not a whole Parquet file" in next(iter(lines))
    assert "Traceback" not in done.stdout
