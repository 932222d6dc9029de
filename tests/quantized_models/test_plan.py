"""What each tensor is, which axes are rows, rules that take nothing, and no calibration."""

import numpy as np
import pytest
import torch
from torch import nn

from quant import RECIPES, QuantizedTensor, calibrate, quantize_model, rtn
from quant.base.matrix import Axes
from quant.models.parameters import axes_of, roles_of

TOKENS = [torch.randint(0, 16, (4, 12), generator=torch.Generator().manual_seed(0))]


class Control(nn.Module):
    """Control tensors as in Parameter Golf and Mamba, beside matrices that are bare parameters."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        n = 32
        self.embedding = nn.Embedding(16, n)
        self.resid_mix = nn.Parameter(torch.stack([torch.ones(n), torch.zeros(n)]) + 0.03)
        self.skip_weights = nn.Parameter(torch.ones(3, n))
        self.A_log = nn.Parameter(torch.arange(1.0, n + 1)[:, None].repeat(1, 20).log())
        self.up_proj = nn.Parameter(torch.randn(n, n) / n**0.5)
        self.experts = nn.Parameter(torch.randn(2, n, n) / n**0.5)
        self.experts_bias = nn.Parameter(0.1 * torch.randn(2, n))
        self.head = nn.Linear(n, 16)

    def forward(self, tokens):
        x = self.embedding(tokens)
        x = self.resid_mix[0] * x + self.resid_mix[1] * x.flip(1)
        x = x * self.skip_weights[1] - torch.exp(self.A_log).mean(1) * 1e-3
        x = (x @ self.up_proj).relu()
        for weight, bias in zip(self.experts, self.experts_bias, strict=True):
            x = x + nn.functional.linear(x, weight, bias)
        return self.head(x)


KEPT = {"resid_mix", "skip_weights", "A_log", "experts_bias"}


@pytest.mark.parametrize("recipe", ["int6", "int4", "nf4", "gptq-int6", "gptq-int4"])
def test_control_tensors_are_kept_and_the_rest_is_quantized(recipe):
    model = Control()
    q = quantize_model(model, recipe, TOKENS if recipe.startswith("gptq") else None)
    for report in q.report:
        is_kept = report.name in KEPT or report.role == "vector"
        assert (report.quantizer == "keep") is is_kept, report.name
        if report.name in KEPT:
            assert report.role == "elementwise"
            assert torch.equal(q.tensors[report.name], model.get_parameter(report.name))
        if recipe.startswith("gptq") and not is_kept:
            assert report.quantizer.startswith("gptq")
            assert not report.is_uncalibrated
    assert q.tensors["experts"].codes.shape[0] == 64


def test_calibration_tells_what_is_multiplied():
    class Misnamed(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale_proj = nn.Parameter(torch.randn(8, 8))  # a matrix, by its use
            self.wide = nn.Parameter(torch.randn(32, 32))  # elementwise, by its use
            self.dense = nn.Linear(8, 8)

        def forward(self, x):
            return self.dense(x @ self.scale_proj) * self.wide[:8, :8]

    model, x = Misnamed(), torch.randn(3, 8, 8)
    before, after = roles_of(model), roles_of(model, calibrate(model, [x]))
    assert (before["scale_proj"], before["wide"]) == ("elementwise", "matrix")
    assert (after["scale_proj"], after["wide"]) == ("matrix", "elementwise")
    q = quantize_model(model, "gptq-int8", [x])
    assert isinstance(q.tensors["scale_proj"], QuantizedTensor)
    assert torch.equal(q.tensors["wide"], model.wide)


@pytest.mark.parametrize("is_calibrated", [False, True])
def test_rules_go_by_the_roles_that_calibration_tells(is_calibrated):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale_proj = nn.Parameter(torch.randn(8, 8))  # a matrix, by its use
            self.wide = nn.Parameter(torch.randn(32, 32))  # elementwise, by its use

        def forward(self, x):
            return (x @ self.scale_proj) * self.wide[:8, :8]

    model, x = nn.Sequential(nn.Linear(8, 8), Block()), torch.randn(3, 8, 8)
    recipe = rules({"names": "1.*", "use": {"kind": "scalar", "bits": 3}})
    q = quantize_model(model, recipe, calibrate(model, [x]) if is_calibrated else [x])
    assert q.tensors["1.scale_proj"].config.bits == 3
    wide = rules({"names": "1.wid[ef]", "role": "matrix", "use": "keep"})
    with pytest.raises(ValueError, match=r"1\.wide has the role elementwise; give the rule"):
        quantize_model(model, wide, calibrate(model, [x]) if is_calibrated else [x])


@pytest.mark.parametrize(
    ("rule", "is_taken"),
    [
        ({"names": "A_log"}, True),
        ({"names": "*_log"}, True),
        ({"role": "elementwise"}, True),
        ({"names": "*"}, False),
        ({}, False),
    ],
)
def test_a_rule_may_say_otherwise(rule, is_taken):
    recipe = {"name": "x", "rules": [rule | {"use": {"kind": "scalar", "bits": 8}}]}
    q = quantize_model(Control(), recipe)
    assert isinstance(q.tensors["A_log"], QuantizedTensor) is is_taken


def test_axes_of_modules():
    class Experts(nn.Module):
        def __init__(self, is_transposed):
            super().__init__()
            self.gate_up_proj = nn.Parameter(torch.randn(3, 4, 6))
            self.is_transposed = is_transposed

    class ShortConvolution(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 1, 4))

    model = nn.ModuleDict(
        {
            "linear": nn.Linear(3, 4), "experts": Experts(False), "turned": Experts(True),
            "conv": nn.Conv2d(2, 4, 3), "back": nn.ConvTranspose1d(2, 4, 3),
            "groups": nn.ConvTranspose1d(4, 4, 3, groups=2), "short": ShortConvolution(),
        }
    )  # fmt: skip
    axes = axes_of(model)
    found = {name.partition(".")[0]: a for name, a in axes.items() if not name.endswith("bias")}
    assert found == {
        "linear": Axes(), "experts": Axes((0, 1)), "turned": Axes((0, 2)), "conv": Axes(),
        "back": Axes((1,)), "groups": Axes((0, 2), 2), "short": Axes(),
    }  # fmt: skip


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("recipe", ["int8", "int4", "lloyd-4bit"])
def test_each_output_of_each_expert_has_a_scale(rng, is_transposed, recipe, tmp_path):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            weight = rng.normal(size=(4, 8, 32)) * np.exp(2 * rng.normal(size=(4, 8, 1)))
            weight = torch.tensor(weight, dtype=torch.float32)
            self.down_proj = nn.Parameter(weight.mT.contiguous() if is_transposed else weight)
            self.is_transposed = is_transposed

    model = Experts()
    q = quantize_model(model, recipe)
    assert q.tensors["down_proj"].arrays["scales"].shape == (32, 1)
    q.save(tmp_path / "q")
    back = type(q).load(tmp_path / "q").tensors["down_proj"].dequantize()
    assert torch.equal(back, q.tensors["down_proj"].dequantize())
    error, weight = back - model.down_proj.detach(), model.down_proj.detach()
    axis = 1 if is_transposed else 2
    share = error.square().sum(axis) / weight.square().sum(axis)
    assert float(share.max()) < (1e-3 if recipe == "int8" else 0.05)


def test_a_stack_by_itself_has_a_scale_for_each_output(rng):
    stack = rng.normal(size=(3, 5, 32))
    q = rtn(stack, bits=8, clip="absmax")
    assert q.arrays["scales"].shape == (15, 1)
    rows = rtn(stack.reshape(15, 32), bits=8, clip="absmax")
    np.testing.assert_array_equal(q.dequantize().reshape(15, 32), rows.dequantize())
    assert rtn(rng.normal(size=(3, 5, 7))).arrays["scales"].shape == (3, 1)  # a kernel


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_transposed_convolution_is_quantized_by_outputs(groups):
    torch.manual_seed(0)
    conv = nn.ConvTranspose1d(4, 8, 5, groups=groups)
    with torch.no_grad():
        conv.weight[:, 1] *= 50
    for recipe in ("int4", "gptq-int4"):
        model = nn.Sequential(conv)
        q = quantize_model(model, recipe, [torch.randn(6, 4, 30)] if "gptq" in recipe else None)
        tensor = q.tensors["0.weight"]
        assert tensor.arrays["scales"].shape == (8, 1)
        error = (tensor.dequantize() - conv.weight.detach()).square().sum((0, 2))
        assert (error / conv.weight.detach().square().sum((0, 2))).max() < 0.05


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.lm_head = nn.Embedding(16, 8), nn.Linear(8, 16, bias=False)
        self.lm_head.weight = self.wte.weight
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])


def rules(*first):
    return {"name": "x", "rules": [*first, {"use": {"kind": "scalar", "bits": 4}}]}


@pytest.mark.parametrize("names", ["lm_head*", "wte.weight", "lm_head.weight", "*head*"])
def test_a_tied_head_answers_to_both_names(names):
    q = quantize_model(Tied(), rules({"names": names, "use": "keep"}))
    assert {r.name: r.quantizer for r in q.report}["wte.weight"] == "keep"
    assert isinstance(q.tensors["blocks.0.weight"], QuantizedTensor)


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (rules({"names": "lm_haed*", "use": "keep"}), "a rule must take a tensor, got 'lm_haed*', "
         "which takes none: no parameter has that name; did you mean lm_head?"),
        (rules({"names": "*.blocks.0.wieght", "use": "keep"}), "a rule must take a tensor, got "
         "'*.blocks.0.wieght', which takes none: no parameter has that name; did you mean "
         "blocks.0.weight?"),
        (rules({"names": "wte*", "role": "head", "use": "keep"}), "a rule must take a tensor, got "
         "'wte*', which takes none: wte.weight has the role embedding; give the rule that role"),
        (rules({"role": "matrix", "use": "keep"}, {"names": "blocks.0.*", "use": "keep"}), "a rule "
         "must take a tensor, got 'blocks.0.*', which takes none: the rule '*' before it takes "
         "blocks.0.weight; put it before that one, or leave one out"),
    ],
)  # fmt: skip
def test_a_rule_that_takes_nothing_is_refused(recipe, text):
    with pytest.raises(ValueError) as error:
        quantize_model(Tied(), recipe)
    assert str(error.value) == text


def test_rules_of_a_role_may_take_nothing():
    quantize_model(nn.Sequential(nn.Linear(4, 4)), RECIPES["int8"])
    recipe = rules({"role": "head", "use": "keep"})
    assert quantize_model(nn.Sequential(nn.Linear(4, 4)), recipe).report[0].quantizer != "keep"


class Unseen(nn.Module):
    """An LSTM, a weight that is not used, one with dead inputs, and one that is."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.lstm = nn.Embedding(16, 8), nn.LSTM(8, 8, batch_first=True)
        self.unused, self.used, self.dead = (nn.Linear(8, 8) for _ in range(3))
        self.head = nn.Linear(8, 16)

    def forward(self, tokens):
        x = self.used(self.lstm(self.embedding(tokens))[0])
        return self.head(x + self.dead(0 * x))


