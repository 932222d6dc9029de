"""Devices and dtypes in the spellings that people use."""

import pytest
import torch

from eval.distributed.rank_info import RankInfo, choose_gpu
from eval.models import device
from eval.models.device import find_devices, read_device, read_dtype
from eval.models.load_model import load_model


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(device, "find_devices", lambda: ["cpu", "cuda:0", "cuda:1"])


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cpu", "cpu"), ("CPU", "cpu"), ("cpu:0", "cpu"), ("cuda", "cuda"), ("gpu", "cuda"),
        ("cuda:1", "cuda:1"), ("gpu:1", "cuda:1"), ("0", "cuda:0"), (1, "cuda:1"),
        (torch.device("cuda", 1), "cuda:1"), (" Cuda ", "cuda"),
    ],
)  # fmt: skip
def test_devices(two_gpus, name, wanted):
    assert read_device(name) == wanted


@pytest.mark.parametrize("name", ["cuda:2", 2, "-1", "mps", "meta", "tpu", "", "cuda:", "cuda:x"])
def test_other_devices_are_refused(two_gpus, name):
    with pytest.raises(ValueError) as error:
        read_device(name)
    assert str(error.value) == (
        "device must be one of those that torch can use here (cpu, cuda:0, cuda:1), got "
        f"{str(name)!r}; leave it out for the default"
    )


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "gpu", "0", "1", "cuda:7", "mps", "nonsense", "xpu"])
def test_a_machine_without_gpu_says_so(name):
    assert find_devices() == ["cpu"]
    for load in (
        lambda: load_model("demo", device=name),
        lambda: choose_gpu(RankInfo(1, 2, 1), name),
    ):
        with pytest.raises(ValueError) as error:
            load()
        assert str(error.value) == (
            f"device must be one of those that torch can use here (cpu), got {name!r}; leave it "
            "out for the default"
        )


@pytest.mark.parametrize(
    ("cuda", "names"), [(None, ["cpu"]), ("cuda", ["cpu", "cuda:0", "cuda:1"])]
)
def test_devices_are_those_of_torch(monkeypatch, cuda, names):
    found = None if cuda is None else torch.device(cuda)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: found)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    assert find_devices() == names


@pytest.mark.parametrize(
    ("names", "dtype"),
    [
        (["float32", "fp32", "F32", "float", "torch.float32", torch.float32], torch.float32),
        (["bfloat16", "bf16", "BF16", "torch.bfloat16", torch.bfloat16], torch.bfloat16),
        (["float16", "fp16", "half", " torch.float16", "torch.half"], torch.float16),
        (["float64", "double", "fp64"], torch.float64),
        (["auto"], None),
    ],
)
def test_dtypes(names, dtype):
    assert {read_dtype(name) for name in names} == {dtype}


@pytest.mark.parametrize("name", ["int8", "float8_e4m3fn", "bf8", "", "torch", "tensor", "f"])
def test_other_dtypes_are_refused(name):
    with pytest.raises(ValueError) as error:
        read_dtype(name)
    assert str(error.value) == (
        f"dtype must be auto, float32, bfloat16, float16 or float64, got {name!r}; leave it out "
        "for the default"
    )
