import os
import stat

import numpy as np
import pyarrow as pa
import pytest

from miagap import artifacts, seeds
from miagap.errors import InputError


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = tmp_path / "a.txt"
    artifacts.write_text("old", target)
    with pytest.raises(ValueError, match="boom"), artifacts.write_atomic(target) as temporary:
        temporary.write_text("half")
        raise ValueError("boom")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_parquet_round_trip_carries_metadata(tmp_path):
    path = tmp_path / "t.parquet"
    artifacts.write_parquet(pa.table({"x": [1, 2]}), path, {"study": "s", "digest": "d"})
    assert artifacts.read_parquet(path)["x"].to_pylist() == [1, 2]
    assert artifacts.read_metadata(path) == {"study": "s", "digest": "d"}


def test_truncated_files_are_named(tmp_path):
    path = tmp_path / "t.parquet"
    artifacts.write_parquet(pa.table({"x": list(range(1000))}), path, {})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"t\.parquet: not a whole Parquet file"):
        artifacts.read_parquet(path)
    tensors = tmp_path / "t.safetensors"
    artifacts.write_tensors({"x": np.arange(1000)}, tensors, {})
    tensors.write_bytes(tensors.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"t\.safetensors: not a whole safetensors file"):
        artifacts.read_tensors(tensors)


def test_missing_files_and_columns_are_named(tmp_path):
    with pytest.raises(InputError, match="file not found"):
        artifacts.read_parquet(tmp_path / "no.parquet")
    path = tmp_path / "t.parquet"
    artifacts.write_parquet(pa.table({"x": [1]}), path, {})
    with pytest.raises(InputError, match="column missing: y"):
        artifacts.read_parquet(path, ["x", "y"])


def test_tensor_round_trip_keeps_values_of_non_contiguous_arrays(tmp_path):
    array = np.arange(12.0).reshape(3, 4).T
    artifacts.write_tensors({"a": array}, tmp_path / "t.safetensors", {"k": "v"})
    arrays, metadata = artifacts.read_tensors(tmp_path / "t.safetensors")
    np.testing.assert_array_equal(arrays["a"], array)
    assert metadata == {"k": "v"}


def test_files_are_as_readable_as_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        artifacts.write_tensors({"a": np.arange(3)}, tmp_path / "t.safetensors", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "t.safetensors").stat().st_mode) == 0o640


def test_seeds_depend_on_every_part_of_the_key_and_nothing_else():
    keys = [("train", "crop", 0, 1), ("train", "crop", 1, 0), ("train", "crop", "0", 1)]
    values = {seeds.derive_int(7, *key) for key in keys} | {seeds.derive_int(8, *keys[0])}
    assert len(values) == 4
    assert seeds.derive_int(7, *keys[0]) == seeds.derive_int(7, *keys[0])
    assert all(0 <= value < 2**63 for value in values)
