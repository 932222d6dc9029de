"""Recipes in files, overrides by name, patterns of modules, and what strict refuses."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant import (
    RECIPES,
    GptqConfig,
    LloydMaxConfig,
    ProductConfig,
    QuantizedTensor,
    Recipe,
    ResidualConfig,
    Rule,
    ScalarConfig,
    calibrate,
    load_recipe,
    quantize_model,
    save_recipe,
)
from quant.models.named_quantizers import QUANTIZERS, SEQUENTIAL
from quant.models.parameters import ROLES
from quant.models.recipe_file import find_recipe, to_toml

TOKENS = [torch.randint(0, 16, (4, 12), generator=torch.Generator().manual_seed(0))]
BY_HAND = """
# Four bits for the experts, eight elsewhere.
name = "mine"

[[rules]]
names = "lm_head"
use = "keep"

[[rules]]
names = "*.experts.*"
use = {kind = "gptq", inner = {kind = "scalar", bits = 4, clip = "mse"}}

[[rules]]
use = "int8"
"""


def test_a_file_written_by_hand(tmp_path):
    (tmp_path / "mine.toml").write_text(BY_HAND)
    recipe = load_recipe(tmp_path / "mine.toml")
    assert recipe == Recipe(
        name="mine",
        rules=(
            Rule(names="lm_head", use="keep"),
            Rule(names="*.experts.*", use=GptqConfig(inner=ScalarConfig(bits=4, clip="mse"))),
            Rule(use=ScalarConfig(bits=8)),
        ),
    )
    (tmp_path / "mine.JSON").write_text(json.dumps(tomllib.loads(BY_HAND)), "utf-8-sig")
    (tmp_path / "int8").write_text(BY_HAND)
    (tmp_path / "plain").write_text(BY_HAND)
    for name in ("mine.toml", "mine.JSON", "plain"):
        assert find_recipe(str(tmp_path / name)) == find_recipe(tmp_path / name) == recipe


def test_a_name_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "int8").write_text(BY_HAND)
    assert find_recipe("int8") == RECIPES["int8"]
    assert find_recipe("./int8").name == "mine"


SCALARS = st.builds(
    ScalarConfig, bits=st.integers(2, 8), symmetric=st.booleans(),
    clip=st.sampled_from(["mse", "sd:12.85", "hessian"]),
    scale_dtype=st.sampled_from(["float16", "float32"]),
)  # fmt: skip
BOOKS = st.one_of(
    st.builds(LloydMaxConfig, k=st.integers(2, 256), group_size=st.none() | st.integers(1, 99)),
    st.builds(ProductConfig, dim=st.integers(1, 64), seed=st.integers(0, 2**63 - 1)),
)
QUANTIZER = st.one_of(
    SCALARS,
    BOOKS,
    st.builds(ResidualConfig, stages=st.lists(BOOKS, min_size=1, max_size=3).map(tuple)),
    st.builds(GptqConfig, inner=SCALARS, damp=st.floats(0, 1), act_order=st.booleans()),
    st.sampled_from(list(QUANTIZERS)),
)
NAMES = st.text(min_size=1, max_size=20).filter(str.isprintable)
RULES = st.one_of(
    st.builds(Rule, use=QUANTIZER, names=NAMES, role=st.sampled_from(["any", "head", "matrix"])),
    st.builds(
        Rule, use=st.sampled_from(["keep", "float16"]), names=NAMES,
        role=st.sampled_from(["any", "every", *ROLES]),
    ),
)  # fmt: skip
MANY = st.lists(RULES, max_size=4).map(tuple)


@given(MANY, MANY, st.booleans(), st.sampled_from(["x", 'a "b" c', "\u4f60 'n'"]))
def test_every_recipe_survives_its_file(tmp_path_factory, rules, overrides, is_sequential, name):
    recipe = Recipe(name=name, rules=rules, overrides=overrides, sequential=is_sequential)
    assert Recipe.from_json(tomllib.loads(to_toml(recipe))) == recipe
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize("suffix", [".toml", ".json"])
@pytest.mark.parametrize("name", RECIPES)
def test_named_recipes_survive_a_file(tmp_path, name, suffix):
    save_recipe(tmp_path / f"r{suffix}", RECIPES[name])
    assert load_recipe(tmp_path / f"r{suffix}") == RECIPES[name]


def test_the_toml_is_short():
    recipe = RECIPES["gptq-int4"].override({"lm_head": "int8", "*norm*": "float16"})
    assert to_toml(recipe).splitlines() == [
        'name = "gptq-int4"', "sequential = true", "",
        "[[overrides]]", 'names = "lm_head"', 'use = "int8"', "",
        "[[overrides]]", 'names = "*norm*"', 'role = "every"', 'use = "float16"', "",
        "[[rules]]", 'use = "gptq-int4"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("r.toml", None, "a recipe must be a file, got PATH; check the path"),
        ("r.json", None, "a recipe must be a file, got PATH; check the path"),
        ("r.toml", b"x" * (2**20 + 1), "a recipe must have at most 1048576 bytes, got more in "
         "PATH; name another file"),
        ("r.toml", b"name", "a recipe must be TOML, got PATH: Expected '=' after a key in a "
         "key/value pair (at end of document); correct it"),
        ("r.toml", b"\xff", "a recipe must be TOML, got PATH: 'utf-8' codec can't decode byte 0xff "
         "in position 0: invalid start byte; correct it"),
        ("r.json", b"{", "a recipe must be JSON, got PATH: Expecting property name enclosed in "
         "double quotes: line 1 column 2 (char 1); correct it"),
        ("r.json", b'{"name": 1, "name": 2}', "a recipe must be JSON, got PATH: a name comes twice "
         "in an object of JSON; correct it"),
        ("r.json", b"[1]", "PATH: a recipe must be a table with keys, got [1]; correct it"),
        ("r.toml", b"name = 'x'", "PATH: a recipe must have rules, got name; add it"),
        ("r.toml", b"name = 'x'\n[[rules]]\nuse = 'int8'\n[[rules]]\nnmaes = 'a'\n", "PATH: rule "
         "2: a rule may have only names, role, use, got 'nmaes'; did you mean names?"),
        ("r.toml", b"name = 'x'\n[[rules]]\nuse = {kind = 'gptq', damp = 2.0}\n", "PATH: rule 1: "
         "damp must be a number in [0, 1], got 2.0; 0.01 is usual"),
    ],
)  # fmt: skip
def test_files_that_are_no_recipes(tmp_path, name, text, error):
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text)
    for read in (load_recipe, lambda path: find_recipe(str(path))):
        with pytest.raises(ValueError) as raised:
            read(path)
        assert str(raised.value) == error.replace("PATH", str(path))


@pytest.mark.parametrize("text", ["[" * 50_000, '{"name": ' * 50_000, '{"rules": ' + "[" * 50_000])
@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_deep_and_long_files_are_one_short_line(tmp_path, suffix, text):
    path = tmp_path / f"r{suffix}"
    path.write_text(text)
    with pytest.raises(ValueError) as raised:
        load_recipe(path)
    assert len(str(raised.value)) < 500 + len(str(path))
    for value in ('"' + "x" * 10**6 + '"', "[" + "1, " * 10**5 + "]", "9" * 4000):
        for key in ("names", "role", "use", "sequential"):
            rule = f"{key} = {value}\n" + ("" if key == "use" else 'use = "keep"\n')
            path.with_suffix(".toml").write_text(f'name = "x"\n[[rules]]\n{rule}')
            with pytest.raises(ValueError) as raised:
                load_recipe(path.with_suffix(".toml"))
            assert len(str(raised.value)) < 900 + len(str(path))


class Small(nn.Module):
    """A tied head, two blocks with a norm and a control tensor, and an LSTM that hides weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wte, self.lm_head = nn.Embedding(16, 32), nn.Linear(32, 16, bias=False)
        self.lm_head.weight = self.wte.weight
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"mixer": nn.Sequential(nn.Linear(32, 32)), "norm": nn.LayerNorm(32)})
            for _ in "ab"
        )
        for block in self.blocks:
            block.mixer.A_log = nn.Parameter(torch.randn(32, 20))

    def forward(self, tokens):
        x = self.wte(tokens)
        for block in self.blocks:
            x = x + block.norm(block.mixer(x)) * block.mixer.A_log.mean(1).exp()
        return self.lm_head(x)


