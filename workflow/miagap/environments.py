"""The conda environments of envs/, written from requirements.lock.

python -m miagap.environments            # write envs/cpu.yaml and envs/cuda.yaml
python -m miagap.environments --check    # fail if they differ from the lock
"""

import argparse
import re
import sys
from pathlib import Path

from packaging.markers import Marker

from miagap.artifacts import write_text

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "3.12"
# What scripts import; Snakemake itself is not among it.
PACKAGES = (
    "jsonschema",
    "matplotlib",
    "numpy",
    "packaging",
    "pandas",
    "pillow",
    "pyarrow",
    "pyyaml",
    "safetensors",
    "scikit-learn",
    "scipy",
    "seaborn",
    "torch",
    "torchvision",
)
VARIANTS = {
    "cpu": ("on machines without a GPU", {"torch": "pytorch-cpu"}),
    "cuda": ("on machines with an NVIDIA GPU", {"torch": "pytorch-gpu"}),
}


def locked_versions(lock: str, python: str = PYTHON) -> dict[str, str]:
    """Return the version of every package in a lock file, for one Python on Linux."""
    machine = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    versions = {}
    for line in lock.splitlines():
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^ ;]+)\s*(?:;\s*(.*))?", line.strip())
        if match and (match[3] is None or Marker(match[3]).evaluate(machine)):
            versions[match[1]] = match[2]
    return versions


def environment(variant: str, versions: dict[str, str]) -> str:
    """Return one conda environment as YAML text."""
    where, names = VARIANTS[variant]
    lines = [
        f"# The jobs' environment {where}, for `snakemake --sdm conda`.",
        "# Written from requirements.lock: python -m miagap.environments",
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={PYTHON}",
        *(f"  - {names.get(name, name)}={versions[name]}" for name in PACKAGES),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    check = parser.parse_args().check
    versions = locked_versions((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    stale = []
    for variant in VARIANTS:
        path, text = ROOT / f"envs/{variant}.yaml", environment(variant, versions)
        if not check:
            write_text(text, path)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(f"{path}: differs from requirements.lock; python -m miagap.environments")
    print("\n".join(stale), file=sys.stderr, end="\n" if stale else "")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
