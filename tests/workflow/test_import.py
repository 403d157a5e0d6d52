"""Studies that start from other tools' logits, through the real Snakefile."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from study_runs import Sandbox

sys.path.insert(0, str(Path(__file__).parents[1]))
import foreign_models as foreign

ATTACKS = {
    "lira_online_fixed": {"method": "lira", "online": True, "variance": "fixed"},
    "rmia": {"method": "rmia"},
    "entropy": {"method": "threshold", "statistic": "modified_entropy"},
}
TABLES = ("results/mine/tables/metrics.parquet", "results/mine/tables/attack_comparison.md")


def study(section: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "study": "mine",
        "import": dict(section),
        "attacks": ATTACKS,
        "metrics": {"headline_attack": "lira_online_fixed", "bootstrap": 100},
        "figures": {"formats": ["png"]},
    }


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path)


def models(member: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return (*foreign.answers(rng, member), member)


def test_all_of_an_imported_study(sandbox: Sandbox) -> None:
    member = foreign.halves(np.random.default_rng(0), 12, 300)
    foreign.write_tf_privacy(sandbox.folder / "exp", *models(member), epochs=[10, 20])
    config = study({"format": "tf-privacy", "path": "exp", "epoch": "all"})
    sandbox.run(config)

    results = sandbox.results(config)
    metrics = pq.read_table(results / "tables/metrics.parquet").to_pandas()
    assert len(metrics) == 12 * 2 * len(ATTACKS)
    assert set(metrics["checkpoint"]) == {"10", "20"}
    assert set(metrics["shadow_selection"]) == {"equal numbers"}
    assert (metrics["n_shadows"] % 2 == 0).all()
    total = metrics["n_members"] + metrics["n_nonmembers"] + metrics["n_unscored"]
    assert (total == 300).all()
    last = metrics[metrics["checkpoint"] == "20"].groupby("attack")["auc"].mean()
    assert last["lira_online_fixed"] > 0.9 and last["rmia"] > 0.9
    generalization = pq.read_table(results / "tables/generalization.parquet").to_pandas()
    assert (generalization["accuracy_gap"] > 0).all()
    kept = pq.read_table(results / "splits/membership.parquet")
    assert all(kept[f"split{m}"].to_pylist() == member[m].tolist() for m in range(12))
    comparison = (results / "tables/attack_comparison.md").read_text(encoding="utf-8")
    assert "not complementary pairs" in comparison
    log = next((results / "logs/attack").rglob("*.log")).read_text(encoding="utf-8")
    assert "chosen without the target's membership" in log
    figures = {path.stem for path in (results / "figures").glob("*.png")}
    assert {"roc_techniques", "roc_checkpoints", "roc_attacks", "attack_comparison"} <= figures
    assert "vulnerable_images" not in figures
    exposed = pq.read_table(results / "tables/vulnerability.parquet")
    assert exposed.num_rows == 300
    assert sandbox.plan(config).jobs == []


def test_named_targets_of_lira_pytorch(sandbox: Sandbox) -> None:
    member = foreign.halves(np.random.default_rng(0), 12, 200)
    foreign.write_lira_pytorch(sandbox.folder / "exp/models", *models(member))
    section = {"format": "lira-pytorch", "path": "exp/models", "labels": "exp/labels.npy"}
    config = study({**section, "targets": ["3", "11"]})
    sandbox.run(config, *TABLES)

    metrics = pq.read_table(sandbox.results(config) / "tables/metrics.parquet").to_pandas()
    assert sorted(set(metrics["split"])) == [3, 11]
    assert set(metrics["checkpoint"]) == {"final"}
    stages = sandbox.plan(study({**section, "targets": ["3"]}), TABLES[0]).stages
    assert stages <= {"attack_leave_one_out", "collect"}


def test_complementary_pairs_are_found_out(sandbox: Sandbox) -> None:
    member = foreign.pairs(np.random.default_rng(0), 8, 200)
    foreign.write_parquet(sandbox.folder / "logits", *models(member))
    config = study({"format": "parquet", "path": "logits"})
    sandbox.run(config, *TABLES)

    metrics = pq.read_table(sandbox.results(config) / "tables/metrics.parquet").to_pandas()
    assert set(metrics["shadow_selection"]) == {"all"}
    assert set(metrics["n_shadows"]) == {6}
    comparison = (sandbox.results(config) / "tables/attack_comparison.md").read_text("utf-8")
    assert "not complementary pairs" not in comparison


def test_faults_are_told_in_one_line(sandbox: Sandbox) -> None:
    section = {"format": "tf-privacy", "path": "exp"}
    missing = sandbox.run(study(section), "--dry-run", check=False).stdout
    assert "error: import.path: folder exp not found" in missing
    assert "Traceback" not in missing

    member = foreign.halves(np.random.default_rng(0), 8, 100)
    foreign.write_tf_privacy(sandbox.folder / "exp", *models(member), epochs=[20])
    path = sandbox.folder / "exp/experiment-5/logits/0000000020.npy"
    logits = np.load(path)
    logits[7] = np.nan
    np.save(path, logits)
    broken = sandbox.run(study(section), TABLES[0], check=False).stdout
    assert "experiment-5/logits/0000000020.npy: NaN or infinity at sample 7" in broken

    asked = study(section)
    asked["attacks"] = {**ATTACKS, "merlin": {"method": "merlin"}}
    refused = sandbox.run(asked, "--dry-run", check=False).stdout
    assert "error: attacks: merlin must be measured on the models" in refused
