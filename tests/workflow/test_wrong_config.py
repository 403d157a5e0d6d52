"""A wrong config ends the command at once: one line for each thing wrong, no traceback."""

from pathlib import Path

from study_runs import STUDY, Sandbox, changed, errors


def test_all_errors_at_once(tmp_path: Path) -> None:
    config = changed(STUDY, "splits/count", 7)
    config = changed(config, "training/epochs", "many")
    config = changed(config, "training/learning_rat", 0.1)
    config = changed(config, "techniques/none", {"augmentations": ["corp"]})
    config = changed(config, "metrics/headline_attack", "lira_onlin")
    done = Sandbox(tmp_path).run(config, check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    for text in (
        "splits.count",
        "training.epochs",
        "learning_rat",
        "corp",
        "lira_onlin",
    ):
        assert len([line for line in done.stdout.splitlines() if text in line]) == 1, done.stdout
    assert not (tmp_path / "results").exists()


def test_a_key_twice_is_an_error(tmp_path: Path) -> None:
    done = Sandbox(tmp_path).run("study: a\nseed: 1\nseed: 2\n", check=False)

    assert done.returncode != 0
    assert "seed" in done.stdout
    assert "Traceback" not in done.stdout


def test_text_that_is_no_yaml_is_an_error_of_one_line(tmp_path: Path) -> None:
    done = Sandbox(tmp_path).run("study: [a\n", check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout


def test_an_empty_dataset_folder_is_named(tmp_path: Path) -> None:
    config = changed(STUDY, "dataset", {"source": "parquet", "path": str(tmp_path / "absent")})
    done = Sandbox(tmp_path).run(config, check=False)

    assert done.returncode != 0
    lines = errors(done.stdout)
    assert len(lines) == 1, done.stdout
    assert "absent" in next(iter(lines))
    assert "Traceback" not in done.stdout
