"""Running the real Snakefile in a folder of its own, and listing what it would run."""

import copy
import os
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 900
UNLIMITED = resource.RLIM_INFINITY

# Small enough to train in seconds, and overfitted: 200 samples, 100 to train on.
STUDY: dict[str, Any] = {
    "study": "small",
    "dataset": {"source": "digits", "per_class": 20},
    "splits": {"count": 8},
    "protocols": {"fixed_split": {"split": 0, "seeds": [0, 1]}},
    "model": {"widths": [8, 16], "blocks": [1, 1]},
    "training": {
        "epochs": 16,
        "checkpoints": [0, 16],
        "evaluate_every": 16,
        "batch_size": 16,
        "weight_decay": 0.0,
    },
    "augmentations": {"crop": {"padding": 1}},
    "techniques": {"none": {}, "crop": {"augmentations": ["crop"]}},
    "compute": {"device": "cpu", "precision": "float32"},
    "attacks": {
        "lira_online": {"method": "lira", "online": True, "variance": "per_example"},
        "lira_online_fixed": {"method": "lira", "online": True, "variance": "fixed"},
        "lira_offline_fixed": {"method": "lira", "online": False, "variance": "fixed"},
        "loss_threshold": {"method": "threshold", "statistic": "loss", "scope": "global"},
    },
    "metrics": {"headline_attack": "lira_online_fixed", "bootstrap": 100},
    "figures": {"formats": ["png"]},
}

# One technique, two attacks: what an interruption needs and no more.
SMALLEST: dict[str, Any] = {
    **STUDY,
    "study": "smallest",
    "splits": {"count": 8},
    "protocols": {},
    "training": {**STUDY["training"], "epochs": 12, "checkpoints": [6, 12]},
    "techniques": {"crop": {"augmentations": ["crop"]}},
    "attacks": {key: STUDY["attacks"][key] for key in ("lira_online_fixed", "loss_threshold")},
    "extraction": {"queries": ["identity"]},
    "compute": {**STUDY["compute"], "models_per_job": 16},
}


