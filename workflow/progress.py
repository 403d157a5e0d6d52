"""Show how far a study is: models done, rate, time left, failures; from any shell, while it runs.

python workflow/progress.py [--configfile FILE] [--directory FOLDER] [--watch SECONDS]
"""

import argparse
import os
import sys
import time
from pathlib import Path

from miagap import config, plan, progress
from miagap.attacks.registry import ATTACKS
from miagap.costs import Costs, pool_shape
from miagap.study import Study
from miagap.throughput import study_device


def study_of(configfile: str) -> Study:
    """Return the study of a config; end with one line for each thing wrong with it."""
    resolved = config.load(configfile, ATTACKS)
    if resolved.errors:
        raise SystemExit("\n".join(resolved.errors))
    study = Study(resolved.values, ATTACKS)
    if study.imported:
        raise SystemExit(f"{configfile}: nothing is trained; Snakemake's own counts say it all")
    return study


def main() -> None:
    """Print the progress, once or again and again until the study is not running any more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--directory", default=".", help="where Snakemake runs (its -d)")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="again every so often")
    arguments = parser.parse_args()
    study = study_of(arguments.configfile)
    os.chdir(arguments.directory)
    shape = pool_shape(study.values["dataset"], Path(study.folder) / "dataset/summary.json")
    named, rate = study.values["plan"]["device"], study.values["plan"]["images_per_second"]
    _, device = study_device(named or study.values["compute"]["device"], rate)
    jobs = plan.study_jobs(Costs(study, shape, device))
    while True:
        found = progress.measure(jobs, Path(study.folder), Path(".snakemake/log"), time.time())
        print(progress.describe(study.name, found), flush=True)
        if arguments.watch is None or found.running is False:
            break
        print()
        time.sleep(max(1.0, arguments.watch))


if __name__ == "__main__":
    sys.exit(main())
