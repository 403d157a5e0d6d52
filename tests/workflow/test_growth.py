"""A study that grows keeps the models that it has, run for real."""

from pathlib import Path

import pytest
from study_runs import SMALLEST, Sandbox, changed, contents, leftovers, stamps

# With the tests of interruptions: they share a finished study.
pytestmark = pytest.mark.xdist_group("interrupted")

TABLE = "results/smallest/tables/metrics.parquet"
MODELS = "models/**/*.safetensors"
LOGITS = "logits/**/*.parquet"


def test_grown_splits_leave_old_models_untouched(tmp_path: Path, uninterrupted: Sandbox) -> None:
    sandbox = uninterrupted.copy(tmp_path)
    results = sandbox.results(SMALLEST)
    times, logits = stamps(results, MODELS), stamps(results, LOGITS)
    grown = changed(changed(SMALLEST, "splits/count", 10), "compute/models_per_job", 8)

    sandbox.run(grown, "models")

    assert stamps(results, MODELS).items() > times.items()
    assert stamps(results, LOGITS).items() > logits.items()
    assert len(stamps(results, MODELS)) == len(times) / 8 * 10


def test_one_job_with_old_and_new_models_trains_the_new(
    tmp_path: Path, uninterrupted: Sandbox
) -> None:
    """Snakemake deletes, and afterwards touches, all files of a job: here 8 models and 2."""
    sandbox = uninterrupted.copy(tmp_path)
    results = sandbox.results(SMALLEST)
    before = contents(results, MODELS)
    grown = changed(SMALLEST, "splits/count", 10)

    sandbox.run(grown, TABLE)

    assert contents(results, MODELS).items() > before.items()
    said = "".join(path.read_text() for path in results.glob("logs/train/crop/*0to9.log"))
    assert said.count("found finished") == 8
    assert said.count("training on") == 2
    assert leftovers(results) == []
    assert sandbox.plan(grown, TABLE).jobs == []


def test_changed_training_does_not_take_old_models_for_new(
    tmp_path: Path, uninterrupted: Sandbox
) -> None:
    sandbox = uninterrupted.copy(tmp_path)
    results = sandbox.results(SMALLEST)
    before = contents(results, MODELS)
    (results / "models/crop/seed0-split0/checkpoint-6.safetensors").unlink()
    sandbox.run(changed(SMALLEST, "training/learning_rate", 0.05), "models")

    after = contents(results, MODELS)
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)
    assert leftovers(results) == []
