"""Ask the models of a block for one signal that attacks need beyond logits."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, extraction, job, measured, splits, workbench
from miagap.measurements.subject import Subject, measure_of
from miagap.models import ModelSettings
from miagap.names import parse_run_name

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
        drawing = settings.get("splits")
        reserve = splits.reserve_members(len(pool), **drawing) if drawing else None
        model = ModelSettings.from_config(settings["model"])
        measure, technique = measure_of(settings["kind"]), snakemake.wildcards.technique
        metadata = job.provenance(params.study, params.settings, params.code, technique=technique)
        metadata |= {f"numerics.{key}": value for key, value in bench.numerics.describe().items()}
        log(f"{settings['kind']} of {len(snakemake.input.models)} checkpoints")
        for source, target in zip(snakemake.input.models, snakemake.output.signals, strict=True):
            weights, trained = artifacts.read_tensors(source)
            run = Path(source).parent.name
            checkpoint = Path(source).stem.removeprefix("checkpoint-")
            seed, split = parse_run_name(run)
            subject = Subject(
                model=extraction.load_model(weights, model, pool),
                pool=pool,
                numerics=bench.numerics,
                study_seed=settings["study_seed"],
                identity=(technique, seed, split, checkpoint),
                reserve=reserve,
                training=settings.get("recipe"),
            )
            table = measured.signal_table(measure(subject, settings["parameters"]))
            identity = {
                "seed": str(seed),
                "split": str(split),
                "checkpoint": checkpoint,
                "epoch": trained["epoch"],
                "dataset": bench.dataset,
            }
            artifacts.write_parquet(table, target, {**metadata, **identity})
            log(f"{run} checkpoint {checkpoint}: {len(table)} samples")
