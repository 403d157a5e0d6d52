"""Parquet files and folders: images that have to be decoded."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from miagap import datasets
from miagap.datasets import DatasetSettings
from miagap.errors import InputError


def picture(value, size=(5, 4), mode="RGB", kind="PNG"):
    """A flat image, encoded; size is (width, height)."""
    colour = (
        value
        if mode in ("L", "1", "I;16", "I")
        else (value,) * len(Image.new(mode, (1, 1)).getbands())
    )
    handle = io.BytesIO()
    Image.new(mode, size, colour).save(handle, kind)
    return handle.getvalue()


def table(values, labels, names=None, paths=None, columns=("img", "label"), metadata=None):
    encoded = [value if isinstance(value, bytes | None) else picture(value) for value in values]
    if paths is None:
        paths = [None if names is None else f"{names[lab]}/{i}.png" for i, lab in enumerate(labels)]
    images = [{"bytes": data, "path": path} for data, path in zip(encoded, paths, strict=True)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({columns[0]: pa.array(images, kind), columns[1]: labels})
    return made.replace_schema_metadata(metadata)


def hugging_face(names, column="label"):
    features = {column: {"names": names, "_type": "ClassLabel"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def load(path, source="parquet", **options):
    return datasets.load_pool(DatasetSettings(source=source, path=str(path), **options), 0)


def refused(path, source="parquet", **options):
    with pytest.raises(InputError) as caught:
        load(path, source, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_parquet_parts_are_pooled_train_first_and_by_name(tmp_path):
    names = ("plane", "car")
    for file, values in {
        "test-00000-of-00001": [50, 60],
        "train-00001-of-00002": [30, 40],
        "train-00000-of-00002": [10, 20],
        "validation-00000-of-00001": [45, 46],
    }.items():
        pq.write_table(table(values, [0, 1], names), tmp_path / f"{file}.parquet")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "old.parquet").write_bytes(b"x")
    pool = load(tmp_path)
    assert pool.images.shape == (8, 4, 5, 3)
    assert pool.images[:, 0, 0, 0].tolist() == [10, 20, 30, 40, 45, 46, 50, 60]
    assert pool.labels.tolist() == [0, 1] * 4
    assert pool.class_names == names
    assert pool.dataset == tmp_path.name


def test_only_chosen_images_are_decoded_and_rows_stay_in_order(tmp_path):
    path = tmp_path / "some.parquet"
    values = [10, b"broken", 30, 40, b"broken", 60]
    pq.write_table(table(values, [0, 1, 2, 0, 1, 2]), path, row_group_size=2)
    pool = load(path, classes=[2, 0])
    assert pool.images[:, 0, 0, 0].tolist() == [10, 30, 40, 60]
    assert pool.labels.tolist() == [1, 0, 1, 0]
    assert pool.dataset == "some"
    message = refused(path)
    assert "some.parquet: row 1 (from 0): image cannot be decoded (unknown format)" in message


def test_class_names_come_from_metadata_then_paths_then_numbers(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(table([1, 2], [0, 1], ("x", "y"), metadata=hugging_face(["a", "b"])), path)
    assert load(path).class_names == ("a", "b")
    pq.write_table(table([1, 2], [0, 1], ("x", "y")), path)
    assert load(path).class_names == ("x", "y")
    pq.write_table(table([1, 2, 3], [0, 1, 1], paths=["x/1", "y/2", "z/3"]), path)
    assert load(path).class_names == ("0", "1")
    pq.write_table(table([1, 2, 3], [0, 1, 2], paths=["x/1", "x/2", "z/3"]), path)
    assert load(path).class_names == ("0", "1", "2")
    pq.write_table(table([1, 2], [0, 1], paths=["1.png", None]), path)
    assert load(path).class_names == ("0", "1")


def test_text_labels_are_class_names(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(table([1, 2, 3], ["bee", "ant", "bee"]), path)
    assert load(path).class_names == ("ant", "bee")
    assert load(path).labels.tolist() == [1, 0, 1]
    categories = pa.array(["bee", "ant", "bee"]).dictionary_encode()
    pq.write_table(table([1, 2, 3], categories, paths=[None] * 3), path)
    assert load(path).labels.tolist() == [1, 0, 1]


def test_columns_are_found_or_named(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(table([1, 2], [0, 1], columns=("image", "fine_label")), path)
    assert load(path).labels.tolist() == [0, 1]
    plain = pa.table({"x": [picture(1), picture(2)], "y": [1, 0]})
    pq.write_table(plain, path)
    assert load(path, image_column="x", label_column="y").labels.tolist() == [1, 0]
    message = refused(path)
    assert "t.parquet: no column img or image; set `dataset.image_column` to one of x, y" in message
    message = refused(path, image_column="x", label_column="z")
    assert "no column z; set `dataset.label_column`" in message
    message = refused(path, image_column="y", label_column="y")
    assert "column y holds int64, expected image bytes" in message
    assert "column x holds binary, expected class numbers" in refused(
        path, image_column="x", label_column="x"
    )


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (table([1, 2], [0, None]), "row 1 (from 0) of column label has no label"),
        (table([1, 2], [0, -1]), "row 1 (from 0) of column label has the label -1"),
        (table([1, 2], [0.0, 1.0]), "column label holds double, expected class numbers or names"),
        (table([1, None], [0, 1]), "row 1 (from 0) of column img has no bytes"),
        (table([1, 2], [0, 10**9]), "has the label 1000000000 among 2 samples"),
        (
            table([1, 2], [0, 2], metadata=hugging_face(["a", "b"])),
            "row 1 (from 0) has the label 2",
        ),
        (table([1, picture(2)[:-30]], [0, 1]), "row 1 (from 0): image cannot be decoded"),
        (table([1, picture(2, mode="I;16")], [0, 1]), "image has more than 8 bits (I;16)"),
        (table([], []).cast(table([1], [0]).schema), "no samples"),
    ],
)
def test_bad_parquet_content_is_named(tmp_path, made, message):
    path = tmp_path / "t.parquet"
    pq.write_table(made, path)
    found = refused(path)
    assert "t.parquet" in found
    assert message in found


def test_damaged_parquet_files_are_named(tmp_path):
    path = tmp_path / "train.parquet"
    rng = np.random.default_rng(0)
    noise = [rng.bytes(500) for _ in range(50)]
    made = table(noise, [0, 1] * 25, ("zebra", "yak"))
    pq.write_table(made, path, compression="none", use_dictionary=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "train.parquet: not a whole Parquet file" in refused(path)
    path.write_bytes(whole.replace(b"zebra/", b"zebr\xff/"))
    assert "train.parquet: not a whole Parquet file" in refused(path)
    path.write_bytes(b"")
    assert "train.parquet: not a whole Parquet file" in refused(path)
    pq.write_table(made, path, compression="none", write_page_checksum=True)
    path.write_bytes(path.read_bytes().replace(noise[7], bytes(500)))
    assert "train.parquet: not a whole Parquet file" in refused(path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no .parquet file in this folder; correct `dataset.path`" in refused(empty)
    assert "no such file or folder" in refused(tmp_path / "missing")


def test_parquet_files_that_do_not_belong_together_are_named(tmp_path):
    pq.write_table(table([1, 2], [0, 1]), tmp_path / "train.parquet")
    test = tmp_path / "test.parquet"
    pq.write_table(table([1, 2], [0, 1], columns=("img", "other")), test)
    assert "test.parquet: no column label as in the other files; it has img, other" in refused(
        tmp_path
    )
    pq.write_table(table([1, 2], ["a", "b"]), test)
    assert "labels are text in some files, numbers in others" in refused(tmp_path)
    pq.write_table(table([1, 2], [0, 1], metadata=hugging_face(["a", "b"])), test)
    assert "test.parquet: its metadata name other classes" in refused(tmp_path)


def test_grey_and_colour_images_become_colour(tmp_path):
    path = tmp_path / "t.parquet"
    grey = picture(7, mode="L")
    pq.write_table(table([grey, picture(9, mode="LA")], [0, 1]), path)
    assert load(path).images.shape == (2, 4, 5, 1)
    mixed = [grey, picture(8), picture(9, mode="RGBA"), picture(1, mode="1")]
    pq.write_table(table(mixed, [0, 1, 0, 1]), path)
    pool = load(path, size=3)
    assert pool.images.shape == (4, 3, 3, 3)
    assert pool.images[:, 1, 1].tolist() == [[7] * 3, [8] * 3, [9] * 3, [255] * 3]


def test_size_brings_images_of_different_sizes_together(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(table([1, picture(2, (9, 3))], [0, 1]), path)
    assert load(path, size=6).images.shape == (2, 6, 6, 3)
    message = refused(path)
    assert "t.parquet: images differ in size" in message
    assert "row 0 (from 0) is 5x4, " in message
    assert "row 1 (from 0) is 9x3); set `dataset.size` to resize all of them" in message


def write_images(root, files):
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(value if isinstance(value, bytes) else picture(value))


@pytest.mark.parametrize("reverse", [False, True])
def test_class_folders_are_read_by_name(tmp_path, reverse):
    files = {"cat/b.png": 1, "cat/a.PNG": 2, "cat/deep/a.png": 3, "ant/z.png": 4, "ant/é.png": 5}
    write_images(tmp_path, dict(sorted(files.items(), reverse=reverse)))
    write_images(tmp_path, {"cat/notes.txt": b"x", "cat/.hidden.png": b"x", ".git/x.png": b"x"})
    pool = load(tmp_path, "folder")
    assert pool.class_names == ("ant", "cat")
    assert pool.images[:, 0, 0, 0].tolist() == [4, 5, 2, 1, 3]
    assert pool.labels.tolist() == [0, 0, 1, 1, 1]


def test_train_and_test_folders_are_pooled(tmp_path):
    files = {"test/b/1.png": 1, "train/b/1.png": 2, "train/a/1.png": 3, "val/a/1.png": 4}
    write_images(tmp_path, files)
    pool = load(tmp_path, "folder")
    assert pool.images[:, 0, 0, 0].tolist() == [3, 2, 4, 1]
    assert pool.labels.tolist() == [0, 1, 0, 1]
    (tmp_path / "extra").mkdir()
    assert "extra stands beside" in refused(tmp_path, "folder")


def test_a_class_may_be_called_train(tmp_path):
    write_images(tmp_path, {"car/1.png": 1, "train/1.png": 2})
    assert load(tmp_path, "folder").class_names == ("car", "train")


def test_bad_folders_are_named(tmp_path):
    assert "no class folder in it" in refused(tmp_path, "folder")
    write_images(tmp_path, {"a/1.png": 1, "b/2.png": b"broken", "c/3.txt": b"x"})
    assert "class folder c holds no image" in refused(tmp_path, "folder")
    (tmp_path / "c" / "3.txt").rename(tmp_path / "c" / "3.png")
    message = refused(tmp_path, "folder")
    assert f"{tmp_path / 'b' / '2.png'}: image cannot be decoded (unknown format)" in message
    assert "1.png: not a folder" in refused(tmp_path / "a" / "1.png", "folder")
