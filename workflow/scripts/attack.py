"""Attack the targets of a group with the shadow pool of one attacker."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from miagap import artifacts, attacking, job, shadow
from miagap.attacks import parse
from miagap.names import LEAVE_ONE_OUT, run_name

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params, source, wildcards = snakemake.params, snakemake.input, snakemake.wildcards
    settings = json.loads(params.settings)
    places = {Path(path).name: path for path in snakemake.output.tuples}
    specs = [parse(name, entry) for name, entry in settings["attacks"].items()]
    shadows = shadow.read_models(source.shadows)
    if params.protocol != LEAVE_ONE_OUT:
        with_logits = shadows.signals.logits is not None
        files = shadow.by_signal(source.signals, list(shadows.signals.extra))
        targets = shadow.gather(
            source.targets, shadows.reserve, with_logits=with_logits, extra=files
        )
    else:
        same = source.targets == source.shadows
        targets = shadows if same else shadow.read_models(source.targets)
        targets = shadow.only(targets, {Path(path).name.split(".")[0] for path in places})
    attacked = attacking.attack_group(targets, shadows, specs, settings, params.protocol, log)

    provenance = job.provenance(params.study, params.settings, params.code)
    group = {
        "study": params.study,
        "dataset": targets.dataset,
        "technique": wildcards.technique,
        "attacker_technique": wildcards.attacker,
        "checkpoint": wildcards.checkpoint,
        "attacker_checkpoint": Path(source.shadows).stem.removeprefix("checkpoint-"),
        "protocol": params.protocol,
    }
    used = attacking.shadow_columns(attacked.used, int((~targets.reserve).sum()))
    for t, generalization in enumerate(targets.generalization):
        seed, split = int(targets.signals.seed[t]), int(targets.signals.split[t])
        own = {**group, "seed": seed, "split": split}
        # A row counts the samples that have a score, which may be fewer than were measured.
        rows = [{**own, **generalization, **row, **used[t]} for row in attacked.rows[t]]
        metadata = {**provenance, **{key: str(value) for key, value in own.items()}}
        tables = {
            "scores": attacking.scores_table(attacked, targets, t),
            "roc": attacking.points_table(attacked.points[t], own),
            "metrics": pa.Table.from_pylist(rows),
        }
        for part, table in tables.items():
            path = places[f"{run_name(seed, split)}.{part}.parquet"]
            artifacts.write_parquet(table, path, metadata)
    pooled = pa.Table.from_pylist([{**group, **row} for row in attacked.pooled])
    metadata = {**provenance, **group}
    artifacts.write_parquet(pooled, snakemake.output.group, metadata)
    curves = attacking.points_table(attacked.curves, group)
    artifacts.write_parquet(curves, snakemake.output.curves, metadata)
