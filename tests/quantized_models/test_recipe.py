"""Recipes by name and as data; a model quantized in one call, its report, and back again."""

import json
import math
import subprocess
import sys
import tomllib
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import quant
from eval.models.load_model import load_demo
from quant import (
    RECIPES,
    DampingWarning,
    GptqConfig,
    LloydMaxConfig,
    ProductConfig,
    QuantizedModel,
    QuantizedTensor,
    Recipe,
    Rule,
    ScalarConfig,
    calibrate,
    quantize,
    quantize_model,
    rtn,
)
from quant.base.config import Config, kind_names
from quant.models.named_quantizers import QUANTIZERS
from quant.models.parameters import roles_of
from quant.models.report import TensorReport, make_table

INT8 = ScalarConfig(bits=8)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Small(nn.Module):
    """All roles: an embedding looked up, matrices, a convolution, a head, vectors, a buffer."""

    def __init__(self, is_tied=False):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.conv = nn.Conv1d(6, 8, 3, padding=1)
        self.inner = nn.Linear(8, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)
        self.gate = nn.Parameter(torch.ones(1, 1, 6))
        self.register_buffer("steps", torch.arange(3))
        if is_tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.conv(self.embed(tokens).mT).mT.relu()
        return self.head(self.norm(self.inner(x)) * self.gate)


@pytest.fixture
def small():
    return Small()


@pytest.fixture
def batches():
    return [torch.randint(0, 11, (4, 20)) for _ in range(3)]


def test_roles(small):
    assert roles_of(small) == {
        "gate": "vector",
        "embed.weight": "embedding",
        "conv.weight": "matrix",
        "conv.bias": "vector",
        "inner.weight": "matrix",
        "inner.bias": "vector",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "head.weight": "head",
    }
    assert roles_of(Small(is_tied=True))["embed.weight"] == "embedding"


def test_the_output_of_a_layer_is_no_head():
    """RWKV's attention, and many others, end in a module ``output``."""
    layer = nn.ModuleDict({"output": nn.Linear(8, 8), "head": nn.Linear(8, 8)})
    model = nn.ModuleDict({"layers": nn.ModuleList([layer]), "output": nn.Linear(8, 8)})
    roles = roles_of(model)
    assert [name for name, role in roles.items() if role == "head"] == ["output.weight"]
    assert roles["layers.0.output.weight"] == roles["layers.0.head.weight"] == "matrix"


def test_roles_of_a_llama(shared):
    pytest.importorskip("transformers")
    from eval.models.load_model import load_model

    roles = roles_of(load_model(str(shared("models/llama-sp1024-1m4")), device="cpu").network)
    assert roles["model.embed_tokens.weight"] == "embedding"
    assert "lm_head.weight" not in roles
    assert sum(role == "matrix" for role in roles.values()) == 28
    assert sum(role == "vector" for role in roles.values()) == 9


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json_and_quantize(name, small, batches):
    recipe = RECIPES[name]
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    q = quantize_model(small, name, calibrate(small, batches, fisher=True), progress=False)
    assert q.tensors.keys() == small.state_dict().keys()
    for report in q.report:
        kept = report.role in ("vector", "buffer")
        assert (report.quantizer == "keep") is kept
        assert isinstance(q.tensors[report.name], torch.Tensor) is kept
        assert (report.error is None) is kept
        assert 0 <= report.relative_mse < 0.3
    whole = 0 if name == "residual" else 1  # two codebooks of 256 hold these few weights
    assert sum(report.share or 0 for report in q.report) == pytest.approx(whole)


def test_the_first_rule_that_takes_a_tensor_applies(small, batches):
    text = """
        name = "mine"
        [[rules]]
        names = "*.bias"
        role = "vector"
        use = "float16"
        [[rules]]
        role = "head"
        use = "keep"
        [[rules]]
        names = "conv.*"
        use = {kind = "product", dim = 2, k = 8}
        [[rules]]
        role = "matrix"
        use = {kind = "gptq", n_passes = 2, inner = {kind = "scalar", bits = 3, clip = "mse"}}
    """
    recipe = Recipe.from_json(tomllib.loads(text))
    assert recipe.rules[3].use == GptqConfig(inner=ScalarConfig(bits=3, clip="mse"), n_passes=2)
    q = quantize_model(small, tomllib.loads(text), batches, progress=False)
    used = {report.name: report.quantizer for report in q.report}
    assert used == {
        "gate": "keep",
        "steps": "keep",
        "embed.weight": "keep",
        "conv.weight": "product dim=2 k=8",
        "conv.bias": "float16",
        "inner.weight": "gptq n_passes=2 of scalar bits=3 clip=mse",
        "inner.bias": "float16",
        "norm.weight": "keep",
        "norm.bias": "float16",
        "head.weight": "keep",
    }
    assert q.tensors["conv.bias"].dtype == torch.float16
    assert q.tensors["steps"].dtype == torch.int64


