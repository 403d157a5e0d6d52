"""What a study will cost, told before anything runs; and what it took, compared, afterwards."""

import contextlib
import csv
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from miagap.costs import Cost, Costs
from miagap.names import LEAVE_ONE_OUT, run_name
from miagap.places import places

STAGES = ("train", "extract", "measure", "shadow", "attack", "collect")
# On the study's device; the others compute on one CPU.
DEVICE_STAGES = frozenset({"train", "extract", "measure"})
GB = 1e9


@dataclass(frozen=True)
class Job:
    """One job that is to run or has run.

    Attributes:
        stage: one of ``STAGES``.
        cost: the estimate.
        outputs: paths of the files that it makes (small ones left out).
        benchmark: path of the file into which Snakemake writes what it took.
        log: path of its log.
        units: models, tuples or pools that it makes; ``outputs`` are those of the first, then
            those of the second and so on, as many of each.
        stores: for each unit, the folder that holds it until the job is whole, if there is one.
    """

    stage: str
    cost: Cost
    outputs: tuple[str, ...]
    benchmark: str
    log: str = ""
    units: int = 1
    stores: tuple[str, ...] = ()


@dataclass(frozen=True)
class StagePlan:
    """Jobs of one stage, summed up.

    Attributes:
        jobs: all of them.
        left: those whose outputs are not all there.
        seconds: of all of them, estimated from the config.
        seconds_left: of those left; corrected by ``ratio`` where some have run.
        longest: seconds of the longest job left.
        memory_mb: peak of the largest job.
        gpu_memory_mb: the same, on a GPU.
        disk: bytes of all outputs.
        disk_there: bytes that are there already.
        timed: jobs that Snakemake has timed.
        estimated: seconds estimated for those.
        took: seconds that those took.
    """

    stage: str
    jobs: int
    left: int
    seconds: float
    seconds_left: float
    longest: float
    memory_mb: float
    gpu_memory_mb: float
    disk: float
    disk_there: float
    timed: int
    estimated: float
    took: float

    @property
    def ratio(self) -> float | None:
        """Seconds taken over seconds estimated, where any job has been timed."""
        return self.took / self.estimated if self.timed else None


def study_jobs(costs: Costs) -> list[Job]:
    """Return the study's jobs with their estimates and files."""
    jobs = [*_model_jobs(costs), *_pool_jobs(costs), *_attack_jobs(costs)]
    place = places(costs.study.folder)["collected"]
    return [*jobs, _job(costs, "collect", "collect", costs.collect(), (place,), 1)]


def _job(
    costs: Costs,
    stage: str,
    name: str,
    cost: Cost,
    outputs: tuple[str, ...],
    units: int,
    stores: tuple[str, ...] = (),
) -> Job:
    """Return a job whose log and benchmark have this name."""
    place = places(costs.study.folder)
    log, benchmark = f"{place['log']}/{name}.log", f"{place['benchmark']}/{name}.tsv"
    return Job(stage, cost, outputs, benchmark, log, units, stores)


def _model_jobs(costs: Costs) -> Iterator[Job]:
    """Yield what trains models and asks them."""
    study, place = costs.study, places(costs.study.folder)
    # Models that are dropped after extraction have been there if their logits are.
    trained = "model" if study.values["extraction"]["keep_models"] else "logit"
    for block in study.blocks:
        extract = costs.extract(block)
        for technique in block.techniques:
            own = f"{technique}/{block.name}"
            tuples = [
                {"technique": technique, "run": run, "checkpoint": checkpoint}
                for run, checkpoint in product(block.run_names, block.checkpoints)
            ]
            models = tuple(place[trained].format(**one) for one in tuples)
            logits = tuple(place["logit"].format(**one) for one in tuples)
            runs = block.run_names
            stores = tuple(place["store"].format(technique=technique, run=run) for run in runs)
            cost = costs.train(block, technique)
            yield _job(costs, "train", f"train/{own}", cost, models, len(runs), stores)
            yield _job(costs, "extract", f"extract/{own}", extract, logits, len(tuples))
            for one in study.measurements:
                cost = costs.measure(block, technique, one)
                files = tuple(place["signal"].format(signal=one.key, **each) for each in tuples)
                yield _job(costs, "measure", f"measure/{one.key}/{own}", cost, files, len(files))


