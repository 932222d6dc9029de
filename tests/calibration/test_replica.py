"""A copy shares the weights of a model, and changes none of them."""

import pytest
import torch
from torch import nn

from quant import quantize_model
from quant.calibration.replica import Replica
from tests.calibration.test_model_state import TOKENS, Plain, Rescaled


@pytest.fixture
def model():
    return Plain()


def test_weights_share_memory_until_they_are_replaced(model):
    replica = Replica(model, ())
    own, weights = (dict(each.named_parameters()) for each in (replica.model, model))
    assert all(own[name] is not weights[name] for name in weights)
    assert all(own[name].data_ptr() == weights[name].data_ptr() for name in weights)
    assert replica.model.count.data_ptr() != model.count.data_ptr()
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    replica.replace("inner.weight", torch.ones(8, 8, dtype=torch.float64))
    assert torch.equal(replica.model.inner.weight, torch.ones(8, 8))
    assert replica.model.inner.weight.dtype == torch.float32
    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
    replica.share(["inner.weight"])
    assert replica.model.inner.weight.data_ptr() == model.inner.weight.data_ptr()


def test_tied_weights_and_lists_of_weights_see_the_values(model):
    model.head.weight = model.embedding.weight
    model.listed = [model.embedding.weight]
    copy = (replica := Replica(model, ())).model
    replica.replace("embedding.weight", torch.zeros(9, 8))
    for weight in (copy.embedding.weight, copy.head.weight, copy.listed[0]):
        assert not weight.any()
    assert model.listed[0].any()


def test_a_weight_keeps_its_order_in_memory(model):
    model.inner.weight = nn.Parameter(torch.randn(8, 8).T)
    replica = Replica(model, ())
    replica.replace("inner.weight", model.inner.weight.detach())
    assert replica.model.inner.weight.stride() == model.inner.weight.stride()


class Interrupted(Rescaled):
    """Is interrupted in a forward pass, after it has changed a weight in place."""

    left = 10**9

    def forward(self, tokens):
        self.change()
        Interrupted.left -= 1
        if Interrupted.left < 0:
            raise KeyboardInterrupt
        return super().forward(tokens)


@pytest.mark.parametrize("after", [0, 1, 3, 4, 7, 12])
def test_an_interrupted_run_leaves_the_model_as_it_was(after):
    model = Interrupted().train()
    model.head.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    addresses = [weight.data_ptr() for weight in model.parameters()]
    Interrupted.left = after
    with pytest.raises(KeyboardInterrupt):
        quantize_model(model, "gptq-int4", TOKENS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [weight.data_ptr() for weight in model.parameters()] == addresses
    assert model.training
    assert not model.is_rescaled
    assert not model.head.weight.requires_grad
    assert model.inner.weight.requires_grad
