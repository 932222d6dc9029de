"""Lloyd-Max quantization: each weight by itself, to a value of a codebook fitted to the tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant.base.config import Config, check_choice, check_int
from quant.base.matrix import as_matrix
from quant.base.tensor import QuantizedTensor
from quant.io.validation import check_codebook, check_codes, check_names, check_reach, check_scales
from quant.numerics.grid import CodebookGrid, check_fit
from quant.numerics.group_scales import (
    DTYPES,
    RULES,
    make_scales,
    spread,
    stored_scales,
    used_scales,
)
from quant.numerics.lloyd_max_1d import METHODS, NF4, lloyd_max

Array = NDArray[Any]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LloydMaxConfig(Config, kind="lloyd-max"):
    """A codebook of numbers for the tensor, and a scale for each group of each row.

    Attributes
    ----------
    k : int in 1..256
        Values of the codebook; as many codes.
    table : str
        "lloyd", fitted; "nf4", fixed: 16 shares of the largest weight of a group, not stored.
    method : str
        How "lloyd" is fitted: "exact" or "iterative"; see `quant.numerics.lloyd_max_1d.lloyd_max`.
    scale : str
        Of a group: "absmax", the largest magnitude; "rms", the root of the mean square; "none".
    group_size : int >= 1, optional
        Columns that share a scale; a whole row if none is given.
    scale_dtype : str
        "float16" or "float32", in which scales are stored.
    """

    k: int = 16
    table: str = "lloyd"
    method: str = "exact"
    scale: str = "absmax"
    group_size: int | None = None
    scale_dtype: str = "float32"

    def __post_init__(self) -> None:
        check_int(self.k, "k", 1, 256)
        check_choice(self.table, "table", ("lloyd", "nf4"))
        check_choice(self.method, "method", METHODS)
        check_choice(self.scale, "scale", RULES)
        check_choice(self.scale_dtype, "scale_dtype", DTYPES)
        if self.group_size is not None:
            check_int(self.group_size, "group_size", 1, 2**31 - 1)
        if self.table == "nf4" and (self.k, self.scale) != (16, "absmax"):
            raise ValueError(
                f"nf4 has k=16 and scale='absmax', got k={self.k} and scale={self.scale!r}; "
                "correct them"
            )
        if self.scale == "none" and self.group_size is not None:
            raise ValueError(
                f"group_size goes with a scale, got {self.group_size} with scale='none'; leave it "
                "out"
            )

    def fit(self, matrix: Matrix, column_weights: Array | None = None) -> CodebookGrid:
        """The grid for a matrix (R, C) float32, finite.

        What the squared error of a weight counts is `costs`, (C,) or (R, C) >= 0, if given; 1 else.
        """
        columns = matrix.shape[1]
        group_size = self.columns_of_group(columns)
        scales = make_scales(matrix, self.scale, group_size, self.scale_dtype)
        grid = CodebookGrid(codebook=NF4, scales=used_scales(scales), group_size=group_size)
        if self.table == "nf4":
            return grid
        codebook = np.zeros(1)  # of zeros
        if scales.any():
            # an error of the quotient counts by the square of the scale
            weights = None if self.scale == "none" else scales.astype(np.float64) ** 2
            if weights is not None:
                matrix = matrix / spread(grid.scales, group_size, columns)
                weights = np.broadcast_to(spread(weights, group_size, columns), matrix.shape)
            if column_weights is not None:
                weights = np.broadcast_to(
                    column_weights * (1 if weights is None else weights), matrix.shape
                )
            codebook = lloyd_max(matrix, self.k, weights=weights, method=self.method)
        return replace(grid, codebook=codebook.astype(np.float32))

    def arrays(self, grid: CodebookGrid) -> dict[str, Array]:
        """What is stored of a grid: the codebook if it was fitted, the scales if there are any."""
        arrays: dict[str, Array] = {}
        if self.table == "lloyd":
            arrays["codebook"] = grid.codebook
        if self.scale != "none":
            arrays["scales"] = stored_scales(grid.scales, self.scale_dtype)
        return arrays

    def grid(self, arrays: Mapping[str, Array], shape: tuple[int, int]) -> CodebookGrid:
        """The grid of stored arrays, for a matrix of this shape (R, C)."""
        return CodebookGrid(
            codebook=arrays["codebook"] if self.table == "lloyd" else NF4,
            scales=used_scales(arrays.get("scales", np.ones((1, 1)))),
            group_size=self.columns_of_group(shape[1]),
        )

    def columns_of_group(self, columns: int) -> int:
        """Columns that share a scale, of so many."""
        return min(self.group_size or columns, columns)

    def codes_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(R, C): a code for each weight."""
        return shape

    def reach(self, arrays: Mapping[str, Array]) -> float:
        """The largest magnitude that a weight can have."""
        codebook = arrays["codebook"] if self.table == "lloyd" else NF4
        return float(np.abs(codebook).max()) * float(np.max(arrays.get("scales", 1)))

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32: value times scale, and 0 where the scale is 0."""
        grid = self.grid(arrays, shape)
        matrix = grid.decode(codes)
        if self.scale != "none" and not (stored := arrays["scales"]).all():
            is_zero = spread(stored == 0, grid.group_size, shape[1])
            matrix[np.broadcast_to(is_zero, shape)] = 0
        return matrix

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` can take these."""
        is_fitted, is_scaled = self.table == "lloyd", self.scale != "none"
        names = {"codebook": is_fitted, "scales": is_scaled}
        check_names(arrays, {name for name, is_there in names.items() if is_there})
        if is_scaled:
            groups = -(-shape[1] // self.columns_of_group(shape[1]))
            check_scales(arrays["scales"], self.scale_dtype, (shape[0], groups))
        codebook = arrays["codebook"] if is_fitted else NF4
        check_codebook(codebook, self.k)
        check_reach(self.reach(arrays))
        if np.any(codebook[1:] < codebook[:-1]):
            raise ValueError(
                f"codebook must be ascending, got {codebook[0]}..{codebook[-1]} with a step down; "
                "the file is damaged"
            )
        check_codes(codes, shape, len(codebook))


class LloydMaxQuantizer:
    """Quantizes weights to the values of a codebook.

    Parameters
    ----------
    config : LloydMaxConfig, optional
    fields
        Fields of `LloydMaxConfig`, in place of those of `config`.

    Examples
    --------
    >>> quantizer = LloydMaxQuantizer(k=3, scale="none")
    >>> q = quantizer.encode(np.array([[0.5, -0.25, 0.0], [0.0, 0.5, 0.0]]))
    >>> q.codes.tolist()
    [[2, 0, 1], [1, 2, 1]]
    >>> q.dequantize().tolist()
    [[0.5, -0.25, 0.0], [0.0, 0.5, 0.0]]
    """

    def __init__(self, config: LloydMaxConfig | None = None, /, **fields: Any) -> None:
        self.config = replace(config or LloydMaxConfig(), **fields)

    def fit(
        self, weight: Any, *, column_weights: ArrayLike | None = None, transposed: bool = False
    ) -> CodebookGrid:
        """Codebook and scales for a weight.

        Parameters
        ----------
        weight : as `quant.base.matrix.as_matrix` takes it
        importance : (C,) or (R, C) float >= 0, optional
            What the squared error of each weight counts: the diagonal of a Hessian, or one each.
        transposed : bool
            Whether the weight is stored (in, out).

        Raises
        ------
        ValueError
            If the weight is no finite matrix, the importance of another kind, or a scale does not
            fit its dtype.
        """
        matrix, _ = as_matrix(weight, transposed=transposed)
        return self.config.fit(matrix, check_column_weights(column_weights, matrix.shape))

    def encode(
        self,
        weight: Any,
        fitted: CodebookGrid | None = None,
        *,
        column_weights: ArrayLike | None = None,
        transposed: bool = False,
    ) -> QuantizedTensor:
        """The weight quantized, on the grid that `fit` gave, or else on one of its own.

        Raises
        ------
        ValueError
            As `fit`; and if `fitted` is not of this configuration and shape.
        """
        matrix, layout = as_matrix(weight, transposed=transposed)
        checked = check_column_weights(column_weights, matrix.shape)
        grid = self.config.fit(matrix, checked) if fitted is None else fitted
        arrays = self.config.arrays(grid)
        if fitted is not None and not is_same(fitted, self.config, arrays, matrix.shape):
            raise ValueError(
                f"fitted must be a grid of {self.config} for shape {matrix.shape}, got one of "
                f"{grid.codebook.size} values and scales of shape {grid.scales.shape}; fit it with "
                "this quantizer"
            )
        bits = max(1, (grid.codebook.size - 1).bit_length())
        return QuantizedTensor(
            codes=grid.encode(matrix),
            code_bits=bits,
            arrays=arrays,
            layout=layout,
            config=self.config,
        )

    def decode(self, q: QuantizedTensor) -> Any:
        """The weight again: ``q.dequantize()``."""
        return q.dequantize()


def is_same(
    grid: CodebookGrid, config: LloydMaxConfig, arrays: Mapping[str, Array], shape: tuple[int, int]
) -> bool:
    """Whether a grid comes back from what is stored of it, and fits the shape."""
    try:
        again = config.grid(arrays, shape)
        check_fit(again.scales, again.group_size, shape)
    except ValueError:
        return False
    return (
        again.group_size == grid.group_size
        and grid.codebook.size <= config.k
        and np.array_equal(again.codebook, grid.codebook)
        and np.array_equal(again.scales, grid.scales)
    )


def check_column_weights(column_weights: ArrayLike | None, shape: tuple[int, int]) -> Array | None:
    """(C,) or (R, C) float64; ValueError unless it is finite, >= 0, and one is above 0."""
    if column_weights is None:
        return None
    held = np.asarray(column_weights, np.float64)
    if held.shape not in (shape, shape[1:]):
        raise ValueError(
            f"column_weights must be of shape {shape[1:]} or {shape}, got {held.shape}; give each "
            "column or weight one"
        )
    if not (np.isfinite(held).all() and held.min() >= 0 and held.max() > 0):
        raise ValueError(
            f"column_weights must be finite and >= 0, and one above 0, got "
            f"{held.min()}..{held.max()}; leave it out for equal ones"
        )
    shares: Array = held / held.max()
    return shares
