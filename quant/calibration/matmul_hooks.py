"""Products with a model's weights, seen as they happen: what goes in, and what comes out.

The calls of torch are watched, not the modules: a weight is found by what it is, and so also where
a head is the embedding, or a function is called instead of a module.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Tensors = Callable[[Tensor], Tensor]


class Product(NamedTuple):
    """A product with a weight.

    Attributes
    ----------
    name : str
        Of the weight.
    is_transposed : bool
        Whether the weight is stored (in, out).
    rows : (..., in)
        What goes in.
    of_output : callable
        From what the call returns, or its gradient, to (..., out), the rows in the same order.
    """

    name: str
    is_transposed: bool
    rows: Tensor
    of_output: Tensors


class Lookup(NamedTuple):
    """Rows of a weight, looked up: its name, which rows (...,) int, and of how many."""

    name: str
    rows: Tensor
    n_rows: int


class Call(NamedTuple):
    """A call that may be a product: with `weight`, (out, in, ...), or (in, out) if turned."""

    weight: Any
    is_turned: bool
    rows: Callable[[], Tensor]
    of_output: Tensors


class Watch(TorchFunctionMode):
    """While entered, reports each product with one of the weights, and each lookup in one.

    Parameters
    ----------
    weights : dict of tensors
        By name.
    report : callable
        Takes a `Product` or `Lookup` and what the call returned; what it returns takes the place
        of that.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        report: Callable[[Product | Lookup, Tensor], Tensor],
    ) -> None:
        super().__init__()
        # The tensors are held too: an id is free again once its tensor is gone.
        self._known = {id(weight): (weight, name, False) for name, weight in weights.items()}
        self._report = report

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What the function returns, or what stands in for it."""
        kwargs = kwargs or {}
        returned = func(*args, **kwargs)
        if args and (func in SAME or func in TURNS):
            known = self._known.get(id(args[0]))
            if known is not None and (func in SAME or args[0].ndim == 2):
                turns = func in TURNS and TURNS[func]([*args[1:], *kwargs.values()])
                self._known[id(returned)] = returned, known[1], known[2] != turns
        elif func is F.embedding:
            rows, weight = (*args, kwargs.get("input"), kwargs.get("weight"))[:2]
            known = self._known.get(id(weight))
            if known is not None and not known[2]:
                return self._report(Lookup(known[1], rows, len(weight)), returned)
        elif func in CALLS:
            calls = CALLS[func](*args, **kwargs)
            found = [(call, self._known[id(call.weight)]) for call in calls if self._has(call)]
            if len(found) == 1:  # two weights with each other are no product with what comes in
                call, (_, name, is_turned) = found[0]
                is_transposed = call.is_turned != is_turned
                product = Product(name, is_transposed, call.rows(), call.of_output)
                return self._report(product, returned)
        return returned

    def _has(self, call: Call) -> bool:
        return id(call.weight) in self._known


def linear_calls(input: Tensor, weight: Tensor, bias: Any = None) -> list[Call]:  # noqa: A002
    """Of `F.linear`."""
    return [Call(weight, False, lambda: input, same)]


def matmul_calls(input: Tensor, other: Any, **_: Any) -> list[Call]:  # noqa: A002
    """Of `torch.matmul` and `torch.mm`: either operand may be the weight."""
    calls = []
    if other.ndim == 2:
        calls.append(Call(other, True, lambda: input, same))
    if input.ndim == 2:
        turn = same if other.ndim == 1 else mT
        calls.append(Call(input, False, lambda: turn(other), turn))
    return calls


def addmm_calls(input: Tensor, mat1: Tensor, mat2: Tensor, **_: Any) -> list[Call]:  # noqa: A002
    """Of `torch.addmm`."""
    return matmul_calls(mat1, mat2)


def conv1d_calls(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[Call]:
    """Of `F.conv1d`: a convolution of images one pixel high."""
    if groups != 1:
        return []
    size, move, apart = (1, weight.shape[-1]), (1, one(stride)), (1, one(dilation))
    pads = padding if isinstance(padding, str) else (0, one(padding))

    def rows() -> Tensor:
        return patches(input.unsqueeze(-2), size, move, pads, apart)

    return [Call(weight, False, rows, mT)]


def conv2d_calls(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[Call]:
    """Of `F.conv2d`; where it has groups, each has inputs of its own, and none is found."""
    if groups != 1:
        return []
    size, move, apart = tuple(weight.shape[-2:]), two(stride), two(dilation)
    pads = padding if isinstance(padding, str) else two(padding)

    def rows() -> Tensor:
        return patches(input, size, move, pads, apart)

    return [Call(weight, False, rows, lambda y: y.flatten(-2).mT)]


def patches(
    images: Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """(..., places, channels * height * width): what the kernel (height, width) is laid on."""
    if padding == "same":  # stride 1; an odd pixel goes to the end
        whole = [apart * (n - 1) for apart, n in zip(dilation, size, strict=True)]
        sides = [(n // 2, n - n // 2) for n in reversed(whole)]
    else:
        sides = [(0, 0), (0, 0)] if padding == "valid" else [(int(n),) * 2 for n in padding[::-1]]
    padded = F.pad(images, [n for side in sides for n in side])
    return F.unfold(padded, size, dilation=dilation, stride=stride).mT


def one(value: Any) -> int:
    """The int of an option that is an int or a sequence of one."""
    return int(value if isinstance(value, int) else value[0])


def two(value: Any) -> tuple[int, int]:
    """Both ints of an option that is an int or a sequence of one or two."""
    first, *rest = (value,) if isinstance(value, int) else value
    return int(first), int(rest[0] if rest else first)


def same(tensor: Tensor) -> Tensor:
    """The tensor."""
    return tensor


def mT(tensor: Tensor) -> Tensor:  # noqa: N802
    """The tensor, its last two dimensions exchanged."""
    return tensor.mT


def always(_: list[Any]) -> bool:
    """True: these turn any matrix."""
    return True


def transposes(dims: list[Any]) -> bool:
    """Whether two dimensions of a matrix are exchanged that differ."""
    return bool((dims[0] - dims[1]) % 2 == 1)


def permutes(dims: list[Any]) -> bool:
    """Whether the first dimension of a matrix comes last."""
    first = dims[0] if isinstance(dims[0], int) else dims[0][0]
    return bool(first % 2 == 1)


# What makes a weight in another dtype, or the same again.
SAME = {
    Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.half, Tensor.bfloat16,
    Tensor.double, Tensor.contiguous, Tensor.detach,
}  # fmt: skip

# What may turn a matrix, and whether it does, by the arguments that follow it.
TURNS: dict[Any, Callable[[list[Any]], bool]] = {
    Tensor.T.__get__: always,  # type: ignore[attr-defined]
    Tensor.mT.__get__: always,  # type: ignore[attr-defined]
    Tensor.t: always,
    torch.t: always,
    Tensor.transpose: transposes,
    torch.transpose: transposes,
    Tensor.permute: permutes,
    torch.permute: permutes,
}

CALLS: dict[Any, Callable[..., list[Call]]] = {
    F.linear: linear_calls,
    torch.matmul: matmul_calls,
    Tensor.matmul: matmul_calls,
    torch.mm: matmul_calls,
    Tensor.mm: matmul_calls,
    torch.addmm: addmm_calls,
    Tensor.addmm: addmm_calls,
    F.conv1d: conv1d_calls,
    F.conv2d: conv2d_calls,
}