def test_nested_data():
    stages = [{"kind": "lloyd-max", "k": 4}, {"kind": "product", "dim": 2}]
    rules = [{"use": {"kind": "residual", "stages": stages}}, {"use": {"kind": "gptq"}}]
    recipe = Recipe.from_json({"name": "x", "rules": rules})
    assert recipe.rules[0].use.stages == (LloydMaxConfig(k=4), ProductConfig(dim=2))
    assert recipe.rules[1].use == GptqConfig()


def deep(n):
    """A quantizer within a quantizer, n times."""
    use = {"kind": "lloyd-max"}
    for _ in range(n - 1):
        use = {"kind": "residual", "stages": [use]}
    return use


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        ("int7", "recipe must be one of RECIPES, a file .toml or .json, or a dict of rules, got "
         "'int7'; did you mean int8?"),
        (8, "recipe must be one of RECIPES, a file .toml or .json, or a dict of rules, got 8; "
         "correct it"),
        ({"rules": []}, "a recipe must have name, got rules; add it"),
        ({"nam": "x", "rules": []}, "a recipe may have only name, overrides, rules, sequential, "
         "got 'nam'; did you mean name?"),
        ({"name": "x", "rules": "int8"}, "rules must be a list, got 'int8'; correct it"),
        ({"name": "x", "rules": [], "overrides": 3}, "overrides must be a list, got 3; correct it"),
        ({"name": "x", "rules": [{"use": "keep"}] * 10_001}, "a recipe must have at most 10000 "
         "rules, got 10001; use patterns"),
        ({"name": "x", "rules": [], "sequential": 1}, "sequential must be True or False, got 1; "
         "correct it"),
        *(
            ({"name": name, "rules": []}, "the name of a recipe must be a text of 1..200 bytes "
             f"without / that does not begin with a dot, got {name!r}; files are called after it")
            for name in (3, "", "../up", "a\\b", ".hidden", "two\nlines", "\ud800")
        ),
        ({"name": "x", "rules": ["int8"]}, "rule 1: a rule must be a table with keys, got 'int8'; "
         "correct it"),
        ({"name": "x", "rules": [{"use": "keep"}, {}]}, "rule 2: a rule must have use, got "
         "nothing; add it"),
        ({"name": "x", "rules": [{"use": "keep"}, {"use": "keep", "nmaes": "*"}]}, "rule 2: a rule "
         "may have only names, role, use, got 'nmaes'; did you mean names?"),
        ({"name": "x", "rules": [], "overrides": [{"use": "int9"}]}, "override 1: use must be one "
         "of keep, float16, QUANTIZERS, or the settings of a quantizer, got 'int9'; did you mean "
         "int8?"),
        ({"name": "x", "rules": [{"use": ["int8"]}]}, "rule 1: use must be one of keep, float16, "
         "QUANTIZERS, or the settings of a quantizer, got ['int8']; did you mean int8?"),
        ({"name": "x", "rules": [{"use": "keep", "role": "norm"}]}, "rule 1: role must be one of "
         "any, every, matrix, embedding, head, vector, elementwise, got 'norm'; correct it"),
        *(
            ({"name": "x", "rules": [{"use": "keep", "names": names}]}, "rule 1: names must be a "
             f"pattern of 1..1000 printable characters, got {names!r}; * matches all names")
            for names in (3, "", "a\tb", "\ud800")
        ),
        ({"name": "x", "rules": [{"use": {"kind": "scaler"}}]}, "rule 1: kind must be one of "
         "KINDS, got 'scaler'; did you mean scalar?"),
        ({"name": "x", "rules": [{"use": {}}]}, "rule 1: kind must be one of KINDS, got None; "
         "correct it"),
        ({"name": "x", "rules": [{"use": {"kind": "scalar", "bit": 8}}]}, "rule 1: a scalar "
         "configuration may have only bits, clip, group_size, kind, per, scale_dtype, symmetric, "
         "got 'bit'; did you mean bits?"),
        ({"name": "x", "rules": [{"use": {"kind": "scalar", "bits": 9}}]}, "rule 1: bits must be "
         "an integer in 2..8, got 9; correct it"),
        *(
            ({"name": "x", "rules": [{"use": {"kind": "scalar"}, "role": role}]}, "rule 1: use "
             f"must be keep or float16 for the role {role}, got {ScalarConfig()}; only matrices "
             "are quantized")
            for role in ("vector", "every")
        ),
        ({"name": "x", "rules": [{"use": deep(5)}]}, "rule 1: quantizers must be at most 4 deep in "
         "each other, got more; correct it"),
    ],
)  # fmt: skip
def test_bad_recipes(small, recipe, text):
    with pytest.raises(ValueError) as error:
        quantize_model(small, recipe, progress=False)
    names = {"KINDS": kind_names(), "RECIPES": ", ".join(RECIPES)}
    for word, listed in (names | {"QUANTIZERS": ", ".join(QUANTIZERS)}).items():
        text = text.replace(word, listed)
    assert str(error.value) == text


