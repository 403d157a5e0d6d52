import numpy as np
import pytest
import torch
from torch import nn

from miagap.device_pool import place
from miagap.errors import InputError
from miagap.extraction import apply_query, extract, extract_checkpoint, phi_and_loss
from miagap.models import ModelSettings, build_model
from miagap.numerics import ComputeSettings, resolve
from miagap.queries import Query, parse_queries, parse_query

CPU = resolve(ComputeSettings(device="cpu", precision="float32"))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("identity", Query()),
        ("mirror", Query(mirror=True)),
        ("shift(-1,2)", Query(dx=-1, dy=2)),
        ("mirror+shift(0, -3)", Query(True, 0, -3)),
    ],
)
def test_parse_query(text, query):
    assert parse_query(text) == query
    assert parse_query(str(query)) == query


@pytest.mark.parametrize("text", ["", "flip", "mirror+", "shift(1)", "mirrorshift(1,1)"])
def test_parse_query_refuses(text):
    with pytest.raises(InputError, match=r"extraction\.queries"):
        parse_query(text)


def test_parse_queries_checks_the_list():
    assert len(parse_queries(["identity", "mirror"])) == 2
    for texts, expected in [
        ([], "identity expected"),
        (["mirror"], "identity expected"),
        (["identity", "shift(1,0)", "shift(1, 0)"], "twice"),
        (["identity", "shift(8,0)"], "smaller shift"),
    ]:
        with pytest.raises(InputError, match=expected):
            parse_queries(texts, image_size=8)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (2, 0), (-1, 3), (0, -3)])
def test_apply_query_is_liras_padding_and_slicing(mirror, dx, dy):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 6, 5, 2), dtype=np.uint8)
    flipped = images[:, :, ::-1] if mirror else images
    padded = np.pad(flipped, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    expected = padded[:, 3 - dy : 9 - dy, 3 - dx : 8 - dx]
    found = apply_query(torch.from_numpy(images).permute(0, 3, 1, 2), Query(mirror, dx, dy))
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), expected)


def test_phi_and_loss_by_hand():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, -1.0]])
    phi, loss = phi_and_loss(logits, torch.tensor([0, 2]))
    assert phi.dtype == loss.dtype == torch.float64
    assert phi[0] == pytest.approx(2 - np.log(np.e + 1))
    assert phi[1] == pytest.approx(-1 - np.log(1 + np.e**3))
    assert loss[0] == pytest.approx(np.log(np.e**2 + np.e + 1) - 2)
    assert loss[1] == pytest.approx(np.log(1 + np.e**3 + np.e**-1) + 1)


def test_phi_is_exact_where_softmax_gives_up():
    logits = torch.tensor([[400.0, 0.0], [0.0, 400.0]])
    phi, loss = phi_and_loss(logits, torch.tensor([0, 0]))
    assert phi.tolist() == [400.0, -400.0]
    assert loss[0] == pytest.approx(np.exp(-400.0))
    assert loss[1] == pytest.approx(400.0)


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (70, 8, 8, 1), dtype=np.uint8)
    return place(images, rng.integers(0, 3, 70), 3, CPU)


def test_extract_table(pool):
    model = build_model(ModelSettings(widths=(8,), blocks=(1,)), 3, 1, 8, rng_seed=0)
    member = np.arange(70) % 2 == 0
    queries = parse_queries(["identity", "mirror", "shift(1,0)"])
    table = extract(model, pool, member, queries, batch_size=32)
    types = {field.name: str(field.type).replace("item", "element") for field in table.schema}
    assert types == {
        "sample_id": "int32",
        "label": "int16",
        "member": "bool",
        "logits": "fixed_size_list<element: float>[3]",
        "phi": "fixed_size_list<element: double>[3]",
        "loss": "fixed_size_list<element: double>[3]",
    }
    assert table["member"].to_pylist() == member.tolist()
    with torch.inference_mode():
        expected = model(pool.normalize(pool.images))
    logits = np.stack(table["logits"].to_numpy(zero_copy_only=False))
    assert np.allclose(logits, expected.numpy(), atol=1e-5)
    phi, _ = phi_and_loss(torch.from_numpy(logits), pool.labels)
    found = np.stack(table["phi"].to_numpy(zero_copy_only=False))
    assert np.array_equal(found[:, 0], phi.numpy())
    assert not np.array_equal(found[:, 0], found[:, 2])


def test_a_symmetric_model_answers_the_mirror_alike(pool):
    class Mean(nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3)), x.amin((1, 2, 3))], 1)

    table = extract(Mean(), pool, np.zeros(70, bool), parse_queries(["identity", "mirror"]))
    phi = np.stack(table["phi"].to_numpy(zero_copy_only=False))
    assert np.allclose(phi[:, 0], phi[:, 1], atol=1e-6)


def test_models_are_asked_in_eval_mode(pool):
    """In train mode BatchNorm would use the batch's statistics: answers would depend on it."""
    model = build_model(ModelSettings(widths=(8,), blocks=(1,)), 3, 1, 8, rng_seed=0)
    model.train()
    weights = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    queries = parse_queries(["identity"])
    member = np.zeros(70, bool)
    table = extract(model, pool, member, queries, batch_size=7)
    assert all(np.array_equal(weights[k], t.numpy()) for k, t in model.state_dict().items())
    settings = ModelSettings(widths=(8,), blocks=(1,))
    again = extract_checkpoint(weights, settings, pool, member, queries, batch_size=70)
    for name in ("logits", "phi"):
        one, other = (np.stack(t[name].to_numpy(zero_copy_only=False)) for t in (table, again))
        assert np.allclose(one, other, atol=1e-5)
