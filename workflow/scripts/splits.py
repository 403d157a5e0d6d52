"""Draw the splits and the reserve."""

import json
from typing import TYPE_CHECKING

from miagap import artifacts, job, splits

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params = snakemake.params
    settings = json.loads(params.settings)
    labels, _ = artifacts.read_tensors(snakemake.input.pool, ["labels"])
    member, reserve = splits.membership(
        len(labels["labels"]), settings["count"], settings["seed"], settings["reserve"]
    )
    log(f"{len(member)} splits of {member[0].sum()} samples, {reserve.sum()} in the reserve")
    metadata = job.provenance(params.study, params.settings, params.code)
    splits.write_membership(snakemake.output.membership, member, reserve, metadata)
