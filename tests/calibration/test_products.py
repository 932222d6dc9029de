"""Every way to multiply with a weight: its Hessians explain the squares of all outputs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from quant import calibrate
from quant.base.matrix import as_matrix
from quant.calibration.row_tokens import RowTokens
from quant.numerics.parts import PartHessian


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


class Bare(nn.Module):
    """A bare parameter, and a function of it and the inputs that returns outputs (..., rows)."""

    def __init__(self, shape, function):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape))
        self.function = function

    def forward(self, x):
        return self.function(x, self.weight)


def experts_in_turn(x, w):
    return torch.stack([F.linear(x[:, i], w[i]) for i in range(len(w))], 1)


def grouped(x, w):
    offsets = torch.tensor([4, 4, 9], dtype=torch.int32)
    y = F.grouped_mm(x, w.transpose(1, 2), offs=offsets)
    out = y.new_zeros(len(x), w.shape[0], w.shape[1])
    for i, (start, stop) in enumerate([(0, 4), (4, 4), (4, 9)]):
        out[start:stop, i] = y[start:stop]
    return out


def picked(x, w):
    ids = torch.tensor([2, 0, 2, 2, 0, 0, 2, 0, 0])
    y = torch.bmm(w[ids], x.unsqueeze(-1)).squeeze(-1)
    out = y.new_zeros(len(x), w.shape[0], w.shape[1])
    out[torch.arange(len(x)), ids] = y
    return out


# (shape of the weight, function, shape of the inputs, how many inputs each row has)
CASES = {
    "linear": ((5, 6), F.linear, (9, 6), 9),
    "in, out": ((6, 5), lambda x, w: x @ w, (9, 6), 9),
    "its data": ((5, 6), lambda x, w: F.linear(x, w.data), (9, 6), 9),
    "a cast and a view": ((5, 6), lambda x, w: F.linear(x.double(), w.double().T.T), (9, 6), 9),
    "scaled": ((5, 6), lambda x, w: F.linear(x, w * 2) / 2, (9, 6), 9),
    "fused slices": ((6, 4), lambda x, w: torch.cat([x @ w[:2].T, x @ w[2:].T], -1), (9, 4), 9),
    "interleaved": (
        (6, 4), lambda x, w: torch.stack([x @ w[::2].T, x @ w[1::2].T], -1).flatten(-2), (9, 4), 9
    ),
    "chunks": ((6, 4), lambda x, w: torch.cat([F.linear(x, p) for p in w.chunk(3)], -1), (9, 4), 9),
    "experts": ((3, 5, 6), experts_in_turn, (9, 3, 6), 9),
    "unbound experts": (
        (3, 5, 6), lambda x, w: torch.stack([x[:, i] @ m.T for i, m in enumerate(w.unbind())], 1),
        (9, 3, 6), 9,
    ),
    "bmm": ((3, 6, 5), lambda x, w: torch.bmm(x.transpose(0, 1), w).transpose(0, 1), (9, 3, 6), 9),
    "bmm from the left": (
        (3, 5, 6), lambda x, w: torch.bmm(w, x.permute(1, 2, 0)).permute(2, 0, 1), (9, 3, 6), 9
    ),
    "all experts see all": (
        (3, 6, 5), lambda x, w: torch.matmul(x, w).transpose(0, 1), (9, 6), 9
    ),
    "grouped_mm": ((3, 4, 16), grouped, (9, 16), None),
    "picked by index": ((3, 4, 6), picked, (9, 6), None),
    "einsum": ((6, 5), lambda x, w: torch.einsum("btd,de->bte", x, w), (3, 3, 6), 9),
    "einsum of experts": ((3, 5, 6), lambda x, w: torch.einsum("ned,eod->neo", x, w), (9, 3, 6), 9),
    "einsum to heads": ((6, 2, 4), lambda x, w: torch.einsum("...d,dhk->...hk", x, w), (9, 6), 9),
    "einsum of heads": ((2, 4, 5), lambda x, w: torch.einsum("nhk,hkd->nd", x, w), (9, 2, 4), 9),
    "columns": (
        (5, 6), lambda x, w: F.linear(x[:, :2], w[:, :2]), (9, 6), 9
    ),
}  # fmt: skip


def second_moments(hessian, matrix):
    """Mean square of the outputs of each row of a matrix (R, C); NaN for rows without inputs."""
    squares = np.full(len(matrix), np.nan)
    parts = hessian.parts if isinstance(hessian, PartHessian) else [(slice(None), hessian)]
    for rows, h in parts:
        squares[rows] = np.einsum("ij,jk,ik->i", matrix[rows], h, matrix[rows])
    return squares


@pytest.mark.parametrize("name", CASES)
def test_hessians_explain_the_outputs(name):
    shape, function, inputs, n = CASES[name]
    model, x = Bare(shape, function), torch.randn(inputs)
    calibration = calibrate(model, [x])
    assert calibration.names == ("weight",)
    axes = calibration.axes("weight")
    for _ in range(3):
        with torch.no_grad():
            model.weight.normal_()
            y = model(x).double()
        y = y.reshape(-1, axes.matrix_shape(shape)[0])
        matrix = as_matrix(model.weight, axes=axes)[0].astype(np.float64)
        counts = (y != 0).sum(0).numpy() if n is None else n
        if name == "columns":
            matrix[:, 2:] = 0
        with np.errstate(invalid="ignore"):
            expected = np.where(counts > 0, y.square().sum(0).numpy() / counts, np.nan)
        np.testing.assert_allclose(
            second_moments(calibration.cost("weight"), matrix), expected, rtol=1e-5
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv1d(4, 8, 3, groups=4, padding=1),
        lambda: nn.Conv1d(6, 6, 4, groups=6, padding=3),
        lambda: nn.Conv2d(4, 6, (2, 3), groups=2, stride=(1, 2)),
        lambda: nn.ConvTranspose1d(4, 5, 3),
        lambda: nn.ConvTranspose1d(4, 6, 4, stride=3, padding=2, output_padding=1, groups=2),
        lambda: nn.ConvTranspose2d(4, 5, (3, 2), stride=2, padding=(1, 0), dilation=(1, 2)),
        lambda: nn.ConvTranspose1d(4, 4, 1, groups=4),
    ],
)
def test_so_they_do_of_convolutions(make):
    conv = make()
    conv.bias = None
    x = torch.randn(3, conv.in_channels, *(7,) * (conv.weight.ndim - 2))
    calibration = calibrate(conv, [x])
    axes = calibration.axes("weight")
    for _ in range(3):
        with torch.no_grad():
            conv.weight.normal_()
            y = conv(x).double()
        matrix = as_matrix(conv.weight, axes=axes)[0].astype(np.float64)
        expected = y.square().flatten(2).mean((0, 2)).numpy()
        squares = second_moments(calibration.cost("weight"), matrix)
        np.testing.assert_allclose(squares, expected, rtol=1e-5)


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("is_split", [True, False])
def test_attention_is_taken_apart(has_bias, is_split):
    options = {"kdim": 6, "vdim": 10} if is_split else {}
    module = nn.MultiheadAttention(8, 2, batch_first=True, bias=has_bias, **options).eval()
    query = torch.randn(3, 5, 8)
    key, value = (torch.randn(3, 4, options.get(name, 8)) for name in ("kdim", "vdim"))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = module

        def forward(self, query, key, value):
            mask = torch.ones(5, 4, dtype=torch.bool).triu(2)
            return self.attention(query, key, value, attn_mask=mask)

    model, kept = Model(), []
    expected = model(query, key, value)
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output))
    calibration = calibrate(model, [(query, key, value)], fisher=True)
    handle.remove()
    for seen, right in zip(kept[0], expected, strict=True):
        torch.testing.assert_close(seen, right)
    if is_split:
        for letter, x in zip("qkv", (query, key, value), strict=True):
            rows = x.flatten(0, 1).double()
            hessian = calibration.hessian(f"attention.{letter}_proj_weight").matrix()
            np.testing.assert_allclose(hessian, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)
    else:
        parts = calibration.cost("attention.in_proj_weight").parts
        for part, x in zip(parts, (query, key, value), strict=True):
            rows = x.flatten(0, 1).double()
            np.testing.assert_allclose(part.matrix, rows.T @ rows / len(rows), 1e-5, 1e-6)
    assert calibration.hessian("attention.out_proj.weight").n_rows == 15
    assert calibration.fisher("attention.out_proj.weight").min() > 0


def test_what_is_not_multiplied_is_told_by_its_use():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix, self.a_log, self.unused = (nn.Parameter(torch.rand(4, 4)) for _ in range(3))
            self.table, self.both = (nn.Parameter(torch.rand(4, 4)) for _ in range(2))
            self.odd = nn.Parameter(torch.rand(4, 4))

        def forward(self, x):
            x = self.mix[0] * x + self.mix[1].to(x.dtype) * x.flip(-1)
            x = x * torch.exp(-F.softplus(self.a_log.float())).mean(0)
            x = x + F.embedding(torch.tensor([0, 3]), self.table).sum(0)
            return (x @ self.both) * self.both[0] + torch.linalg.det(self.odd)

    calibration = calibrate(Mixed(), [torch.randn(5, 4)])
    assert calibration.names == ("both",)
    assert calibration.looked_up == {"table"}
    assert calibration.uses == {
        "mix": {"elementwise"}, "a_log": {"elementwise"}, "both": {"elementwise"}, "odd": {"other"}
    }  # fmt: skip


def test_fisher_information_is_that_of_the_row_in_any_order_of_outputs():
    class Turned(nn.Module):
        def __init__(self, equation):
            super().__init__()
            torch.manual_seed(0)
            self.weight, self.head = nn.Parameter(torch.randn(2, 3, 4)), nn.Linear(6, 9)
            self.equation = equation

        def forward(self, x):
            y = torch.einsum(self.equation, x, self.weight)
            return self.head((y if self.equation.endswith("dh") else y.mT).flatten(1))

    x, errors = torch.randn(20, 4), np.arange(24.0).reshape(6, 4)
    found = [
        calibrate(Turned(equation), [x], fisher=True) for equation in ("bi,hdi->bhd", "bi,hdi->bdh")
    ]
    for calibration in found:
        fisher = calibration.fisher("weight")
        np.testing.assert_allclose(fisher, found[0].fisher("weight"), rtol=1e-5)
        np.testing.assert_allclose(calibration.row_weights("weight"), fisher)
        costs = np.einsum("ri,ij,rj->r", errors, calibration.hessian("weight").matrix(), errors)
        np.testing.assert_allclose(calibration.error("weight", errors), fisher @ costs)


def test_rows_in_several_products_have_all_their_inputs():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 4))

        def forward(self, x):
            return F.linear(x, self.weight).sum() + F.linear(2 * x[:3], self.weight[2:4]).sum()

    x = torch.randn(9, 4)
    parts = calibrate(Shared(), [x]).cost("weight").parts
    both = torch.cat([x, 2 * x[:3]])
    for part in parts:
        rows = both if part.rows.tolist() == [2, 3] else x
        np.testing.assert_allclose(part.matrix, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)
    assert sorted(row for part in parts for row in part.rows) == list(range(6))


def test_tokens_are_followed_through_products_of_columns():
    """Experts picked by index, as ``batched_mm`` of transformers has them."""
    tokens, x, w = RowTokens(4), torch.randn(4, 3), torch.randn(2, 5, 3)
    picked, seen = torch.tensor([0, 1, 1, 0, 1, 1, 0, 0]), {}

    class Follow(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            out = func(*args, **kwargs or {})
            tokens.on_call(func, args, kwargs or {}, out)
            return out

    with Follow():
        rows = x.repeat_interleave(2, dim=0)
        y = torch.bmm(w[picked], rows.unsqueeze(-1)).squeeze(-1)
        seen["rows"], seen["y"] = tokens.of(rows), tokens.of(y.relu())
        seen["flipped"] = tokens.of(x.flip(0) * 2)
        seen["mixed"] = tokens.of(torch.cat([rows, y[:, :3]]))
    twice = [0, 0, 1, 1, 2, 2, 3, 3]
    assert {name: found.tolist() for name, found in seen.items()} == {
        "rows": twice, "y": twice, "flipped": [3, 2, 1, 0], "mixed": twice * 2
    }  # fmt: skip