def test_a_model_gets_what_the_quantizer_gives(small, batches):
    calibration = calibrate(small, batches, fisher=True)
    recipe = replace(RECIPES["gptq-int4"], sequential=False)
    q = quantize_model(small, recipe, calibration, progress=False)
    for name in calibration.names:
        weight, config = small.get_parameter(name), RECIPES["gptq-int4"].rules[0].use
        alone = quantize(weight, config, calibration.cost(name))
        np.testing.assert_array_equal(q.tensors[name].codes, alone.codes)


def test_without_fisher_gptq_of_a_looked_up_embedding_is_rounding(small, batches):
    q = quantize_model(small, "gptq-int4", calibrate(small, batches), progress=False)
    embedding = rtn(small.embed.weight, bits=4, clip="mse")
    np.testing.assert_array_equal(q.tensors["embed.weight"].codes, embedding.codes)
    report = next(report for report in q.report if report.name == "embed.weight")
    assert (report.quantizer, report.error) == ("scalar bits=4 clip=mse", None)


def test_the_report_says_what_was_lost(small, batches):
    calibration = calibrate(small, batches, fisher=True)
    q = quantize_model(small, "int4", calibration, progress=False)
    reports = {report.name: report for report in q.report}
    for name in calibration.names:
        weight = small.get_parameter(name).detach().double().flatten(1).numpy()
        error = weight - q.tensors[name].matrix()
        report = reports[name]
        assert report.error == calibration.error(name, error)
        assert report.relative_mse == pytest.approx(
            np.square(error).sum() / np.square(weight).sum()
        )
        costs = np.diag(error @ calibration.cost(name) @ error.T)
        assert report.error == pytest.approx(calibration.row_weights(name) @ costs)
        assert report.bits_per_weight == q.tensors[name].bits_per_weight
        assert report.seconds > 0
    whole = math.fsum(report.error or 0 for report in q.report)
    for name in calibration.names:
        assert reports[name].share == reports[name].error / whole
    plain = quantize_model(small, "int4", calibrate(small, batches), progress=False)
    of_head = next(report for report in plain.report if report.name == "head.weight")
    error = small.head.weight.detach().double().numpy() - q.tensors["head.weight"].matrix()
    assert of_head.error == pytest.approx(
        np.trace(error @ calibration.hessian("head.weight").matrix() @ error.T)
    )
    assert all(
        report.error is None and report.share is None
        for report in quantize_model(small, "int4", progress=False).report
    )
    assert q.nbytes == sum(tensor.nbytes for tensor in q.tensors.values())
    assert q.n_weights == sum(tensor.numel() for tensor in small.state_dict().values())
    assert q.bits_per_weight == 8 * q.nbytes / q.n_weights
    bits = f"{q.bits_per_weight:.3f}"
    assert repr(q) == f"QuantizedModel(10 tensors, {q.n_weights} weights, {bits} bits a weight)"


def test_the_table():
    common = {"role": "matrix", "shape": (2, 3)}
    reports = [
        TensorReport(
            name="a", quantizer="scalar", bits_per_weight=8.5, relative_mse=1e-4, clipped=0.015,
            error=0.5, share=0.25, seconds=0.5, notes=("a warning",), **common,
        ),
        TensorReport(name="bb", quantizer="float16", bits_per_weight=16.0, error=1.5, share=0.75,
                     **common),
        TensorReport(name="c", role="vector", shape=(3,), quantizer="keep", bits_per_weight=32.0),
    ]  # fmt: skip
    assert make_table(reports, 14.2).splitlines() == [
        "tensor  role    shape  quantizer    bits  rel. MSE  clipped  error  share     s",
        "a       matrix  2x3    scalar      8.500  1.00e-04    1.50%    0.5  25.0%  0.50",
        "bb      matrix  2x3    float16    16.000  0.00e+00             1.5  75.0%  0.00",
        "1 kept          3      keep",
        "all             15                14.200                         2         0.50",
        "a: a warning",
    ]
    assert make_table([], 1.0).splitlines()[-1].split() == ["all", "0", "1.000", "0.00"]


