import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from miagap import artifacts, datasets, seeds
from miagap.datasets import DatasetSettings, Pool
from miagap.datasets.images import resize_images
from miagap.errors import InputError


def make_npz(path, per_class=6, size=4, classes=3):
    """Images whose first pixel is the sample's number and whose second is its label."""
    labels = np.tile(np.arange(classes), per_class)
    images = np.zeros((labels.size, size, size), np.uint8)
    images[:, 0, 0] = np.arange(labels.size)
    images[:, 0, 1] = labels
    np.savez(path, images=images, labels=labels, class_names=["ant", "bee", "cow"][:classes])
    return str(path)


@pytest.fixture
def npz(tmp_path):
    return DatasetSettings(source="npz", path=make_npz(tmp_path / "animals.npz"))


def small_pool(**changes):
    images = np.arange(4 * 2 * 2, dtype=np.uint8).reshape(4, 2, 2, 1)
    pool = Pool(images, np.array([0, 1, 0, 1]), ("a", "b"), "small")
    return dataclasses.replace(pool, **changes)


def test_digits_are_the_default_and_need_no_file():
    pool = datasets.load_pool(DatasetSettings(), 0)
    assert pool.images.shape == (1797, 8, 8, 1)
    assert pool.images.dtype == np.uint8
    assert pool.labels.dtype == np.int64
    assert (pool.images.min(), pool.images.max()) == (0, 255)
    # The first digit's first row in scikit-learn: 0 0 5 13 9 1 0 0, of 16.
    assert pool.images[0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert pool.class_names == tuple("0123456789")
    summary = datasets.check_pool(pool)
    assert summary.n == 1797
    assert summary.warnings == ()


def test_classes_are_numbered_in_the_order_given(npz):
    pool = datasets.load_pool(dataclasses.replace(npz, classes=["cow", 0]), 0)
    assert pool.class_names == ("cow", "ant")
    np.testing.assert_array_equal(pool.labels, np.where(pool.images[:, 0, 1, 0] == 2, 0, 1))
    assert (np.diff(pool.images[:, 0, 0, 0].astype(int)) > 0).all()
    assert pool.labels.size == 12


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["cow", "aunt"], "no class 'aunt' in .*animals.npz; did you mean 'ant'"),
        (["cow", "zzz"], "no class 'zzz' in .*; its classes are ant, "),
        ([0, 3], "no class 3 in .*expected 0 to 2"),
        (["cow"], "at least two classes"),
        (["cow", 2], "each of them once"),
    ],
)
def test_classes_that_are_not_there_are_refused(npz, classes, message):
    with pytest.raises(InputError, match=rf"`dataset\.classes`.*{message}"):
        datasets.load_pool(dataclasses.replace(npz, classes=classes), 0)


def test_per_class_draws_by_the_study_seed_and_a_smaller_number_a_subset(npz):
    def drawn(count, seed):
        pool = datasets.load_pool(dataclasses.replace(npz, per_class=count), seed)
        assert np.bincount(pool.labels).tolist() == [count] * 3
        return pool.images[:, 0, 0, 0].tolist()

    assert drawn(3, 0) == drawn(3, 0) == sorted(drawn(3, 0))
    assert drawn(3, 0) != drawn(3, 1)
    assert set(drawn(2, 0)) < set(drawn(3, 0))
    assert len(drawn(6, 0)) == 18
    with pytest.raises(InputError, match=r"`dataset\.per_class` is 7, but class ant has 6"):
        drawn(7, 0)


def test_shuffled_labels_keep_class_sizes_and_images(npz):
    plain = datasets.load_pool(npz, 5)
    control = datasets.load_pool(dataclasses.replace(npz, shuffle_labels=True), 5)
    np.testing.assert_array_equal(control.images, plain.images)
    np.testing.assert_array_equal(np.sort(control.labels), np.sort(plain.labels))
    expected = seeds.generator(5, "dataset", "shuffle_labels").permutation(plain.labels)
    np.testing.assert_array_equal(control.labels, expected)
    assert (control.labels != plain.labels).any()


