"""Running studies through the Slurm profile, and comparing what they made."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from miagap import artifacts

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "workflow/profiles/slurm"
TIMEOUT = 600.0

# Two techniques, both protocols, everything up to the figures.
SMALL: dict[str, Any] = {
    "study": "small",
    "dataset": {"source": "digits", "per_class": 20},
    "splits": {"count": 8},
    "protocols": {"fixed_split": {"split": 0, "seeds": [1]}},
    "model": {"widths": [8], "blocks": [1]},
    "training": {"epochs": 4, "checkpoints": [4], "evaluate_every": 4},
    "augmentations": {"crop": {"padding": 1}},
    "techniques": {"none": {}, "crop": {"augmentations": ["crop"]}},
    "attacks": {
        "lira": {"method": "lira", "variance": "fixed"},
        "loss": {"method": "threshold"},
    },
    "metrics": {"headline_attack": "lira", "bootstrap": 100},
    "calibration_models": 1,
    "figures": {"formats": ["png"]},
}

# Six models, one per job, of a network that takes its trouble from a file.
TROUBLED: dict[str, Any] = {
    **SMALL,
    "study": "troubled",
    "splits": {"count": 6},
    "protocols": {},
    "model": {"name": "trouble:build"},
    "techniques": {"none": {}},
    "attacks": {"loss": {"method": "threshold"}},
    "metrics": {"headline_attack": "loss", "bootstrap": 100},
    "compute": {"device": "cpu", "models_per_job": 1},
}


@dataclass(frozen=True)
class Folder:
    """A working directory with the results of studies."""

    path: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def end(self) -> None:
        """Kill the runs that a failed test has left."""
        for process in self.processes:
            process.kill()
            process.wait()

    def start(
        self,
        config: Mapping[str, Any],
        target: str,
        *options: str,
        profile: Path | None = PROFILE,
        trouble: str = "",
    ) -> subprocess.Popen[str]:
        """Start a study; its output goes to the file ``output.txt``.

        Args:
            config: the study.
            target: a rule, or ``metrics`` for the tidy tables without figures.
            options: of Snakemake.
            profile: None runs on this machine.
            trouble: words for ``trouble.py``.
        """
        shutil.copyfile(Path(__file__).parent / "trouble.py", self.path / "trouble.py")
        (self.path / "trouble.txt").write_text(trouble)
        configfile = self.path / "config.yaml"
        configfile.write_text(yaml.safe_dump(dict(config), sort_keys=False))
        results = f"results/{config['study']}"
        place = f"{results}/tables/metrics.parquet" if target == "metrics" else target
        # What the profile says, but for the waits: a test looks every second.
        quick = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5")
        slurm = ("--profile", str(profile), *quick) if profile else ("--cores", "2")
        command = [sys.executable, "-m", "snakemake", "-d", str(self.path), *slurm, *options]
        command += ["--configfile", str(configfile), "--", place]
        own = {k: v for k, v in os.environ.items() if not k.startswith(("SNAKEMAKE", "PYTEST"))}
        with (self.path / "output.txt").open("a") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=own, text=True, stdout=output, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Wait for the end of a run that succeeds; return all output."""
        code = process.wait(TIMEOUT)
        assert code == 0, self.output[-6000:]
        return self.output

    def run(self, config: Mapping[str, Any], target: str, *options: str, **more: Any) -> str:
        """Run a study to its end; return the output."""
        return self.finish(self.start(config, target, *options, **more))

    @property
    def output(self) -> str:
        return (self.path / "output.txt").read_text()

    def trouble(self, number: int, word: str) -> dict[str, str]:
        """Wait until a word of trouble has come true; return which job it was."""
        note = self.path / "trouble" / f"{number}-{word}.json"
        wait_for(lambda: note.exists() and note.stat().st_size > 0, f"trouble {word}")
        return dict(json.loads(note.read_text()))

    @property
    def calls(self) -> int:
        """How often the network was made: once to train it, once to ask it."""
        return len(list((self.path / "trouble").glob("call-*")))

    def logs(self, study: str, stage: str) -> str:
        """Return the logs of all jobs of a stage."""
        folder = self.path / "results" / study / "logs" / stage
        return "".join(path.read_text() for path in sorted(folder.rglob("*.log")))

    def slurm_logs(self) -> str:
        """Return what Slurm kept of its jobs' output."""
        logs = (self.path / ".snakemake/slurm_logs").rglob("*.log")
        return "".join(path.read_text() for path in sorted(logs))


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


def slurm(*command: str) -> str:
    """Run a Slurm command; return its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def no_jobs_left() -> bool:
    """Tell whether no job waits or runs."""
    return not slurm("squeue", "-h", "-t", "PENDING,RUNNING,COMPLETING", "-o", "%i").strip()


def contents(folder: Folder, study: str) -> dict[str, Any]:
    """Return what a study's artifacts hold, by path: bytes of tensors, values of tables.

    Timings are left out, the one thing that differs between two runs.
    """
    root = folder.path / "results" / study
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix == ".safetensors":
            arrays, metadata = artifacts.read_tensors(path)
            found[name] = ({key: array.tobytes() for key, array in arrays.items()}, metadata)
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            kept = [column for column in table.column_names if column != "images_per_second"]
            # As text: a value that is missing (nan) equals itself.
            found[name] = (repr(table.select(kept).to_pydict()), table.schema.metadata)
    return found
