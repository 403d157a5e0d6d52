"""Estimates follow the study, and the plan's sums follow the files that are there."""

import json

import pytest

from miagap import config, costs, plan, throughput
from miagap.attacks.registry import ATTACKS
from miagap.costs import Cost, Costs, network, pool_shape
from miagap.study import Study

CPU = throughput.device_named("cpu: Some CPU bf16")


def made(**changes):
    resolved = config.resolve(changes, known_attacks=ATTACKS)
    assert not resolved.errors
    return Study(resolved.values, ATTACKS)


def estimated(device=CPU, **changes):
    study = made(**changes)
    return Costs(study, pool_shape(study.values["dataset"]), device)


def train_cost(**changes):
    found = estimated(**changes)
    return found.train(found.study.blocks[0], "none")


def test_resnet18_has_its_known_size():
    shape = costs.PoolShape(60_000, 32, 3, 10)
    found = network({"name": "resnet18", "widths": [], "blocks": []}, shape)
    assert found.macs == pytest.approx(556e6, rel=0.01)
    assert found.parameters == pytest.approx(11_173_962, rel=0.001)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"training": {"epochs": 60}}, {"training": {"epochs": 600}}),
        ({"model": {"widths": [16, 32]}}, {"model": {"widths": [64, 128]}}),
        ({"dataset": {"per_class": 50}}, {}),
        ({"compute": {"models_per_job": 2}}, {"compute": {"models_per_job": 8}}),
    ],
)
def test_training_costs_more_where_there_is_more_to_do(less, more):
    assert train_cost(**less).seconds < train_cost(**more).seconds


def test_memory_and_disk_follow_pool_and_attacks():
    small, large = estimated(splits={"count": 8}), estimated(splits={"count": 64})
    assert small.shadow().memory_mb < large.shadow().memory_mb
    assert small.attack("leave-one-out").seconds < large.attack("leave-one-out").seconds
    with_logits = estimated(
        attacks={"one": {"method": "salem_3"}}, metrics={"headline_attack": "one"}
    )
    assert with_logits.shadow_bytes > estimated().shadow_bytes


def test_attempts_ask_for_more():
    cost = Cost(seconds=4000.0, memory_mb=1000.0, disk_bytes=0.0)
    assert [cost.request_mb(attempt) for attempt in (1, 2, 3)] == [1900, 3800, 7600]
    minutes = [cost.request_minutes(attempt, 2.0) for attempt in (1, 2, 3)]
    assert minutes[0] * 60 >= 2 * 4000 and minutes == [minutes[0] * k for k in (1, 2, 3)]


def test_the_pool_is_read_from_the_dataset_jobs_summary_once_there(tmp_path):
    settings = made(dataset={"source": "parquet", "path": "x"}).values["dataset"]
    assumed = pool_shape(settings, tmp_path / "summary.json")
    assert assumed.assumed and assumed.samples == 60_000
    facts = {"n": 123, "shape": [9, 9, 1], "class_names": ["a", "b", "c"]}
    (tmp_path / "summary.json").write_text(json.dumps(facts))
    assert pool_shape(settings, tmp_path / "summary.json") == costs.PoolShape(123, 9, 1, 3)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla V100-SXM2-16GB", "V100"),
        ("cpu: AMD EPYC bf16", "CPU thread with bfloat16"),
        ("cpu: Intel", "CPU thread"),
        ("a device of the future", "GPU of another kind"),
    ],
)
def test_devices_are_found_by_name(name, entry):
    assert throughput.device_named(name).name == entry


def test_every_job_is_planned_once_and_files_there_count():
    found = estimated(
        attackers="matrix", techniques={"none": {}, "crop": {"augmentations": ["crop"]}}
    )
    jobs = plan.study_jobs(found)
    outputs = [path for job in jobs for path in job.outputs]
    assert len(outputs) == len(set(outputs))
    stages = {one.stage: one for one in plan.plan_stages(jobs, {})}
    # 2 techniques x 16 splits in blocks of 8; 3 checkpoints; 2 x 3 own and 2 crossed groups.
    counts = {name: one.jobs for name, one in stages.items() if one.jobs}
    assert counts == {"train": 4, "extract": 4, "shadow": 6, "attack": 8, "collect": 1}
    first = next(job for job in jobs if job.stage == "extract")
    there = dict.fromkeys(first.outputs, 10)
    extract = next(one for one in plan.plan_stages(jobs, there) if one.stage == "extract")
    assert extract.left == 3
    assert extract.disk_there == 10 * len(first.outputs)
    partly = dict(list(there.items())[1:])
    assert next(o for o in plan.plan_stages(jobs, partly) if o.stage == "extract").left == 4


