"""Sequential calibration block by block: the results of whole forward passes, for less work."""

import numpy as np
import pytest
import torch
from torch import nn

from eval.models.load_model import load_demo, load_model
from quant import GptqConfig, QuantizedTensor, ScalarConfig, calibrate, quantize_model
from quant.models import sequential
from quant.models.block_chain import NotAChainError, find_blocks
from quant.models.named_recipes import make_recipe

RECIPE = make_recipe("x", GptqConfig(inner=ScalarConfig(bits=3, clip="mse")), sequential=True)
WHOLE = "sequential calibration ran the whole model for each input group: "


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Block(nn.Module):
    """Two matrices and a residual."""

    def __init__(self, n):
        super().__init__()
        self.up, self.down = nn.Linear(n, 2 * n), nn.Linear(2 * n, n)

    def forward(self, x, *, scale=1.0, first=None, calls=None):
        if calls is not None:
            calls.append(1)
            scale = scale / len(calls)
        if first is not None:
            x = x + first.tanh()
        return x + self.down(self.up(x).relu()) * scale


class TupleBlock(Block):
    def forward(self, x, *, first=None):
        return super().forward(x, first=first), None


class Blocks(nn.Module):
    """An embedding, blocks, and a head that is not tied."""

    def __init__(self, depth=3, n=8):
        super().__init__()
        self.embed = nn.Embedding(17, n)
        self.blocks = nn.ModuleList([Block(n) for _ in range(depth)])
        self.norm = nn.LayerNorm(n)
        self.head = nn.Linear(n, 17, bias=False)

    def forward(self, tokens):
        return self.head(self.norm(self.hidden(self.embed(tokens))))

    def hidden(self, x):
        scale = torch.full((), 0.5)
        for block in self.blocks:
            x = block(x, scale=scale)
        return x


