"""How GPTQ is configured, and how what it stored is decoded."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from quant.base.config import Config, check_int
from quant.numerics.grid import CodebookGrid, UniformGrid
from quant.quantizers.scalar import ScalarConfig

Array = NDArray[Any]
Matrix = NDArray[np.float32]
Grid = UniformGrid | CodebookGrid

ORDER = "order"


@runtime_checkable
class GridConfig(Protocol):
    """A configuration whose codes are those of a grid."""

    def fit(self, matrix: Matrix, column_weights: NDArray[np.float64] | None = None) -> Any:
        """The grid for a matrix (R, C); costs (C,) are diag(H)."""

    def arrays(self, grid: Any) -> dict[str, Array]:
        """What is stored of a grid."""

    def grid(self, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Any:
        """The grid of what is stored."""

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless these can be decoded."""

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32."""

    def to_json(self) -> dict[str, Any]:
        """For `Config.from_json`."""


@dataclass(frozen=True, kw_only=True)
class GptqConfig(Config, kind="gptq"):
    """GPTQ on the grid of another configuration.

    Attributes
    ----------
    inner : GridConfig, and Config
        Of the grid: it fits, stores and decodes.
    act_order : bool
        Whether columns are visited by falling diagonal of the Hessian, or as they stand.
    damp : float in [0, 1]
        Added to the diagonal of the Hessian, in means of it. In a `QuantizedTensor`: what was used.
    block_size : int in 1..65536
        Columns whose errors reach those behind the block in one product: a matter of speed.
    static_groups : bool
        Whether groups are fitted on the weight as it comes. If not, each is fitted when its first
        column is reached, on what its columns should be by then; groups are then runs of columns
        in visiting order, and codes too are stored in this order, an array ``order`` beside them
        if it is not the columns' own.
    sweeps : int in 0..64
        After the walk, times that the scales which one row has for itself are refitted and all
        codes chosen anew, as long as that lowers the loss.
    """

    inner: GridConfig = field(default_factory=lambda: ScalarConfig(clip="sd:12.85"))
    act_order: bool = True
    damp: float = 0.01
    block_size: int = 128
    static_groups: bool = True
    n_passes: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.inner, Mapping):  # out of JSON
            object.__setattr__(self, "inner", Config.from_json(self.inner))
        if not isinstance(self.inner, Config) or not isinstance(self.inner, GridConfig):
            raise ValueError(
                f"inner must be the configuration of a grid, got {self.inner!r}; GPTQ chooses "
                "among levels that stand before it begins"
            )
        for name in ("act_order", "static_groups"):
            if type(value := getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be True or False, got {value!r}; correct it")
        check_int(self.block_size, "block_size", 1, 65536)
        check_int(self.n_passes, "n_passes", 0, 64)
        if (
            type(self.damp) not in (int, float)
            or not isfinite(self.damp)
            or not 0 <= self.damp <= 1
        ):
            raise ValueError(f"damp must be a number in [0, 1], got {self.damp!r}; 0.01 is usual")
        object.__setattr__(self, "damp", float(self.damp))
        if not self.static_groups and not (
            isinstance(self.inner, ScalarConfig) and self.inner.per == "group"
        ):
            raise ValueError(
                f"static_groups=False goes with a scalar per='group', got {self.inner}; there are "
                "no groups to fit on the way"
            )

    @property
    def has_order(self) -> bool:
        """Whether codes are in visiting order."""
        return self.act_order and not self.static_groups

    def to_json(self) -> dict[str, Any]:
        """Flat but for the inner configuration."""
        return {"kind": self.kind, **asdict(self), "inner": self.inner.to_json()}

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32 on the inner grid."""
        held, order = self._split(arrays)
        matrix = self.inner.decode(codes, held, shape)
        if order is None:
            return matrix
        standing = np.empty_like(matrix)
        standing[:, order] = matrix
        return standing

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` can take these."""
        if self.has_order != (ORDER in arrays):
            raise ValueError(
                f"arrays must {'' if self.has_order else 'not '}hold {ORDER!r} under {self}, got "
                f"{', '.join(sorted(arrays)) or 'none'}; the file is damaged"
            )
        held, order = self._split(arrays)
        self.inner.check(codes, held, shape)
        if order is None:
            return
        if order.dtype != np.int32 or order.shape != shape[1:]:
            raise ValueError(
                f"order must be int32 of shape {shape[1:]}, got {order.dtype} of shape "
                f"{order.shape}; the file is damaged"
            )
        if not np.array_equal(np.sort(order), np.arange(shape[1])):
            raise ValueError(
                f"order must hold each column 0..{shape[1] - 1} once; the file is damaged"
            )

    def _split(self, arrays: Mapping[str, Array]) -> tuple[dict[str, Array], Array | None]:
        """(arrays of the inner configuration, the order of columns if it is stored)."""
        if not self.has_order:
            return dict(arrays), None
        return {name: its for name, its in arrays.items() if name != ORDER}, arrays[ORDER]
