"""Make the report of a finished study, if it is older than what it shows, and say where all is.

python workflow/make_report.py [--configfile FILE] [--directory FOLDER]
"""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

SHOWN = {
    "main tables": ("tables", ("*.md", "metrics.parquet", "generalization.parquet")),
    "figures": ("figures", ("*.svg",)),
}
FORMATS = ("html", "zip")


def is_current(report: Path, folder: Path) -> bool:
    """Tell whether a report is newer than every table and figure of its study."""
    if not report.is_file():
        return False
    made = report.stat().st_mtime
    shown = [path for name in ("tables", "figures") for path in (folder / name).glob("*")]
    return all(path.stat().st_mtime <= made for path in shown)


def make(report: Path, configfile: str, directory: str) -> None:
    """Let Snakemake write a report; end with its messages if it cannot."""
    command = [sys.executable, "-m", "snakemake", "--configfile", configfile]
    command += ["--directory", directory, "--report", str(report.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise SystemExit(done.returncode)


def main() -> None:
    """Make both formats where needed and print the paths of the study's outputs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--configfile", default="config.yaml")
    parser.add_argument("--directory", default=".")
    arguments = parser.parse_args()
    config = yaml.safe_load(Path(arguments.configfile).read_text(encoding="utf-8")) or {}
    base = Path(arguments.directory) / config.get("results", "results")
    folder = base / str(config.get("study", "digits"))
    for kind in FORMATS:
        report = folder / f"report.{kind}"
        if is_current(report, folder):
            print(f"{report} is up to date")
        else:
            print(f"Making {report}")
            make(report, arguments.configfile, arguments.directory)
    print(f"\nreport\n  {folder / 'report.html'} (one file, opens offline; report.zip: the same)")
    for title, (name, patterns) in SHOWN.items():
        print(title)
        for pattern in patterns:
            for path in sorted((folder / name).glob(pattern)):
                print(f"  {path}")


if __name__ == "__main__":
    main()
