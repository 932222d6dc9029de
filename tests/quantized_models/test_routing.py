"""Sequential calibration where activations choose the rows: paired by token, never by position."""

import numpy as np
import pytest
import torch
from torch import nn

from quant import RECIPES, QuantizedTensor, Recipe, calibrate, quantize_model
from quant.models.pairing import Inputs, match, paired

V, D = 32, 16


class ExpertChoice(nn.Module):
    """Each of four experts takes the quarter of the rows that it scores highest."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D, 4, bias=False)
        self.experts = nn.ModuleList(nn.Linear(D, D) for _ in range(4))

    def chosen(self, scores, expert):
        return scores[:, expert].topk(len(scores) // 4).indices

    def forward(self, x):
        rows = x.reshape(-1, D)
        scores, y = self.gate(rows).softmax(-1), torch.zeros_like(rows)
        for i, expert in enumerate(self.experts):
            chosen = self.chosen(scores, i)
            if len(chosen):
                y = y.index_add(0, chosen, expert(rows[chosen]) * scores[chosen, i, None])
        return x + y.reshape(x.shape)


class TokenChoice(ExpertChoice):
    """Each row goes to the expert of its highest score."""

    def chosen(self, scores, expert):
        return torch.where(scores.argmax(-1) == expert)[0]


class Depths(ExpertChoice):
    """Half of the positions of each sequence go through the block (a mixture of depths)."""

    def forward(self, x):
        chosen = self.gate(x)[..., 0].topk(x.shape[1] // 2, dim=1).indices[..., None]
        chosen = chosen.expand(-1, -1, D)
        return x.scatter_add(1, chosen, self.experts[0](x.gather(1, chosen)))


class Sorted(ExpertChoice):
    """All rows, in the order of their scores."""

    def forward(self, x):
        rows = x.reshape(-1, D)
        order = self.gate(rows)[:, 0].argsort()
        moved = self.experts[0](rows.index_select(0, order))
        return x + moved.index_select(0, order.argsort()).reshape(x.shape)


class Stacked(TokenChoice):
    """Experts in one stack (E, out, in)."""

    def __init__(self):
        super().__init__()
        self.experts = None
        self.stack = nn.Parameter(torch.randn(4, D, D) / D**0.5)

    def forward(self, x):
        rows = x.reshape(-1, D)
        scores, y = self.gate(rows).softmax(-1), torch.zeros_like(rows)
        for i in range(4):
            chosen = self.chosen(scores, i)
            y = y.index_add(0, chosen, nn.functional.linear(rows[chosen], self.stack[i]))
        return x + y.reshape(x.shape)


class Language(nn.Module):
    def __init__(self, block):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(block() for _ in range(3))
        self.head = nn.Linear(D, V)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def tokens(seed, n=6):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, V, (8, 24), generator=generator) for _ in range(n)]


def divergence(model, quantized, batches):
    """KL divergence, in nats, of the quantized model from the model."""
    copy = Language(type(model.blocks[0]))
    quantized.load_into(copy)
    total = 0.0
    with torch.no_grad():
        for batch in batches:
            p, q = (each(batch).double().log_softmax(-1) for each in (model, copy))
            total += float((p.exp() * (p - q)).sum(-1).mean())
    return total / len(batches)


@pytest.mark.parametrize("block", [ExpertChoice, TokenChoice, Depths, Sorted, Stacked])
def test_gptq_loses_less_than_rounding_on_unseen_tokens(block):
    model = Language(block)
    names = ("int4", "gptq-int4")
    made = [quantize_model(model, name, tokens(1)) for name in names]
    rounded, sequential = (divergence(model, q, tokens(2)) for q in made)
    assert sequential < 0.9 * rounded
    assert max(report.relative_mse for report in made[1].report) < 0.2


def test_a_loader_that_shuffles_is_read_once():
    class Loader:
        def __iter__(self):
            batches = tokens(1)
            order = torch.randperm(len(batches))
            return iter([batches[i][torch.randperm(8)] for i in order])

    model = Language(TokenChoice)
    q = quantize_model(model, "gptq-int4", Loader())
    assert divergence(model, q, tokens(2)) < divergence(
        model, quantize_model(model, "int4"), tokens(2)
    )


def test_rows_are_paired_by_their_tokens(rng):
    x = rng.standard_normal((6, 3)).astype(np.float32)
    original = Inputs(np.arange(2), None, x, np.array([4, 1, 7, 1, 0, 2]))
    order = np.array([3, 0, 5, 1])
    moved = np.vstack([x[order] + 0.1, np.full((1, 3), 9, np.float32)])
    quantized = Inputs(np.arange(2), None, moved, np.array([1, 4, 2, 1, 30]))
    partners, n_single = paired(original, quantized)
    assert n_single == 1
    np.testing.assert_array_equal(partners[:4], x[[1, 0, 5, 3]])  # the same token twice: in order
    np.testing.assert_array_equal(partners[4], moved[4])
    assert [each.tolist() for each in match(np.array([5, 5]), np.array([5]))] == [[0], [0]]


def test_rows_of_unknown_tokens_are_paired_only_if_they_are_alike(rng):
    x = rng.standard_normal((50, 8)).astype(np.float32)
    original = Inputs(np.arange(2), None, x, None)
    near, other, few = x + 0.1, x[::-1].copy(), x[:9]
    for values, partners, n_single in ((near, x, 0), (other, other, 50), (few, few, 9)):
        found, n = paired(original, Inputs(np.arange(2), None, values, None))
        assert n == n_single
        np.testing.assert_array_equal(found, partners)
    assert paired(None, original)[1] == 50


def test_an_expert_that_only_the_original_reaches_takes_its_inputs():
    """The copy's router, quantized to nothing, sends all tokens to the first expert."""
    model = Language(TokenChoice)
    with torch.no_grad():  # rows of the gate are within reach of one level
        for block in model.blocks:
            block.gate.weight[1:] *= 1e-3
    q = quantize_model(model, "gptq-int4", tokens(1))
    assert all(
        np.isfinite(t.matrix()).all() for t in q.tensors.values() if isinstance(t, QuantizedTensor)
    )


def test_experts_without_a_token_are_rounded_and_noted():
    model = Language(Stacked)
    with torch.no_grad():
        model.blocks[0].gate.weight[2] = 0
        model.blocks[0].gate.weight[[0, 1, 3]] = torch.eye(3, D)
    for recipe in ("gptq-int4", Recipe(name="x", rules=RECIPES["gptq-int4"].rules)):
        q = quantize_model(model, recipe, tokens(1, 1))
        reached = {
            tuple(p.rows) for p in calibrate(model, tokens(1, 1)).cost("blocks.0.stack").parts
        }
        notes = {report.name: report.notes for report in q.report}["blocks.0.stack"]
        missing = 4 * D - sum(map(len, reached))
        assert (f"{missing} of {4 * D} rows have no inputs: rounded to nearest" in notes) == (
            missing > 0
        )
