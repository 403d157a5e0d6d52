"""Train the runs of a block."""

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, datasets, fleet, gpu_slots, job, keep, numerics, splits
from miagap.device_pool import place
from miagap.digest import text_digest
from miagap.names import ModelId, parse_run_name

if TYPE_CHECKING:
    from snakemake.script import snakemake

with contextlib.ExitStack() as stack, job.logged(snakemake.log[0]) as log:
    params, output = snakemake.params, snakemake.output
    technique = snakemake.wildcards.technique
    settings = json.loads(params.settings)
    # Where and with whom a job runs changes no result: read past params, whose change would rerun.
    shared = (snakemake.config.get("compute") or {}).get("jobs_per_gpu", 1)
    memory = snakemake.resources.get("gpu_mem_mb", 0)
    stack.enter_context(gpu_slots.job_gpu(settings["compute"]["device"], shared, memory, log))
    compute = numerics.resolve(numerics.ComputeSettings.from_config(settings["compute"]))
    numerics.configure(compute)
    _, pool_metadata = artifacts.read_tensors(snakemake.input.pool, [])
    samples = datasets.read_pool(snakemake.input.pool)
    pool = place(samples.images, samples.labels, len(samples.class_names), compute)
    recipe = fleet.Recipe(
        settings=settings,
        # Saved states change no result: read past params, whose change would retrain.
        resume_every=(snakemake.config.get("compute") or {}).get("resume_every", 0),
        metadata=job.provenance(params.study, params.settings, params.code),
        identity=text_digest(params.settings, params.code, pool_metadata["checksum"]),
    )
    reserve = splits.reserve_members(len(pool), **settings["splits"])
    store = Path(params.store) / technique
    folders = [Path(path).parent for path in output.histories]
    with job.exclusive(Path(params.store) / f"{technique}-{folders[0].name}.lock", log):
        for folder in folders:
            seed, split = parse_run_name(folder.name)
            member = splits.split_members(len(pool), split, **settings["splits"])
            checkpoints = [
                Path(path).stem.removeprefix("checkpoint-")
                for path in output.models
                if Path(path).parent == folder
            ]
            run = ModelId(technique, seed, split)
            own = store / folder.name
            # A job that outlived its workflow may have delivered while this one waited.
            keep.rescue(own, folder, [Path(p).name for p in output if Path(p).parent == folder])
            fleet.train_run(run, checkpoints, recipe, pool, member, reserve, compute, own, log)
        for folder in folders:
            places = {Path(p).name: p for p in output if Path(p).parent == folder}
            keep.deliver(store / folder.name, places)
        # The store stays until the extraction: only then has the workflow seen this job's end. One
        # that was killed meanwhile and started again deletes these outputs as incomplete.
