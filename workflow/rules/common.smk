"""The study that the config describes, checked; names of files; what jobs ask for; messages."""

import os
import re
import sys
import time
from functools import cache
from pathlib import Path

ROOT = Path(workflow.basedir)
LIBRARY = str(ROOT / "workflow")
SCRIPTS = ROOT / "workflow/scripts"
sys.path.insert(0, LIBRARY)

from miagap import config as configs
from miagap import costs, gpu_slots, imports
from miagap import job as jobs
from miagap import keep, names, places, plan, progress
from miagap import study as studies
from miagap.attacks.registry import ATTACKS
from miagap.digest import code_digest, text_digest
from miagap.errors import InputError
from miagap.throughput import study_device


def checked_config() -> dict:
    """Return the config with its defaults, or end with one line for each thing wrong with it."""
    files = [os.path.relpath(path) for path in workflow.configfiles]
    resolved = configs.resolve(config, known_attacks=ATTACKS, label=files[-1])
    errors = [
        line for path in files for line in configs.duplicate_keys(path)
    ] + resolved.errors
    warnings = resolved.warnings
    if not errors:
        warnings = warnings + data_warnings(resolved.values, files[-1])
    if workflow.is_main_process:
        for line in [f"warning: {text}" for text in warnings] + errors:
            print(line, file=sys.stderr)
    if errors:
        raise SystemExit(1)
    config.update(resolved.values)  # the report shows every setting, defaults too
    return resolved.values


def data_warnings(values: dict, label: str) -> list[str]:
    """Return what the pool is too small for, once its size is known."""
    summary = Path(values["results"]) / values["study"] / "dataset/summary.json"
    shape = costs.pool_shape(values["dataset"], summary)
    if values["import"] is not None or shape.assumed:
        return []
    return configs.data_warnings(values, shape.samples, label)


def described_study() -> studies.Study:
    """Return the study, or end with one line if what it imports is not there."""
    values = checked_config()
    try:
        return studies.Study(values, ATTACKS)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


STUDY = described_study()
RESULTS = STUDY.folder
CODE = {path.stem: code_digest(path) for path in SCRIPTS.glob("*.py")}
ENVIRONMENT = "../../envs/cpu.yaml"

PLACES = places.places(RESULTS)
MODEL, HISTORY, LOGIT = PLACES["model"], PLACES["history"], PLACES["logit"]
SIGNAL, POOL, ATTACKED = PLACES["signal"], PLACES["pool"], PLACES["attacked"]
MEMBERSHIP = f"{RESULTS}/splits/membership.parquet"
PROGRESS_SECONDS = 60.0
PARTS = ["scores", "roc", "metrics"]
LOG, BENCHMARK = PLACES["log"], PLACES["benchmark"]


# Scripts run in processes of their own and import the library from the same place.
jobs.export_library(LIBRARY)

# A job on a cluster has the GPU that it was given; one on this machine claims its own.
if workflow.remote_exec:
    os.environ[gpu_slots.ASSIGNED] = "1"


wildcard_constraints:
    technique="|".join(map(re.escape, STUDY.techniques)),
    attacker="|".join(map(re.escape, STUDY.techniques)),
    checkpoint=r"\d+|best|final",
    run=r"seed\d+-split\d+",


def run_names(runs) -> list[str]:
    """Return the file name stems of (seed, split) pairs."""
    return [names.run_name(seed, split) for seed, split in runs]


def block_files(pattern: str, block: studies.Block) -> list[str]:
    """Return a block's files, one for each run and checkpoint, for any technique."""
    names = {"run": block.run_names, "checkpoint": block.checkpoints}
    return expand(pattern, **names, allow_missing=True)


def imported_logits(block: studies.Block, technique: str) -> list[str]:
    """Return the files from which a block's logits are imported."""
    return [
        STUDY.imported.by_run[technique, seed, split].logits[checkpoint]
        for seed, split in block.runs
        for checkpoint in block.checkpoints
    ]


def signal_files(measurement) -> str:
    """Return the pattern of a signal's files."""
    return expand(SIGNAL, signal=measurement.key, allow_missing=True)[0]


