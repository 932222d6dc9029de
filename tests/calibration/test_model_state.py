"""The model is as it was, whatever its forward pass changes."""

import numpy as np
import pytest
import torch
from torch import nn

from quant import QuantizedModel, QuantizedTensor, calibrate, quantize_model, self_generate
from quant.calibration.replica import sharing_copy

TOKENS = [torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(i)) for i in range(3)]


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.inner = nn.Embedding(9, 8), nn.Linear(8, 8, bias=False)
        self.head = nn.Linear(8, 9)
        self.register_buffer("count", torch.zeros(()))
        self.is_rescaled = False

    def change(self):
        pass

    def forward(self, tokens):
        self.change()
        return self.head(self.inner(self.embedding(tokens)).tanh() * (2 if self.is_rescaled else 1))


class Rescaled(Plain):
    """Halves a weight in place on its first forward pass, as RWKV does, and doubles its outputs."""

    def change(self):
        if not self.is_rescaled:
            with torch.no_grad():
                self.inner.weight.div_(2)
            self.is_rescaled = True

    def forward(self, tokens):
        self.change()
        hidden = self.inner(self.embedding(tokens))
        return self.head((hidden * 2 if self.is_rescaled else hidden).tanh())


class Counting(Plain):
    """Counts in a buffer, and keeps its last activation."""

    def forward(self, tokens):
        self.count += 1
        hidden = self.embedding(tokens)
        self.kept = [hidden.square().mean()]
        return self.head(self.inner(hidden).tanh() * (1 + 0 * self.count))


@pytest.mark.parametrize("kind", [Rescaled, Counting])
@pytest.mark.parametrize("recipe", ["int8", "gptq-int4"])
def test_weights_buffers_and_attributes_are_put_back(kind, recipe):
    model = kind().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = set(vars(model))
    q = quantize_model(model, recipe, TOKENS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(vars(model)) == attributes
    assert not model.is_rescaled
    assert model.training
    plain = quantize_model(Plain(), recipe, TOKENS)
    for name, tensor in plain.tensors.items():
        if isinstance(tensor, QuantizedTensor):  # as of the model that changes nothing
            np.testing.assert_allclose(q.tensors[name].matrix(), tensor.matrix(), atol=1e-5)


@pytest.mark.parametrize("kind", [Rescaled, Counting])
def test_self_generation_puts_them_back_too(kind):
    model = kind().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = set(vars(model))
    batches = self_generate(model, 24, context=6, bos=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert set(vars(model)) == attributes
    assert not model.is_rescaled
    assert model.training
    for one, other in zip(batches, self_generate(Plain(), 24, context=6, bos=0), strict=True):
        assert torch.equal(one, other)  # as of the model that changes nothing


def test_a_model_that_ran_before_is_copied():
    model = Counting()
    model(TOKENS[0])
    assert not model.kept[0].is_leaf
    copy = sharing_copy(model)
    assert copy.kept[0] == model.kept[0]
    assert copy.inner.weight is not model.inner.weight
    assert isinstance(quantize_model(model, "gptq-int6", TOKENS), QuantizedModel)
    assert not model.kept[0].is_leaf


def test_a_change_that_comes_late_is_refused():
    class Late(Plain):
        def forward(self, tokens):
            if tokens is TOKENS[2]:
                with torch.no_grad():
                    self.inner.weight.mul_(2)
            return super().forward(tokens)

    with pytest.raises(ValueError) as error:
        calibrate(Late(), TOKENS)
    assert str(error.value) == (
        "inner.weight must not be changed by a later forward pass than the first, got a change in "
        "place; quantize a copy of the model in eval mode"
    )


def test_noise_is_the_same_in_the_model_and_its_copy():
    class Noisy(Plain):
        def forward(self, tokens):
            hidden = self.inner(self.embedding(tokens))
            return self.head(hidden + torch.randn_like(hidden))

    state = torch.get_rng_state()
    quantize_model(Noisy(), "gptq-int4", TOKENS)
    torch.manual_seed(0)  # as a model's constructor does
    model = Noisy()
    torch.set_rng_state(state)
    q = quantize_model(model, "gptq-int4", TOKENS)
    assert torch.equal(torch.get_rng_state(), state)
    again = quantize_model(model, "gptq-int4", TOKENS)
    np.testing.assert_array_equal(
        q.tensors["head.weight"].codes, again.tensors["head.weight"].codes
    )
