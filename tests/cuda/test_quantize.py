"""Weights on a GPU: quantized to the codes that the host gets, calibrated where they lie."""

import copy

import numpy as np
import pytest
import torch

import quant
from tests.cuda.networks import needs_gpu, network

pytestmark = needs_gpu


def batches():
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 257, (4, 64), generator=generator) for _ in range(4)]


@pytest.mark.parametrize("recipe", ["int8", "int4", "nf4"])
def test_codes_are_those_of_the_host(recipe):
    on_host = quant.quantize_model(network(device="cpu"), recipe)
    on_gpu = quant.quantize_model(network(device="cpu").cuda(), recipe)
    assert on_gpu.nbytes == on_host.nbytes
    expected, actual = network(device="cpu"), network(device="cuda")
    on_host.load_into(expected)
    on_gpu.load_into(actual)
    for (name, one), other in zip(expected.named_parameters(), actual.parameters(), strict=True):
        assert other.device.type == "cuda", name
        assert torch.equal(one, other.cpu()), name


def test_gptq_on_the_gpu_is_near_gptq_on_the_host(tmp_path):
    errors = []
    tokens = batches()[0]
    for device in ("cpu", "cuda"):
        model = network(device=device)
        exact = copy.deepcopy(model)
        quantized = quant.quantize_model(model, "gptq-int4", calibration=batches())
        quantized.save(tmp_path / f"{device}.ngq")
        quant.QuantizedModel.load(tmp_path / f"{device}.ngq").load_into(model)
        with torch.no_grad():
            change = model(tokens.to(device)) - exact(tokens.to(device))
        errors.append(float(change.double().square().mean()))
    assert np.isfinite(errors).all()
    assert errors[1] == pytest.approx(errors[0], rel=0.1)
