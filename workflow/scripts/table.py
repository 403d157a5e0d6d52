"""Make one table in every format."""

from typing import TYPE_CHECKING

from miagap import artifacts, job, tables
from miagap.presentation import load_results

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    source, output = snakemake.input, snakemake.output
    results = load_results(
        source.metrics,
        source.roc,
        source.pooled,
        snakemake.params.settings,
        source.get("vulnerability"),
    )
    name = snakemake.wildcards.table
    table = tables.build(name, results)
    artifacts.write_text(tables.to_csv(table), output.csv)
    artifacts.write_text(tables.to_markdown(table), output.markdown)
    artifacts.write_text(tables.to_latex(table, name), output.latex)
    artifacts.write_text(tables.to_html(table), output.html)
    log(f"{name}: {len(table.frame)} rows")
