"""Write the logits of imported models as our extraction does."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, imports, job, splits
from miagap.names import parse_run_name

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params, technique = snakemake.params, snakemake.wildcards.technique
    source = imports.list_models(json.loads(params.settings))
    order = source.runs
    metadata = job.provenance(params.study, params.settings, params.code, technique=technique)
    for target in snakemake.output.logits:
        seed, split = parse_run_name(Path(target).stem)
        checkpoint = Path(target).parent.name.removeprefix("checkpoint-")
        model = source.by_run[technique, seed, split]
        row = order.index((seed, split))
        member, _ = splits.read_membership(snakemake.input.membership, [row])
        table = imports.read_model(source, model, checkpoint, member[0])
        identity = {
            "seed": str(seed),
            "split": str(split),
            "checkpoint": checkpoint,
            "epoch": checkpoint if checkpoint.isdigit() else "",
            "dataset": source.dataset,
            "source": model.name,
        }
        artifacts.write_parquet(table, target, {**metadata, **identity})
        log(f"{model.name} {checkpoint}: {len(table)} samples")