def test_a_weight_without_calibration_is_rounded_noted_and_counted():
    model = Unseen()
    q = quantize_model(model, "gptq-int4", TOKENS)
    reports = {report.name: report for report in q.report}
    uncalibrated = {name for name, report in reports.items() if report.is_uncalibrated}
    names = {"lstm.weight_ih_l0", "lstm.weight_hh_l0", "unused.weight"}
    assert uncalibrated == names | {"dead.weight"}
    for name in uncalibrated:
        nearest = rtn(model.get_parameter(name), bits=4, clip="mse")
        np.testing.assert_array_equal(q.tensors[name].codes, nearest.codes)
        assert reports[name].quantizer == "scalar bits=4 clip=mse"
    unseen = ("rounded to nearest: calibration saw no matrix product with it",)
    assert all(reports[name].notes == unseen for name in names)
    assert reports["dead.weight"].notes == (
        "rounded to nearest: all its inputs were 0, or it had none",
    )
    assert q.table().splitlines()[-1] == "not calibrated, and rounded to nearest: 4 of 13 tensors"
    with pytest.raises(ValueError) as error:
        quantize_model(model, "gptq-int4", TOKENS, strict=True)
    assert str(error.value) == (
        "strict needs a Hessian for each weight whose quantizer uses one, got none for "
        "lstm.weight_ih_l0 and 2 more; calibrate with batches that use it, or give it another rule "
        "in the recipe"
    )


