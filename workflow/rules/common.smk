"""The study that the config describes, checked; names of files; digests of code; messages."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(workflow.basedir)
LIBRARY = str(ROOT / "workflow")
SCRIPTS = ROOT / "workflow/scripts"
sys.path.insert(0, LIBRARY)
# Scripts run in processes of their own and import the library from here.
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([LIBRARY, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)

from miagap import config as configs
from miagap import job as jobs
from miagap import study as studies
from miagap.attacks.registry import ATTACKS
from miagap.digest import code_digest


def checked_config() -> dict:
    """Return the config with its defaults, or end with one line for each thing wrong with it."""
    files = [os.path.relpath(path) for path in workflow.configfiles]
    resolved = configs.resolve(config, known_attacks=ATTACKS, label=files[-1])
    errors = [line for path in files for line in configs.duplicate_keys(path)] + resolved.errors
    if workflow.is_main_process:
        for line in [f"warning: {text}" for text in resolved.warnings] + errors:
            print(line, file=sys.stderr)
    if errors:
        raise SystemExit(1)
    return resolved.values


STUDY = studies.Study(checked_config(), ATTACKS)
RESULTS = STUDY.folder
CODE = {path.stem: code_digest(path) for path in SCRIPTS.glob("*.py")}
ENVIRONMENT = "../../envs/cpu.yaml"

MODEL = RESULTS + "/models/{technique}/{run}/checkpoint-{checkpoint}.safetensors"
HISTORY = RESULTS + "/models/{technique}/{run}/history.parquet"
LOGIT = RESULTS + "/logits/{technique}/checkpoint-{checkpoint}/{run}.parquet"
POOL = RESULTS + "/shadow/{technique}/checkpoint-{checkpoint}.safetensors"
ATTACKED = RESULTS + "/attacks/{technique}/attacker-{attacker}/checkpoint-{checkpoint}"
LOG = RESULTS + "/logs"
BENCHMARK = RESULTS + "/benchmarks"


wildcard_constraints:
    technique="|".join(map(re.escape, STUDY.techniques)),
    attacker="|".join(map(re.escape, STUDY.techniques)),
    checkpoint=r"\d+|best",
    run=r"seed\d+-split\d+",


def run_names(runs) -> list[str]:
    """Return the file name stems of (seed, split) pairs."""
    return [studies.run_name(seed, split) for seed, split in runs]


def block_files(pattern: str, block: studies.Block) -> list[str]:
    """Return a block's files, one for each run and checkpoint, for any technique."""
    names = {"run": block.run_names, "checkpoint": block.checkpoints}
    return expand(pattern, **names, allow_missing=True)


def take_study_lock() -> None:
    """Refuse to run beside another run of the same study.

    The kernel frees this lock when the process dies, so a killed run needs no unlocking.
    """
    if jobs.hold(Path(RESULTS) / ".lock") is None:
        print(
            f"error: {RESULTS}: another run of this study is at work; wait for it, or give "
            "this one another name (config key `study`)",
            file=sys.stderr,
        )
        raise SystemExit(1)


def show_outputs() -> None:
    """Print where the report's parts are."""
    print(f"\nStudy {STUDY.name} is complete:")
    for label, pattern in [("tables", "tables/*.md"), ("figures", "figures/*.png")]:
        for path in sorted(Path(RESULTS).glob(pattern)):
            print(f"  {label:8} {path}")
