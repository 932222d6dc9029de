"""Record the matrix products and embedding lookups of a model's weights while it runs.

`MatmulRecorder` intercepts calls of torch functions, not of modules. A weight is recognized by
identity, so that a head tied to the embedding and a call of ``F.linear`` outside of any module are
recorded like an ``nn.Linear``.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

TensorFunction = Callable[[Tensor], Tensor]


class Matmul(NamedTuple):
    """One matrix product of inputs with a weight.

    Attributes
    ----------
    name : str
        Name of the weight.
    is_transposed : bool
        Whether the weight is stored (in, out).
    rows : (..., in)
        Inputs of the product.
    to_output_rows : callable
        Turns the tensor that the call returned, or its gradient, into (..., out), one row for
        each row of the inputs.
    """

    name: str
    is_transposed: bool
    rows: Tensor
    to_output_rows: TensorFunction


class EmbeddingLookup(NamedTuple):
    """One lookup of rows: name of the weight, row indices (...,) int, number of its rows."""

    name: str
    indices: Tensor
    n_rows: int


class MatmulCandidate(NamedTuple):
    """An operand that may be a weight, and the inputs that the call multiplies it with.

    `weight` is (out, in, ...), or (in, out) if `is_transposed`. `rows` computes the inputs
    (..., in) on demand.
    """

    weight: Any
    is_transposed: bool
    rows: Callable[[], Tensor]
    to_output_rows: TensorFunction


class TrackedWeight(NamedTuple):
    """A weight, or a cast or transposed view of it, and the name of the weight.

    The tensor itself is kept alive: Python reuses the id of a tensor that was freed.
    """

    tensor: Tensor
    name: str
    is_transposed: bool


class MatmulRecorder(TorchFunctionMode):
    """Context manager that reports each matrix product with, and each lookup in, a weight.

    Parameters
    ----------
    weights : dict of tensors
        Weights by name.
    on_call : callable
        Called with a `Matmul` or `EmbeddingLookup` and the tensor that the call returned. The
        model continues with the tensor that `on_call` returns.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        on_call: Callable[[Matmul | EmbeddingLookup, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self._tracked = {
            id(weight): TrackedWeight(weight, name, is_transposed=False)
            for name, weight in weights.items()
        }
        self._on_call = on_call

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function; return its result, or the tensor that `on_call` returned."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if args and (func in CASTS or func in TRANSPOSES):
            weight = self._tracked.get(id(args[0]))
            if weight is not None and (func in CASTS or args[0].ndim == 2):
                flips = func in TRANSPOSES and TRANSPOSES[func]([*args[1:], *kwargs.values()])
                self._tracked[id(output)] = TrackedWeight(
                    output, weight.name, weight.is_transposed != flips
                )
        elif func is F.embedding:
            indices, table = (*args, kwargs.get("input"), kwargs.get("weight"))[:2]
            weight = self._tracked.get(id(table))
            if weight is not None and not weight.is_transposed:
                return self._on_call(EmbeddingLookup(weight.name, indices, len(table)), output)
        elif func in MATMULS:
            candidates = [
                (candidate, self._tracked[id(candidate.weight)])
                for candidate in MATMULS[func](*args, **kwargs)
                if id(candidate.weight) in self._tracked
            ]
            if len(candidates) == 1:  # a product of two weights has no inputs
                candidate, weight = candidates[0]
                is_transposed = candidate.is_transposed != weight.is_transposed
                matmul = Matmul(
                    weight.name, is_transposed, candidate.rows(), candidate.to_output_rows
                )
                return self._on_call(matmul, output)
        return output


def linear_candidates(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Any = None,
) -> list[MatmulCandidate]:
    """Candidates of a call of `F.linear`."""
    return [MatmulCandidate(weight, False, lambda: input, identity)]


def matmul_candidates(input: Tensor, other: Any, **_: Any) -> list[MatmulCandidate]:  # noqa: A002
    """Candidates of a call of `torch.matmul` or `torch.mm`: either operand may be the weight."""
    candidates = []
    if other.ndim == 2:
        candidates.append(MatmulCandidate(other, True, lambda: input, identity))
    if input.ndim == 2:
        turn = identity if other.ndim == 1 else transposed
        candidates.append(MatmulCandidate(input, False, lambda: turn(other), turn))
    return candidates


def addmm_candidates(
    input: Tensor,  # noqa: A002
    mat1: Tensor,
    mat2: Tensor,
    **_: Any,
) -> list[MatmulCandidate]:
    """Candidates of a call of `torch.addmm`."""
    return matmul_candidates(mat1, mat2)


def conv1d_candidates(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[MatmulCandidate]:
    """Candidates of a call of `F.conv1d`, taken as a convolution of images of height 1."""
    if groups != 1:
        return []
    size = (1, weight.shape[-1])
    strides, dilations = (1, int_of(stride)), (1, int_of(dilation))
    pads = padding if isinstance(padding, str) else (0, int_of(padding))

    def rows() -> Tensor:
        return patches(input.unsqueeze(-2), size, strides, pads, dilations)

    return [MatmulCandidate(weight, False, rows, transposed)]


def conv2d_candidates(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> list[MatmulCandidate]:
    """Candidates of a call of `F.conv2d`.

    None if it has groups: each group has inputs of its own.
    """
    if groups != 1:
        return []
    size, strides, dilations = tuple(weight.shape[-2:]), pair_of(stride), pair_of(dilation)
    pads = padding if isinstance(padding, str) else pair_of(padding)

    def rows() -> Tensor:
        return patches(input, size, strides, pads, dilations)

    return [MatmulCandidate(weight, False, rows, lambda y: y.flatten(-2).mT)]


def patches(
    images: Tensor,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[int, ...],
    dilation: tuple[int, ...],
) -> Tensor:
    """(..., positions, channels * height * width): the inputs of the kernel at each position."""
    if padding == "same":  # stride 1; an odd pixel goes to the end
        totals = [step * (n - 1) for step, n in zip(dilation, size, strict=True)]
        sides = [(n // 2, n - n // 2) for n in reversed(totals)]
    else:
        sides = [(0, 0), (0, 0)] if padding == "valid" else [(int(n),) * 2 for n in padding[::-1]]
    padded = F.pad(images, [n for side in sides for n in side])
    return F.unfold(padded, size, dilation=dilation, stride=stride).mT


def int_of(value: Any) -> int:
    """The int of an option that is an int or a sequence of one."""
    return int(value if isinstance(value, int) else value[0])


def pair_of(value: Any) -> tuple[int, int]:
    """Both ints of an option that is an int or a sequence of one or two."""
    first, *rest = (value,) if isinstance(value, int) else value
    return int(first), int(rest[0] if rest else first)


def identity(tensor: Tensor) -> Tensor:
    """The tensor itself."""
    return tensor


def transposed(tensor: Tensor) -> Tensor:
    """The tensor with its last two dimensions exchanged."""
    return tensor.mT


def always(_: list[Any]) -> bool:
    """True: the function transposes any matrix."""
    return True


def transposes(dims: list[Any]) -> bool:
    """Whether the two dimensions that `torch.transpose` exchanges differ."""
    return bool((dims[0] - dims[1]) % 2 == 1)


def permutes(dims: list[Any]) -> bool:
    """Whether `torch.permute` puts the second dimension of a matrix first."""
    first = dims[0] if isinstance(dims[0], int) else dims[0][0]
    return bool(first % 2 == 1)


# Functions that return the weight in another dtype or memory format.
CASTS = {
    Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.half, Tensor.bfloat16,
    Tensor.double, Tensor.contiguous, Tensor.detach,
}  # fmt: skip

# Functions that may transpose a matrix; each value tells from the further arguments if it does.
TRANSPOSES: dict[Any, Callable[[list[Any]], bool]] = {
    Tensor.T.__get__: always,  # type: ignore[attr-defined]
    Tensor.mT.__get__: always,  # type: ignore[attr-defined]
    Tensor.t: always,
    torch.t: always,
    Tensor.transpose: transposes,
    torch.transpose: transposes,
    Tensor.permute: permutes,
    torch.permute: permutes,
}

MATMULS: dict[Any, Callable[..., list[MatmulCandidate]]] = {
    F.linear: linear_candidates,
    torch.matmul: matmul_candidates,
    Tensor.matmul: matmul_candidates,
    torch.mm: matmul_candidates,
    Tensor.mm: matmul_candidates,
    torch.addmm: addmm_candidates,
    Tensor.addmm: addmm_candidates,
    F.conv1d: conv1d_candidates,
    F.conv2d: conv2d_candidates,
}
