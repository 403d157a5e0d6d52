import pytest
import torch

from miagap import numerics
from miagap.errors import InputError
from miagap.numerics import ComputeSettings, configure, resolve


def without_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})


def with_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def test_auto_takes_bfloat16_where_the_cpu_has_it(monkeypatch):
    with_bfloat16(monkeypatch)
    found = resolve(ComputeSettings(device="cpu"))
    assert found.precision == "bfloat16" and found.dtype == torch.bfloat16
    with found.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16


def test_auto_falls_back_and_says_so(monkeypatch):
    without_bfloat16(monkeypatch)
    found = resolve(ComputeSettings(device="cpu"))
    assert found.precision == "float32"
    assert "no bfloat16" in found.describe()["precision_note"]
    with found.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_asking_for_what_is_not_there_is_an_error(monkeypatch):
    without_bfloat16(monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for settings, key in [
        (ComputeSettings(device="cpu", precision="bfloat16"), r"compute\.precision: bfloat16"),
        (ComputeSettings(device="cuda"), r"compute\.device: cuda"),
        (ComputeSettings(device="gpu"), r"compute\.device: 'gpu'"),
        (ComputeSettings(device="cpu", precision="half"), r"compute\.precision: 'half'"),
        (ComputeSettings(device="cpu", threads=0), r"compute\.threads: 0"),
    ]:
        with pytest.raises(InputError, match=key):
            resolve(settings)


def test_auto_device_without_cuda_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve(ComputeSettings()).device.type == "cpu"


def test_configure_fixes_the_threads():
    before = torch.get_num_threads()
    configure(resolve(ComputeSettings(device="cpu", threads=1)))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(before)


def test_describe_is_text():
    facts = resolve(ComputeSettings(device="cpu", precision="float32")).describe()
    assert all(isinstance(value, str) for value in facts.values())
    assert facts["device"].startswith("cpu: ")
    assert facts["threads"] == "1" and facts["torch"] == torch.__version__
    assert numerics.device_name(torch.device("cpu")) == facts["device"]
