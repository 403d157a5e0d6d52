"""The conda environments hold the lock's versions, and all that jobs import."""

import ast
import sys
from pathlib import Path

import pytest
import yaml

from miagap import environments

LOCK = (environments.ROOT / "requirements.lock").read_text(encoding="utf-8")
IMPORTED_AS = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn"}


@pytest.mark.parametrize("variant", environments.VARIANTS)
def test_the_files_are_what_the_lock_says(variant):
    path = environments.ROOT / f"envs/{variant}.yaml"
    text = environments.environment(variant, environments.locked_versions(LOCK))
    assert path.read_text(encoding="utf-8") == text
    assert yaml.safe_load(text)["dependencies"][0] == f"python={environments.PYTHON}"


def test_markers_choose_the_version_of_the_python():
    lock = "a==1 ; python_full_version < '3.12'\na==2 ; python_full_version >= '3.12'\nb==3\n"
    assert environments.locked_versions(lock, "3.11") == {"a": "1", "b": "3"}
    assert environments.locked_versions(lock, "3.12") == {"a": "2", "b": "3"}


def test_everything_that_the_library_imports_is_there():
    library = Path(environments.__file__).parent
    imported = set()
    for path in library.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    outside = imported - set(sys.stdlib_module_names) - {"miagap"}
    assert {IMPORTED_AS.get(name, name) for name in outside} <= set(environments.PACKAGES)
