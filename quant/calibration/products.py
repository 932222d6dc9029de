"""Matrix products that torch functions compute: which operand, which axes, which inputs.

Each function here takes the arguments of a torch function and returns its products with an operand
that may be a weight. A product names axes of that operand, and how to take the inputs and the
outputs out of the tensors of the call.
"""

from collections.abc import Callable, Iterator
from itertools import product as combinations
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quant.base.matrix import Axes

TensorFunction = Callable[[Tensor], Tensor]


class Product(NamedTuple):
    """One product of inputs with a matrix in an operand.

    Attributes
    ----------
    weight : tensor
        The operand that may be a weight.
    rows, columns : tuple of int
        Axes of the operand that are outputs, and inputs.
    fixed : dict of int
        Index in each other axis of the operand.
    x : tensor
        The other operand.
    take : callable
        Turns `x` into the inputs (..., in).
    outputs : callable
        Turns the result of the call, or its gradient, into (..., out): a row for each row of
        inputs.
    is_view : bool
        Whether `take` moves entries of `x` only, so that it tells which tokens the rows are.
    part : slice
        Rows, of those that the operand has, that this product multiplies.
    axes : Axes, optional
        Axes of the whole weight, if they cannot be told from `rows` and `columns`.
    """

    weight: Tensor
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    fixed: dict[int, int]
    x: Tensor
    take: TensorFunction
    outputs: TensorFunction
    is_view: bool = True
    part: slice = slice(None)
    axes: Axes | None = None


Products = Iterator[Product]


def linear(input: Tensor, weight: Tensor, bias: Any = None) -> Products:  # noqa: A002
    """Products of `F.linear`."""
    yield Product(weight, (0,), (1,), {}, input, identity, identity)


def matmul(input: Tensor, other: Any, **_: Any) -> Products:  # noqa: A002
    """Products of `torch.matmul`, `mm` or `bmm`: either operand may be the weight."""
    if not isinstance(other, Tensor):
        return
    if other.ndim == 2:
        yield Product(other, (1,), (0,), {}, input, identity, identity)
    elif other.ndim == 3 and input.ndim >= 2:
        yield from batched(other, input, (2,), (1,), identity)
    if input.ndim == 2:
        turn = identity if other.ndim == 1 else transposed
        yield Product(input, (0,), (1,), {}, other, turn, turn)
    elif input.ndim == 3 and other.ndim >= 2:
        yield from batched(input, other, (1,), (2,), transposed)


def batched(
    weight: Tensor, x: Tensor, rows: tuple[int], columns: tuple[int], turn: TensorFunction
) -> Products:
    """Products of a stack of matrices, each with its own inputs (..., E, n, in) or all with one."""
    shape = torch.broadcast_shapes(x.shape[:-2], weight.shape[:1])  # type: ignore[no-untyped-call]

    def select(i: int) -> TensorFunction:
        return lambda tensor: turn(tensor.expand(*shape, *tensor.shape[-2:]).select(-3, i))

    for i in range(len(weight)):
        yield Product(weight, rows, columns, {0: i}, x, select(i), select(i))


def addmm(bias: Any, mat1: Tensor, mat2: Tensor, **_: Any) -> Products:
    """Products of `torch.addmm` or `torch.baddbmm`."""
    return matmul(mat1, mat2)


def grouped_mm(input: Tensor, weight: Tensor, *, offs: Any = None, **_: Any) -> Products:  # noqa: A002
    """Products of `F.grouped_mm`: rows up to each offset belong to one matrix of the stack."""
    if offs is None or weight.ndim != 3 or input.ndim != 2:
        return
    start = 0
    for i, stop in enumerate(offs.tolist()):
        take = slicer(start, stop)
        yield Product(weight, (2,), (1,), {0: i}, input, take, take)
        start = stop


def gathered(weight: Tensor, indices: Tensor, products: Products) -> Products:
    """Products with matrices (S, ...) that were gathered from a weight; one a matrix of the weight.

    `weight` (E, ...) is what they were gathered from, and `indices` (S,) says which each one is.
    """
    first = next(products, None)
    if first is None:
        return
    for i in np.unique(indices.cpu().numpy()).tolist():
        chosen = (indices == i).nonzero()[:, 0]
        yield first._replace(
            weight=weight, fixed={0: i}, take=chooser(first, chosen), outputs=chooser(first, chosen)
        )


