"""GPTQ: round column by column, and let the columns to come make good the errors of those before.

On the grid of any configuration that fits one: uniform levels of a tensor, row, column or group,
or a codebook.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.matrix import as_matrix
from quant.base.tensor import QuantizedTensor
from quant.numerics.coordinate_descent import damped_hessian, descend, dtype_of_scales
from quant.numerics.gptq_solver import Fit, solve, solve_and_fit
from quant.numerics.grid import UniformGrid
from quant.numerics.hessian import Float64, check_hessian, ldl_factor
from quant.quantizers.gptq_config import ORDER, GptqConfig, Grid, GridConfig
from quant.quantizers.scalar import ScalarConfig

Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class GptqReport:
    """What GPTQ did.

    Attributes
    ----------
    loss : float
        ``tr(E H Eᵀ)`` of the errors E, after all sweeps: H damped, dead columns left out.
    damp : float
        What was used: more than was asked if the factorization failed with that.
    n_dead : int
        Columns that no calibration row touches; their weights are 0.
    """

    loss: float
    damp: float
    n_dead: int


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GptqTensor(QuantizedTensor):
    """A quantized weight, and how GPTQ fared."""

    report: GptqReport


class GptqQuantizer:
    """Quantizes weights by GPTQ.

    All in float64 but the weights and their levels: the factor, and what errors add up to.

    Parameters
    ----------
    config : GptqConfig, optional
    fields
        Fields of `GptqConfig`, in place of those of `config`.

    References
    ----------
    Frantar, Ashkboos, Hoefler and Alistarh 2022, https://arxiv.org/abs/2210.17323
    """

    def __init__(self, config: GptqConfig | None = None, /, **fields: Any) -> None:
        self.config = replace(config or GptqConfig(), **fields)

    def fit(self, weight: Any, hessian: Any, *, transposed: bool = False) -> Grid:
        """The grid for a weight as it comes: of the inner configuration, and as that raises."""
        matrix, _ = as_matrix(weight, transposed=transposed)
        return fit_inner(self.config.inner, matrix, check_hessian(hessian, matrix.shape[1]))

    def encode(
        self, weight: Any, hessian: Any, fitted: Grid | None = None, *, transposed: bool = False
    ) -> GptqTensor:
        """The weight quantized, on the grid that `fit` gave, or else on one of its own.

        Parameters
        ----------
        weight : as `quant.base.matrix.as_matrix` takes it
        hessian : Hessian, or (C, C) float, numpy or torch
            Mean of x xᵀ over calibration rows; another scale of it changes the loss alone.
        fitted : grid, optional
        transposed : bool
            Whether the weight is stored (in, out).

        Raises
        ------
        ValueError
            If the weight is no finite matrix, the Hessian none of it (see `check_hessian`), or the
            grid does not fit.
        """
        matrix, layout = as_matrix(weight, transposed=transposed)
        config, n_columns = self.config, matrix.shape[1]
        checked = check_hessian(hessian, n_columns)
        if fitted is not None:
            if not config.static_groups:
                raise ValueError(
                    "static_groups=False fits its grids on the way, got fitted; give one or the "
                    "other"
                )
            check_fitted(fitted, config.inner, matrix.shape)
        grid = fitted
        if grid is None and config.static_groups:
            grid = fit_inner(config.inner, matrix, checked)
        factor = ldl_factor(checked, damp=config.damp, act_order=config.act_order)
        matrix[:, factor.dead] = 0
        if grid is None:
            inner = config.inner
            assert isinstance(inner, ScalarConfig)  # GptqConfig saw to these two
            assert inner.group_size is not None
            fit = group_fitter(inner, checked)
            codes, loss, grid = solve_and_fit(
                matrix, factor, fit, inner.group_size, config.block_size
            )
        else:
            codes, loss = solve(matrix, factor, grid, config.block_size)
        arrays = config.inner.arrays(grid)
        if config.n_passes:
            position = factor.order if config.static_groups else np.arange(n_columns)
            codes[:, position], grid, loss = descend(
                matrix[:, factor.order],
                codes[:, position],
                grid,
                position // grid.group_size,
                damped_hessian(checked, factor),
                n_passes=config.n_passes,
                block_size=config.block_size,
                scale_dtype=dtype_of_scales(arrays, len(matrix)),
            )
            arrays = config.inner.arrays(grid)
        if config.has_order:
            arrays[ORDER] = factor.order.astype(np.int32)
        return GptqTensor(
            codes=codes,
            code_bits=code_bits(grid),
            arrays=arrays,
            layout=layout,
            config=replace(config, damp=factor.damp),
            report=GptqReport(loss=loss, damp=factor.damp, n_dead=int(factor.dead.sum())),
        )

    def decode(self, q: QuantizedTensor) -> Any:
        """The weight again: ``q.dequantize()``."""
        return q.dequantize()


def gptq(
    weight: Any,
    hessian: Any,
    *,
    bits: int = 6,
    clip: str = "sd:12.85",
    per: str = "row",
    act_order: bool = True,
    damp: float = 0.01,
    block_size: int = 128,
    static_groups: bool = True,
    n_passes: int = 0,
    transposed: bool = False,
    **fields: Any,
) -> GptqTensor:
    """The weight quantized by GPTQ to evenly spaced levels; see `GptqConfig` and `GptqQuantizer`.

    `rtn` with a Hessian: `fields` are further ones of `ScalarConfig`. For levels of a codebook,
    make a `GptqQuantizer` of its configuration.
    """
    inner = ScalarConfig(bits=bits, clip=clip, per=per, **fields)
    quantizer = GptqQuantizer(
        inner=inner,
        act_order=act_order,
        damp=damp,
        block_size=block_size,
        static_groups=static_groups,
        n_passes=n_passes,
    )
    return quantizer.encode(weight, hessian, transposed=transposed)


def fit_inner(inner: GridConfig, matrix: Matrix, hessian: Float64) -> Grid:
    """The grid for a matrix (R, C) as it comes."""
    grid: Grid = inner.fit(matrix, column_weights_of(inner, hessian))
    return grid


def group_fitter(inner: ScalarConfig, hessian: Float64) -> Fit:
    """What fits the grid of one group."""
    each_row = replace(inner, per="row", group_size=None)
    column_weights = column_weights_of(inner, hessian)

    def fit(weights: Matrix, columns: NDArray[np.int64]) -> UniformGrid:
        return each_row.fit(weights, None if column_weights is None else column_weights[columns])

    return fit


def column_weights_of(inner: GridConfig, hessian: Float64) -> Float64 | None:
    """diag(H) for a clip rule that weighs columns by it."""
    return np.diagonal(hessian) if getattr(inner, "clip", None) == "hessian" else None


def check_fitted(fitted: Grid, inner: GridConfig, shape: tuple[int, int]) -> None:
    """Raise ValueError unless the grid comes back from what `inner` stores of it."""
    is_stored = False
    if isinstance(fitted, UniformGrid) == isinstance(inner, ScalarConfig):
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # infinite scales are refused
                arrays = inner.arrays(fitted)
            inner.check(fitted.encode(np.zeros(shape, np.float32)), arrays, shape)
            is_stored = is_same(inner.grid(arrays, shape), fitted)
        except ValueError:
            pass
    if not is_stored:
        raise ValueError(
            f"fitted must be a grid of {inner} for a matrix of shape {shape}, got another; fit it "
            "with this quantizer"
        )


def is_same(grid: Grid, other: Grid) -> bool:
    """Whether two grids of one kind have the same levels."""
    return all(
        np.array_equal(getattr(grid, field.name), getattr(other, field.name))
        for field in fields(grid)
    )


def code_bits(grid: Grid) -> int:
    """Bits that a code of the grid takes."""
    if isinstance(grid, UniformGrid):
        return (grid.highest - grid.lowest).bit_length()
    return max((len(grid.codebook) - 1).bit_length(), 1)
