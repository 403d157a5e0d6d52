"""Gather what attacks need of all imported models of a technique and checkpoint."""

import json
from typing import TYPE_CHECKING

import numpy as np

from miagap import artifacts, job, shadow

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params, source = snakemake.params, snakemake.input
    settings = json.loads(params.settings)
    reserve = artifacts.read_parquet(source.membership, ["reserve"])["reserve"].to_numpy()
    pairs = np.array(json.loads(artifacts.read_metadata(source.membership)["pairs"]), np.int64)
    models = shadow.gather(source.logits, reserve, with_logits=settings["logits"], pairs=pairs)
    log(f"{models.signals.models} models, {models.signals.samples} samples")
    identity = dict(snakemake.wildcards.items())
    metadata = job.provenance(params.study, params.settings, params.code, **identity)
    shadow.write_models(models, snakemake.output.pool, metadata)