def signals_of(runs) -> list[str]:
    """Return the files of all signals of some runs, signal by signal."""
    return [
        path
        for measurement in STUDY.measurements
        for path in expand(
            signal_files(measurement), run=run_names(runs), allow_missing=True
        )
    ]


def measurement_code(measurement) -> str:
    """Return the digest of the code that measures a signal."""
    source = ROOT / "workflow/miagap/measurements" / f"{measurement.kind}.py"
    return f"{CODE['measure']}-{code_digest(source)}"


def gpu_request() -> str:
    """Return the GPU that the profile asks for (`gres` of its default-resources), if any."""
    request = (workflow.resource_settings.default_resources or {}).get("gres")
    return str(getattr(request, "raw", request) or "")


def expected_device() -> str:
    """Return which device to estimate with: the config's, or what the profile asks for.

    A login node has no GPU, but the jobs that it submits may.
    """
    named, device = STUDY.values["plan"]["device"], STUDY.values["compute"]["device"]
    if named is not None or device != "auto":
        return named or device
    return "cuda" if "gpu" in gpu_request() or "shard" in gpu_request() else "auto"


@cache
def study_costs() -> costs.Costs:
    """Return the estimates of all jobs; made when the first job is looked at."""
    summary = Path(RESULTS) / "dataset/summary.json"
    shape = costs.pool_shape(STUDY.values["dataset"], summary)
    imported = None
    if STUDY.imported:
        imported = imports.size(STUDY.imported)
        shape = costs.PoolShape(imported.samples, 32, 3, imported.classes)
    rate = STUDY.values["plan"]["images_per_second"]
    device = study_device(expected_device(), rate)[1]
    return costs.Costs(STUDY, shape, device, imported)


def asks(cost) -> dict:
    """Return a job's resources from its estimate, a function of the wildcards."""
    return {
        "mem_mb": lambda wildcards, attempt: cost(wildcards).request_mb(attempt),
        "runtime": lambda wildcards, attempt: cost(wildcards).request_minutes(
            attempt, study_costs().device.factor
        ),
    }


# A rule without a `gres` of its own asks for the profile's GPU.
NO_GPU = {"gres": ""}


def asks_gpu(cost) -> dict:
    """Return the resources of a job that computes on the study's device."""
    if STUDY.values["compute"]["device"] == "cpu":
        return {**asks(cost), **NO_GPU}
    memory = lambda wildcards: round(cost(wildcards).gpu_memory_mb)
    return {**asks(cost), "gpu_jobs": 1, "gpu_mem_mb": memory}


def kept_models(paths: list[str]) -> list[str]:
    """Mark models for removal after their extraction where the study does not keep them."""
    return paths if STUDY.values["extraction"]["keep_models"] else temp(paths)


