"""Models as the workbench sees them: any callable, a factory by its name, the demo; refusals."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.data.document import Document
from eval.demo import model as demo
from eval.models.device import find_devices
from eval.models.load_model import load_demo, load_model
from eval.models.wrap import wrap
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.side_car import SideCarTokenizer

FACTORIES = """
import torch
from eval.tokenizers.byte_tokenizer import ByteTokenizer


class Bigram(torch.nn.Module):
    def __init__(self, context=None):
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(256, 256)
        self.noise = torch.nn.Dropout(0.5)
        if context:
            self.context, self.tokenizer = context, ByteTokenizer()

    def forward(self, tokens):
        return self.noise(self.table(tokens)), None  # (logits, loss)


def whole():
    return Bigram(32)


def bare():
    return Bigram()


def function():
    return lambda tokens: torch.zeros(*tokens.shape, 7)


number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """Name of a module of factories in the current directory."""
    name = f"factories_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    return name


@settings(max_examples=40)
@given(st.text(min_size=1, max_size=60))
def test_any_utf8_text_is_encoded_byte_for_byte(text):
    raw = text.encode("utf-8")
    tokenizer = load_demo().tokenizer
    tokens, n_bytes = tokenizer.encode(Document("x", raw))
    assert n_bytes.sum() == len(raw)
    assert (tokens != tokenizer.bos).all()
    assert tokenizer.decode_bytes(tokens) == raw


def test_the_beginning_of_a_document_cannot_be_encoded_from_text():
    tokenizer = load_demo().tokenizer
    name = tokenizer.decode_bytes(np.array([tokenizer.bos]))
    tokens, n_bytes = tokenizer.encode(Document("x", name))
    assert (tokens != tokenizer.bos).all()
    assert n_bytes.sum() == len(name)


def test_logits_never_see_the_token_they_predict(rng):
    model = load_demo()
    tokens = rng.integers(1, model.vocab_size, (2, 20))
    changed = tokens.copy()
    changed[:, 11:] = rng.integers(1, model.vocab_size, (2, 9))
    a, b = model.logits(tokens), model.logits(changed)
    assert a.shape == (2, 20, model.vocab_size)
    np.testing.assert_array_equal(a[:, :11].numpy(), b[:, :11].numpy())
    assert not np.allclose(a[:, 11].numpy(), b[:, 11].numpy())


def test_what_stands_behind_a_text_moves_nothing(rng):
    model = load_demo()
    tokens = rng.integers(1, model.vocab_size, (2, 20))
    padded = np.concatenate([tokens, np.zeros((2, 13), np.int64)], axis=1)
    alone = model.logits(tokens).numpy()
    np.testing.assert_allclose(model.logits(padded)[:, :20].numpy(), alone, rtol=1e-5, atol=1e-5)


def test_a_demo_without_its_files_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "WEIGHTS_PATH", tmp_path / "weights.safetensors")
    with pytest.raises(ValueError) as error:
        load_demo.__wrapped__()
    assert str(error.value) == (
        "the demo needs weights.safetensors, which is missing; reinstall ngrammix"
    )


def test_the_weights_are_small():
    assert demo.WEIGHTS_PATH.stat().st_size <= 1_500_000


def test_the_demo_by_its_name():
    assert load_model("demo") is load_demo()
    short = load_model("demo", context=7)
    assert (short.context, short.name) == (7, load_demo().name)
    moved = load_model("demo", device="cpu")
    assert moved.network is not load_demo().network


@pytest.mark.parametrize(
    "give",
    [
        lambda logits: logits,
        lambda logits: logits.numpy(),
        lambda logits: (logits, None),
        lambda logits: SimpleNamespace(logits=logits),
    ],
)
def test_logits_may_come_in_any_of_these(give):
    def network(tokens):
        assert tokens.dtype == torch.int64
        assert not torch.is_grad_enabled()
        return give(torch.nn.functional.one_hot(tokens, 5).float())

    model = wrap(network, context=4, tokenizer=None)
    assert (model.vocab_size, model.context) == (5, 4)
    assert isinstance(model.tokenizer, SideCarTokenizer)
    logits = np.asarray(model.logits(np.array([[1, 4, 2], [0, 0, 3]])))
    np.testing.assert_array_equal(logits.argmax(-1), [[1, 4, 2], [0, 0, 3]])


def test_a_module_is_put_in_eval_mode_and_named_by_its_weights(factories):
    model = load_model(f"{factories}:whole")
    assert (model.context, model.vocab_size) == (32, 256)
    assert isinstance(model.tokenizer, ByteTokenizer)
    tokens = np.array([[1, 2, 3]])
    model.network.train()
    np.testing.assert_array_equal(model.logits(tokens), model.logits(tokens))
    same = load_model(f"{factories}:bare", context=9, tokenizer="bytes", device="cpu")
    assert same.name == model.name
    assert model.name.startswith("Bigram-")
    with torch.no_grad():
        same.network.table.weight[3, 5] += 1
    other = wrap(same.network, context=9, tokenizer=None)
    assert other.name != model.name


