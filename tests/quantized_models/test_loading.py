"""Into a model: from the device meta, with ties and prefixes; or refused, and untouched."""

import weakref

import pytest
import torch
from torch import nn

from quant import quantize_model
from quant.models import loading
from quant.models.loading import PrefixWarning


class Small(nn.Module):
    def __init__(self, is_tied=False):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(8, 4)
        self.head = nn.Linear(4, 8, bias=False)
        self.register_buffer("scale", torch.full((), 3.0))
        if is_tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        return self.head(self.embedding(tokens)) * self.scale


TOKENS = torch.arange(8)[None]


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_model_on_the_device_meta_is_put_into_memory(is_tied):
    q = quantize_model(Small(is_tied), "int8")
    with torch.device("meta"):
        model = Small(is_tied)
    model.head.weight.requires_grad_(False)
    q.load_into(model)
    right = Small(is_tied)
    q.load_into(right)
    assert torch.equal(model(TOKENS), right(TOKENS))
    assert (model.head.weight is model.embedding.weight) is is_tied
    assert not model.head.weight.requires_grad


def test_names_of_compiled_and_parallel_models_match_with_a_warning():
    q = quantize_model(Small(), "int8")
    right = Small()
    q.load_into(right)

    class Wrapped(nn.Module):
        def __init__(self, name):
            super().__init__()
            self.add_module(name, Small())

    for name in ("_orig_mod", "module"):
        model = Wrapped(name)
        with pytest.warns(PrefixWarning, match="prefixes _orig_mod. and module."):
            q.load_into(model)
        assert torch.equal(model.get_submodule(name)(TOKENS), right(TOKENS))
        plain = Small()
        with pytest.warns(PrefixWarning):
            quantize_model(model, "int8").load_into(plain)
    inner = nn.Sequential(Wrapped("_orig_mod"), nn.Linear(2, 2))
    outer = nn.Sequential(Small(), nn.Linear(2, 2))
    with pytest.warns(PrefixWarning):
        quantize_model(inner, "int8").load_into(outer)


def make_half():
    return Small().half()


def on_meta_with_a_buffer_of_its_own():
    with torch.device("meta"):
        model = Small()
    model.register_buffer("cache", torch.zeros(2, device="meta"), persistent=False)
    return model


@pytest.mark.parametrize(
    ("change", "make", "text"),
    [
        (lambda m: m, lambda: Small(is_tied=True), "head.weight must be equal to embedding.weight, "
         "to which the model ties it, got other values in the file; load into a model that does "
         "not tie them"),
        (lambda m: m.embedding.weight.data.fill_(1e5), make_half, "embedding.weight must hold "
         "weights up to 1e+05, got torch.float16, in which they are infinite; load into a model of "
         "float32 or bfloat16"),
        (lambda m: m, on_meta_with_a_buffer_of_its_own, "cache must be in memory, got the device "
         "meta: it is not part of the state; make the model on the CPU"),
        (lambda m: m, lambda: {"a": 1}, "model must be a torch.nn.Module, got dict; pass the "
         "module itself"),
    ],
)  # fmt: skip
def test_what_is_refused_is_untouched(change, make, text):
    source = Small()
    change(source)
    q, model = quantize_model(source, "int8"), make()
    state = model.state_dict() if isinstance(model, nn.Module) else {}
    before = {name: value.clone() for name, value in state.items()}
    with pytest.raises(ValueError) as error:
        q.load_into(model)
    assert str(error.value) == text
    assert all(value.is_meta or torch.equal(value, before[name]) for name, value in state.items())


def test_equal_values_may_be_tied():
    model = Small()
    with torch.no_grad():
        model.head.weight.copy_(model.embedding.weight)
    tied = Small(is_tied=True)
    quantize_model(model, "int8").load_into(tied)
    assert tied.head.weight is tied.embedding.weight


def test_values_that_are_equal_in_the_dtype_of_the_model_may_be_tied():
    model = Small()
    with torch.no_grad():
        model.head.weight.copy_(model.embedding.weight * (1 + 1e-6))
    rule = {"name": "kept", "rules": [{"use": "keep"}]}
    q = quantize_model(model, rule)
    assert not torch.equal(q.tensors["head.weight"], q.tensors["embedding.weight"])
    tied = Small(is_tied=True).bfloat16()
    q.load_into(tied)
    assert torch.equal(tied.head.weight, model.embedding.weight.bfloat16())


def test_a_model_without_weights():
    q = quantize_model(nn.Sequential(nn.ReLU()), "int6")
    assert repr(q) == "QuantizedModel(0 tensors, 0 weights, 0.000 bits a weight)"
    assert q.table().splitlines()[-1].split() == ["all", "0", "0.000", "0.00"]


def test_one_float_tensor_at_a_time_is_in_memory(monkeypatch):
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(8)))
    q = quantize_model(model, "int8")
    alive, most = set(), 0
    decode = loading.dequantized

    def counted(tensor):
        nonlocal most
        values = decode(tensor)
        alive.add(id(values))
        weakref.finalize(values, alive.discard, id(values))
        most = max(most, len(alive))
        return values

    monkeypatch.setattr(loading, "dequantized", counted)
    q.load_into(model)
    assert most <= 2  # the last one, until the next takes its name
    with torch.device("meta"):
        on_meta = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(8)))
    q.load_into(on_meta)
    assert most <= 2
    for one, other in zip(model.parameters(), on_meta.parameters(), strict=True):
        assert torch.equal(one, other)
