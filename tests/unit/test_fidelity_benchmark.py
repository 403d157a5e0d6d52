"""The benchmark that runs public code beside ours, with a stand-in for the public code."""

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fidelity.py"
STAND_IN = """
import a_package_that_is_not_there

def clipDataTopX(dataToClip, top=3):
    return np.sort(dataToClip, axis=1)[:, ::-1][:, :top] {change}

main()
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the script in this process: its libraries take longer to load than it runs."""

    def table(code=None):
        if code is not None:
            (tmp_path / "mlLeaks.py").write_text(code)
        monkeypatch.syspath_prepend(SCRIPT.parent)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--ml-leaks", str(tmp_path)])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return table


def test_a_function_is_taken_from_a_script_that_cannot_run(run):
    row = "| `salem_1`, input | mlLeaks.py `clipDataTopX`, 3 | identical |"
    assert row in run(STAND_IN.format(change=""))


def test_a_difference_is_shown(run):
    assert "largest difference 5.0e-01" in run(STAND_IN.format(change="+ 0.5"))


def test_a_missing_file_is_named(run):
    with pytest.raises(SystemExit, match=r"mlLeaks\.py: no such file"):
        run()
