"""Ask the models of a block at every query of every sample."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, datasets, extraction, gpu_slots, job, keep, numerics, splits
from miagap.device_pool import place
from miagap.models import ModelSettings
from miagap.names import parse_run_name
from miagap.queries import parse_queries

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
    model = ModelSettings.from_config(settings["model"])
    queries = parse_queries(settings["extraction"]["queries"], pool.image_size)
    metadata = job.provenance(
        params.study, params.settings, params.code, technique=snakemake.wildcards.technique
    ) | {f"numerics.{key}": value for key, value in compute.describe().items()}
    log(f"{len(snakemake.input.models)} checkpoints, {len(queries)} queries on {compute.device}")
    for source, target in zip(snakemake.input.models, snakemake.output.logits, strict=True):
        weights, trained = artifacts.read_tensors(source)
        run, checkpoint = Path(source).parent.name, Path(source).stem
        seed, split = parse_run_name(run)
        member = splits.split_members(len(pool), split, **settings["splits"])
        table = extraction.extract_checkpoint(
            weights, model, pool, member, queries, settings["extraction"]["batch_size"]
        )
        identity = {
            "seed": str(seed),
            "split": str(split),
            "checkpoint": checkpoint.removeprefix("checkpoint-"),
            "epoch": trained["epoch"],
            "dataset": samples.dataset,
        }
        artifacts.write_parquet(table, target, {**metadata, **identity})
        log(f"{run} {checkpoint}: {len(table)} samples")
    for folder in {Path(source).parent for source in snakemake.input.models}:
        keep.discard(Path(params.store) / folder.parent.name / folder.name)