@pytest.mark.parametrize("is_tied", [False, True])
def test_into_a_model_and_through_a_file(is_tied, batches, tmp_path):
    model = Small(is_tied)
    q = quantize_model(model, "int8", progress=False)
    assert q.aliases == ({"head.weight": "embed.weight"} if is_tied else {})
    assert q.save(tmp_path / "q") is None
    again = QuantizedModel.load(tmp_path / "q")
    assert again.tensors.keys() == q.tensors.keys()
    assert (again.aliases, again.report) == (q.aliases, ())
    assert (again.nbytes, again.n_weights) == (q.nbytes, q.n_weights)
    for each in (q, again):
        other = Small(is_tied)
        each.load_into(other)
        for name, value in other.state_dict().items():
            tensor = each.tensors.get(name, each.tensors["embed.weight"])
            is_quantized = isinstance(tensor, QuantizedTensor)
            assert torch.equal(value, tensor.dequantize() if is_quantized else tensor)
        torch.testing.assert_close(other(batches[0]), model(batches[0]), atol=0.05, rtol=0.05)
    untied = Small()
    q.load_into(untied)
    torch.testing.assert_close(untied(batches[0]), other(batches[0]))


def test_the_model_is_as_it_was(small, batches):
    before = {name: value.clone() for name, value in small.state_dict().items()}
    recipe = replace(RECIPES["gptq-int4"], sequential=False)
    q = quantize_model(small, recipe, batches, progress=False)
    with torch.no_grad():
        small.norm.weight += 1  # what was kept is a copy
    q.load_into(small)
    assert torch.equal(small.norm.weight, before["norm.weight"])
    assert not torch.equal(small.inner.weight, before["inner.weight"])
    assert small.training


def test_half_models_stay_half(batches):
    model = Small().to(torch.bfloat16)
    q = quantize_model(model, "int8", batches, progress=False)
    assert q.tensors["inner.weight"].dequantize().dtype == torch.bfloat16
    q.load_into(model)
    assert model.inner.weight.dtype == torch.bfloat16


def test_a_conv1d_of_transformers_is_quantized_by_outputs():
    utils = pytest.importorskip("transformers.pytorch_utils")
    model = nn.Sequential(utils.Conv1D(4, 6))
    q = quantize_model(model, "int8", progress=False).tensors["0.weight"]
    assert q.layout.is_transposed
    assert q.arrays["scales"].shape == (4, 1)
    q = quantize_model(model, "gptq-int8", [torch.randn(9, 6)], progress=False)
    assert q.tensors["0.weight"].layout.is_transposed


def change(model):
    """(mean divergence of the logits that int8 brings, in nats; what was quantized)."""
    tokens = torch.randint(2, 1024, (2, 40))
    with torch.no_grad():
        before = getattr(model(tokens), "logits", model(tokens)).double().log_softmax(-1)
        q = quantize_model(model, "int8", calibrate(model, [tokens], fisher=True))
        q.load_into(model)
        after = getattr(model(tokens), "logits", model(tokens)).double().log_softmax(-1)
    return float((before.exp() * (before - after)).sum(-1).mean()), q


def test_the_demo_is_on_an_int8_grid_and_stays_as_it_is():
    divergence, q = change(load_demo.__wrapped__().network)
    assert abs(divergence) < 1e-9
    assert len(q.tensors) == 27
    assert 8 < q.bits_per_weight < 8.5


def test_the_llama_hardly_changes(shared):
    pytest.importorskip("transformers")
    from eval.models.load_model import load_model

    divergence, q = change(load_model(str(shared("models/llama-sp1024-1m4")), device="cpu").network)
    foretold = sum(report.error or 0 for report in q.report) / 2
    assert divergence == pytest.approx(foretold, rel=0.5)
    assert len(q.tensors) == 38
    assert 8 < q.bits_per_weight < 8.5


