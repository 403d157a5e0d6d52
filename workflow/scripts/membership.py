"""Gather what imported models were trained on."""

import json
from typing import TYPE_CHECKING

from miagap import imports, job, splits

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    source = imports.list_models(json.loads(params.settings))
    models = next(iter(source.models.values()))
    member, reserve = imports.read_membership(models)
    pairs, complete = imports.find_pairs(member, reserve)
    log(f"{len(member)} models, {reserve.size} samples, {reserve.sum()} that no model trained on")
    log(
        "splits are complementary pairs: a target's pair is left out"
        if complete
        else "splits are not paired: equal numbers of IN and OUT models are used for each sample"
    )
    metadata = job.provenance(params.study, params.settings, params.code)
    metadata |= {"pairs": json.dumps(pairs.tolist()), "paired": json.dumps(complete)}
    metadata |= {"models": json.dumps({name.name: name.run for name in models})}
    splits.write_membership(snakemake.output.membership, member, reserve, metadata)
