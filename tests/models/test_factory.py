"""Factories of models: what they return, and one line for everything that goes wrong."""

import pytest

from eval.models.load_model import load_model

MODULE = """
import torch

class GPT(torch.nn.Module):
    def __init__(self, config, depth, width=3):
        super().__init__()

    @classmethod
    def trained(cls):
        return lambda tokens: torch.zeros(*tokens.shape, 7)

def keyword(*, path):
    pass

def options(*args, **kwargs):
    return lambda tokens: torch.zeros(*tokens.shape, 7)

def missing():
    return {}["weights"]

def deep():
    return torch.zeros(3).view(7)

def leaves():
    raise SystemExit("no checkpoint\\nhere")

def silent():
    raise RuntimeError

def nothing():
    options()

def a_class():
    return GPT

def state():
    return {"a": torch.zeros(3)}

def pair():
    return options(), None

class Tokenizer:
    def encode(self, text): ...
    def decode(self, ids): ...
    def __call__(self, text): ...

class Own:
    name, vocab_size, context, tokenizer = "own", 7, 4, None
    def __init__(self, **attributes):
        self.__dict__ |= attributes
    def logits(self, tokens):
        return torch.zeros(*tokens.shape, 7)

def counted():
    return Own(vocab_size="x")

def endless():
    return Own(context=0)

def numbered():
    return Own(name=7)

class Broken(Own):
    @property
    def logits(self):
        raise OSError("no disk")

def property_fails():
    return Broken()

def without_tokenizer():
    return Own()

def without_name():
    return Own(name=None)

number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a module in the current directory."""
    name = f"models_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def refusal(spec):
    with pytest.raises(ValueError) as error:
        load_model(spec, context=8)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("factory", ["options", "GPT.trained"])
def test_factories_may_take_options_and_be_methods(module, factory):
    assert load_model(f"{module}:{factory}", context=8).vocab_size == 7


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("GPT", "must need no arguments, got {s!r}, which needs config, depth; write a function "
                "that returns GPT(...) and name it"),
        ("keyword", "must need no arguments, got {s!r}, which needs path; write a function that "
                    "returns keyword(...) and name it"),
        ("missing", "must return a model, got {s!r}, which raised KeyError: 'weights' ({m}.py, "
                    "line 19); correct it"),
        ("deep", "must return a model, got {s!r}, which raised RuntimeError: shape '[7]' is "
                 "invalid for input of size 3 ({m}.py, line 22); correct it"),
        ("leaves", "must return a model, got {s!r}, which raised SystemExit: no checkpoint ({m}.py,"
                   " line 25); correct it"),
        ("silent", "must return a model, got {s!r}, which raised RuntimeError ({m}.py, line 28); "
                   "correct it"),
        ("counted", "must return a model, got {s!r}, which returned a model whose vocab_size is "
                    "'x'; make it an integer >= 1"),
        ("endless", "must return a model, got {s!r}, which returned a model whose context is 0; "
                    "make it an integer >= 1"),
        ("numbered", "must return a model, got {s!r}, which returned a model whose name is a int; "
                     "make it a text"),
        ("property_fails", "must return a model, got {s!r}, which raised OSError: no disk ({m}.py, "
                           "line 66); correct it"),
        ("nothing", "must return a model, got {s!r}, which returned None; end the function with "
                    "return model"),
        ("a_class", "must return a model, got {s!r}, which returned the class GPT; return an "
                    "instance with its weights"),
        ("state", "must return a model, got {s!r}, which returned an object of type dict; return a "
                  "torch module, or a function from tokens to logits"),
        ("pair", "must return a model, got {s!r}, which returned a tuple of 2; return the model "
                 "alone"),
        ("Tokenizer", "must return a model, got {s!r}, which returned a tokenizer, Tokenizer; "
                      "return the model, and pass the tokenizer with --tokenizer"),
        ("number", "must be a function, got {s!r}: number is a int; name a function that returns "
                   "the model"),
        ("GPT.train_ed", "must be a function, got {s!r}: {m} has no 'GPT.train_ed'; name a "
                         "function that returns the model"),
        ("optoins", "must be a function, got {s!r}: {m} has no 'optoins'; did you mean options?"),
        ("", "must be package.module:factory, got {s!r}; name a function that returns the model"),
    ],
)  # fmt: skip
def test_refused_factories(module, factory, text):
    spec = f"{module}:{factory}"
    assert refusal(spec) == f"a model factory {text.format(s=spec, m=module)}"


def test_what_a_model_of_a_factory_lacks_is_made_up(module):
    model = load_model(f"{module}:without_tokenizer")
    assert (model.name, model.vocab_size, model.context) == ("own", 7, 4)
    assert model.tokenizer.name == "none"
    assert load_model(f"{module}:without_name").name.startswith("Own.logits-")


def test_a_path_in_the_place_of_a_module_runs_nothing(module, tmp_path):
    (tmp_path / "train.py").write_text("raise KeyError")
    assert refusal("train.py:make") == (
        "a model factory must be package.module:factory, got the path 'train.py:make'; pass "
        "train:make and start in its folder"
    )
    assert refusal("scripts/train.py:") == (
        "a model factory must be package.module:factory, got the path 'scripts/train.py:'; pass "
        "train:factory and start in scripts"
    )


@pytest.mark.parametrize(
    ("content", "raised"),
    [
        ("x = 1\nimport no_such_library\n",
         "ModuleNotFoundError: No module named 'no_such_library' ({m}.py, line 2)"),
        ("x = 1\n\nassert x == 2, 'two\\nlines'\n", "AssertionError: two ({m}.py, line 3)"),
        ("import sys\nsys.exit(1)\n", "SystemExit: 1 ({m}.py, line 2)"),
        ("def make(:\n", "SyntaxError: invalid syntax ({m}.py, line 1)"),
    ],
)  # fmt: skip
def test_a_module_that_fails_is_named_with_its_line(module, tmp_path, content, raised):
    name = f"failing_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(content)
    assert refusal(f"{name}:make") == (
        f"a model must be importable, got '{name}:make', whose module raised "
        f"{raised.format(m=name)}; correct it"
    )


def test_a_typo_in_the_module_is_found(module):
    assert refusal(f"{module}x:options") == (
        f"a model must be importable, got '{module}x:options': No module named '{module}x'; did "
        f"you mean {module}?"
    )
    assert refusal("..models:options") == (
        "a model factory must be package.module:factory, got '..models:options'; name a function "
        "that returns the model"
    )