def test_what_jobs_took_corrects_what_is_left(tmp_path):
    (tmp_path / "a.tsv").write_text("s\th:m:s\tmax_rss\n30.0\t0:00:30\t100\n")
    (tmp_path / "broken.tsv").write_text("s\n")
    cost = Cost(10.0, 1.0, 1.0)
    marks = [str(tmp_path / name) for name in ("a.tsv", "broken.tsv", "missing.tsv")]
    jobs = [plan.Job("train", cost, (f"out{k}",), mark) for k, mark in enumerate(marks)]
    files = {"out0": 1, **dict.fromkeys(marks[:2], 1)}
    train = plan.plan_stages(jobs, files)[0]
    assert (train.jobs, train.left, train.timed, train.ratio) == (3, 2, 1, 3.0)
    assert train.seconds_left == pytest.approx(60.0)
    assert plan.wall_seconds([train], 2) == pytest.approx(30.0)
    assert plan.wall_seconds([train], 1) == pytest.approx(60.0)


def test_dropped_models_count_as_trained_once_extracted():
    found = estimated(extraction={"keep_models": False})
    jobs = plan.study_jobs(found)
    logits = {path: 1 for job in jobs if job.stage == "extract" for path in job.outputs}
    assert plan.plan_stages(jobs, logits)[0].left == 0


def test_the_plan_can_be_read():
    found = estimated()
    stages = plan.plan_stages(plan.study_jobs(found), {})
    text = plan.describe(found, "cpu: x", stages, 2, keep_models=True)
    assert "models to train" in text and "CPU time left" in text and "Disk" in text
    assert "estimated" not in text


def test_existing_files_are_found_with_their_sizes(tmp_path):
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/c").write_text("123")
    assert plan.existing_files(tmp_path) == {str(tmp_path / "a/b/c"): 3}
    assert plan.existing_files(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (99.5, "100 s"), (240, "4.0 min"), (36_000, "10.0 h")]
)
def test_durations_read_well(seconds, text):
    assert plan.duration(seconds) == text


def test_a_measured_rate_replaces_a_published_one():
    published = throughput.device_named("NVIDIA A100-SXM4-80GB")
    shape = costs.PoolShape(60_000, 32, 3, 10)
    width = network({"name": "resnet18", "widths": [], "blocks": []}, shape).width
    for device in (published, CPU):
        found = throughput.calibrated(device, 20_000.0)
        assert found.measured and found.factor < published.factor
        rate = found.training_rate(width) / throughput.RESNET18_FLOPS
        assert rate == pytest.approx(20_000, rel=0.02)
    assert throughput.calibrated(published, None) == published
    assert throughput.study_device("A100", 20_000.0)[0] == "A100"


def test_what_was_not_measured_is_called_so_until_jobs_have_run():
    found = estimated(throughput.device_named("NVIDIA A100-SXM4-80GB"))
    jobs = plan.study_jobs(found)
    text = plan.describe(found, "A100", plan.plan_stages(jobs, {}), 2, keep_models=True)
    assert "NOT measured" in text and "plan.images_per_second" in text
    assert "GPU time left" in text and "factor of 3" in text
    known = estimated(throughput.calibrated(found.device, 9000.0))
    text = plan.describe(known, "A100", plan.plan_stages(jobs, {}), 2, keep_models=True)
    assert "NOT measured" not in text and "plan.images_per_second" not in text


def test_blocks_are_named_by_the_checkpoints_in_which_they_differ():
    early = {"training": {"epochs": 2, "checkpoints": [1, 2]}}
    many = {"training": {"epochs": 40, "checkpoints": list(range(1, 41))}}
    crop = {"augmentations": ["crop"]}
    techniques = {"a+b": crop, "a_b": {**crop, **early}, "a-b": {**crop, **many}}
    blocks = made(techniques=techniques, splits={"count": 16}).blocks
    names = [block.name for block in blocks if block.runs[0][1] == 0]
    assert names[:2] == ["seed0_split0to7_at_10_30_60", "seed0_split0to7_at_1_2"]
    assert names[2].startswith("seed0_split0to7_at_1to40_")
    assert all(name.isidentifier() for name in names)
    assert made().blocks[0].name == "seed0_split0to7"
