"""Hessians that are collected when they are needed are those of one pass over the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from quant import RECIPES, QuantizedTensor, calibrate, quantize_model
from quant.calibration.calibrate import calibrate_sparingly
from quant.models.calibrate_for_recipes import calibrate_for_recipes, postponed_by
from quant.models.sequential import SequentialCalibration
from tests.quantized_models.families import VOCABULARY, make
from tests.quantized_models.test_sequential import SEQUENTIAL, Deep


@pytest.fixture
def batches():
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(VOCABULARY, (2, 12), generator=rng) for _ in range(3)]


def same(one, other):
    """Check that two results have the same bits, and the same report but for times."""
    assert one.tensors.keys() == other.tensors.keys()
    for name, tensor in one.tensors.items():
        if isinstance(tensor, QuantizedTensor):
            np.testing.assert_array_equal(tensor.codes, other.tensors[name].codes)
            for key, array in tensor.arrays.items():
                np.testing.assert_array_equal(array, other.tensors[name].arrays[key])
    for report, expected in zip(one.report, other.report, strict=True):
        assert (report.name, report.notes) == (expected.name, expected.notes)
        assert (report.error is None) == (expected.error is None)
        assert (report.error or 0.0) == pytest.approx(expected.error or 0.0, rel=1e-9)


@pytest.mark.parametrize("family", ["gpt2", "golf", "mixtral"])
def test_quantization_is_that_of_hessians_collected_before(family, batches):
    torch.manual_seed(0)
    model = make(family).eval()
    at_once = calibrate(model, batches, fisher=True)
    assert all(at_once.has_hessian(name) for group in at_once.input_groups for name in group)
    same(quantize_model(model, "gptq-int4", batches), quantize_model(model, "gptq-int4", at_once))


def test_hessians_of_one_input_group_are_in_memory_at_a_time(batches):
    torch.manual_seed(0)
    model = make("gpt2").eval()
    expected = calibrate(model, batches)
    names = [name for group in expected.input_groups for name in group]
    calibration = calibrate_sparingly(model, batches, memory_limit=None, postponed=names)
    assert calibration.names == expected.names
    assert not any(map(calibration.has_hessian, names))
    sequential = SequentialCalibration(model, calibration, names)
    for group in calibration.input_groups:
        sequential.inputs_of(group)
        assert {name for name in names if calibration.has_hessian(name)} == {*group}
        for name in group:
            matrix = expected.hessian(name).matrix()
            np.testing.assert_allclose(calibration.hessian(name).matrix(), matrix, rtol=1e-9)


def test_a_limit_of_half_the_model_is_raised_to_the_largest_hessian(batches):
    model = torch.nn.Sequential(torch.nn.Embedding(VOCABULARY, 64), torch.nn.Linear(64, 2))
    model.append(torch.nn.Linear(2, 3))
    calibration = calibrate_sparingly(model, batches, memory_limit=None, postponed=())
    assert calibration.passes == (("2.weight",), ("1.weight",))
    expected = calibrate(model, batches)
    for name in calibration.names:
        matrix = expected.hessian(name).matrix()
        np.testing.assert_array_equal(calibration.hessian(name).matrix(), matrix)


def test_inputs_that_are_not_finite_are_refused_before_a_weight_is_quantized(batches, monkeypatch):
    model = Deep()
    with torch.no_grad():
        model.embed.weight[3] = 2e19  # whose square is too large for float32
    monkeypatch.setattr("quant.models.quantize_model.quantize_tensor", None)
    with pytest.raises(ValueError, match="calibration rows must be finite") as error:
        quantize_model(model, SEQUENTIAL, [batch % 17 for batch in batches])
    assert str(error.value).startswith("left.weight: ")


def test_a_model_without_gradients_is_calibrated_without_fisher_information(batches):
    model, recipes = make("rwkv").eval(), [RECIPES["gptq-int4"]]
    calibration = calibrate_for_recipes(model, batches, recipes)
    assert not calibration.has_fisher
    assert calibration.no_fisher.startswith("no Fisher information: logits must have gradients")
    for known in (calibration, batches):
        report = quantize_model(model, "gptq-int4", known).report
        assert calibration.no_fisher in [note for each in report for note in each.notes]
    with pytest.raises(ValueError, match="strict needs each tensor quantized as the recipe says"):
        quantize_model(model, "gptq-int4", calibration, strict=True)


def test_hessians_that_another_recipe_needs_at_once_are_not_postponed():
    model = make("gpt2")
    names = {name for name, weight in model.named_parameters() if weight.ndim == 2}
    names -= {"transformer.wte.weight", "transformer.wpe.weight"}
    gptq, at_once = RECIPES["gptq-int4"], replace(RECIPES["gptq-int4"], sequential=False)
    assert postponed_by(model, [gptq, RECIPES["int8"]]) == names
    assert postponed_by(model, [gptq, at_once]) == set()
