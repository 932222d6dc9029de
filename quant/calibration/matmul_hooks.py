"""Record the matrix products and embedding lookups of a model's weights while it runs.

`MatmulRecorder` intercepts calls of torch functions, not of modules. A weight is recognized by its
memory, so that a head tied to the embedding, an expert of a stack, and a slice in a call of
``F.linear`` are recorded like an ``nn.Linear``. Of all other functions it is recorded which weights
they use, and whether they only multiply or add elementwise.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from quant.base.matrix import Axes
from quant.calibration.attention import attention
from quant.calibration.convolutions import CONVOLUTIONS
from quant.calibration.model_state import tensors_in
from quant.calibration.products import PRODUCTS, Product, TensorFunction, gathered
from quant.calibration.row_tokens import RowTokens
from quant.calibration.weight_views import Operand, WeightViews
from quant.types import Indices

ELEMENTWISE = "elementwise"
OTHER = "other"


class Piece(NamedTuple):
    """Inputs that some rows of a weight are multiplied with.

    Attributes
    ----------
    rows : (n,) int64
        Rows of the weight's matrix.
    columns : (m,) int64, or None
        Columns that the inputs belong to; None for all in order.
    inputs : (..., m)
    to_output_rows : callable
        Turns the tensor that the call returned, or its gradient, into (..., n): one row for each
        row of the inputs.
    tokens : (N,) int64, or None
        Token of each row of the inputs; None if unknown.
    """

    rows: Indices
    columns: Indices | None
    inputs: Tensor
    to_output_rows: TensorFunction
    tokens: Tensor | None


class Matmul(NamedTuple):
    """One call that multiplies inputs with a weight.

    Attributes
    ----------
    name : str
        Name of the weight.
    axes : Axes
        Which axes of the weight are rows.
    n_columns : int
        Columns of the weight's matrix.
    source : tensor
        What the inputs were taken from; weights with the same source have the same inputs.
    pieces : list of Piece
        One for each expert, group or slice.
    """

    name: str
    axes: Axes
    n_columns: int
    source: Tensor
    pieces: list[Piece]


class EmbeddingLookup(NamedTuple):
    """One lookup of rows: name of the weight, row indices (...,) int, number of its rows."""

    name: str
    indices: Tensor
    n_rows: int


class MatmulRecorder(TorchFunctionMode):
    """Context manager that reports each matrix product with, and each lookup in, a weight.

    Parameters
    ----------
    weights : dict of tensors
        Weights by name.
    on_call : callable
        Called with a `Matmul` or `EmbeddingLookup` and the tensor that the call returned. The
        model continues with the tensor that `on_call` returns.
    tokens : RowTokens, optional
        Follows the rows of activations, if pieces are to tell their tokens.

    Attributes
    ----------
    uses : dict of sets of str
        `ELEMENTWISE` and `OTHER`: in what the weights, by name, are used beside products and
        lookups.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        on_call: Callable[[Matmul | EmbeddingLookup, Tensor], Tensor],
        tokens: RowTokens | None = None,
    ) -> None:
        super().__init__()
        self._views = WeightViews(weights)
        self._shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
        self._on_call, self._tokens = on_call, tokens
        self._gathered: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
        self.uses: dict[str, set[str]] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function; return its result, or the tensor that `on_call` returned."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return attention(self, func, args, kwargs)
        output = func(*args, **kwargs)
        if self._tokens is not None:
            self._tokens.on_call(func, args, kwargs, output)
        if func is F.embedding:
            indices, table = (*args, kwargs.get("input"), kwargs.get("weight"))[:2]
            source = self._views.find(table)
            if source is not None and tuple(table.shape) == self._shapes[source.name]:
                return self._on_call(EmbeddingLookup(source.name, indices, len(table)), output)
        products = PRODUCTS.get(func) or CONVOLUTIONS.get(func)
        if products is not None and (matmul := self._matmul(products, args, kwargs)):
            return self._on_call(matmul, output)
        self._note_use(func, args, kwargs, output)
        return output

    def _matmul(self, products: Any, args: tuple[Any, ...], kwargs: Any) -> Matmul | None:
        """The product with a weight in a call; None if there is none, or of two weights."""
        pieces: list[Piece] = []
        found: tuple[Operand, Product] | None = None
        operands = list(tensors_in((args, kwargs)))
        is_gathered = any(id(value) in self._gathered for value in operands)
        if not is_gathered and all(self._views.find(value) is None for value in operands):
            return None
        every = (
            list(products(*args, **kwargs))
            if not is_gathered
            else self._of_gathered(products, args, kwargs)
        )
        weights = {id(p.weight) for p in every if self._views.find(p.weight) is not None}
        if len(weights) != 1:  # a product of two weights has no inputs
            return None
        for product in every:
            if id(product.weight) not in weights:
                continue
            operand = self._operand(product)
            if operand is None or (found and operand.axes != found[0].axes):
                return None
            found = found or (operand, product)
            inputs, tokens = product.take(product.x), None
            if inputs.numel() == 0:
                continue
            if self._tokens is not None and product.is_view:
                tokens = self._tokens.moved(product.x, product.take)
            elif self._tokens is not None:
                n = inputs.numel() // inputs.shape[-1]
                tokens = torch.arange(n) if n == self._tokens.n_tokens else None
            rows = operand.rows[product.part]
            pieces.append(Piece(rows, operand.columns, inputs, product.outputs, tokens))
        if found is None:
            return None
        operand, product = found
        return Matmul(operand.name, operand.axes, operand.n_columns, product.x, pieces)

    def _operand(self, product: Product) -> Operand | None:
        """The matrix of a weight that a product multiplies."""
        if product.axes is None:
            return self._views.operand(product.weight, product.rows, product.columns, product.fixed)
        source = self._views.find(product.weight)
        if source is None or tuple(product.weight.shape) != self._shapes[source.name]:
            return None
        n_rows, n_columns = product.axes.matrix_shape(self._shapes[source.name])
        return Operand(source.name, product.axes, np.arange(n_rows), None, n_columns)

    def _of_gathered(self, products: Any, args: tuple[Any, ...], kwargs: Any) -> list[Product]:
        """Products of a call with matrices that were gathered from a weight."""
        for value in args:
            if id(value) in self._gathered:
                _, weight, indices = self._gathered[id(value)]
                only = (p for p in products(*args, **kwargs) if p.weight is value)
                return list(gathered(weight, indices, only))
        return []

    def _note_use(self, func: Any, args: tuple[Any, ...], kwargs: Any, output: Any) -> None:
        """Remember copies of weights that the function made, and what it used a weight for."""
        name = getattr(func, "__name__", "")
        for value in tensors_in((args, kwargs)):
            source = self._views.find(value)
            if source is None:
                continue
            results = list(tensors_in(output))
            if not results or any(self._views.find(result) is not None for result in results):
                continue  # no tensor, or a view
            if is_copy(name, args, value, output):
                self._views.add_copy(output, value)
            elif name == "__getitem__" and is_index(args[1]):
                self._gathered[id(output)] = output, value, args[1]
            else:
                kind = ELEMENTWISE if name.strip("_") in ELEMENTWISE_FUNCTIONS else OTHER
                self.uses.setdefault(source.name, set()).add(kind)


