import itertools
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from miagap import collect, generalization, metrics
from miagap.artifacts import read_parquet, write_parquet
from miagap.errors import InputError

# fmt: off
DESIGN_COLUMNS = [
    "study", "dataset", "technique", "attacker_technique", "seed", "split", "checkpoint",
    "protocol", "attack", "n_members", "n_nonmembers", "auc", "balanced_accuracy", "precision",
    "recall", "tpr_at_fpr_0.1", "tpr_at_fpr_0.01", "tpr_at_fpr_0.001", "tpr_at_fpr_0.0001",
    "tpr_at_fpr_0.1_lo", "tpr_at_fpr_0.1_hi", "tpr_at_fpr_0.01_lo", "tpr_at_fpr_0.01_hi",
    "tpr_at_fpr_0.001_lo", "tpr_at_fpr_0.001_hi", "tpr_at_fpr_0.0001_lo",
    "tpr_at_fpr_0.0001_hi", "train_accuracy", "test_accuracy", "accuracy_gap", "train_loss",
    "test_loss", "loss_gap",
]
# fmt: on

MEMBER = np.arange(200) < 100


def identity(technique, checkpoint, split, study="s"):
    return {
        "study": study,
        "dataset": "digits",
        "technique": technique,
        "seed": 0,
        "split": split,
        "checkpoint": checkpoint,
    }