def with_meta():
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(2, 2))


def with_sparse():
    model = nn.Sequential(nn.Linear(2, 2))
    model.register_buffer("table", torch.eye(2).to_sparse())
    return model


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (with_meta, "0.weight must be in memory, got the device meta; load the weights first"),
        (lambda: nn.Linear(2, 2).state_dict(), "model must be a torch.nn.Module, got OrderedDict; "
         "pass the module itself"),
        (lambda: nn.Sequential(nn.LazyLinear(2)), "0.weight must have a shape, got that of a lazy "
         "module; run the model on a batch first"),
        (with_sparse, "table must be a dense tensor of a plain dtype, got float32, sparse_coo; "
         "dequantize or convert it first"),
    ],
)  # fmt: skip
def test_models_that_cannot_be_quantized(make, text):
    with pytest.raises(ValueError) as error:
        quantize_model(make(), "int6")
    assert str(error.value) == text


def test_weights_of_dtypes_that_quantizers_do_not_take_are_kept(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight = nn.Parameter(model[0].weight.detach().to(torch.float8_e4m3fn), False)
    model.register_buffer("freqs_cis", torch.ones(2, dtype=torch.complex64))
    q = quantize_model(model, "int6")
    notes = {report.name: report.notes for report in q.report}
    assert notes["0.weight"] == ("kept: it is float8_e4m3fn, which quantizers do not take",)
    q.save(tmp_path / "q")
    back = type(q).load(tmp_path / "q")
    assert torch.equal(back.tensors["freqs_cis"], model.freqs_cis)
    back.load_into(model)
