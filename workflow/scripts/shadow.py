"""Gather what attacks need of all shadow models of a technique and checkpoint."""

import json
from typing import TYPE_CHECKING

from miagap import artifacts, job, shadow

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    reserve = artifacts.read_parquet(snakemake.input.membership, ["reserve"])["reserve"].to_numpy()
    models = shadow.gather(
        snakemake.input.logits, reserve, with_logits=json.loads(params.settings)["logits"]
    )
    log(f"{models.signals.models} models, {models.signals.samples} samples")
    metadata = job.provenance(
        params.study,
        params.settings,
        params.code,
        technique=snakemake.wildcards.technique,
        checkpoint=snakemake.wildcards.checkpoint,
    )
    shadow.write_models(models, snakemake.output.pool, metadata)