def write_tuple(folder, technique, checkpoint, split, study="s"):
    """Write one tuple's metrics (two attacks, one without a threshold) and generalization."""
    rng = np.random.default_rng(split)
    name = f"{technique}-{checkpoint}-{split}"
    known = identity(technique, checkpoint, split, study)
    rows = [
        known
        | {"attacker_technique": technique, "protocol": "leave-one-out", "attack": attack}
        | metrics.evaluate(rng.normal(size=200) + MEMBER, MEMBER, threshold=threshold)
        for attack, threshold in (("lira", 0.3), ("quantile", None))
    ]
    write_parquet(pa.Table.from_pylist(rows), folder / f"{name}.metrics.parquet", {"study": study})
    logits = rng.normal(size=(200, 3)).astype(np.float32)
    row = generalization.from_logits(logits, rng.integers(0, 3, 200), MEMBER)
    write_parquet(
        pa.Table.from_pylist([known | row]), folder / f"{name}.generalization.parquet", {}
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    for parts in itertools.product(["none", "crop"], ["best", "60", "6", "0"], [1, 0]):
        write_tuple(folder, *parts)
    return folder


@pytest.fixture
def study(written, tmp_path):
    """Files of a study that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "study"))


def files(folder, kind="metrics"):
    return sorted(folder.glob(f"*.{kind}.parquet"))


def test_columns_come_in_the_documented_order(study):
    gaps = collect.build_generalization_table(files(study, "generalization"))
    table = collect.build_metrics_table(files(study), gaps)
    assert table.column_names[: len(DESIGN_COLUMNS)] == DESIGN_COLUMNS
    assert "tpr_at_fpr_0.001_resolved" in table.column_names
    assert table.num_rows == 2 * 4 * 2 * 2
    assert gaps.num_rows == 16


def test_rows_are_sorted_whatever_the_order_of_files(study):
    gaps = collect.build_generalization_table(files(study, "generalization"))
    table = collect.build_metrics_table(files(study), gaps)
    again = collect.build_metrics_table(files(study)[::-1], gaps)
    pd.testing.assert_frame_equal(table.to_pandas(), again.to_pandas())
    rows = table.select(["technique", "checkpoint", "split", "attack"]).to_pylist()
    checkpoints = list(dict.fromkeys(row["checkpoint"] for row in rows))
    assert rows[0]["technique"] == "crop" and rows[-1]["technique"] == "none"
    assert set(checkpoints) == {"0", "6", "60", "best"}
    first = [row["checkpoint"] for row in rows if row["split"] == 0 and row["attack"] == "lira"]
    assert first == ["0", "6", "60", "best"] * 2


def test_each_row_gets_the_gap_of_its_own_tuple(study):
    gaps = collect.build_generalization_table(files(study, "generalization"))
    table = collect.build_metrics_table(files(study), gaps).to_pandas()
    known = gaps.to_pandas().set_index(["technique", "seed", "split", "checkpoint"])
    for row in table.itertuples():
        expected = known.loc[(row.technique, row.seed, row.split, row.checkpoint)]
        assert row.loss_gap == expected["loss_gap"]
        assert row.accuracy_gap == expected["accuracy_gap"]


def test_generalization_comes_out_of_the_metrics_table_again(study):
    gaps = collect.build_generalization_table(files(study, "generalization"))
    table = collect.build_metrics_table(files(study), gaps)
    again = collect.generalization_of(table)
    assert again.num_rows == 16 and "epoch" not in again.column_names
    pd.testing.assert_frame_equal(again.to_pandas(), gaps.select(again.column_names).to_pandas())
    numbers = np.arange(float(table.num_rows))
    place = table.column_names.index("loss_gap")
    torn = table.set_column(place, "loss_gap", pa.array(numbers))
    with pytest.raises(InputError, match="occur more than once"):
        collect.generalization_of(torn)


def test_columns_that_some_files_lack_become_null(study):
    path = files(study)[0]
    table = read_parquet(path)
    write_parquet(table.append_column("extra", pa.array([1.0, 2.0])), path, {})
    found = collect.read_tables(files(study))
    assert found["extra"].null_count == found.num_rows - 2


def test_missing_and_truncated_files_are_named(study):
    path = files(study)[3]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=path.name):
        collect.read_tables(files(study))
    with pytest.raises(InputError, match=r"absent\.parquet: file not found"):
        collect.read_tables([files(study)[0], study / "absent.parquet"])
    with pytest.raises(InputError, match="no files"):
        collect.read_tables([])


def test_type_that_disagrees_is_named(study):
    path = files(study)[5]
    table = read_parquet(path)
    place = table.column_names.index("auc")
    write_parquet(table.set_column(place, "auc", pa.array(["high", "low"])), path, {})
    with pytest.raises(InputError, match=f"{path.name}: columns disagree"):
        collect.read_tables(files(study))


def test_another_study_is_refused(study):
    write_tuple(study, "none", "7", 0, study="other")
    with pytest.raises(InputError, match=r"several values of study \(other, s\)"):
        collect.build_generalization_table(files(study, "generalization"))


def test_rows_that_occur_twice_are_refused(study):
    with pytest.raises(InputError, match=r"2 rows occur more than once.*technique crop"):
        collect.build_metrics_table([*files(study), files(study)[0]])


def test_tuple_without_generalization_is_named(study):
    gaps = collect.build_generalization_table(files(study, "generalization")[1:])
    lost = "technique crop, seed 0, split 0, checkpoint 0"
    with pytest.raises(InputError, match=lost):
        collect.build_metrics_table(files(study), gaps)


def test_missing_columns_are_named(study):
    with pytest.raises(InputError, match="train_accuracy"):
        collect.build_metrics_table(files(study))
    with pytest.raises(InputError, match="missing in all files: colour"):
        collect.build_table(files(study), ["technique", "colour"])


def test_other_tables_keep_the_order_of_rows_within_a_file(tmp_path):
    for technique in ("none", "all"):
        curve = pa.table({"fpr": [0.1, 0.01, 1.0], "technique": [technique] * 3})
        write_parquet(curve, tmp_path / f"{technique}.roc.parquet", {})
    table = collect.build_table(sorted(tmp_path.iterdir())[::-1], ["technique"])
    assert table.column_names == ["technique", "fpr"]
    assert table["technique"].to_pylist() == ["all"] * 3 + ["none"] * 3
    assert table["fpr"].to_pylist() == [0.1, 0.01, 1.0] * 2