def test_resizing_averages_rather_than_drops_pixels(npz):
    pool = datasets.load_pool(dataclasses.replace(npz, size=2), 0)
    assert pool.images.shape == (18, 2, 2, 1)
    stripes = np.zeros((1, 32, 32, 3), np.uint8)
    stripes[:, :, ::2] = 200
    shrunk = resize_images(stripes, 8)
    assert shrunk.shape == (1, 8, 8, 3)
    assert np.abs(shrunk[:, :, 1:-1].astype(int) - 100).max() <= 15


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    size=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    value=st.integers(0, 255),
)
@settings(max_examples=30, deadline=None)
def test_resizing_keeps_a_flat_image_flat(height, width, size, channels, value):
    images = np.full((2, height, width, channels), value, np.uint8)
    resized = resize_images(images, size)
    np.testing.assert_array_equal(resized, np.full((2, size, size, channels), value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "mnist"}, "`dataset.source` is 'mnist', expected one of digits, cifar10"),
        ({"size": 0}, "`dataset.size` is 0, expected 1 or more"),
        ({"per_class": -1}, "`dataset.per_class` is -1, expected 1 or more"),
        ({"path": None}, "`dataset.path` is missing: dataset.source npz needs a path"),
        ({"path": "no/such.npz"}, "no/such.npz: no such file or folder; correct `dataset.path`"),
    ],
)
def test_wrong_settings_are_refused(npz, change, message):
    with pytest.raises(InputError) as caught:
        datasets.load_pool(dataclasses.replace(npz, **change), 0)
    assert message in str(caught.value)


def test_a_pool_survives_its_file(tmp_path):
    path = tmp_path / "pool.safetensors"
    pool = small_pool(class_names=("a", "ä, 日"))
    datasets.write_pool(pool, path, {"study": "s"})
    again = datasets.read_pool(path)
    np.testing.assert_array_equal(again.images, pool.images)
    np.testing.assert_array_equal(again.labels, pool.labels)
    assert (again.images.dtype, again.labels.dtype) == (np.uint8, np.int64)
    assert (again.class_names, again.dataset) == (pool.class_names, "small")
    _, metadata = artifacts.read_tensors(path, [])
    assert metadata["study"] == "s"
    assert metadata["checksum"] == datasets.checksum(again)


def test_another_file_is_not_taken_for_a_pool(tmp_path):
    path = tmp_path / "other.safetensors"
    artifacts.write_tensors({"images": np.zeros(3)}, path, {"dataset": "x"})
    with pytest.raises(InputError, match=r"other\.safetensors: not a pool, labels, class_names"):
        datasets.read_pool(path)


def test_the_checksum_sees_images_labels_and_shape():
    pool = small_pool()
    others = [
        small_pool(labels=np.array([0, 1, 1, 0])),
        small_pool(images=pool.images.reshape(4, 4, 1, 1)),
        small_pool(images=pool.images + np.uint8(1)),
    ]
    assert len({datasets.checksum(other) for other in [pool, *others]}) == 4
    fortran = small_pool(images=np.asfortranarray(pool.images))
    assert datasets.checksum(fortran) == datasets.checksum(pool)


def test_a_summary_counts_classes_and_duplicates():
    images = np.zeros((25, 2, 2, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(25)
    images[[3, 4]] = images[0]
    labels = np.zeros(25, np.int64)
    labels[[4, 7]] = 1
    summary = datasets.check_pool(Pool(images, labels, ("many", "few"), "d"))
    assert summary.class_counts == (23, 2)
    assert (summary.n, summary.shape, summary.dataset) == (25, (2, 2, 3), "d")
    assert (summary.duplicates, summary.conflicts) == (2, 1)
    balance, repeats = summary.warnings
    assert "many has 23 samples, few has 2" in balance
    assert "2 of 25 images repeat an earlier image" in repeats


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 2, 2, 1))}, "images are float64"),
        ({"images": np.zeros((4, 2, 2), np.uint8)}, "expected uint8 (n, height, width, 1 or 3)"),
        ({"images": np.zeros((4, 2, 2, 2), np.uint8)}, "images are uint8 (4, 2, 2, 2)"),
        ({"labels": np.array([0, 1, 0])}, "labels are int64 (3,), expected int64 (4,)"),
        ({"labels": np.array([0, 1, 0, 1], np.int32)}, "labels are int32"),
        ({"labels": np.array([0, 1, 2, 1])}, "sample 2 has the label 2, expected 0 to 1"),
        ({"labels": np.array([0, -1, 0, 1])}, "sample 1 has the label -1"),
        ({"class_names": ("a", "b", "c")}, "no sample of class c; list the classes to keep"),
        ({"class_names": ("a", "a")}, "a class name occurs twice"),
        ({"class_names": ("a",), "labels": np.zeros(4, np.int64)}, "1 class, expected at least 2"),
    ],
)
def test_a_pool_that_cannot_be_trained_on_is_refused(change, message):
    with pytest.raises(InputError) as caught:
        datasets.check_pool(small_pool(**change))
    assert str(caught.value).startswith("dataset small: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
