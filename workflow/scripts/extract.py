"""Ask the models of a block at every query of every sample."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, extraction, job, keep, splits, workbench
from miagap.models import ModelSettings
from miagap.names import parse_run_name
from miagap.queries import parse_queries

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    settings = json.loads(params.settings)
    # Where and with whom a job runs changes no result: read past params, whose change would rerun.
    shared = snakemake.config["compute"]["jobs_per_gpu"]
    memory = snakemake.resources.get("gpu_mem_mb", 0)
    compute = {**settings["compute"], "precision": "float32"}
    with workbench.ready(snakemake.input.pool, compute, shared, memory, log) as bench:
        pool = bench.pool
        model = ModelSettings.from_config(settings["model"])
        queries = parse_queries(settings["extraction"]["queries"], pool.image_size)
        metadata = job.provenance(
            params.study, params.settings, params.code, technique=snakemake.wildcards.technique
        ) | {f"numerics.{key}": value for key, value in bench.numerics.describe().items()}
        log(f"{len(snakemake.input.models)} checkpoints, {len(queries)} queries")
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
                "dataset": bench.dataset,
            }
            artifacts.write_parquet(table, target, {**metadata, **identity})
            log(f"{run} {checkpoint}: {len(table)} samples")
    for folder in {Path(source).parent for source in snakemake.input.models}:
        keep.discard(Path(params.store) / folder.parent.name / folder.name)