def test_options_take_the_place_of_attributes(factories):
    model = load_model(f"{factories}:whole", context=8, dtype="float64")
    assert model.context == 8
    assert model.logits(np.zeros((1, 2), np.int64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("spec", "options", "text"),
    [
        ("no_such_module:make", {},
         "a model must be importable, got 'no_such_module:make': No module named "
         "'no_such_module'; check the name and the current directory"),
        ("{f}:none", {},
         "a model factory must be a function, got '{f}:none': {f} has no 'none'; name a function "
         "that returns the model"),
        ("{f}:number", {},
         "a model factory must be a function, got '{f}:number': number is a int; name a "
         "function that returns the model"),
        ("{f}:bare", {},
         "context must be given, got none: {f}:bare has no attribute context; pass the tokens "
         "that it reads at once with --context"),
        ("{f}:whole", {"context": 33},
         "context must be at most the 32 that {f}:whole allows, got 33; pass a smaller one"),
        ("{f}:function", {"context": 0},
         "context must be an integer >= 1, got 0 for function.<locals>.<lambda>; pass the tokens "
         "that the model reads at once (--context)"),
        ("{f}:function", {"context": 9, "tokenizer": "bytes"},
         "tokenizer must have at most the 7 tokens of the model, got 256 in bytes; name the "
         "tokenizer "
         "that the model was trained with"),
        ("{f}:whole", {"device": "cuda:99"},
         "device must be one of those that torch can use here ({devices}), got 'cuda:99'; leave it "
         "out for the default"),
        ("{f}:function", {"context": 9, "device": "cpu"},
         "device and dtype need a torch module, got function from {f}:function; leave them "
         "out"),
        ("{f}:whole", {"dtype": "float33"},
         "dtype must be auto, float32, bfloat16, float16 or float64, got 'float33'; leave it out "
         "for the default"),
        ("demo", {"context": 513},
         "context must be at most the 512 that demo allows, got 513; pass a smaller one"),
        ("demo", {"dtype": "bfloat16"},
         "dtype of the demo must be float32, got 'bfloat16'; leave it out"),
    ],
)  # fmt: skip
def test_refused_models(factories, spec, options, text):
    with pytest.raises(ValueError) as error:
        load_model(spec.format(f=factories), **options)
    assert str(error.value) == text.format(f=factories, devices=", ".join(find_devices()))


def zeros(*shape):
    return lambda tokens: torch.zeros(*shape)


@pytest.mark.parametrize(
    ("network", "options", "text"),
    [
        (3, {}, "a model must be callable, got int as int; pass a module, or a function from "
                "tokens to logits"),
        (zeros(1, 1), {"name": "m"},
         "logits must be (B, T, V) = (1, 1, V), got shape (1, 1) from m; return the logits of "
         "every position and of the whole vocabulary"),
        (lambda tokens: None, {"name": "m"},
         "logits must be (B, T, V) = (1, 1, V), got NoneType from m; return the logits of every "
         "position and of the whole vocabulary"),
        (zeros(1, 1, 9), {"context": 2.0, "name": "m"},
         "context must be an integer >= 1, got 2.0 for m; pass the tokens that the model reads at "
         "once (--context)"),
        (zeros(1, 1, 9), {"tokenizer": FastTokenizer(demo.TOKENIZER_PATH, name="t")},
         "tokenizer must have at most the 9 tokens of the model, got 1024 in t; name the "
         "tokenizer that the model was trained with"),
    ],
)  # fmt: skip
def test_refused_callables(network, options, text):
    with pytest.raises(ValueError) as error:
        wrap(network, **({"context": 4, "tokenizer": None} | options))
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (np.zeros((1, 3), np.int64),
         "logits must be (B, T, V) = (1, 3, 9), got shape (1, 1, 9) from m; return the logits of "
         "every position and of the whole vocabulary"),
        (np.zeros((1, 5), np.int64),
         "tokens must be (B, T) with 1 <= T <= 4, got shape (1, 5) for m; cut the text into "
         "windows"),
        (np.zeros(3, np.int64),
         "tokens must be (B, T) with 1 <= T <= 4, got shape (3,) for m; cut the text into windows"),
    ],
)  # fmt: skip
def test_refused_windows(tokens, text):
    model = wrap(zeros(1, 1, 9), context=4, tokenizer=None, name="m")
    with pytest.raises(ValueError) as error:
        model.logits(tokens)
    assert str(error.value).replace(model.name, "m") == text
