"""Check that config files can be read: ``python -m miagap.config my-study.yaml``.

Snakemake reads them before any code of ours, and of a file that it cannot read it names neither
the file nor the line. What the keys say is checked when the workflow starts.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from miagap.config.files import duplicate_keys, read_yaml
from miagap.errors import InputError


def unreadable(paths: Sequence[str]) -> list[str]:
    """Return one line for each thing that keeps the files from being read."""
    found = []
    for path in paths:
        try:
            if not read_yaml(Path(path)):
                found.append(f"{path}: empty; write at least one key, such as study: NAME")
            found += duplicate_keys(path)
        except InputError as error:
            found.append(str(error))
    return found


if __name__ == "__main__":
    lines = unreadable(sys.argv[1:])
    for line in lines:
        print(line, file=sys.stderr)
    raise SystemExit(bool(lines))
