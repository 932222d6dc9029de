"""GPTQ: round column by column, and let later columns compensate the errors of earlier ones.

It rounds to the grid of any `GridConfig`: uniform levels for a tensor, row, column or group, or the
values of a codebook.

References
----------
Frantar, Ashkboos, Hoefler and Alistarh 2022, https://arxiv.org/abs/2210.17323
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from numbers import Real
from typing import Any, NamedTuple, cast

import numpy as np

from quant.base.config import Config, QuantizedTensor, check_bool, short
from quant.base.matrix import Layout
from quant.numerics.coordinate_descent import damped_hessian, descend, dtype_of_scales
from quant.numerics.gptq_solver import Fit, solve, solve_and_fit
from quant.numerics.grid import Grid, UniformGrid
from quant.numerics.hessian import ldl_factor, visiting_order
from quant.numerics.parts import HessianPart, all_rows, mean_matrix, parts_of
from quant.quantizers.grid_config import GridConfig
from quant.quantizers.scalar import ScalarConfig
from quant.types import Array, Float64, Indices, Matrix

ORDER = "order"  # stored array: columns in visiting order


@dataclass(frozen=True, kw_only=True)
class GptqReport:
    """Diagnostics of GPTQ.

    Attributes
    ----------
    loss : float
        ``tr(E H Eᵀ)`` of the errors E after all passes; H is damped, without dead columns.
    damp : float
        Damping used; more than the setting if the factorization failed with that.
    n_dead : int
        Columns that are 0 in all calibration rows; their weights are rounded to nearest.
    """

    loss: float
    damp: float
    n_dead: int


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class GptqTensor(QuantizedTensor):
    """A quantized weight with the diagnostics of GPTQ."""

    report: GptqReport


class SolvedPart(NamedTuple):
    """Codes (n, C), grid and diagnostics of the rows of one part."""

    codes: Array
    grid: Grid
    report: GptqReport


@dataclass(frozen=True, kw_only=True)
class GptqConfig(Config, kind="gptq"):
    """Round by GPTQ to the grid of another configuration.

    `encode` needs a Hessian and returns a `GptqTensor`; `fit` returns the grid of `inner`. Neither
    takes column weights. The factorization and the sums of errors are float64.

    Attributes
    ----------
    inner : GridConfig
        Fits, stores and decodes the grid; a JSON object of such a configuration is accepted too.
    act_order : bool
        Whether columns are visited by decreasing diagonal of the Hessian; else in their own order.
    damp : float in [0, 1]
        Added to the diagonal of the Hessian, in units of its mean. A `QuantizedTensor` has the
        damping that was used.
    block_size : int in 1..65536
        Columns between two matrix products that pass errors on; it affects speed only.
    static_groups : bool
        Whether grids are fitted to the original weight. If not, each group is fitted when its first
        column is reached, to the optimum of its columns at that point. Groups are then runs of
        columns in visiting order, and so are the codes; the array ``order`` is stored with them
        unless the order is that of the columns.
    n_passes : int in 0..64
        Passes of coordinate descent afterwards, which refit scales that one row has for itself and
        choose all codes again, where that lowers the loss.
    """

    inner: GridConfig = field(default_factory=lambda: ScalarConfig(clip="sd:12.85"))
    act_order: bool = True
    damp: float = 0.01
    block_size: int = 128
    static_groups: bool = True
    n_passes: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.inner, Mapping):  # from JSON
            object.__setattr__(self, "inner", Config.from_json(self.inner))
        if not isinstance(self.inner, GridConfig):
            raise ValueError(
                f"inner must be a ScalarConfig or a LloydMaxConfig, got {self.inner!r}; GPTQ "
                "rounds to the levels of a grid"
            )
        check_bool(self.act_order, "act_order")
        check_bool(self.static_groups, "static_groups")
        self.check_ints(block_size=(1, 65536), n_passes=(0, 64))
        is_number = isinstance(self.damp, Real) and not isinstance(self.damp, bool)
        if not is_number or not 0 <= self.damp <= 1:
            raise ValueError(
                f"damp must be a number in [0, 1], got {short(self.damp)}; 0.01 is usual"
            )
        object.__setattr__(self, "damp", float(self.damp))
        if not self.static_groups and not (
            isinstance(self.inner, ScalarConfig) and self.inner.per == "group"
        ):
            raise ValueError(
                f"static_groups=False needs a ScalarConfig with per='group', got {self.inner}; "
                "there are no groups to fit"
            )

    @property
    def needs_hessian(self) -> bool:
        """True."""
        return True

    @property
    def has_order(self) -> bool:
        """Whether the codes are in visiting order."""
        return self.act_order and not self.static_groups

    def read_parts(
        self, hessian: Any, column_weights: Any, shape: tuple[int, int]
    ) -> list[HessianPart]:
        """Return the parts of the Hessian; ValueError if it is absent or invalid."""
        self.refuse(column_weights=column_weights)
        if hessian is None:
            raise ValueError(
                "gptq needs a hessian, got none; give the mean of x xᵀ over calibration rows, or "
                "round to nearest"
            )
        return parts_of(hessian, *shape)

    def fit_matrix(
        self, matrix: Matrix, hessian: Any = None, *, column_weights: Any = None
    ) -> Grid:
        """Return the grid that `inner` fits to a matrix (R, C); see `Config.fit`."""
        parts = self.read_parts(hessian, column_weights, matrix.shape)
        return self.fit_parts(matrix, parts)

    def fit_parts(self, matrix: Matrix, parts: list[HessianPart]) -> Grid:
        """Return the grid of a matrix (R, C), fitted with the mean of the parts' Hessians."""
        mean = mean_matrix(parts, matrix.shape[1])
        grid: Grid = self.inner.fit_grid(matrix, self.column_weights_of(mean))
        return grid

    def encode_matrix(
        self,
        matrix: Matrix,
        layout: Layout,
        hessian: Any = None,
        *,
        column_weights: Any = None,
        fitted: Any = None,
    ) -> GptqTensor:
        """Quantize a matrix (R, C); see `Config.encode`.

        Rows that no part of a `PartHessian` covers are rounded to nearest.
        """
        parts = self.read_parts(hessian, column_weights, matrix.shape)
        grid: Grid | None = fitted
        if fitted is not None:
            if not self.static_groups:
                raise ValueError(
                    "static_groups=False fits its own grids, got fitted; leave one of them out"
                )
            self.inner.check_fitted(fitted, matrix.shape)
        elif self.static_groups:
            grid = self.fit_parts(matrix, parts)
        rest = np.setdiff1d(np.arange(len(matrix)), all_rows(parts))
        order = None
        if self.has_order:  # codes that are stored in visiting order need one order for all parts
            order = visiting_order(mean_matrix(parts, matrix.shape[1]))
        if len(rest):
            parts = [*parts, HessianPart(rest, np.eye(matrix.shape[1]))]
        # Scales that all rows share are those of the whole matrix, also in a part of one row.
        shared = grid if grid is not None and len(grid.scales) < len(matrix) else None
        solved = [
            self.solve_part(matrix[part.rows], part, grid, order, is_shared=shared is not None)
            for part in parts
        ]
        rows = all_rows(parts)
        whole = join([part.grid for part in solved], rows) if shared is None else shared
        arrays = self.inner.arrays(whole)
        if order is not None:
            arrays[ORDER] = order.astype(np.int32)
        damp = max(part.report.damp for part in solved)
        return GptqTensor(
            codes=in_rows([part.codes for part in solved], rows),
            code_bits=whole.code_bits,
            arrays=arrays,
            layout=layout,
            config=replace(self, damp=damp),
            report=GptqReport(
                loss=sum(part.report.loss for part in solved),
                damp=damp,
                n_dead=max(part.report.n_dead for part in solved),
            ),
        )

    def solve_part(
        self,
        matrix: Matrix,
        part: HessianPart,
        grid: Grid | None,
        order: Indices | None,
        *,
        is_shared: bool,
    ) -> "SolvedPart":
        """Choose the codes of the rows of one part, (n, C), on their rows of the grid.

        Without a grid, groups are fitted when they are reached. `is_shared` says that all rows of
        the weight share the scales of the grid, which are then not refitted.
        """
        factor = ldl_factor(part.matrix, damp=self.damp, act_order=self.act_order, order=order)
        if grid is None:
            fit, group_size = self.group_fitter(part.matrix)
            codes, loss, grid = solve_and_fit(matrix, factor, fit, group_size, self.block_size)
        else:
            grid = grid.take(part.rows)
            codes, loss = solve(matrix, factor, grid, self.block_size)
        order, damp, n_dead = factor.order, factor.damp, int(factor.dead.sum())
        if self.n_passes:
            visited = order if self.static_groups else np.arange(matrix.shape[1])
            arrays = {} if is_shared else self.inner.arrays(grid)
            damped = damped_hessian(part.matrix, factor)
            del factor  # its memory is needed below
            codes[:, visited], grid, loss = descend(
                matrix[:, order],
                codes[:, visited],
                grid,
                visited // grid.group_size,
                damped,
                n_passes=self.n_passes,
                block_size=self.block_size,
                scale_dtype=dtype_of_scales(arrays, len(matrix)),
            )
        report = GptqReport(loss=loss, damp=damp, n_dead=n_dead)
        return SolvedPart(codes, grid, report)

    def column_weights_of(self, hessian: Float64) -> Float64 | None:
        """Return the diagonal of the Hessian if the grid is fitted with it, else None."""
        return np.diagonal(hessian) if self.inner.uses_column_weights else None

    def group_fitter(self, hessian: Float64) -> tuple[Fit, int]:
        """Return (function that fits the grid of one group of columns, columns of a group)."""
        inner = cast(ScalarConfig, self.inner)  # so says `__post_init__`
        one_group = replace(inner, per="row", group_size=None)
        weights = self.column_weights_of(hessian)

        def fit(matrix: Matrix, columns: Indices) -> UniformGrid:
            return one_group.fit_grid(matrix, None if weights is None else weights[columns])

        return fit, cast(int, inner.group_size)

    def to_json(self) -> dict[str, Any]:
        """Return an object for JSON: ``kind`` and all settings, ``inner`` as its own object."""
        return {"kind": self.kind, **asdict(self), "inner": self.inner.to_json()}

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """Decode to levels of the inner grid, a matrix (R, C) float32."""
        inner_arrays, order = self.split_arrays(arrays)
        matrix = self.inner.decode(codes, inner_arrays, shape)
        if order is None:
            return matrix
        reordered = np.empty_like(matrix)
        reordered[:, order] = matrix
        return reordered

    def widened(self) -> Any:
        """Return the configuration with float32 scales."""
        return replace(self, inner=self.inner.widened())

    def clipped(self, matrix: Matrix, arrays: Mapping[str, Array]) -> float:
        """Return the share of a matrix (R, C) that lies beyond the levels of these arrays."""
        inner_arrays, order = self.split_arrays(arrays)
        return self.inner.clipped(matrix if order is None else matrix[:, order], inner_arrays)

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` accepts these arrays."""
        if self.has_order != (ORDER in arrays):
            raise ValueError(
                f"arrays must {'' if self.has_order else 'not '}include {ORDER!r} for {self}, got "
                f"{', '.join(sorted(arrays)) or 'none'}; the file is damaged"
            )
        inner_arrays, order = self.split_arrays(arrays)
        self.inner.check(codes, inner_arrays, shape)
        if order is None:
            return
        if order.dtype != np.int32 or order.shape != shape[1:]:
            raise ValueError(
                f"order must be int32 of shape {shape[1:]}, got {order.dtype} of shape "
                f"{order.shape}; the file is damaged"
            )
        if not np.array_equal(np.sort(order), np.arange(shape[1])):
            raise ValueError(
                f"order must contain each column 0..{shape[1] - 1} once; the file is damaged"
            )

    def split_arrays(self, arrays: Mapping[str, Array]) -> tuple[dict[str, Array], Array | None]:
        """Return (arrays of the inner configuration, visiting order if it is stored)."""
        if not self.has_order:
            return dict(arrays), None
        inner_arrays = {name: array for name, array in arrays.items() if name != ORDER}
        return inner_arrays, arrays[ORDER]


def join(grids: list[Grid], rows: Indices) -> Grid:
    """Return the grid of the whole weight, of grids in which each row has its own scales."""
    names = ("scales", "zero_points") if isinstance(grids[0], UniformGrid) else ("scales",)
    arrays = {name: in_rows([getattr(grid, name) for grid in grids], rows) for name in names}
    return replace(grids[0], **arrays)  # type: ignore[arg-type]


def in_rows(arrays: list[Array], rows: Indices) -> Array:
    """Return the rows of all arrays, each at its index."""
    whole = np.concatenate(arrays)
    ordered: Array = np.empty_like(whole)
    ordered[rows] = whole
    return ordered


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
    **settings: Any,
) -> GptqTensor:
    """Quantize a weight by GPTQ to evenly spaced levels.

    `bits`, `clip`, `per` and `settings` are those of `ScalarConfig`, the others those of
    `GptqConfig` and its `encode`. For the levels of a codebook, use ``GptqConfig(inner=...)``.
    """
    config = GptqConfig(
        inner=ScalarConfig(bits=bits, clip=clip, per=per, **settings),
        act_order=act_order,
        damp=damp,
        block_size=block_size,
        static_groups=static_groups,
        n_passes=n_passes,
    )
    q = config.encode(weight, hessian, transposed=transposed)
    assert isinstance(q, GptqTensor)
    return q