def chooser(product: Product, chosen: Tensor) -> TensorFunction:
    """Function that takes rows (n, in) of the chosen matrices out of a stack (S, ...)."""
    is_left = product.rows < product.columns  # (S, out, in) @ (S, in, n)
    return lambda tensor: tensor[chosen].mT if is_left else tensor[chosen]


def einsum(equation: Any, *operands: Any) -> Products:
    """Products of `torch.einsum` of two operands."""
    tensors = (
        operands[0] if len(operands) == 1 and not isinstance(operands[0], Tensor) else operands
    )
    if not isinstance(equation, str) or len(tensors) != 2 or "->" not in equation:
        return
    names, result = equation.replace(" ", "").split("->")
    labels = names.split(",")
    dots = "".join(chr(0x391 + i) for i in range(24))  # letters that no equation has
    spelled = [
        name.replace(
            "...", dots[: max(0, t.ndim - len(name.replace("...", "")))] if "..." in name else ""
        )
        for name, t in zip(labels, tensors, strict=True)
    ]
    shared = max(
        (s for s, n in zip(spelled, labels, strict=True) if "..." in n), key=len, default=""
    )
    result = result.replace("...", "".join(c for c in shared if c in dots))
    for this, other in ((0, 1), (1, 0)):
        yield from contraction(tensors[this], spelled[this], tensors[other], spelled[other], result)


def contraction(weight: Tensor, of_weight: str, x: Tensor, of_x: str, of_result: str) -> Products:
    """Products of a contraction, by the letters of the axes of the operands and of the result."""
    summed = [c for c in of_weight if c in of_x and c not in of_result]
    outputs = [c for c in of_result if c in of_weight and c not in of_x]
    batch = [c for c in of_weight if c in of_x and c in of_result]
    rest = [c for c in of_result if c in of_x and c not in of_weight]
    is_plain = len(set(of_weight)) == len(of_weight) and len(set(of_x)) == len(of_x)
    covers = {*summed, *outputs, *batch} == {*of_weight} and {*summed, *batch, *rest} == {*of_x}
    if not (summed and outputs and is_plain and covers):
        return

    def pick(labels: str, last: list[str], chosen: tuple[int, ...]) -> TensorFunction:
        def function(tensor: Tensor) -> Tensor:
            order = [labels.index(c) for c in [*batch, *rest, *last]]
            return tensor.permute(order)[chosen].flatten(len(rest))

        return function

    sizes = [weight.shape[of_weight.index(c)] for c in batch]
    for chosen in combinations(*map(range, sizes)):
        yield Product(
            weight,
            tuple(of_weight.index(c) for c in outputs),
            tuple(of_weight.index(c) for c in summed),
            {of_weight.index(c): i for c, i in zip(batch, chosen, strict=True)},
            x,
            pick(of_x, summed, chosen),
            pick(of_result, outputs, chosen),
        )


def slicer(start: int, stop: int) -> TensorFunction:
    """Function that takes rows start..stop - 1."""
    return lambda tensor: tensor[start:stop]


def identity(tensor: Tensor) -> Tensor:
    """The tensor itself."""
    return tensor


def transposed(tensor: Tensor) -> Tensor:
    """The tensor with its last two dimensions exchanged."""
    return tensor.mT


PRODUCTS: dict[Any, Callable[..., Products]] = {
    F.linear: linear,
    torch.matmul: matmul,
    Tensor.matmul: matmul,
    torch.mm: matmul,
    Tensor.mm: matmul,
    torch.bmm: matmul,
    Tensor.bmm: matmul,
    torch.addmm: addmm,
    Tensor.addmm: addmm,
    torch.baddbmm: addmm,
    Tensor.baddbmm: addmm,
    torch.einsum: einsum,
}
for _name in ("grouped_mm", "_grouped_mm"):
    for _home in (F, torch):
        if hasattr(_home, _name):
            PRODUCTS[getattr(_home, _name)] = grouped_mm
