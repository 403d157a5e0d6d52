"""Ask the models of a block for one signal that attacks need beyond logits."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, datasets, extraction, gpu_slots, job, numerics, shadow, splits
from miagap.device_pool import place
from miagap.measurements.subject import Subject, measure_of
from miagap.models import ModelSettings
from miagap.names import parse_run_name

if TYPE_CHECKING:
    from snakemake.script import snakemake

with contextlib.ExitStack() as stack, job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    settings = json.loads(params.settings)
    # Where and with whom a job runs changes no result: read past params, whose change would rerun.
    shared = (snakemake.config.get("compute") or {}).get("jobs_per_gpu", 1)
    memory = snakemake.resources.get("gpu_mem_mb", 0)
    stack.enter_context(gpu_slots.job_gpu(settings["compute"]["device"], shared, memory, log))
    compute = numerics.resolve(
        numerics.ComputeSettings.from_config({**settings["compute"], "precision": "float32"})
    )
    numerics.configure(compute)
    samples = datasets.read_pool(snakemake.input.pool)
    pool = place(samples.images, samples.labels, len(samples.class_names), compute)
    drawing = settings.get("splits")
    reserve = splits.reserve_members(len(pool), **drawing) if drawing else None
    model = ModelSettings.from_config(settings["model"])
    measure, technique = measure_of(settings["kind"]), snakemake.wildcards.technique
    metadata = job.provenance(params.study, params.settings, params.code, technique=technique)
    metadata |= {f"numerics.{key}": value for key, value in compute.describe().items()}
    log(f"{settings['kind']} of {len(snakemake.input.models)} checkpoints on {compute.device}")
    for source, target in zip(snakemake.input.models, snakemake.output.signals, strict=True):
        weights, trained = artifacts.read_tensors(source)
        run, checkpoint = Path(source).parent.name, Path(source).stem.removeprefix("checkpoint-")
        seed, split = parse_run_name(run)
        subject = Subject(
            model=extraction.load_model(weights, model, pool),
            pool=pool,
            numerics=compute,
            study_seed=settings["study_seed"],
            identity=(technique, seed, split, checkpoint),
            reserve=reserve,
            training=settings.get("recipe"),
        )
        table = shadow.signal_table(measure(subject, settings["parameters"]))
        identity = {
            "seed": str(seed),
            "split": str(split),
            "checkpoint": checkpoint,
            "epoch": trained["epoch"],
            "dataset": samples.dataset,
        }
        artifacts.write_parquet(table, target, {**metadata, **identity})
        log(f"{run} checkpoint {checkpoint}: {len(table)} samples")
