"""A grid never takes more bytes than float16, unless a rule names the tensor."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant import GptqConfig, QuantizedTensor, Recipe, Rule, ScalarConfig, quantize_model


def network(columns):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, columns), nn.Linear(columns, 32))


def quantized(columns, recipe, batches=None, scale=1.0):
    model = network(columns)
    with torch.no_grad():
        model[1].weight.mul_(scale)
    result = quantize_model(model, recipe, batches)
    return result.tensors["1.weight"], result.report[2], model[1].weight.detach()


@pytest.mark.parametrize(
    ("recipe", "columns", "bits"),
    [("int4", 2, 20), ("int6", 3, 16.7), ("int8", 3, 18.7), ("gptq-int4", 2, 20)],
)
def test_a_matrix_of_few_columns_is_rounded_to_float16(recipe, columns, bits):
    batches = [torch.randn(9, 24)] if "gptq" in recipe else None
    tensor, report, weight = quantized(columns, recipe, batches)
    assert torch.equal(tensor, weight.half())
    assert (report.quantizer, report.bits_per_weight) == ("float16", 16)
    name = recipe.removeprefix("gptq-")
    assert report.notes == (
        f"float16: {name} would take {bits} bits a weight, for it has few columns",
    )
    assert not report.is_uncalibrated


@pytest.mark.parametrize(("recipe", "columns"), [("int4", 3), ("int6", 4), ("int8", 4)])
def test_one_more_column_takes_no_more_than_float16(recipe, columns):
    tensor, report, _ = quantized(columns, recipe)
    assert tensor.bits_per_weight <= 16
    assert report.notes == ()


def test_a_rule_with_the_name_stands():
    rules = (Rule(names="1.weight", use="int4"), Rule(use="int4"))
    tensor, report, _ = quantized(2, Recipe(name="mine", rules=rules))
    assert tensor.bits_per_weight == 20
    assert report.notes == ()
    tensor, _, _ = quantized(2, Recipe(name="mine", rules=(Rule(role="matrix", use="int4"),)))
    assert tensor.dtype == torch.float16


def test_what_float16_cannot_hold_stays_on_the_grid():
    tensor, report, _ = quantized(2, "int4", scale=1e6)
    assert isinstance(tensor, QuantizedTensor)
    assert report.notes == ()


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)), st.integers(2, 8), st.booleans(),
    st.sampled_from(["tensor", "row", "column", "group"]), st.sampled_from(["float16", "float32"]),
)  # fmt: skip
def test_bits_are_those_of_the_tensor(shape, bits, symmetric, per, dtype):
    config = ScalarConfig(
        bits=bits, symmetric=symmetric, per=per, group_size=3 if per == "group" else None,
        scale_dtype=dtype,
    )  # fmt: skip
    weight = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert config.encode(weight).bits_per_weight == config.bits_per_weight(shape)
    gptq = GptqConfig(inner=config).encode(weight, np.eye(shape[1]))
    assert gptq.bits_per_weight == config.bits_per_weight(shape)
