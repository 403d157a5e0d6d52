"""Time and memory of Snakemake itself on studies of 1,000, 5,000 and 10,000 tuples.

    python benchmarks/dag.py                       # dry run, plan, and a run with nothing to do
    python benchmarks/dag.py --tuples 10000

Studies are made up: ten techniques, 64 splits, as many checkpoints as the number of tuples
asks for. For the run with nothing to do every output is created as a small file and recorded
by ``snakemake --touch``. Times are of the whole process: CPU seconds beside the wall clock,
since other work on a machine only ever lengthens the latter. Prints a Markdown table.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
SPLITS, TECHNIQUES = 64, 10
# The one output that Snakefile reads back: how large the pool is.
SUMMARY = json.dumps({"n": 1797, "shape": [8, 8, 1], "class_names": [str(k) for k in range(10)]})


@dataclass(frozen=True)
class Measured:
    """One process: wall-clock and CPU seconds, peak memory in MB."""

    wall: float
    cpu: float
    memory_mb: float


def study(tuples: int) -> dict[str, object]:
    """Return a config with about this many tuples."""
    checkpoints = max(1, round(tuples / (SPLITS * TECHNIQUES)))
    return {
        "study": f"scale{tuples}",
        "dataset": {"source": "digits"},
        "splits": {"count": SPLITS},
        "model": {"name": "resnet18"},
        "training": {"epochs": 50, "checkpoints": list(range(51 - checkpoints, 51))},
        "attackers": "same",
        "compute": {"device": "cpu", "models_per_job": 4},
    }


def measure(folder: Path, config: Path, *arguments: str) -> Measured:
    """Run Snakemake; return what it took."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-d", str(folder)]
    command += ["--configfile", str(config), "--quiet", "all", *arguments]
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{output[-3000:]}")
    return Measured(time.perf_counter() - started, used.ru_utime + used.ru_stime, _peak(used))


def _peak(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1024


def create_outputs(folder: Path, config: Path) -> int:
    """Create every file that the study makes, as Snakemake lists them; return how many."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-d", str(folder)]
    command += ["--configfile", str(config), "--summary"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [line.split("\t")[0] for line in listed.stdout.splitlines()[1:] if "\t" in line]
    for parent in {(folder / path).parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        (folder / path).write_text(SUMMARY if path.endswith("summary.json") else "x")
    return len(paths)


def report(tuples: int) -> list[str]:
    """Measure one size of study; return its rows."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = folder / "study.yaml"
        config.write_text(yaml.safe_dump(study(tuples)))
        measured = {
            "dry run": measure(folder, config, "--dry-run"),
            "plan": measure(folder, config, "--", "plan"),
        }
        files = create_outputs(folder, config)
        measured["touch every output"] = measure(folder, config, "--touch")
        measured["run with nothing to do"] = measure(folder, config)
    size = f"| {tuples:,} | {files:,} "
    return [
        f"{size}| {what} | {one.wall:.1f} | {one.cpu:.1f} | {one.memory_mb:.0f} |"
        for what, one in measured.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuples", type=int, nargs="+", default=[1_000, 5_000, 10_000])
    print("| tuples | files | what | wall s | CPU s | peak MB |")
    print("| --- | --- | --- | --- | --- | --- |")
    for tuples in parser.parse_args().tuples:
        print("\n".join(report(tuples)), flush=True)


if __name__ == "__main__":
    main()
