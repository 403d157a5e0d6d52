"""Which library modules a stage's digest covers: an edit of any of them reruns the stage."""

from pathlib import Path

import pytest

from miagap.digest import code_digest, library_modules

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
# Modules of these packages belong to one stage, whose edits must not rerun the others.
OWNERS = {
    "attacks": {"attack", "plan"},
    "augment": {"train"},
    "claims.py": {"figure", "figure_images", "table"},
    "config": set(),
    "costs.py": {"plan"},
    "datasets": {"dataset"},
    "figures": {"figure", "figure_images"},
    "imports": {"import", "membership", "plan"},
    "measurements": {"measure"},
    "metrics.py": {
        "attack",
        "collect",
        "figure",
        "figure_images",
        "table",
        "vulnerability",
    },
    "study.py": {"plan"},
    "training": {"train"},
}


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_a_stage_depends_on_no_other_stage(script):
    parts = {module.split("/")[0] for module in library_modules(script)}
    owned = {part for part in parts if part in OWNERS}
    assert owned == {part for part, stages in OWNERS.items() if script.stem in stages}


@pytest.mark.parametrize("stage", ["shadow", "imported_pool", "measure"])
def test_an_edit_of_an_attack_reruns_no_stage_before_the_attacks(stage):
    modules = library_modules(SCRIPTS / f"{stage}.py")
    assert "attacks/lira.py" in library_modules(SCRIPTS / "attack.py")
    assert not any(module.startswith("attacks/") for module in modules)
    assert "errors.py" in modules


def test_comments_and_docstrings_do_not_count_and_code_does(tmp_path):
    digests = []
    for number, text in enumerate(["x = 1", '"""Says more."""\n\nx = 1  # one', "x = 2"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "stage.py").write_text(text)
        digests.append(code_digest(folder / "stage.py"))
    assert digests[0] == digests[1] != digests[2]
