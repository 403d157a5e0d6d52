"""Draw one figure and write it in every format."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import figures, job
from miagap.presentation import load_results

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    source, params = snakemake.input, snakemake.params
    results = load_results(source.metrics, source.roc, source.pooled, params.settings)
    look = {key: value for key, value in json.loads(params.style).items() if key != "formats"}
    style = figures.Style(**look)
    figure = figures.draw(snakemake.wildcards.figure, results, style)
    for path in snakemake.output:
        figures.write(figure, path, Path(path).suffix[1:], style)
    log(f"{snakemake.wildcards.figure}: {len(snakemake.output)} files")
