"""Attacks that need more than logits: measured where configured, and nothing else made again."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from study_runs import SMALLEST, Sandbox, changed, copy_workflow, stamps

from miagap import artifacts
from miagap.measured import read_signal

pytestmark = pytest.mark.xdist_group("interrupted")

ATTACKS: dict[str, dict[str, Any]] = {
    "merlin": {"method": "merlin", "repetitions": 8},
    "morgan": {"method": "morgan", "repetitions": 8, "fpr": 0.1},
    "label_shifts": {"method": "label_only_augment", "records": 200},
    "label_rotations": {"method": "label_only_augment", "views": "rotations", "model": "count"},
    "label_noise": {"method": "label_only_distance", "repetitions": 4, "levels": 2},
    "label_search": {"method": "label_only_distance", "estimate": "search", "steps": 1},
    "nasr": {"method": "nasr", "layers": 2, "records": 200},
    "distillation": {"method": "ye_distillation", "students": 4, "epochs": 1},
    "long": {"method": "long", "features": "penultimate"},
}
WITH_ACCESS: dict[str, Any] = {
    **SMALLEST,
    "protocols": {"fixed_split": {"split": 0, "seeds": [0]}},
    "attacks": {**SMALLEST["attacks"], **ATTACKS},
}
SIGNALS = {
    "merlin-8-0.01": (200,),
    "augmented-shifts-1": (200, 5),
    "augmented-rotations-1": (200, 3),
    "robustness-4-2-0.1": (200, 3),
    "boundary-1-50": (200,),
    "white_box-2": (200, 2, 6),
    "distilled-4-1": (200, 4),
    "features": (200, 16),
}
METRICS = "results/smallest/tables/metrics.parquet"


def measured(stages: set[str]) -> set[str]:
    """Return the kinds of signals among stages: measure_merlin_8_0_01 is merlin."""
    kinds = {name.split("-")[0] for name in SIGNALS}
    found = [name.removeprefix("measure_") for name in stages if name.startswith("measure_")]
    return {kind for name in found for kind in kinds if name.startswith(kind)}


@pytest.fixture(scope="module")
def with_access(uninterrupted: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A finished study without such attacks, to which they were added."""
    sandbox = uninterrupted.copy(tmp_path_factory.mktemp("access"))
    before = stamps(sandbox.results(SMALLEST), "models/**/*.*")
    before |= stamps(sandbox.results(SMALLEST), "logits/**/*.*")
    sandbox.run(WITH_ACCESS, METRICS)
    after = stamps(sandbox.results(SMALLEST), "models/**/*.*")
    after |= stamps(sandbox.results(SMALLEST), "logits/**/*.*")
    assert before == after
    return sandbox


def test_adding_them_neither_trains_nor_extracts(uninterrupted: Sandbox) -> None:
    stages = uninterrupted.plan(WITH_ACCESS, METRICS).stages

    assert measured(stages) == {name.split("-")[0] for name in SIGNALS}
    assert not {"dataset", "train", "extract"} & stages
    assert {"shadow_pool", "attack_leave_one_out", "attack_fixed_split"} <= stages


def test_a_study_without_them_measures_nothing(tmp_path: Path) -> None:
    assert not measured(Sandbox(tmp_path).plan(SMALLEST).stages)


def test_every_signal_is_written_for_every_tuple(with_access: Sandbox) -> None:
    for key, shape in SIGNALS.items():
        folder = with_access.results(SMALLEST) / "signals" / key / "crop"
        files = sorted(folder.glob("checkpoint-*/*.parquet"))
        assert len(files) == 16
        assert {read_signal(file).shape for file in files} == {shape}
        said = artifacts.read_metadata(files[0])
        assert (said["technique"], said["seed"], said["split"]) == ("crop", "0", "0")
        assert said["checkpoint"] == said["epoch"]


def test_every_attack_scores_every_target(with_access: Sandbox) -> None:
    rows = pq.read_table(with_access.folder / METRICS).to_pylist()

    for name in ATTACKS:
        own = [row for row in rows if row["attack"] == name]
        assert [row["protocol"] for row in own].count("leave-one-out") == 16
        assert [row["protocol"] for row in own].count("fixed-split") == 2
        assert all(0 <= row["auc"] <= 1 and row["threshold"] is not None for row in own)


def test_protocols_agree_on_a_target_of_both(with_access: Sandbox) -> None:
    """A model of the pool is attacked alike as a target of its own and among the others."""
    rows = pq.read_table(with_access.folder / METRICS).to_pylist()
    of = {
        (row["protocol"], row["attack"], row["checkpoint"]): row["auc"]
        for row in rows
        if row["split"] == 0
    }
    for name in ATTACKS:
        for checkpoint in ("6", "12"):
            found = of["fixed-split", name, checkpoint]
            assert found == pytest.approx(of["leave-one-out", name, checkpoint])


def test_another_strength_of_noise_measures_that_alone(with_access: Sandbox) -> None:
    louder = {"method": "merlin", "repetitions": 8, "sigma": 0.1}
    plan = with_access.plan(changed(WITH_ACCESS, "attacks/louder", louder), METRICS)

    assert measured(plan.stages) == {"merlin"}
    assert [job.outputs[0] for job in plan.of("measure_merlin_8_0_1")] != []
    assert not {"train", "extract"} & plan.stages


def test_parameters_of_the_attack_alone_measure_nothing(with_access: Sandbox) -> None:
    plan = with_access.plan(changed(WITH_ACCESS, "attacks/nasr/hidden", 8), METRICS)

    assert plan.stages == {"attack_leave_one_out", "attack_fixed_split", "collect"}


@pytest.fixture
def elsewhere(with_access: Sandbox, tmp_path: Path) -> Sandbox:
    """The study, seen by a copy of the workflow that a test may edit."""
    return Sandbox(with_access.folder, copy_workflow(tmp_path))


def test_changed_code_of_a_signal_measures_it_alone(elsewhere: Sandbox) -> None:
    path = elsewhere.repository / "workflow/miagap/measurements/boundary.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nCHANGED = True\n", encoding="utf-8")
    plan = elsewhere.plan(WITH_ACCESS, METRICS)

    assert measured(plan.stages) == {"boundary"}
    assert not {"train", "extract"} & plan.stages