def is_copy(name: str, args: tuple[Any, ...], weight: Tensor, output: Any) -> bool:
    """Whether a function returned the entries of a weight in the same order, perhaps scaled."""
    if not isinstance(output, Tensor) or output.shape != weight.shape:
        return False
    if name in COPIES:
        return args[0] is weight
    if name.strip("_") in ("mul", "div", "truediv", "multiply", "divide", "rmul"):
        others = [value for value in args if value is not weight]
        return all(not isinstance(value, Tensor) or value.numel() == 1 for value in others)
    return False


def is_index(index: object) -> bool:
    """Whether an index picks matrices of a stack by their numbers."""
    return (
        isinstance(index, Tensor) and index.dtype in (torch.int32, torch.int64) and index.ndim == 1
    )


# Functions that return a tensor in another dtype or memory format.
COPIES = {
    "to", "type", "type_as", "float", "half", "bfloat16", "double", "contiguous", "detach", "clone",
    "cpu", "cuda",
}  # fmt: skip

# Functions that use each entry of a weight by itself, without their underscores.
ELEMENTWISE_FUNCTIONS = {
    "mul", "rmul", "imul", "multiply", "add", "radd", "iadd", "sub", "rsub", "isub", "div",
    "truediv", "rtruediv", "divide", "neg", "exp", "expm1", "log", "log1p", "sigmoid", "logsigmoid",
    "tanh", "softplus", "softmax", "log_softmax", "relu", "gelu", "silu", "elu", "lerp", "addcmul",
    "addcdiv", "where", "pow", "rpow", "float_power", "square", "sqrt", "rsqrt", "reciprocal",
    "abs", "sign", "clamp", "minimum", "maximum", "sum", "mean", "norm", "layer_norm", "rms_norm",
    "group_norm", "batch_norm", "prelu", "cos", "sin", "erf", "cumsum", "cat", "stack", "gather",
    "repeat", "ones_like", "zeros_like", "empty_like",
}  # fmt: skip
