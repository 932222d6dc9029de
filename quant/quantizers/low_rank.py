"""Low-rank correction: what a quantized weight is off by, in part, as a product of two factors.

References
----------
Zhang, Cheng, Shum and Zhao 2024 (LQER), https://arxiv.org/abs/2402.02446
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import Config, check_choice, check_int
from quant.base.matrix import as_matrix
from quant.base.tensor import QuantizedTensor
from quant.io.validation import check_names
from quant.numerics.hessian import check_hessian, ldl_factor
from quant.quantizers.scalar import ScalarConfig

Array = NDArray[Any]
Matrix = NDArray[np.float32]
Float64 = NDArray[np.float64]

INNER = "inner."
SIDES = ("left", "right")
EIGHT = ScalarConfig(bits=8)
LEAST = 0.02  # of the median: what the outputs that hardly matter count at least


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Which weights of a model are corrected, and how.

    Attributes
    ----------
    top : int >= 1
        The weights of the largest errors, so many.
    rank, factors
        As in `LowRankConfig`.
    """

    top: int = 3
    rank: int = 4
    factors: str = "int8"

    def __post_init__(self) -> None:
        check_int(self.top, "top", 1, 2**31 - 1)
        LowRankConfig(inner=EIGHT, rank=self.rank, factors=self.factors)


@dataclass(frozen=True, kw_only=True)
class LowRankConfig(Config, kind="low-rank"):
    """Another configuration, and a product of two factors that is added to what it decodes.

    The factors are stored as ``left`` (rank, R) and ``right`` (rank, C); arrays of the inner
    configuration as ``inner.NAME``.

    Attributes
    ----------
    inner : Config
        Of the codes; an object of JSON is taken too.
    rank : int in 1..4096
        Columns of a factor, at most: as many as the weight has rows or columns.
    factors : "int8" or "float16"
        How they are stored: int8 with a step for each column, or as they are.
    """

    inner: Config
    rank: int = 4
    factors: str = "int8"

    def __post_init__(self) -> None:
        if isinstance(self.inner, Mapping):
            object.__setattr__(self, "inner", Config.from_json(self.inner))
        if not isinstance(self.inner, Config) or isinstance(self.inner, LowRankConfig):
            raise ValueError(
                f"inner must be a configuration, and not low-rank, got {self.inner!r}; correct it"
            )
        check_int(self.rank, "rank", 1, 4096)
        check_choice(self.factors, "factors", ("int8", "float16"))

    def to_json(self) -> dict[str, Any]:
        """Flat but for the inner configuration."""
        return {"kind": self.kind, **asdict(self), "inner": self.inner.to_json()}

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32: of the inner configuration, and the product (float64)."""
        matrix = self.inner.decode(codes, inner_arrays(arrays), shape)
        left, right = (self.read(arrays, side).astype(np.float64) for side in SIDES)
        with np.errstate(over="ignore"):  # `check` has refused it
            return (matrix + left.T @ right).astype(np.float32)

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` can take these."""
        others = {name: array for name, array in arrays.items() if not name.startswith(INNER)}
        check_names(others, {name for side in SIDES for name in self.names(side)})
        self.inner.check(codes, inner_arrays(arrays), shape)
        rank = min(self.rank, *shape)
        for side, n in zip(SIDES, shape, strict=True):
            if self.factors == "int8":
                scales = {"scales": arrays[f"{side}.scales"]}
                EIGHT.check(arrays[side], scales, (rank, n))
            elif arrays[side].dtype != np.float16 or arrays[side].shape != (rank, n):
                raise ValueError(
                    f"{side} must be float16 of shape {(rank, n)}, got {arrays[side].dtype} of "
                    f"shape {arrays[side].shape}; the file is damaged"
                )
        if not np.isfinite(self.decode(codes, arrays, shape)).all():
            raise ValueError("weights must be finite, got otherwise; the file is damaged")

    def names(self, side: str) -> list[str]:
        """Arrays that a factor is stored as."""
        return [side, f"{side}.scales"] if self.factors == "int8" else [side]

    def read(self, arrays: Mapping[str, Array], side: str) -> Matrix:
        """A factor (rank, R or C) float32."""
        stored = arrays[side]
        if self.factors == "float16":
            return stored.astype(np.float32)
        return EIGHT.decode(stored, {"scales": arrays[f"{side}.scales"]}, stored.shape)

    def store(self, side: str, factor: Matrix) -> dict[str, Array]:
        """Arrays that a factor (rank, R or C) float32 becomes."""
        if self.factors == "float16":
            largest = float(np.abs(factor).max())
            if largest > float(np.finfo(np.float16).max):
                raise ValueError(f"factors must fit float16, got {largest:.4g}; store them as int8")
            return {side: factor.astype(np.float16)}
        grid = EIGHT.fit(factor)
        return {side: grid.encode(factor), f"{side}.scales": grid.scales}