def used(recipe, model=None):
    """What each tensor was quantized by, in short."""
    report = quantize_model(model or Small(), recipe).report
    return {r.name: r.quantizer.removeprefix("scalar ") for r in report}


@pytest.mark.parametrize("names", ["lm_head", "wte", "lm_head.weight", "*_head*", "wt?"])
def test_a_tied_head_is_overridden_by_both_names(names):
    assert used(RECIPES["int4"].override({names: "int8"}))["wte.weight"] == "bits=8"


def test_overrides_come_first_and_the_first_of_them_applies():
    recipe = RECIPES["int4"].override({"blocks.0.mixer.0.weight": "int8", "blocks": "keep"})
    result = used(recipe.override({"blocks.1.mixer": "int6"}))
    assert result["blocks.0.mixer.0.weight"] == "bits=8"
    assert result["blocks.1.mixer.0.weight"] == "clip=sd:12.85"
    assert result["wte.weight"] == "bits=4 clip=mse"
    assert result["blocks.0.norm.weight"] == result["blocks.1.mixer.A_log"] == "keep"


def test_keep_and_float16_take_every_role_and_quantizers_only_matrices():
    halved = used(RECIPES["int4"].override({"blocks.1": "float16"}))
    assert {v for name, v in halved.items() if name.startswith("blocks.1")} == {"float16"}
    half = Recipe(name="x", rules=(Rule(role="vector", use="float16"), Rule(use="int8")))
    kept = used(half.override({"*.norm": "keep"}))
    assert (kept["blocks.0.norm.bias"], kept["blocks.0.mixer.0.bias"]) == ("keep", "float16")
    module = used(Recipe(name="x", rules=(Rule(names="*.mixer", use="int8"),)))
    assert (module["blocks.0.mixer.0.weight"], module["blocks.0.mixer.A_log"]) == ("bits=8", "keep")
    assert module["blocks.0.mixer.0.bias"] == "keep"


