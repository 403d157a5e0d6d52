"""Draw the most and the least exposed images."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, job
from miagap.figures import images, style
from miagap.pool import read_pool

if TYPE_CHECKING:
    from snakemake.script import snakemake

with job.logged(snakemake.log[0]) as log:
    source, params = snakemake.input, snakemake.params
    settings = json.loads(params.settings)
    own = {key: value for key, value in json.loads(params.style).items() if key != "formats"}
    pool = read_pool(source.pool)
    looks = style.Style(**own)
    figure = images.vulnerable(
        artifacts.read_parquet(source.vulnerability).to_pandas(),
        settings["techniques"],
        pool.images,
        pool.labels,
        pool.class_names,
        settings["metrics"]["headline_attack"],
        settings["metrics"]["headline_fpr"],
        looks,
    )
    for path in snakemake.output:
        style.write(figure, path, Path(path).suffix[1:], looks)
    log(f"{len(snakemake.output)} files")