def _pool_jobs(costs: Costs) -> Iterator[Job]:
    """Yield what gathers shadow pools."""
    study, cost = costs.study, costs.shadow()
    pools = {(group.attacker, group.attacker_checkpoint) for group in study.attack_groups}
    if LEAVE_ONE_OUT in study.protocols:
        pools |= {(group.technique, group.checkpoint) for group in study.attack_groups}
    pattern = places(study.folder)["pool"]
    for technique, checkpoint in sorted(pools):
        path = pattern.format(technique=technique, checkpoint=checkpoint)
        yield _job(costs, "shadow", f"shadow/{technique}/checkpoint-{checkpoint}", cost, (path,), 1)


def _attack_jobs(costs: Costs) -> Iterator[Job]:
    """Yield what attacks."""
    study = costs.study
    pattern = places(study.folder)["attacked"]
    for protocol in study.protocols:
        cost = costs.attack(protocol)
        runs = [run_name(seed, split) for seed, split in study.targets(protocol)]
        for group in study.attack_groups:
            folder = pattern.format(**vars(group))
            files = tuple(f"{folder}/{protocol}/{run}.scores.parquet" for run in runs)
            name = f"attack/{group.technique}/{group.attacker}-{group.checkpoint}-{protocol}"
            yield _job(costs, "attack", name, cost, files, len(files))


def walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield every file below a folder that is there; a missing folder has none."""
    queue = [os.fspath(folder)]
    while queue:
        try:
            with os.scandir(queue.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        queue.append(entry.path)
                    else:
                        yield entry
        except FileNotFoundError:
            continue


def existing_files(folder: Path) -> dict[str, int]:
    """Return the size of every file below a folder, by its path as text."""
    sizes = {}
    for entry in walk(folder):
        with contextlib.suppress(FileNotFoundError):  # jobs may be at work
            sizes[entry.path] = entry.stat(follow_symlinks=False).st_size
    return sizes


def seconds_taken(path: str) -> float | None:
    """Return the seconds in a benchmark file of Snakemake, None if it is broken or missing."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle, delimiter="\t"))
        return float(rows[-1]["s"])
    except (OSError, LookupError, ValueError):
        return None


def plan_stages(jobs: Sequence[Job], files: Mapping[str, int]) -> list[StagePlan]:
    """Sum the jobs up by stage, against the files that are there."""
    plans = []
    for stage in STAGES:
        own = [job for job in jobs if job.stage == stage]
        left = [job for job in own if any(path not in files for path in job.outputs)]
        timed = [
            (job.cost.seconds, taken)
            for job in own
            if job.benchmark in files and (taken := seconds_taken(job.benchmark)) is not None
        ]
        estimated, took = sum(e for e, _ in timed), sum(t for _, t in timed)
        correction = took / estimated if timed else 1.0
        plans.append(
            StagePlan(
                stage=stage,
                jobs=len(own),
                left=len(left),
                seconds=sum(job.cost.seconds for job in own),
                seconds_left=correction * sum(job.cost.seconds for job in left),
                longest=correction * max((job.cost.seconds for job in left), default=0.0),
                memory_mb=max((job.cost.memory_mb for job in own), default=0.0),
                gpu_memory_mb=max((job.cost.gpu_memory_mb for job in own), default=0.0),
                disk=sum(job.cost.disk_bytes for job in own),
                disk_there=sum(files.get(path, 0) for job in own for path in job.outputs),
                timed=len(timed),
                estimated=estimated,
                took=took,
            )
        )
    return plans


def wall_seconds(plans: Sequence[StagePlan], at_once: int) -> float:
    """Return how long the jobs left take, ``at_once`` at a time, stage after stage."""
    return sum(max(plan.longest, plan.seconds_left / max(1, at_once)) for plan in plans)