def test_an_override_may_leave_a_rule_without_tensors_but_no_other_override():
    recipe = Recipe(name="x", rules=(Rule(names="lm_head*", use="int8"), Rule(use="int4")))
    assert used(recipe.override({"wte": "keep"}))["wte.weight"] == "keep"
    with pytest.raises(ValueError) as raised:
        used(recipe.override({"wte": "keep", "lm_head": "int8"}))
    assert str(raised.value) == (
        "a rule must take a tensor, got 'lm_head', which takes none: the rule 'wte' before it "
        "takes wte.weight; put it before that one, or leave one out"
    )


@pytest.mark.parametrize(
    ("names", "near"),
    [("lm_haed", "lm_head"), ("mixr", "*.mixer"), ("blocks.0.mixr", "blocks.0.mixer")],
)
def test_a_pattern_that_takes_nothing_names_one_that_takes_something(names, near):
    with pytest.raises(ValueError) as raised:
        used(RECIPES["int4"].override({names: "int8"}))
    assert str(raised.value) == (
        f"a rule must take a tensor, got {names!r}, which takes none: no parameter has that name; "
        f"did you mean {near}?"
    )
    assert used(RECIPES["int4"].override({near: "int8"})) != used("int4")


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_name_in_a_rule_means_what_the_recipe_of_that_name_means(name):
    whole = Recipe.from_json({"name": name, "rules": [{"use": name}]})
    assert whole == RECIPES[name]
    over = RECIPES["int8"].override({"blocks.0": name})
    assert (over.sequential, over.overrides[0].use) == (name in SEQUENTIAL, QUANTIZERS[name])
    plain = replace(RECIPES["gptq-int8"], sequential=False)
    assert not plain.override({"blocks.0": name}).sequential
    assert RECIPES["gptq-int8"].override({"blocks.0": name}).sequential


def test_a_path_in_python(tmp_path):
    save_recipe(tmp_path / "r.toml", RECIPES["int4"])
    for path in (tmp_path / "r.toml", str(tmp_path / "r.toml")):
        assert used(path) == used("int4")


def test_strict_refuses_what_would_be_noted():
    def half(model):
        return [quantize_model(model, "nf4"), quantize_model(model, "nf4", strict=True)]

    model = nn.Sequential(nn.Linear(64, 4))
    assert all(isinstance(q.tensors["0.weight"], QuantizedTensor) for q in half(model))
    with torch.no_grad():
        model[0].weight *= 1e-9  # whose scales float16 does not hold
    with pytest.warns(UserWarning, match="float32 was used"), pytest.raises(ValueError) as raised:
        half(model)
    assert str(raised.value) == (
        "strict needs each tensor quantized as the recipe says, got a note on 0.weight: NOTE; give "
        "it another rule in the recipe, or leave strict out"
    ).replace("NOTE", str(raised.value).partition("0.weight: ")[2].rpartition("; give")[0])
    assert "float32 was used" in str(raised.value)


class Last(nn.Module):
    """A model that returns logits of the last position only."""

    def __init__(self):
        super().__init__()
        self.wte, self.head = nn.Embedding(16, 8), nn.Linear(8, 16)

    def forward(self, tokens):
        return self.head(self.wte(tokens)[:, -1:])


def test_strict_refuses_a_calibration_that_is_noted():
    calibration = calibrate(Last(), TOKENS)
    assert calibration.note
    quantize_model(Last(), "gptq-int8", calibration)
    with pytest.raises(ValueError) as raised:
        quantize_model(Last(), "gptq-int8", calibration, strict=True)
    assert str(raised.value).startswith(
        f"strict needs each tensor quantized as the recipe says, got a note on the model: "
        f"{calibration.note}; give"
    )


def test_strict_refuses_a_dtype_that_is_kept_before_any_work():
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight = nn.Parameter(model[0].weight.detach().to(torch.float8_e4m3fn), False)
    with pytest.raises(ValueError, match=r"got a note on 0\.weight: kept: it is float8_e4m3fn"):
        quantize_model(model, "int6", strict=True)


def test_a_calibrated_model_passes_strict():
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    inputs = [torch.randn(32, 8, generator=torch.Generator().manual_seed(0))]
    loose = quantize_model(model, "gptq-int4", inputs)
    strict = quantize_model(model, "gptq-int4", inputs, strict=True)
    for name in ("0.weight", "1.weight"):
        np.testing.assert_array_equal(loose.tensors[name].codes, strict.tensors[name].codes)