class Tuples(Blocks):
    """Blocks return a tuple, and take the hidden state by name."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([TupleBlock(8) for _ in range(3)])

    def hidden(self, x):
        for block in self.blocks:
            x, _ = block(first=None, x=x)
        return x


class Looped(Blocks):
    """The list of blocks is called twice over."""

    def hidden(self, x):
        return super().hidden(super().hidden(x))


class Outer(Blocks):
    """The residual is added outside of the blocks."""

    def hidden(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


class FirstOutput(Blocks):
    """All blocks but the first take the output of the first, too."""

    def hidden(self, x):
        first = x = self.blocks[0](x)
        for block in self.blocks[1:]:
            x = block(x, first=first)
        return x


class Stateful(Blocks):
    """Blocks change an argument that all of them share."""

    def hidden(self, x):
        calls = []
        for block in self.blocks:
            x = block(x, calls=calls)
        return x


class Borrowed(Blocks):
    """A weight of the last block is used outside of it as well."""

    def hidden(self, x):
        return super().hidden(x + self.blocks[2].up(x)[..., :8])


class Pooled(Blocks):
    """The head takes the outputs of all blocks."""

    def hidden(self, x):
        outputs = [x]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return torch.stack(outputs).mean(0)


class InPlace(Blocks):
    """What follows the blocks changes their output in place."""

    def hidden(self, x):
        return super().hidden(x).mul_(2).tanh_()


@pytest.fixture
def batches():
    return [torch.randint(0, 17, (4, 20)), torch.randint(0, 17, (2, 9))]


def quantize_both_ways(model, batches, monkeypatch, recipe=RECIPE):
    """(block by block, by whole forward passes)."""
    calibration = calibrate(model, batches, fisher=True)
    by_blocks = quantize_model(model, recipe, calibration)
    with monkeypatch.context() as patch:
        patch.setattr(sequential.SequentialCalibration, "_chains_at", lambda *_: None)
        return by_blocks, quantize_model(model, recipe, calibration)


def check_same(one, other):
    for name, tensor in one.tensors.items():
        if isinstance(tensor, QuantizedTensor):
            np.testing.assert_allclose(tensor.matrix(), other.tensors[name].matrix(), atol=1e-6)


def notes_of(quantized):
    return [note for report in quantized.report for note in report.notes]


@pytest.mark.parametrize("kind", [Blocks, Tuples, Pooled, InPlace])
def test_blocks_give_what_the_whole_model_gives(kind, batches, monkeypatch):
    model = kind()
    one, other = quantize_both_ways(model, batches, monkeypatch)
    check_same(one, other)
    assert notes_of(one) == []
    assert all(not module._forward_hooks for module in model.modules())
    assert all(not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(("kind", "n_passes"), [(Blocks, 0), (InPlace, 0), (Pooled, 1)])
def test_blocks_run_again_for_the_head_only_if_it_needs_them(kind, n_passes, batches, monkeypatch):
    model, replaced = kind(), []
    calibration = calibrate(model, batches)
    monkeypatch.setattr(
        sequential.SequentialCalibration, "_share_no_more", lambda self: replaced.append(self)
    )
    quantize_model(model, RECIPE, calibration)
    assert len(replaced) == n_passes * len(batches)
    assert all("forward" not in vars(module) for module in model.modules())


def test_so_they_do_in_the_demo(monkeypatch):
    tokens = [torch.randint(0, 1024, (2, 64)), torch.randint(0, 1024, (1, 40))]
    one, other = quantize_both_ways(load_demo().network, tokens, monkeypatch)
    check_same(one, other)
    assert notes_of(one) == []


@pytest.mark.slow
def test_so_they_do_in_a_llama(shared, monkeypatch):
    pytest.importorskip("transformers")
    model = load_model(str(shared("models/llama-sp1024-1m4"))).network
    model.config.use_cache = True
    tokens = [torch.randint(0, 1024, (2, 64))]
    one, other = quantize_both_ways(model, tokens, monkeypatch, "gptq-int4")
    check_same(one, other)
    assert notes_of(one) == []
    assert model.config.use_cache


def test_the_work_grows_with_the_depth_and_not_its_square(batches):
    def calls(depth):
        model = Blocks(depth)
        calibration, seen = calibrate(model, batches), []
        for block in model.blocks:  # attributes that a block counts in are put back
            block.register_forward_hook(lambda *_: seen.append(1))
        quantize_model(model, RECIPE, calibration)
        return len(seen) / 2 / len(batches)  # the copy has the hooks as well

    few, many = calls(3), calls(12)
    # In the model itself: one pass to record, two groups of inputs and the next block's inputs a
    # block, and one pass for the head.
    assert few <= 3 * 5
    assert many <= 12 * 5
    assert few > 3 * 2


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Looped, "the blocks are not called once each, in order"),
        (Outer, "a block does not take the output of the block before it"),
        (Borrowed, "arguments of the blocks depend on weights that are quantized later"),
        (FirstOutput, "arguments of the blocks depend on weights that are quantized later"),
        (Stateful, "the blocks alone give other outputs than the model"),
    ],
)
def test_other_models_run_whole_and_say_so(kind, reason, batches, monkeypatch):
    model = kind()
    one, other = quantize_both_ways(model, batches, monkeypatch)
    check_same(one, other)
    assert notes_of(one) == [WHOLE + reason]
    assert one.table().splitlines()[-1].endswith(reason)


def test_the_blocks_are_the_list_that_owns_most_weights():
    model = Blocks()
    names = ["blocks.0.up.weight", "head.weight"]
    assert find_blocks(model, names) == "blocks"
    model.small = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.unused = nn.ModuleList([nn.Linear(99, 99), nn.Linear(99, 99)])
    assert find_blocks(model, [*names, "small.0.weight"]) == "blocks"
    assert find_blocks(model, [*names, "unused.1.weight"]) == "unused"
    assert find_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), ["0.weight"]) == ""
    for other in (model, nn.ModuleList([nn.Linear(2, 2), nn.Tanh()]), nn.Sequential(model)):
        name = next(name for name, _ in other.named_parameters() if "blocks" not in name)
        with pytest.raises(NotAChainError) as error:
            find_blocks(other, [name])
        assert str(error.value) == "the model has no list of like blocks"