def describe(
    costs: Costs, device_name: str, plans: Sequence[StagePlan], at_once: int, keep_models: bool
) -> str:
    """Return the plan as text to print."""
    study, shape, device = costs.study, costs.shape, costs.device
    models = sum(len(block.runs) * len(block.techniques) for block in study.blocks)
    tuples = sum(
        len(block.runs) * len(block.techniques) * len(block.checkpoints) for block in study.blocks
    )
    size = f"{shape.samples:,} samples of {shape.size} x {shape.size} x {shape.channels}"
    assumed = " (assumed until the dataset is read)" if shape.assumed else ""
    kind = "measured" if device.measured else "NOT measured, from published training times"
    lines = [
        f"Study {study.name}: {models:,} models to train, {tuples:,} tuples, "
        f"{costs.attacked:,} attacked counting attackers and protocols",
        f"Pool: {size}, {shape.classes} classes{assumed}",
        f"Device: {device_name}, taken for: {device.name} ({kind}; right within a factor "
        f"of {device.factor:g})",
        *_how_to_calibrate(costs, plans),
        "",
        *_table(plans, on_gpu=not device.name.startswith("CPU")),
        "",
        *_totals(costs, plans, at_once, keep_models),
    ]
    if any(plan.timed for plan in plans):
        lines += ["", *_comparison(plans)]
    return "\n".join(lines)


def _how_to_calibrate(costs: Costs, plans: Sequence[StagePlan]) -> list[str]:
    if costs.device.measured or any(plan.timed for plan in plans if plan.stage == "train"):
        return []
    return [
        "        To measure it: `python benchmarks/training.py --full` on that device, then set "
        "plan.images_per_second; or run some jobs: those that have run correct the rest"
    ]


def _table(plans: Sequence[StagePlan], on_gpu: bool) -> list[str]:
    titles = ("stage", "jobs", "left", "time left", "longest", "memory", "GPU memory", "disk")
    rows = [(*titles, "there")]
    for plan in plans:
        gpu = f"{plan.gpu_memory_mb / 1000:.1f} GB" if on_gpu and plan.gpu_memory_mb else "-"
        memory = f"{plan.memory_mb / 1000:.1f} GB"
        time = (duration(plan.seconds_left), duration(plan.longest))
        disk = (f"{plan.disk / GB:.2f} GB", f"{plan.disk_there / GB:.2f} GB")
        rows.append((plan.stage, f"{plan.jobs:,}", f"{plan.left:,}", *time, memory, gpu, *disk))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _totals(costs: Costs, plans: Sequence[StagePlan], at_once: int, keep_models: bool) -> list[str]:
    device = costs.device
    timed = any(plan.timed for plan in plans if plan.stage in DEVICE_STAGES)
    factor = 1.5 if timed else device.factor
    on_device = sum(plan.seconds_left for plan in plans if plan.stage in DEVICE_STAGES)
    elsewhere = sum(plan.seconds_left for plan in plans) - on_device
    wall = wall_seconds(plans, at_once)
    unit = "CPU" if device.name.startswith("CPU") else "GPU"
    disk = sum(plan.disk for plan in plans) + costs.pool_bytes
    there = sum(plan.disk_there for plan in plans)
    lines = [
        f"{unit} time left (train, extract, measure): {_range(on_device, factor)}",
        f"CPU time left (all other stages): {_range(elsewhere, 2.0)}",
        f"Wall time left with {at_once:,} jobs at once: {_range(wall, factor)}, waits in queues "
        "not counted",
        f"Disk: {disk / GB:.2f} GB in the end, {there / GB:.2f} GB there",
    ]
    if not keep_models:
        lines.append("Models are dropped after extraction (keep_models: false)")
    return lines


def _comparison(plans: Sequence[StagePlan]) -> list[str]:
    lines = ["Jobs that have run (their ratio corrects what is left):"]
    lines += [
        f"  {plan.stage}: {plan.timed:,} jobs, estimated {duration(plan.estimated)}, "
        f"took {duration(plan.took)}, took / estimated = {plan.ratio:.2f}"
        for plan in plans
        if plan.ratio is not None
    ]
    estimated, took = sum(p.estimated for p in plans), sum(p.took for p in plans)
    lines.append(
        f"  all: estimated {duration(estimated)}, took {duration(took)}, "
        f"took / estimated = {took / estimated:.2f}"
    )
    return lines


def _range(seconds: float, factor: float) -> str:
    if not seconds:
        return "nothing"
    return f"{duration(seconds)} ({duration(seconds / factor)} to {duration(seconds * factor)})"


def duration(seconds: float) -> str:
    """Return a time to read: ``12 s``, ``4.5 min``, ``3.2 h``."""
    if seconds < 100:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
