"""CIFAR, Fashion-MNIST and NPZ: images that are arrays already."""

import gzip
import pickle
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torchvision

from miagap import datasets
from miagap.datasets import DatasetSettings
from miagap.datasets.fashion_mnist import read_idx
from miagap.errors import InputError


def load(source, path, **options):
    path = None if path is None else str(path)
    return datasets.load_pool(DatasetSettings(source=source, path=path, **options), 0)


def refused(source, path, **options):
    with pytest.raises(InputError) as caught:
        load(source, path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def python2_batch(data, labels, key):
    """The bytes that Python 2 wrote for {"data": data, key: labels}, as CIFAR's files hold."""

    def text(value):
        return b"T" + struct.pack("<i", len(value)) + value

    rows = struct.pack("<B", len(data))
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
    dtype += b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01(K" + rows + b"M\x00\x0ct" + dtype + b"\x89" + text(data.tobytes()) + b"tb"
    numbers = b"(" + b"".join(b"K" + struct.pack("<B", label) for label in labels) + b"l"
    entries = text(b"data") + array + state + text(key) + numbers
    return b"\x80\x02}(" + entries + b"u."


def write_cifar(root, hundred=False, rows=4):
    folder = root / ("cifar-100-python" if hundred else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    files = (
        ["train", "test"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    )
    classes = 100 if hundred else 10
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (len(files), rows, 3072)).astype(np.uint8)
    labels = rng.integers(0, classes, (len(files), rows))
    labels.flat[:classes] = np.arange(labels.size)[:classes] % classes
    for file, images, own in zip(files, data, labels, strict=True):
        key = b"fine_labels" if hundred else b"labels"
        (folder / file).write_bytes(python2_batch(images, own.tolist(), key))
    names = [f"name{label}" for label in range(classes)]
    meta = {"fine_label_names": names} if hundred else {"label_names": names}
    (folder / ("meta" if hundred else "batches.meta")).write_bytes(pickle.dumps(meta, protocol=2))
    images = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return folder, images, labels.ravel()


@pytest.mark.parametrize("hundred", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_cifar_is_read_from_torchvisions_folder(tmp_path, hundred, inside):
    folder, images, labels = write_cifar(tmp_path, hundred, rows=60)
    source = "cifar100" if hundred else "cifar10"
    pool = load(source, folder if inside else tmp_path)
    np.testing.assert_array_equal(pool.images, images)
    np.testing.assert_array_equal(pool.labels, labels)
    assert pool.class_names[:2] == ("name0", "name1")
    assert pool.dataset == source
    datasets.check_pool(pool)


def test_cifar_batches_read_as_pickle_would_read_them(tmp_path):
    folder, images, _ = write_cifar(tmp_path)
    with (folder / "test_batch").open("rb") as handle:
        content = pickle.load(handle, encoding="latin1")
    assert content["data"].dtype == np.uint8
    np.testing.assert_array_equal(
        content["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), images[-4:]
    )


class Attack:
    def __reduce__(self):
        return (print, ("run",))


def test_a_pickle_that_runs_a_program_is_refused(tmp_path, capsys):
    folder, _, _ = write_cifar(tmp_path)
    (folder / "data_batch_2").write_bytes(pickle.dumps({"data": Attack(), "labels": []}))
    message = refused("cifar10", tmp_path)
    assert "data_batch_2: not a whole CIFAR file (it asks for builtins.print)" in message
    assert capsys.readouterr().out == ""


def cifar_batch(images=2, width=3072, labels=(0, 1), key="labels"):
    return pickle.dumps({"data": np.zeros((images, width), np.uint8), key: list(labels)})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a whole CIFAR file"),
        (cifar_batch()[:-100], "not a whole CIFAR file"),
        (pickle.dumps([1]), "holds no dictionary"),
        (cifar_batch(key="fine_labels"), "no entry 'labels', it has data, fine_labels"),
        (cifar_batch(width=3071), "data are uint8 (2, 3071), expected uint8 (n, 3072)"),
        (cifar_batch(labels=[0]), "1 labels of type int64 for 2 images"),
        (cifar_batch(labels=[0, 10]), "row 1 (from 0) has the label 10, expected 0 to 9"),
    ],
)
def test_bad_cifar_files_are_named(tmp_path, content, message):
    folder, _, _ = write_cifar(tmp_path)
    (folder / "data_batch_3").write_bytes(content)
    found = refused("cifar10", tmp_path)
    assert str(folder / "data_batch_3") in found
    assert message in found


def test_missing_cifar_files_are_named(tmp_path, monkeypatch):
    folder, _, _ = write_cifar(tmp_path)
    (folder / "test_batch").unlink()
    message = refused("cifar10", tmp_path)
    assert f"{folder}: test_batch missing; copy it there or set `dataset.download`: true" in message
    parquet = tmp_path / "other"
    parquet.mkdir()
    (parquet / "train.parquet").write_bytes(b"")
    message = refused("cifar10", parquet)
    assert "no CIFAR10 data in this folder" in message
    assert "it holds Parquet files, which `dataset.source`: parquet reads" in message
    monkeypatch.chdir(tmp_path)
    assert "data: no CIFAR10 data in this folder" in refused("cifar10", None)


def test_download_asks_torchvision_only_when_needed(tmp_path, monkeypatch):
    calls = []

    def fetch(root, train, download):
        calls.append((root, train, download))
        if train:
            write_cifar(tmp_path)

    monkeypatch.setattr(torchvision, "datasets", SimpleNamespace(CIFAR10=fetch))
    assert load("cifar10", tmp_path, download=True).labels.size == 24
    assert calls == [(str(tmp_path), True, True), (str(tmp_path), False, True)]
    load("cifar10", tmp_path, download=True)
    assert len(calls) == 2


def test_a_failed_download_says_what_to_do(tmp_path, monkeypatch):
    def fail(root, train, download):
        raise OSError("no route\nto host")

    monkeypatch.setattr(torchvision, "datasets", SimpleNamespace(CIFAR10=fail))
    message = refused("cifar10", tmp_path, download=True)
    assert "CIFAR10 cannot be downloaded (no route); put the data there yourself" in message


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write_fashion(folder, zipped=False):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for part, rows in (("train", 12), ("t10k", 5)):
        images = rng.integers(0, 256, (rows, 28, 28)).astype(np.uint8)
        labels = (np.arange(rows) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{part}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("inside", ["FashionMNIST/raw", "."])
def test_fashion_mnist_is_what_torchvision_reads(tmp_path, zipped, inside):
    write_fashion(tmp_path / "FashionMNIST" / "raw")
    if zipped:
        write_fashion(tmp_path / "zipped" / inside, zipped=True)
    pool = load("fashion_mnist", tmp_path / "zipped" if zipped else tmp_path)
    parts = [torchvision.datasets.FashionMNIST(tmp_path, train=train) for train in (True, False)]
    expected = np.concatenate([part.data.numpy() for part in parts])[..., np.newaxis]
    np.testing.assert_array_equal(pool.images, expected)
    labels = np.concatenate([part.targets.numpy() for part in parts])
    np.testing.assert_array_equal(pool.labels, labels)
    assert list(pool.class_names) == parts[0].classes


def test_debians_fashion_mnist_is_found_when_no_path_is_given(tmp_path, monkeypatch):
    write_fashion(tmp_path / "debian", zipped=True)
    monkeypatch.setattr("miagap.datasets.fashion_mnist.DEBIAN", tmp_path / "debian")
    monkeypatch.chdir(tmp_path)
    assert load("fashion_mnist", None).labels.size == 17
    assert "no FashionMNIST data" in refused("fashion_mnist", tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-images-idx3-ubyte", idx(np.zeros((2, 9), np.uint8))[:-5], "25 bytes, expected 30"),
        ("train-images-idx3-ubyte", b"", "not an idx file"),
        ("train-images-idx3-ubyte", b"\x00\x00\x0d\x01" + bytes(4), "not an idx file of bytes"),
        ("train-labels-idx1-ubyte", idx(np.zeros(3, np.uint8)), "(12, 28, 28) images with (3,)"),
        ("t10k-labels-idx1-ubyte", idx(np.full(5, 10, np.uint8)), "a label is 10, expected 0 to 9"),
        ("t10k-labels-idx1-ubyte", b"\x00\x00\x08\x02\x00", "not an idx file"),
    ],
)  # fmt: skip
def test_bad_idx_files_are_named(tmp_path, name, content, message):
    write_fashion(tmp_path / "raw")
    (tmp_path / "raw" / name).write_bytes(content)
    found = refused("fashion_mnist", tmp_path)
    assert name.split("-")[0] in found
    assert message in found


def test_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "x.gz"
    whole = gzip.compress(idx(np.arange(100, dtype=np.uint8)))
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_idx(path), np.arange(100))
    for damaged in (whole[:-10], whole[:5], b"plain text", whole[:-8] + b"\x00" * 8):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"x\.gz: (cannot be read|not an idx)"):
            read_idx(path)


def images_of(*first, channels=None, dtype=np.uint8):
    shape = (len(first), 4, 4) if channels is None else (len(first), 4, 4, channels)
    images = np.zeros(shape, dtype)
    images.reshape(len(first), -1)[:, 0] = first
    return images


@pytest.mark.parametrize("keys", ["{}_images {}_labels", "x_{} y_{}"])
def test_npz_parts_are_pooled_train_first(tmp_path, keys):
    path = tmp_path / "a.npz"
    arrays = {}
    for part, first in (("test", [5, 6]), ("val", [3, 4]), ("train", [1, 2])):
        images, labels = keys.format(part, part).split()
        arrays |= {images: images_of(*first, channels=3), labels: np.array([[0], [1]])}
    np.savez_compressed(path, unrelated=np.array([{}], object), **arrays)
    pool = load("npz", path)
    assert pool.images[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert pool.labels.tolist() == [0, 1] * 3
    assert (pool.class_names, pool.dataset) == (("0", "1"), "a")


GOOD = {"images": images_of(1, 2), "labels": np.array([0, 1])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.full((2, 4, 4), np.nan)}, "images are float64 with NaN or infinity"),
        ({"images": np.zeros((2, 4, 4))}, "images are float64, expected uint8; scale them"),
        ({"images": np.zeros((2, 4, 4), np.int64)}, "images are int64, expected uint8"),
        ({"images": np.zeros((2, 16), np.uint8)}, "(2, 16), expected (n, height, width)"),
        ({"images": np.zeros((2, 3, 4, 4), np.uint8)}, "move the channels to the end"),
        ({"images": np.zeros((3, 4, 4), np.uint8)}, "3 images but 2 labels"),
        ({"labels": np.array([0.0, 1.0])}, "labels are float64, expected integers"),
        ({"labels": np.eye(2, dtype=int)}, "labels have the shape (2, 2), expected (n,)"),
        ({"labels": np.array([0, -1])}, "labels[1] is -1, expected 0 or more"),
        ({"labels": np.array([0, 7])}, "sample 1 has the label 7 among 2 samples"),
        ({"labels": np.array([0, 1], object)}, "array labels holds Python objects"),
        ({"class_names": np.array(["a"])}, "label 1 at sample 1, but class_names has 1 entries"),
        ({"class_names": np.array([1, 2])}, "class_names are int64 (2,), expected text"),
        ({"labels": None}, "expected both images and labels; labels is missing"),
        ({"images": None, "labels": None, "a": [1]}, "arrays images and labels; it has a"),
        ({"x_test": images_of(1), "y_test": np.array([0])}, "both images and x_test are there"),
        ({"images": np.zeros((0, 4, 4), np.uint8), "labels": np.array([], int)}, "no samples"),
    ],
)
def test_bad_npz_arrays_are_named(tmp_path, change, message):
    path = tmp_path / "bad.npz"
    arrays = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    np.savez(path, **arrays)
    found = refused("npz", path)
    assert found.startswith(f"{path}: ")
    assert message in found


def test_npz_parts_of_different_shape_are_refused(tmp_path):
    path = tmp_path / "bad.npz"
    parts = {"x_train": images_of(1, 2), "y_train": [0, 1], "y_test": [0, 1]}
    np.savez(path, x_test=images_of(1, 2, channels=3), **parts)
    assert "x_test have the shape (4, 4, 3), x_train (4, 4, 1)" in refused("npz", path)


def test_damaged_npz_files_are_named(tmp_path):
    path = tmp_path / "bad.npz"
    np.savez(path, **GOOD)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 255
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    for content in (whole[:-40], bytes(damaged), b"", b"some text", single.read_bytes()):
        path.write_bytes(content)
        assert "bad.npz: not a whole .npz file" in refused("npz", path)
    assert "a folder; point `dataset.path` to the .npz file" in refused("npz", tmp_path)