def changed(config: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of a config with the value at a path of keys (``a/b/c``) set."""
    found = copy.deepcopy(dict(config))
    *parents, last = path.split("/")
    section = found
    for key in parents:
        section = section.setdefault(key, {})
    section[last] = value
    return found


@dataclass(frozen=True)
class Job:
    """A job that Snakemake would run."""

    rule: str
    wildcards: Mapping[str, str]
    outputs: tuple[str, ...]

    @property
    def stage(self) -> str:
        """The stage: a rule's name without the name of its block of models."""
        return re.sub(r"_seed\d.*", "", self.rule)


@dataclass(frozen=True)
class Plan:
    """The jobs of a dry run, without the target rules, which do nothing."""

    jobs: list[Job]

    @property
    def counts(self) -> dict[str, int]:
        """Jobs of each stage."""
        return dict(Counter(job.stage for job in self.jobs))

    @property
    def stages(self) -> set[str]:
        return set(self.counts)

    def of(self, stage: str) -> list[Job]:
        return [job for job in self.jobs if job.stage == stage]

    def techniques(self, stage: str) -> set[str]:
        return {job.wildcards["technique"] for job in self.of(stage)}

    def runs(self, stage: str) -> set[str]:
        """Names (``seed0-split3``) of the models that jobs of a stage write."""
        names = (re.search(r"seed\d+-split\d+", o) for job in self.of(stage) for o in job.outputs)
        return {name[0] for name in names if name}


def parse_plan(listing: str) -> Plan:
    """Read the jobs in the output of ``snakemake -n``."""
    jobs = []
    for block in re.split(r"\n(?=(?:local)?rule \w+:\n|\[)", listing):
        head = re.match(r"(?:local)?rule (\w+):\n", block)
        if head is None or head[1] in ("all", "models", "scores"):
            continue
        entries = dict(re.findall(r"^    (\w+): (.*)$", block, re.MULTILINE))
        pairs = re.findall(r"(\w+)=([^,]*)", entries.get("wildcards", ""))
        jobs.append(Job(head[1], dict(pairs), tuple(entries.get("output", "").split(", "))))
    return Plan(jobs)


@dataclass
class Sandbox:
    """A working directory with the results of studies, and the workflow that makes them."""

    folder: Path
    repository: Path = ROOT
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, config: Mapping[str, Any] | str, *arguments: str) -> list[str]:
        """Return the command line; a config that is a mapping is written to a file."""
        path = self.folder / "config.yaml"
        text = config if isinstance(config, str) else yaml.safe_dump(dict(config), sort_keys=False)
        path.write_text(text, encoding="utf-8")
        base = [sys.executable, "-m", "snakemake", "--cores", "2", "-d", str(self.folder)]
        # Options that take many values come first, so that none swallows a target.
        return [*base, "--configfile", str(path), "--", *arguments]

    def start(
        self, config: Mapping[str, Any] | str, *arguments: str, file_size: int = UNLIMITED
    ) -> subprocess.Popen[str]:
        """Start the workflow in a process group of its own, output to one pipe.

        Args:
            config: the study.
            arguments: targets.
            file_size: bytes beyond which no file can grow, as if the disk were full.
        """
        limits = (file_size, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        return subprocess.Popen(
            self.command(config, *arguments),
            cwd=self.repository,
            env=self._environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
        )

    def run(
        self,
        config: Mapping[str, Any] | str,
        *targets: str,
        check: bool = True,
        file_size: int = UNLIMITED,
    ) -> subprocess.CompletedProcess[str]:
        """Run the workflow; ``stdout`` holds all output."""
        process = self.start(config, *targets, file_size=file_size)
        output, _ = process.communicate(timeout=TIMEOUT)
        assert not check or process.returncode == 0, output[-6000:]
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def plan(self, config: Mapping[str, Any], *targets: str) -> Plan:
        """Return the jobs that a run would start."""
        command = self.command(config, *targets)
        command.insert(command.index("--cores"), "--dry-run")
        done = subprocess.run(
            command,
            cwd=self.repository,
            env=self._environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        return parse_plan(done.stdout)

    def results(self, config: Mapping[str, Any]) -> Path:
        """Return the folder of a study's results."""
        return self.folder / "results" / config["study"]

    def copy(self, folder: Path) -> "Sandbox":
        """Return a sandbox with a copy of everything: results and Snakemake's records."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Sandbox(folder, self.repository, dict(self.environment))

    def _environment(self) -> dict[str, str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith(("SNAKEMAKE", "PYTEST"))}
        return {**own, **self.environment}


def copy_workflow(folder: Path) -> Path:
    """Copy what a run reads of the repository; return the copy's root."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "workflow", folder / "workflow", ignore=ignored)
    shutil.copytree(ROOT / "envs", folder / "envs")
    for name in ("Snakefile", "config.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "profiles").symlink_to("workflow/profiles")
    return folder


def contents(folder: Path, pattern: str) -> dict[str, bytes]:
    """Return the bytes of files below a folder, by their path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob(pattern)}


def stamps(folder: Path, pattern: str) -> dict[str, tuple[int, int]]:
    """Return time of change and size of files below a folder, by their path."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.glob(pattern)
    }


def leftovers(folder: Path) -> list[str]:
    """Return temporary files and saved states that a finished study must not have."""
    found = [p for p in folder.rglob("*") if p.name.endswith(".tmp") or "state" in p.parts]
    return sorted(str(path.relative_to(folder)) for path in found)


def errors(output: str) -> set[str]:
    """Return the different lines of an output that report an error of a job or of ours."""
    lines = (line.strip() for line in output.splitlines())
    found = (re.sub(r"^\[ *[\d.]+ s\] ", "", line) for line in lines)
    return {line for line in found if line.startswith("error:")}
