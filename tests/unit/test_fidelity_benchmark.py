"""The benchmark that runs public code beside ours, with a stand-in for the public code."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fidelity.py"
STAND_IN = """
import a_package_that_is_not_there

def clipDataTopX(dataToClip, top=3):
    return np.sort(dataToClip, axis=1)[:, ::-1][:, :top] {change}

main()
"""


def run(folder, *, change="", missing=False):
    if not missing:
        (folder / "mlLeaks.py").write_text(STAND_IN.format(change=change))
    command = [sys.executable, str(SCRIPT), "--ml-leaks", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_function_is_taken_from_a_script_that_cannot_run(tmp_path):
    table = run(tmp_path).stdout
    assert "| `salem_1`, input | mlLeaks.py `clipDataTopX`, 3 | identical |" in table


def test_a_difference_is_shown(tmp_path):
    assert "largest difference 5.0e-01" in run(tmp_path, change="+ 0.5").stdout


def test_a_missing_file_is_named(tmp_path):
    found = run(tmp_path, missing=True)
    assert found.returncode == 1
    assert "mlLeaks.py: no such file" in found.stderr
