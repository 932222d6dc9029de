"""Inside a function that torch compiles the mixer scores as it does outside."""

import numpy as np
import pytest
import torch

from ngrammix import Mixer

V = 11


@pytest.fixture
def loop():
    """(model, batches of tokens), without gradients, as an evaluation has it."""
    torch.manual_seed(0)
    torch._dynamo.reset()
    model = torch.nn.Sequential(torch.nn.Embedding(V, 8), torch.nn.Linear(8, V))
    return model.requires_grad_(False), torch.randint(0, V, (3, 2, 33))


@pytest.mark.parametrize("reduction", ["mean", "none", "sum"])
def test_a_compiled_step_costs_what_it_costs_alone(loop, reduction):
    model, batches = loop
    mixer, alone = Mixer(vocab_size=V), Mixer(vocab_size=V)

    def step(x, y, mixer):
        return 2 * mixer.cross_entropy(model(x), y, reduction=reduction)

    compiled = torch.compile(step, backend="eager")
    for tokens in batches:
        x, y = tokens[:, :-1], tokens[:, 1:]
        assert torch.equal(compiled(x, y, mixer), step(x, y, alone))
    assert mixer.regret_bits == alone.regret_bits
    assert mixer.position == 3 * 2 * 32


def test_every_way_to_score_works_compiled(loop):
    model, batches = loop
    x, y = batches[0][:, :-1], batches[0][:, 1:]

    def use(x, y, mixer):
        logits = model(x)
        nats = mixer.score(logits, y), mixer.trace(logits, y).nats_model
        mixer.boundary()
        mixer.learn([1, 2, 3])
        return *nats, mixer.score_nll(np.ones(4), [1, 2, 3, 4]), mixer.probs(logits[0, 0])

    expected = use(x, y, Mixer(vocab_size=V))
    actual = torch.compile(use, backend="eager")(x, y, Mixer(vocab_size=V))
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_error_comes_out_of_a_compiled_function(loop):
    model, batches = loop
    mixer = Mixer(vocab_size=V)
    compiled = torch.compile(lambda x, y: mixer.cross_entropy(model(x), y), backend="eager")
    with pytest.raises(ValueError, match="pass ignore_index=-1"):
        compiled(batches[0], batches[0] - 1)
    assert mixer.position == 0
