"""Time and memory of Snakemake itself on studies of 1,000, 5,000 and 10,000 tuples.

    python benchmarks/dag.py                       # dry run, plan, nothing to do, progress
    python benchmarks/dag.py --tuples 10000

Studies are made up: ten techniques, 64 splits, as many checkpoints as the number of tuples
asks for. For the run with nothing to do every output is created as a small file and recorded
by ``snakemake --touch`` with its params, so that every kind of change is looked for. Times are
of the whole process: CPU seconds beside the wall clock, since other work on a machine only ever
lengthens the latter. Prints a Markdown table.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
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
    return timed(command)


def timed(command: list[str]) -> Measured:
    """Run a command; return what it took."""
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


def create_outputs(folder: Path, config: Path) -> list[Path]:
    """Create every file that the study makes, as Snakemake lists them; return their paths."""
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "-d", str(folder)]
    command += ["--configfile", str(config), "--summary"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = listed.stdout.splitlines()[1:]
    paths = [folder / line.split("\t")[0] for line in lines if "\t" in line]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    for path in paths:
        path.write_text(SUMMARY if path.name == "summary.json" else "x")
    return paths


def records(folder: Path) -> list[Path]:
    """Return the files in which Snakemake has noted what made each output.

    Raises:
        SystemExit: they lack the params, so that a run would not look for changes.
    """
    found = [path for path in (folder / ".snakemake/metadata").rglob("*") if path.is_file()]
    if not found or not json.loads(found[0].read_text())["params"]:
        raise SystemExit(f"{folder}: no records to compare a run with")
    return found


def progress(folder: Path, config: Path) -> Measured:
    """Run workflow/progress.py; return what it took."""
    command = [sys.executable, str(ROOT / "workflow/progress.py"), "--configfile", str(config)]
    return timed([*command, "--directory", str(folder)])


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
        paths = create_outputs(folder, config)
        measured["touch every output"] = measure(folder, config, "--touch")
        measured["run with nothing to do"] = measure(folder, config)
        measured["workflow/progress.py"] = progress(folder, config)
        noted = records(folder)
    largest = Counter(path.parent for path in paths).most_common(1)[0][1]
    size = f"| {tuples:,} | {len(paths):,} | {largest:,} | {len(noted):,} "
    return [
        f"{size}| {what} | {one.wall:.1f} | {one.cpu:.1f} | {one.memory_mb:.0f} |"
        for what, one in measured.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuples", type=int, nargs="+", default=[1_000, 5_000, 10_000])
    print("| tuples | files | most in a folder | records | what | wall s | CPU s | peak MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for tuples in parser.parse_args().tuples:
        print("\n".join(report(tuples)), flush=True)


if __name__ == "__main__":
    main()
