"""Load, check and write the pool."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from miagap import artifacts, datasets, job

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    settings = json.loads(params.settings)
    pool = datasets.load_pool(
        datasets.DatasetSettings(**settings["dataset"]), settings["study_seed"]
    )
    summary = datasets.check_pool(pool)
    log(f"{summary}")
    for warning in summary.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    metadata = job.provenance(params.study, params.settings, params.code)
    datasets.write_pool(pool, snakemake.output.pool, metadata)
    artifacts.write_text(json.dumps(asdict(summary), indent=1), snakemake.output.summary)
