"""Studies on a real Slurm: equal to local runs, whatever goes wrong on the way."""

import os
import re
import signal

from cluster_runs import (
    SMALL,
    TROUBLED,
    contents,
    no_jobs_left,
    slurm,
    wait_for,
)

MODELS = 6


def test_a_study_is_the_same_as_on_one_machine(folder, tmp_path_factory):
    local = type(folder)(tmp_path_factory.mktemp("local"))
    local.run(SMALL, "metrics", profile=None)
    output = folder.run(SMALL, "all", "--slurm-keep-successful-logs")
    assert "Study small is complete" in output
    expected, found = contents(local, "small"), contents(folder, "small")
    # The local run ends with the metrics; the other one goes on to tables and figures.
    assert {name.split("/")[0] for name in found.keys() - expected.keys()} <= {
        "splits",
        "tables",
        "vulnerability",
    }
    assert expected.keys() <= found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []

    # Of the three Snakemakes around a job, only the first speaks of the config.
    warnings = re.findall(r"^warning: .*$", output, re.MULTILINE)
    assert len(warnings) == len(set(warnings))
    inside = folder.slurm_logs()
    assert "rule train_" in inside
    assert "warning: " not in inside
    assert "another run of this study" not in inside + output
    # Cheap rules stay where Snakemake runs.
    submitted = set(re.findall(r"slurm_logs/rule_([a-z]+)", output))
    cheap = {"shadow", "attack", "vulnerability", "collect"}
    assert submitted == {"train", "extract", *cheap}
    # So do GPUs where they are not used.
    asked = re.findall(r"rule ([a-z]+)\w*:\n(?:    .*\n)*?    resources: .*gres=([^,\n]*)", output)
    assert {rule for rule, gres in asked if gres.startswith("gpu")} >= {"train", "extract"}
    assert {rule for rule, gres in asked if not gres} == cheap
    assert not cheap & {rule for rule, gres in asked if gres}
    assert "nothing to be done" in folder.run(SMALL, "all").lower().rsplit("building dag", 1)[1]


def test_every_job_that_computes_on_a_gpu_gets_one_of_its_own(folder):
    config = {**TROUBLED, "compute": {"device": "auto", "models_per_job": 1}}
    process = folder.start(config, "models", trouble="slow8 slow8")
    jobs = [folder.trouble(index, "slow8") for index in range(2)]
    assert {job["CUDA_VISIBLE_DEVICES"] for job in jobs} == {"0", "1"}
    for job in jobs:
        assert "gres:gpu:1" in slurm("scontrol", "show", "job", job["SLURM_JOB_ID"])
    folder.finish(process)


def test_jobs_that_fail_in_any_way_are_tried_again_and_nothing_of_it_shows(folder, untroubled):
    process = folder.start(TROUBLED, "metrics", trouble="memory hang hang hang fail")
    late, cancelled, preempted = (folder.trouble(k, "hang")["SLURM_JOB_ID"] for k in (1, 2, 3))
    slurm("scancel", cancelled)
    # A limit that has passed: Slurm ends the job as one whose time is over.
    slurm("scontrol", "update", f"JobId={late}", "TimeLimit=00:00:05")
    slurm("scontrol", "requeue", preempted)
    output = folder.finish(process)
    for status in ("TIMEOUT", "CANCELLED", "FAILED"):
        assert f"SLURM status is: '{status}'" in output, status
    assert "exceeded memory limit" in folder.slurm_logs()
    assert "a failure that comes once" in output
    # Every further attempt asks for twice the memory and for as much time again.
    train = [block for block in output.split("\n[") if "rule train_" in block]
    asked = [re.search(r"mem_mb=(\d+),.*runtime=(\d+)", block) for block in train]
    numbers = {(int(one[1]), int(one[2])) for one in asked if one}
    memory, minutes = min(numbers)
    assert (2 * memory, 2 * minutes) in numbers
    assert numbers <= {(memory, minutes), (2 * memory, 2 * minutes), (4 * memory, 3 * minutes)}
    assert contents(folder, "troubled") == contents(untroubled, "troubled")


def test_killed_and_started_again_nothing_is_trained_twice_or_lost(folder, untroubled):
    process = folder.start(TROUBLED, "metrics", trouble="slow25 slow25")
    for index in range(2):
        folder.trouble(index, "slow25")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    folder.finish(folder.start(TROUBLED, "metrics", trouble="slow25 slow25"))
    wait_for(no_jobs_left, "the end of all jobs")
    assert "found finished" in folder.logs("troubled", "train")
    assert folder.calls == 2 * MODELS
    assert contents(folder, "troubled") == contents(untroubled, "troubled")


def test_a_job_that_always_fails_ends_the_run_with_its_cause_after_all_others(folder):
    bad = {"training": {"learning_rate": 1e8}}
    config = {**TROUBLED, "model": SMALL["model"], "techniques": {"bad": bad, "none": {}}}
    config["compute"] = {"device": "cpu"}
    process = folder.start(config, "metrics", "--retries", "1")
    assert process.wait() != 0
    output = folder.output
    log = "results/troubled/logs/train/bad/seed0_split0to5.log"
    assert log in output.split("Exiting because a job execution failed")[0]
    assert "technique bad, seed 0, split 0" in output
    submitted = r"submitted with SLURM jobid \d+ \(log: \S+/rule_train_seed0_split0to5/bad/"
    assert len(re.findall(submitted, output)) == 2  # once more, as asked
    assert "attacks/none/attacker-none/checkpoint-4/leave-one-out/seed0-split5.metrics.parquet" in (
        contents(folder, "troubled")
    )
