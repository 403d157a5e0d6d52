import subprocess
import sys

import numpy as np
import pyarrow as pa

from miagap.columns import column, lists, matrix
from miagap.training import history


def test_columns_are_those_of_pyarrow():
    for values in (
        np.arange(11, dtype=np.int16),
        np.array([0.5, np.nan, np.inf]),
        np.array([True, False, True] * 5),
        np.array([], dtype=np.float64),
    ):
        assert column(values).equals(pa.array(values)) or np.isnan(values).any()
        assert column(values).type == pa.array(values).type
    assert np.isnan(column(np.array([np.nan]))[0].as_py())


def test_missing_entries_are_null():
    values, missing = np.array([1.0, 2.0, 3.0]), np.array([False, True, False])
    assert column(values, missing).to_pylist() == [1.0, None, 3.0]
    assert column(values, missing).null_count == 1


def test_lists_hold_the_rows():
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert lists(values).to_pylist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    assert lists(values[:, ::-1]).to_pylist() == [[1.0, 0.0], [3.0, 2.0], [5.0, 4.0]]
    parts = pa.chunked_array([lists(values)[:1], lists(values)[1:]])
    np.testing.assert_array_equal(matrix(parts), values)


def test_history_table():
    rows = [
        {"epoch": 1, "learning_rate": 0.1, "train_loss": None, "images_per_second": 10.0},
        {"epoch": 2, "learning_rate": 0.2, "train_loss": 0.5},
    ]
    table = history.to_table(rows)
    assert table.schema == history.SCHEMA
    assert table.equals(pa.Table.from_pylist(rows, schema=history.SCHEMA))
    assert history.to_table([]).num_rows == 0


def test_no_pandas_and_no_compiler_is_imported():
    """Start-up is most of a small job."""
    code = """
import sys
import numpy as np
from miagap import fleet, workbench
from miagap.device_pool import place
from miagap.extraction import extract
from miagap.models import ModelSettings, build_model
from miagap.numerics import ComputeSettings, configure, resolve
from miagap.queries import Query
from miagap.training import Task, TrainingSettings, train
numerics = resolve(ComputeSettings(device="cpu"))
configure(numerics)
pool = place(np.zeros((8, 8, 8, 1), np.uint8), np.arange(8) % 2, 2, numerics)
member = np.arange(8) < 4
settings = TrainingSettings(epochs=1, checkpoints=(1,), batch_size=4)
model = ModelSettings(widths=(4,), blocks=(1,))
task = Task(pool, member, np.zeros(8, bool), None, model, settings, numerics, 0)
train(task, lambda name, weights: None, log=lambda line: None)
extract(build_model(model, 2, 1, 8, 0), pool, member, [Query()])
wasted = {"pandas", "scipy", "sklearn", "sympy", "torchvision", "torch._dynamo", "torch._inductor"}
sys.exit(" ".join(sorted(wasted & set(sys.modules))) or 0)
"""
    environment = {"PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
