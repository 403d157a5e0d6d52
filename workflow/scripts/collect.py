"""Join the small files of all tuples into the study's tidy tables."""

from typing import TYPE_CHECKING

from miagap import artifacts, collect, job

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    params, source, output = snakemake.params, snakemake.input, snakemake.output
    metadata = job.provenance(params.study, "{}", params.code)
    group = ["technique", "attacker_technique", "checkpoint", "protocol", "attack"]
    metrics = collect.build_metrics_table(source.metrics)
    artifacts.write_parquet(metrics, output.metrics, metadata)
    generalization = collect.generalization_of(metrics)
    artifacts.write_parquet(generalization, output.generalization, metadata)
    pooled = collect.build_table(source.pooled, group)
    artifacts.write_parquet(pooled, output.pooled, metadata)
    curves = collect.build_table(source.curves, group)
    artifacts.write_parquet(curves, output.roc, metadata)
    log(f"{len(metrics)} rows of metrics, {len(generalization)} tuples")
