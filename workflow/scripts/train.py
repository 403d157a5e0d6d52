"""Train the runs of a block."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import fleet, job, workbench
from miagap.digest import text_digest

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    settings = json.loads(params.settings)
    # Where, with whom and how safely a job runs changes no result: this is read past params,
    # whose change would train again.
    compute = snakemake.config["compute"]
    memory = snakemake.resources.get("gpu_mem_mb", 0)
    with workbench.ready(
        snakemake.input.pool, settings["compute"], compute["jobs_per_gpu"], memory, log
    ) as bench:
        recipe = fleet.Recipe(
            settings=settings,
            resume_every=compute["resume_every"],
            metadata=job.provenance(params.study, params.settings, params.code),
            identity=text_digest(params.settings, params.code, bench.checksum),
        )
        runs = fleet.runs_of(snakemake.wildcards.technique, snakemake.output)
        fleet.train_block(runs, recipe, bench, Path(params.store), log)