def test_short_memory_gives_the_same(batches):
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 9), nn.Linear(9, 5), nn.Linear(5, 4))
    whole = quantize_model(model, "gptq-int4", batches, progress=False)
    short = quantize_model(model, "gptq-int4", batches, memory_limit=8 * 81, progress=False)
    assert short.tensors.keys() == whole.tensors.keys()
    for name, tensor in whole.tensors.items():
        if isinstance(tensor, QuantizedTensor):
            np.testing.assert_array_equal(tensor.codes, short.tensors[name].codes)
    for old, new in zip(whole.report, short.report, strict=True):
        assert (old.name, old.error, old.share) == (new.name, new.error, new.share)


def test_what_gptq_did_is_noted():
    model = nn.Sequential(nn.Linear(4, 3))
    recipe = Recipe(name="x", rules=(Rule(use=GptqConfig(inner=INT8, damp=0.0)),))
    with pytest.warns(
        DampingWarning, match=r"^0\.weight: the Hessian could not be factored"
    ) as all_:
        q = quantize_model(model, recipe, [torch.ones(2, 4)], progress=False)
    report = q.report[0]
    assert report.damp == 1e-8
    assert [str(warning.message) for warning in all_] == [f"0.weight: {report.notes[0]}"]
    assert q.table().splitlines()[-1] == f"0.weight: {report.notes[0]}"


def unreached():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model.forward = model[0].forward
    return model


def spoiled(value):
    model = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight[1, 0] = value
    return model


ONES = [torch.ones(1, 4)]
HALF = {"name": "x", "rules": [{"use": "float16"}]}


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: quantize_model(unreached(), "gptq-int6", ONES, strict=True), "strict needs a "
         "Hessian for each weight whose quantizer uses one, got none for 1.weight; calibrate with "
         "batches that use it, or give it another rule in the recipe"),
        (lambda: quantize_model(Small(), "gptq-int6"), "recipe gptq-int6 needs a calibration for "
         "embed.weight, got none; pass batches, such as those of self_generate"),
        (lambda: quantize_model(spoiled(torch.nan), "int8"), "0.weight: weight must be finite, got "
         "nan in row 1, column 0; look at the training, or leave the tensor out"),
        (lambda: quantize_model(spoiled(1e6), HALF), "0.weight: weights must be finite as float16, "
         "got an overflow; use another rule"),
        (lambda: quantize_model(Small(), "int8", memory_limit=9), "memory_limit needs batches to "
         "calibrate with, got 9 without batches; pass it to calibrate"),
        (lambda: quantize(np.ones((2, 2)), Config()), "config must be a quantizer, got "
         "Config(); its kind is one of KINDS"),
    ],
)  # fmt: skip
def test_errors(call, text):
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == text.replace("KINDS", kind_names())


def test_a_model_of_another_kind_is_refused_and_untouched(small):
    q = quantize_model(small, "int8", progress=False)
    wide = Small()
    wide.head = nn.Linear(6, 12, bias=False)
    more = Small()
    more.extra = nn.Linear(2, 2)
    cases = {
        "head.weight must have the shape that was quantized, (11, 6), got (12, 6); load into a "
        "model of the same kind": wide,
        "the model must have the tensors that were quantized, got differing extra.bias, "
        "extra.weight; load into a model of the same kind": more,
    }
    for text, model in cases.items():
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(ValueError) as error:
            q.load_into(model)
        assert str(error.value) == text
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    "stored", [b"", b"[]", b'{"b": 1}', b'{"b": "c"}', b'{"a": "a"}', b"[" * 99_999]
)
def test_damaged_aliases(stored, tmp_path):
    path = tmp_path / "q"
    aliases = np.frombuffer(stored, np.uint8)
    quant.save(path, {"a": torch.ones(2), "__aliases__": aliases})
    with pytest.raises(ValueError) as error:
        QuantizedModel.load(path)
    assert str(error.value) == (
        "__aliases__ must map further names of tied tensors to their first names, got something "
        f"else in {path}; save the model again"
    )


def test_a_reserved_name(tmp_path):
    model = QuantizedModel(tensors={"__aliases__": torch.ones(2)}, aliases={})
    with pytest.raises(ValueError) as error:
        model.save(tmp_path / "q")
    assert str(error.value) == (
        "__aliases__ is reserved for the file, got a tensor of that name; rename the tensor"
    )


def test_importing_quant_is_light():
    code = "import sys, quant; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert sorted(quant.__all__, key=lambda name: (not name.isupper(), name.islower(), name))
    assert all(hasattr(quant, name) for name in quant.__all__)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(rtn(np.eye(2)), QuantizedTensor)
