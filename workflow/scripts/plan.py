"""Print what the study will cost, and what it took so far."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from miagap import artifacts, plan
from miagap.attacks.registry import ATTACKS
from miagap.costs import Costs, pool_shape
from miagap.study import Study
from miagap.throughput import study_device

if TYPE_CHECKING:
    from snakemake.script import snakemake

params = snakemake.params
study = Study(json.loads(params.values), ATTACKS)
shape = pool_shape(study.values["dataset"], Path(study.folder) / "dataset/summary.json")
name, device = study_device(params.device, study.values["plan"]["images_per_second"])
costs = Costs(study, shape, device)
files = plan.existing_files(Path(study.folder))
stages = plan.plan_stages(plan.study_jobs(costs), files)
kept = study.values["extraction"]["keep_models"]
text = plan.describe(costs, name, stages, params.at_once, kept)
artifacts.write_text(text, snakemake.log[0])
print(f"\n{text}\n")