def jobs_at_once() -> int:
    """Return how many jobs this call may run at once (`--jobs` on a cluster, else `--cores`)."""
    limits = workflow.resource_settings
    cores = limits.cores if limits.nodes is None else limits.nodes
    return max(1, min(cores or 1, 10_000) // STUDY.values["compute"]["threads"])


def only_planned() -> bool:
    """Tell whether nothing but the plan was asked for: it changes nothing and needs no lock."""
    return set(workflow.dag_settings.targets) == {"plan"}


def attacker_pool(wildcards) -> str:
    """Return the shadow pool that attacks a group."""
    epoch = STUDY.attacker_checkpoint(
        wildcards.technique, wildcards.attacker, wildcards.checkpoint
    )
    return expand(POOL, technique=wildcards.attacker, checkpoint=epoch)[0]


def tuple_files(part: str) -> list[str]:
    """Return one file of every attacked tuple: its scores, ROC points or metrics."""
    return [
        f"{folder}/{protocol}/{run}.{part}.parquet"
        for protocol in STUDY.protocols
        for group in STUDY.attack_groups
        for folder in expand(ATTACKED, **vars(group))
        for run in run_names(STUDY.targets(protocol))
    ]


def group_files(part: str) -> list[str]:
    """Return one file of every attacked group: its pooled estimates or curves."""
    return [
        f"{folder}/{protocol}.{part}.parquet"
        for protocol in STUDY.protocols
        for group in STUDY.attack_groups
        for folder in expand(ATTACKED, **vars(group))
    ]


def final_scores(wildcards) -> list[str]:
    """Return the scores of a technique's final models by an attacker who knows it."""
    name = wildcards.technique
    own = {
        "technique": name,
        "attacker": name,
        "checkpoint": STUDY.final_checkpoint(name),
    }
    folder = ATTACKED.format(**own)
    protocol = STUDY.protocols[0]
    return [
        f"{folder}/{protocol}/{run}.scores.parquet"
        for run in run_names(STUDY.targets(protocol))
    ]


def exposed_samples(wildcards) -> dict[str, str]:
    """Return the per-sample results, for the table that is about them."""
    path = rules.collect_vulnerability.output.table
    return {"vulnerability": path} if wildcards.table == "stability" else {}


def take_study_lock() -> None:
    """Refuse to run beside another run of the same study.

    The kernel frees this lock when the process dies, so a killed run needs no unlocking.
    """
    lock = Path(PLACES["lock"])
    # Whoever only asks whether the study runs holds the lock for a moment.
    if all(jobs.hold(lock) is None and not time.sleep(0.2) for _ in range(3)):
        print(
            f"error: {RESULTS}: another run of this study is at work; wait for it, or give "
            "this one another name (config key `study`)",
            file=sys.stderr,
        )
        raise SystemExit(1)
    os.utime(lock)  # the time of this run's start


@cache
def planned_jobs() -> list[plan.Job]:
    """Return the study's jobs with their estimates."""
    return plan.study_jobs(study_costs())


def look() -> progress.Progress:
    """Return how far the study is."""
    logs = Path(".snakemake/log")
    return progress.measure(planned_jobs(), Path(RESULTS), logs, time.time())


def follow_progress() -> None:
    """Say every minute how far the study is, on the terminal and in a log."""
    if STUDY.imported:
        return
    asked = {str(one) for one in workflow.output_settings.quiet or ()}
    quiet = not asked.isdisjoint({"all", "progress"})
    show = lambda line: None if quiet else print(line, file=sys.stderr, flush=True)
    progress.follow(look, Path(LOG) / "progress.log", show, PROGRESS_SECONDS)


def show_failures() -> None:
    """Print the jobs that failed, with logs and causes, after all that other jobs have said."""
    if not STUDY.imported:
        found = look()
        progress.write_line(Path(LOG) / "progress.log", progress.summary(found))
        print("\n".join(progress.failures(found, 20)), file=sys.stderr)


def trained_runs(block: studies.Block, technique: str) -> dict[Path, list[Path]]:
    """Return the files of each run of a block, by the run's store."""
    found = {}
    for run in block.run_names:
        own = {"technique": technique, "run": run}
        files = [MODEL.format(**own, checkpoint=one) for one in block.checkpoints]
        store = Path(RESULTS) / "state" / technique / run
        found[store] = [Path(path) for path in [*files, HISTORY.format(**own)]]
    return found


def rescue_models() -> None:
    """Save the models of jobs that must run for want of others: Snakemake deletes them.

    So it does with those of jobs that finished after a Snakemake that was killed: it has
    noted them as incomplete. Where it has noted any, all models are saved (links, no copies).
    """
    noted = Path(".snakemake/incomplete")
    cut_off = noted.is_dir() and any(noted.iterdir())
    for block in STUDY.blocks:
        for technique in block.techniques:
            runs = trained_runs(block, technique)
            whole = all(path.exists() for paths in runs.values() for path in paths)
            if whole and not cut_off:
                continue
            for store, paths in runs.items():
                keep.rescue(store, paths[0].parent, [path.name for path in paths])


def tidy() -> None:
    """Remove what killed jobs left, and saved models that are in their places too."""
    for block in STUDY.blocks:
        for technique in block.techniques:
            for store, paths in trained_runs(block, technique).items():
                if store.exists() and all(path.exists() for path in paths):
                    keep.discard(store)
    for path in Path(RESULTS).rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def show_outputs() -> None:
    """Print where the report's parts are."""
    print(f"\nStudy {STUDY.name} is complete:")
    for label, pattern in [("tables", "tables/*.md"), ("figures", "figures/*.png")]:
        for path in sorted(Path(RESULTS).glob(pattern)):
            print(f"  {label:8} {path}")