def correct(
    q: QuantizedTensor,
    weight: Any,
    hessian: Any = None,
    *,
    rank: int = 4,
    factors: str = "int8",
    row_weights: Float64 | None = None,
    transposed: bool = False,
) -> QuantizedTensor:
    """The quantized weight with a correction of this rank: the best one, but for how it is stored.

    Parameters
    ----------
    q : QuantizedTensor
        Of `weight`.
    weight : as `quant.base.matrix.as_matrix` takes it
        What was quantized.
    hessian : Hessian, or (C, C) float, optional
        ``tr(E H Eᵀ)`` of what is left is made least; without it, the sum of squares.
    rank, factors
        As in `LowRankConfig`.
    fisher : (R,) float >= 0, optional
        How much the error of each output counts; less than 0.02 of the median as that.
    transposed : bool
        Whether the weight is stored (in, out).

    Raises
    ------
    ValueError
        If the weight is of another shape, an argument of another kind, or a factor too large for
        float16.
    """
    config = LowRankConfig(inner=q.config, rank=rank, factors=factors)
    matrix, layout = as_matrix(weight, transposed=transposed)
    if layout != q.layout:
        raise ValueError(f"weight must be what was quantized, {q.layout}, got {layout}")
    rows, columns = matrix.shape
    error = matrix.astype(np.float64) - q.matrix()
    root = np.eye(columns)
    if hessian is not None:
        factored = ldl_factor(check_hessian(hessian, columns), act_order=False)
        # H = D' diag(p)² D: the rows of E (D' diag(p)) are as long as E's errors are dear.
        least = factored.pivots[factored.pivots > 0].min()
        root = factored.feedback.T * np.maximum(factored.pivots, least)
    gains = np.ones((rows, 1))
    if row_weights is not None:
        gains[:, 0] = np.sqrt(np.maximum(row_weights, max(LEAST * np.median(row_weights), 1e-30)))
    u, sizes, vt = np.linalg.svd(gains * (error @ root), full_matrices=False)
    share = np.sqrt(sizes[:rank])  # to both sides alike
    left = (u[:, :rank] * share / gains).T
    right = np.linalg.solve(root.T, (vt[:rank] * share[:, None]).T).T
    stored = {INNER + name: array for name, array in q.arrays.items()}
    for side, part in zip(SIDES, (left, right), strict=True):
        stored |= config.store(side, np.ascontiguousarray(part, np.float32))
    corrected = replace(plain(q), arrays=stored, config=config)
    config.check(corrected.codes, stored, layout.matrix_shape)
    return corrected


def plain(q: QuantizedTensor) -> QuantizedTensor:
    """The tensor without what a quantizer reports beside it."""
    return QuantizedTensor(
        codes=q.codes,
        code_bits=q.code_bits,
        arrays=q.arrays,
        layout=q.layout,
        config=q.config,
    )


def inner_arrays(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Arrays of the inner configuration."""
    return {
        name.removeprefix(INNER): array for name, array in arrays.items() if name.startswith(INNER)
    }
