"""Gather what attacks need of all shadow models of a technique and checkpoint."""

import json
from typing import TYPE_CHECKING

from miagap import artifacts, job, shadow, splits

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    settings = json.loads(params.settings)
    labels, _ = artifacts.read_tensors(snakemake.input.pool, ["labels"])
    reserve = splits.reserve_members(len(labels["labels"]), **settings["splits"])
    models = shadow.gather(
        snakemake.input.logits,
        reserve,
        with_logits=settings["logits"],
        extra=shadow.by_signal(snakemake.input.signals, settings.get("signals", [])),
    )
    log(f"{models.signals.models} models, {models.signals.samples} samples")
    identity = dict(snakemake.wildcards.items())
    metadata = job.provenance(params.study, params.settings, params.code, **identity)
    shadow.write_models(models, snakemake.output.pool, metadata)
