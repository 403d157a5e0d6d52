"""Folders of other tools' logits: what is read, what is computed, what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import foreign_models as foreign
from miagap import config, imports, shadow
from miagap.attacks.registry import ATTACKS
from miagap.errors import InputError
from miagap.extraction import phi_and_loss as phi_and_loss_by_torch
from miagap.study import Study

SETTINGS = {
    "labels": None,
    "epoch": "newest",
    "targets": None,
    "technique": "imported",
    "dataset": "imported",
}


def section(folder, layout="tf-privacy", **changed):
    return {**SETTINGS, "format": layout, "path": str(folder), **changed}


@pytest.fixture
def models():
    rng = np.random.default_rng(0)
    member = foreign.halves(rng, 12, 40)
    logits, labels = foreign.answers(rng, member)
    return logits, labels, member


@pytest.fixture
def folder(tmp_path, models):
    return foreign.write_tf_privacy(tmp_path / "exp", *models, epochs=[10, 20])


def tables(source):
    (found,) = source.models.values()
    member, _ = imports.read_membership(found)
    return [
        imports.read_model(source, model, source.checkpoints[-1], own)
        for model, own in zip(found, member, strict=True)
    ]


def test_phi_and_loss_equal_the_extractions():
    rng = np.random.default_rng(1)
    logits = (rng.normal(0, 1, (50, 3, 7)) * 10.0 ** rng.integers(-2, 4, (50, 1, 1))).astype("f4")
    labels = rng.integers(0, 7, 50)
    phi, loss = imports.phi_and_loss(logits, labels)
    for query in range(3):
        expected = phi_and_loss_by_torch(
            torch.from_numpy(logits[:, query]), torch.from_numpy(labels)
        )
        np.testing.assert_allclose(phi[:, query], expected[0], rtol=1e-13, atol=1e-12)
        np.testing.assert_allclose(loss[:, query], expected[1], rtol=1e-13, atol=0)


def test_layouts_agree(tmp_path, models, folder):
    logits, labels, member = models
    other = foreign.write_lira_pytorch(tmp_path / "pytorch" / "exp", *models)
    own = foreign.write_parquet(tmp_path / "own", *models)
    sources = [
        imports.list_models(section(folder)),
        imports.list_models(
            section(other, "lira-pytorch", labels=str(tmp_path / "pytorch" / "labels.npy"))
        ),
        imports.list_models(section(own, "parquet")),
    ]
    assert [source.checkpoints for source in sources] == [("20",), ("final",), ("30",)]
    sizes = [imports.size(source) for source in sources]
    assert [(s.samples, s.queries, s.classes) for s in sizes] == [(40, 2, 5)] * 3
    for source in sources:
        assert source.runs == [(0, split) for split in range(12)]
        for table, z, kept in zip(tables(source), logits, member, strict=True):
            assert table["label"].to_pylist() == labels.tolist()
            assert table["member"].to_pylist() == kept.tolist()
            np.testing.assert_array_equal(np.stack(table["logits"].to_numpy()), z[:, 0])
            p = np.exp(z.astype(float)) / np.exp(z.astype(float)).sum(axis=-1, keepdims=True)
            right = p[np.arange(40), :, labels]
            np.testing.assert_allclose(
                np.stack(table["phi"].to_numpy()), np.log(right / (1 - right)), rtol=1e-9
            )
            np.testing.assert_allclose(np.stack(table["loss"].to_numpy()), -np.log(right))


def test_epochs(folder, models):
    assert imports.list_models(section(folder, epoch="all")).checkpoints == ("10", "20")
    assert imports.list_models(section(folder, epoch=10)).checkpoints == ("10",)
    (folder / "experiment-3/logits/0000000020.npy").unlink()
    assert imports.list_models(section(folder)).checkpoints == ("10",)
    with pytest.raises(InputError, match=r"import.epoch: experiment-3 has no epoch 20; it has 10"):
        imports.list_models(section(folder, epoch=20))


def test_targets_and_numbers(folder):
    found = imports.list_models(section(folder, targets=["experiment-11", "experiment-2"]))
    assert found.targets == ((0, 11), (0, 2))
    with pytest.raises(InputError, match=r"import.targets: no model experiment-12 .*experiment-1"):
        imports.list_models(section(folder, targets=["experiment-12"]))


def test_names_without_numbers_are_counted(tmp_path, models):
    place = foreign.write_lira_pytorch(tmp_path / "exp", *(part[:2] for part in models[:1]),
                                       models[1], models[2][:2])  # fmt: skip
    (place / "0").rename(place / "warm")
    (place / "1").rename(place / "cold")
    source = imports.list_models(section(place, "lira-pytorch", labels="labels.npy"))
    assert [m.name for m in source.models["imported"]] == ["cold", "warm"]
    assert source.runs == [(0, 0), (0, 1)]


def test_several_techniques_of_our_own(tmp_path, models):
    for name in ("none", "crop"):
        foreign.write_parquet(tmp_path / "logits" / name, *models)
    assert list(imports.list_models(section(tmp_path / "logits", "parquet")).models) == [
        "crop",
        "none",
    ]
    (tmp_path / "logits/crop/checkpoint-30/seed0-split5.parquet").unlink()
    with pytest.raises(InputError, match="techniques must have the same seeds and splits"):
        imports.list_models(section(tmp_path / "logits", "parquet"))


def test_pairs_and_repeated_splits_are_found():
    rng = np.random.default_rng(2)
    none = np.zeros(30, bool)
    pairs, complete = imports.find_pairs(foreign.pairs(rng, 8, 30), none)
    assert complete and sorted(pairs.tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    halves = foreign.halves(rng, 6, 30)
    pairs, complete = imports.find_pairs(halves, none)
    assert not complete and pairs.tolist() == [0, 1, 2, 3, 4, 5]
    pairs, complete = imports.find_pairs(np.concatenate([halves, halves[:1], ~halves[1:2]]), none)
    assert not complete and pairs.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    both = foreign.pairs(rng, 4, 30) & ~(np.arange(30) < 6)
    assert imports.find_pairs(both, np.arange(30) < 6)[1]


def test_what_was_set_apart_is_a_reserve_and_what_chance_left_out_is_not(tmp_path, models):
    logits, labels, member = models
    apart = member & (np.arange(40) >= 8)
    source = imports.list_models(
        section(foreign.write_tf_privacy(tmp_path / "apart", logits, labels, apart, [1]))
    )
    _, reserve = imports.read_membership(source.models["imported"])
    np.testing.assert_array_equal(reserve, np.arange(40) < 8)
    few = np.zeros((4, 40), bool)
    few[np.arange(40) % 4, np.arange(40)] = True
    few[0, 0] = False
    source = imports.list_models(
        section(foreign.write_tf_privacy(tmp_path / "few", logits[:4], labels, few, [1]))
    )
    assert not imports.read_membership(source.models["imported"])[1].any()


def test_pool_carries_pairs(tmp_path, models):
    own = foreign.write_parquet(tmp_path / "own", *models)
    paths = [str(own / f"checkpoint-30/seed0-split{s}.parquet") for s in range(12)]
    pool = shadow.gather(paths, np.zeros(40, bool), with_logits=True, pairs=np.arange(12))
    shadow.write_models(pool, tmp_path / "pool.safetensors", {})
    again = shadow.read_models(tmp_path / "pool.safetensors")
    np.testing.assert_array_equal(again.signals.pair, np.arange(12))
    chosen = shadow.only(again, {"seed0-split3", "seed0-split7"})
    assert chosen.signals.pair.tolist() == [3, 7] and len(chosen.generalization) == 2
    assert shadow.only(again, {f"seed0-split{s}" for s in range(12)}) is again


# --- what is refused ---------------------------------------------------------------------


def _set(path, change):
    array = np.load(path)
    np.save(path, change(array))


def _at(array, value):
    array[7, ...] = value
    return array


LOGITS, KEEP, LABELS = "experiment-4/logits/0000000020.npy", "experiment-4/keep.npy", "y_train.npy"
FAULTS = {
    "NaN": (LOGITS, lambda a: _at(a, np.nan), r"0000000020.npy: NaN or infinity at sample 7"),
    "infinite": (LOGITS, lambda a: _at(a, np.inf), r"NaN or infinity at sample 7"),
    "short logits": (LOGITS, lambda a: a[:30], r"20.npy: 30 samples, but .*y_train.npy has 40"),
    "dimensions": (LOGITS, lambda a: a[:, 0], r"shape \(40, 2, 5\), expected .*n x 1 x queries"),
    "second axis": (LOGITS, lambda a: a.repeat(2, 1), r"shape \(40, 2, 2, 5\), expected"),
    "whole numbers": (LOGITS, lambda a: a.astype(int), r"int64 of shape"),
    "short keep": (KEEP, lambda a: a[:30], r"keep.npy: 30 samples, but .*experiment-0.* has 40"),
    "keep of numbers": (KEEP, lambda a: a + 0.5, r"keep.npy: float64 .*expected booleans"),
    "all kept": (KEEP, lambda a: a | True, r"keep.npy: 40 of 40 samples are members; need both"),
    "short labels": (LABELS, lambda a: a[:30], r"40 samples, but .*y_train.npy has 30 labels"),
    "label too large": (LABELS, lambda a: a + 1, r"y_train.npy: labels from 1 to 5, but"),
    "other queries": (LOGITS, lambda a: a[:, :, :1], r"20.npy: 1 queries and 5 classes, but .* 2"),
    "other classes": (LOGITS, lambda a: a[..., :4], r"20.npy: 2 queries and 4 classes, but .* 2"),
    "labels of floats": (LABELS, lambda a: a * 1.0, r"y_train.npy: float64 .*expected integers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_wrong_arrays_are_named(folder, fault):
    name, change, message = FAULTS[fault]
    _set(folder / name, change)
    with pytest.raises(InputError, match=message) as caught:
        tables(imports.list_models(section(folder)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [LOGITS, KEEP, LABELS])
def test_broken_and_missing_files_are_named(folder, name):
    source = imports.list_models(section(folder))
    (folder / name).write_bytes((folder / name).read_bytes()[:100])
    with pytest.raises(InputError, match=rf"{name}: not a whole .npy file"):
        tables(source)
    np.save(folder / name, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=rf"{name}: not a whole .npy file"):
        tables(source)
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: file not found"):
        tables(source)


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match=r"import.path: folder .*nowhere not found"):
        imports.list_models(section(tmp_path / "nowhere"))
    for layout, message in [
        ("tf-privacy", r"import.path: .* has no folder experiment-\*"),
        ("lira-pytorch", r"import.path: .* has no folder \*"),
        ("parquet", r"import.path: .* has no checkpoint-\*/seed\*-split\*.parquet"),
    ]:
        with pytest.raises(InputError, match=message):
            imports.list_models(section(tmp_path, layout))
    (tmp_path / "experiment-0").mkdir()
    with pytest.raises(InputError, match=r"experiment-0/logits: no <10-digit epoch>.npy"):
        imports.list_models(section(tmp_path))


def test_wrong_tables_of_our_own_are_named(tmp_path, models):
    logits, labels, member = models
    logits[3, 9] = np.nan
    own = foreign.write_parquet(tmp_path / "own", logits, labels, member)
    with pytest.raises(InputError, match=r"split3.parquet: NaN or infinity at sample 9"):
        tables(imports.list_models(section(own, "parquet")))


TABLE_FAULTS = {
    "empty": ("phi", lambda a: [None, *a.to_pylist()[1:]], r"phi is empty for 1 samples"),
    "lists of any size": ("loss", lambda a: a.to_pylist(), r"loss must be lists of one size"),
    "other labels": ("label", lambda a: (a.to_numpy() + 1) % 5, r"other labels than in .*split0"),
    "label too large": ("label", lambda a: a.to_numpy() + 1, r"label must be integers from 0 to 4"),
    "order": ("sample_id", lambda a: a.to_numpy()[::-1], r"sample_id does not count from 0"),
    "numbers": ("member", lambda a: a.to_numpy().astype(int), r"member is int64, expected bool"),
}


@pytest.mark.parametrize("fault", TABLE_FAULTS)
def test_wrong_columns_of_our_own_are_named(tmp_path, models, fault):
    name, change, message = TABLE_FAULTS[fault]
    own = foreign.write_parquet(tmp_path / "own", *models)
    path = own / "checkpoint-30/seed0-split3.parquet"
    table = pq.read_table(path)
    kind = table.schema.field(name).type if fault == "empty" else None
    column = pa.array(change(table[name]), kind)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, column), path)
    with pytest.raises(InputError, match=rf"split3.parquet: {message}") as caught:
        tables(imports.list_models(section(own, "parquet")))
    assert "\n" not in str(caught.value)


def test_models_of_one_split_have_no_nonmembers(tmp_path, models):
    logits, labels, member = models
    same = np.repeat(member[:1], len(member), axis=0)
    place = foreign.write_tf_privacy(tmp_path / "same", logits, labels, same, [1])
    source = imports.list_models(section(place))
    with pytest.raises(
        InputError, match=r"experiment-0/keep.npy: members are all samples that any"
    ):
        imports.read_membership(source.models["imported"])


def test_a_layout_without_epochs_has_none_to_name(tmp_path, models):
    place = foreign.write_lira_pytorch(tmp_path / "exp", *models)
    (place / ".trash").mkdir()
    np.save(place / ".trash" / "keep.npy", models[2][0])
    labels = str(tmp_path / "labels.npy")
    assert len(imports.list_models(section(place, "lira-pytorch", labels=labels)).runs) == 12
    with pytest.raises(InputError, match=r"import.epoch: 20 is not known, for format lira-pytorch"):
        imports.list_models(section(place, "lira-pytorch", labels=labels, epoch=20))


def test_targets_named_twice_are_attacked_once(folder):
    source = imports.list_models(section(folder, targets=["experiment-3", "experiment-3"]))
    assert source.targets == ((0, 3),)


@pytest.mark.parametrize(
    ("count", "attack", "message"),
    [
        (5, {"method": "lira"}, r"holds 5 models, and attack a needs 6 or more"),
        (6, {"method": "lira"}, None),
        (3, {"method": "watson"}, r"holds 3 models, and attack a needs 4 or more"),
        (4, {"method": "watson"}, None),
    ],
)
def test_too_few_models_for_an_attack(tmp_path, models, count, attack, message):
    place = foreign.write_tf_privacy(tmp_path / "few", *(part[:count] for part in models[:1]),
                                     models[1], models[2][:count], [1])  # fmt: skip
    text = {"attacks": {"a": attack}, "metrics": {"headline_attack": "a"}}
    section_text = {"import": {"format": "tf-privacy", "path": str(place)}}
    resolved = config.resolve({**text, **section_text}, ATTACKS)
    assert resolved.errors == []
    if message is None:
        assert len(Study(resolved.values, ATTACKS).pool_runs) == count
    else:
        with pytest.raises(InputError, match=message):
            Study(resolved.values, ATTACKS)
