import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miagap import artifacts, splits
from miagap.errors import InputError

sizes = st.integers(10, 400)
pairs = st.integers(1, 6)
split_seeds = st.integers(0, 2**32)
shares = st.sampled_from([0.0, 0.1, 0.25, 0.5])


@given(n=sizes, pair_count=pairs, seed=split_seeds, share=shares)
@settings(max_examples=60, deadline=None)
def test_each_pair_divides_what_is_not_reserve(n, pair_count, seed, share):
    member, reserve = splits.membership(n, 2 * pair_count, seed, share)
    assert member.shape == (2 * pair_count, n)
    assert member.dtype == reserve.dtype == np.bool_
    assert reserve.sum() == round(share * n)
    for even, odd in zip(member[::2], member[1::2], strict=True):
        np.testing.assert_array_equal(even.astype(int) + odd, ~reserve)
        assert 0 <= odd.sum() - even.sum() <= 1
    np.testing.assert_array_equal(member.sum(axis=0), pair_count * ~reserve)


@given(n=sizes, pair_count=pairs, more=pairs, seed=split_seeds, share=shares)
@settings(max_examples=40, deadline=None)
def test_growing_keeps_the_splits_bit_for_bit(n, pair_count, more, seed, share):
    few, reserve = splits.membership(n, 2 * pair_count, seed, share)
    many, same_reserve = splits.membership(n, 2 * (pair_count + more), seed, share)
    np.testing.assert_array_equal(many[: 2 * pair_count], few)
    np.testing.assert_array_equal(same_reserve, reserve)


def test_growing_from_8_to_16_keeps_the_first_8():
    few, _ = splits.membership(1797, 8, 0, 0.1)
    many, _ = splits.membership(1797, 16, 0, 0.1)
    np.testing.assert_array_equal(many[:8], few)
    assert len({row.tobytes() for row in many}) == 16


@given(n=sizes, split=st.integers(0, 11), seed=split_seeds, share=shares)
@settings(max_examples=40, deadline=None)
def test_one_split_alone_is_the_same_as_among_all(n, split, seed, share):
    member, _ = splits.membership(n, 12, seed, share)
    np.testing.assert_array_equal(splits.split_members(n, split, seed, share), member[split])


def test_samples_meet_in_a_split_as_often_as_independent_halves_say():
    member, reserve = splits.membership(200, 400, 3, 0.0)
    together = member[::2].astype(float).T @ member[::2] / 200
    off_diagonal = together[~np.eye(200, dtype=bool)]
    # Two given samples share a half of 100 of 200 with probability 0.5 * 99 / 199.
    assert off_diagonal.mean() == pytest.approx(0.5 * 99 / 199, abs=1e-12)
    assert off_diagonal.std() == pytest.approx(np.sqrt(0.249 * 0.751 / 200), rel=0.1)
    assert not reserve.any()


def test_the_split_seed_changes_reserve_and_splits():
    one, reserve = splits.membership(500, 2, 0, 0.2)
    other, other_reserve = splits.membership(500, 2, 1, 0.2)
    assert (one != other).any()
    assert (reserve != other_reserve).any()


def test_splits_are_the_same_under_any_numpy():
    member, reserve = splits.membership(12, 4, 0, 0.25)
    assert ["".join("01"[bit] for bit in row.astype(int)) for row in [*member, reserve]] == [
        "000101010100",
        "101000001011",
        "001000001110",
        "100101010001",
        "010010100000",
    ]


@pytest.mark.parametrize("count", [-2, 0, 1, 7])
def test_a_count_that_is_not_even_is_refused(count):
    with pytest.raises(InputError, match=rf"`splits\.count` is {count}, expected an even number"):
        splits.membership(100, count, 0, 0.0)


@pytest.mark.parametrize(
    ("n", "share", "message"),
    [
        (100, 1.0, "below 1"),
        (100, -0.1, "0 or more"),
        (100, float("nan"), "0 or more"),
        (100, 0.99, "1 of 100 samples remain"),
        (100, 0.001, "less than one of 100 samples"),
    ],
)
def test_a_reserve_that_cannot_be_is_refused(n, share, message):
    with pytest.raises(InputError, match=rf"`splits\.reserve` is .*{message}"):
        splits.membership(n, 2, 0, share)


def test_membership_survives_its_file(tmp_path):
    path = tmp_path / "membership.parquet"
    member, reserve = splits.membership(101, 4, 0, 0.1)
    splits.write_membership(path, member, reserve, {"study": "s"})
    table = artifacts.read_parquet(path)
    assert table.column_names == ["sample_id", "reserve", "split0", "split1", "split2", "split3"]
    assert table.schema.field("sample_id").type == pa.int32()
    assert artifacts.read_metadata(path) == {"study": "s"}
    again, reserve_again = splits.read_membership(path)
    np.testing.assert_array_equal(again, member)
    np.testing.assert_array_equal(reserve_again, reserve)
    some, _ = splits.read_membership(path, [3, 0])
    np.testing.assert_array_equal(some, member[[3, 0]])
    with pytest.raises(InputError, match="column missing: split4"):
        splits.read_membership(path, [4])


def test_another_table_is_not_taken_for_a_membership(tmp_path):
    path = tmp_path / "other.parquet"
    artifacts.write_parquet(pa.table({"sample_id": [0, 1], "score": [1.0, 2.0]}), path, {})
    with pytest.raises(InputError, match=r"other\.parquet: not a table of splits"):
        splits.read_membership(path)
    shuffled = pa.table({"sample_id": [1, 0], "reserve": [False] * 2, "split0": [True, False]})
    artifacts.write_parquet(shuffled, path, {})
    with pytest.raises(InputError, match="does not count from 0"):
        splits.read_membership(path)


def test_a_split_below_zero_is_refused():
    with pytest.raises(InputError, match="split -1 does not exist"):
        splits.split_members(10, -1, 0, 0.0)
