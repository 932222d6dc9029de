"""The parameters that a forward pass changes are found, and put back."""

import pytest
import torch
from torch import nn

from quant import calibrate
from quant.calibration.writes import changing_parameters
from tests.calibration.test_model_state import TOKENS, Counting, Plain, Rescaled


class Changing(Plain):
    """Writes to a weight in one of many ways."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    @torch.no_grad()
    def change(self):
        self.write(self.inner.weight)


WRITES = {
    "in place": lambda weight: weight.mul_(2),
    "by an operator": lambda weight: weight.__imul__(2),
    "to a view": lambda weight: weight[2:4].T.zero_(),
    "to an item": lambda weight: weight.__setitem__(1, 7.0),
    "to the data": lambda weight: weight.data.add_(1),
    "as a result": lambda weight: torch.mul(weight, 2, out=weight.data),
    "as one of a list": lambda weight: torch._foreach_mul_([weight], 2),
    "as a copy": lambda weight: weight.copy_(torch.ones(8, 8)),
    "at random": lambda weight: nn.init.normal_(weight),
}


@pytest.mark.parametrize("way", WRITES)
def test_a_write_is_found_and_undone(way):
    model = Changing(WRITES[way]).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert changing_parameters(model, TOKENS[0]) == {"inner.weight"}
    assert calibrate(model, TOKENS).changing == {"inner.weight"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training


@pytest.mark.parametrize(
    ("kind", "names"), [(Plain, set()), (Counting, set()), (Rescaled, {"inner.weight"})]
)
def test_models_that_change_something_else_or_nothing(kind, names):
    model = kind()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert changing_parameters(model, TOKENS[0]) == names
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_weight_that_is_two_is_two():
    model = Changing(lambda weight: weight.mul_(2))
    model.other = nn.Parameter(model.inner.weight.data)
    before = model.inner.weight.detach().clone()
    assert changing_parameters(model, TOKENS[0]) == {"inner.weight", "other"}
    assert torch.equal(model.inner.weight, before)


def test_a_pass_that_fails_says_nothing_and_leaves_the_model():
    def fail(weight):
        weight.mul_(2)
        raise RuntimeError

    model = Changing(fail)
    before = model.inner.weight.detach().clone()
    assert changing_parameters(model, TOKENS[0]) is None
    assert torch.equal(model.inner.weight, before)
    with pytest.raises(RuntimeError):
        calibrate(model, TOKENS)
    assert torch.equal(model.inner.weight, before)


def test_code_that_takes_no_watcher_is_calibrated_by_copies(monkeypatch):
    def refuse(*_):
        raise NotImplementedError

    monkeypatch.setattr("quant.calibration.writes.written", refuse)
    model = Rescaled()
    before = model.inner.weight.detach().clone()
    assert changing_parameters(model, TOKENS[0]) is None
    assert calibrate(model, TOKENS).changing == {"inner.weight"}
    assert torch.equal(model.inner.weight, before)
