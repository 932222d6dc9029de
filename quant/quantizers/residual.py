"""Residual quantization: each stage quantizes what those before it have left."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import Config
from quant.base.matrix import as_matrix
from quant.base.tensor import QuantizedTensor
from quant.io.validation import check_reach
from quant.numerics.grid import CodebookGrid
from quant.quantizers.lloyd_max import LloydMaxConfig, LloydMaxQuantizer
from quant.quantizers.product import ProductBook, ProductConfig, ProductQuantizer

Array = NDArray[Any]
Matrix = NDArray[np.float32]
Stage = LloydMaxConfig | ProductConfig

MOST = 16  # stages


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(Config, kind="residual"):
    """Stages of codebooks, whose sum a weight is.

    The codes of all stages lie side by side, (R, sum of their columns), and take as many bits as
    the largest of them; arrays are named "0.codebook" and so on, by stage.

    Attributes
    ----------
    stages : tuple of LloydMaxConfig or ProductConfig
        1 to 16 of them; objects of JSON are taken too.
    """

    stages: tuple[Stage, ...] = (LloydMaxConfig(), LloydMaxConfig())

    def __post_init__(self) -> None:
        given = self.stages
        if not isinstance(given, list | tuple) or not 1 <= len(given) <= MOST:
            raise ValueError(
                f"stages must be 1..{MOST} configurations of codebooks, got {given!r}; list them"
            )
        stages = tuple(
            Config.from_json(stage) if isinstance(stage, Mapping) else stage for stage in given
        )
        for stage in stages:
            if not isinstance(stage, LloydMaxConfig | ProductConfig):
                raise ValueError(
                    f"stages must be of LloydMaxConfig or ProductConfig, got {stage!r}; a codebook "
                    "is needed"
                )
        object.__setattr__(self, "stages", stages)

    def to_json(self) -> dict[str, Any]:
        """Object for JSON: ``kind``, and the stages as their own objects."""
        return {"kind": self.kind, "stages": [stage.to_json() for stage in self.stages]}

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32: the sum of the stages, the first first."""
        matrix = np.zeros(shape, np.float32)
        for stage, part, held in self.parts(codes, arrays, shape):
            matrix += stage.decode(part, held, shape)
        return matrix

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` can take these."""
        columns = self.edges(shape)[-1]
        if codes.shape != (shape[0], columns):
            raise ValueError(
                f"codes must be of shape {(shape[0], columns)}, got {codes.shape}; the file is "
                "damaged"
            )
        stages = {str(i) for i in range(len(self.stages))}
        if others := sorted(name for name in arrays if name.partition(".")[0] not in stages):
            raise ValueError(
                f"arrays must be of stages 0..{len(stages) - 1}, got {', '.join(others)}; the file "
                "is damaged"
            )
        reach = 0.0
        for stage, part, held in self.parts(codes, arrays, shape):
            stage.check(part, held, shape)
            reach += stage.reach(held)
        check_reach(reach)

    def parts(
        self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]
    ) -> list[tuple[Stage, Array, dict[str, Array]]]:
        """(configuration, codes, arrays) of each stage."""
        found = []
        for i, (stage, (start, stop)) in enumerate(
            zip(self.stages, pairwise(self.edges(shape)), strict=True)
        ):
            prefix = f"{i}."
            held = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            found.append((stage, codes[:, start:stop], held))
        return found

    def edges(self, shape: tuple[int, int]) -> list[int]:
        """Where the columns of each stage's codes begin, and where the last end."""
        widths = [stage.codes_shape(shape)[1] for stage in self.stages]
        return [sum(widths[:i]) for i in range(len(widths) + 1)]


class ResidualQuantizer:
    """Quantizes weights to sums of the values or vectors of codebooks.

    Parameters
    ----------
    config : ResidualConfig, optional
    fields
        Fields of `ResidualConfig`, in place of those of `config`.

    Examples
    --------
    >>> stage = LloydMaxConfig(k=2, scale="none")
    >>> quantizer = ResidualQuantizer(stages=(stage, stage))
    >>> q = quantizer.encode(np.array([[1.0, 2.0, 5.0, 6.0]]))
    >>> q.codes.tolist()
    [[0, 0, 1, 1, 0, 1, 0, 1]]
    >>> q.dequantize().tolist()
    [[1.0, 2.0, 5.0, 6.0]]
    """

    def __init__(self, config: ResidualConfig | None = None, /, **fields: Any) -> None:
        self.config = replace(config or ResidualConfig(), **fields)

    def fit(
        self, weight: Any, *, transposed: bool = False
    ) -> tuple[CodebookGrid | ProductBook, ...]:
        """What each stage fits to what those before it left; ValueError as theirs."""
        return self._walk(as_matrix(weight, transposed=transposed)[0])[0]

    def encode(
        self,
        weight: Any,
        fitted: Sequence[CodebookGrid | ProductBook] | None = None,
        *,
        transposed: bool = False,
    ) -> QuantizedTensor:
        """The weight quantized, with what `fit` gave, or else with what fits it.

        Raises
        ------
        ValueError
            As `fit`; and if `fitted` is not of these stages and this shape.
        """
        matrix, layout = as_matrix(weight, transposed=transposed)
        _, stages = self._walk(matrix, fitted)
        return QuantizedTensor(
            codes=np.concatenate([stage.codes for stage in stages], axis=1),
            code_bits=max(stage.code_bits for stage in stages),
            arrays={
                f"{i}.{name}": array
                for i, stage in enumerate(stages)
                for name, array in stage.arrays.items()
            },
            layout=layout,
            config=self.config,
        )

    def decode(self, q: QuantizedTensor) -> Any:
        """The weight again: ``q.dequantize()``."""
        return q.dequantize()

    def _walk(
        self, matrix: Matrix, fitted: Sequence[Any] | None = None
    ) -> tuple[tuple[Any, ...], list[QuantizedTensor]]:
        """(what each stage was fitted as, what it made of what was left), stage by stage."""
        if fitted is not None and len(fitted) != len(self.config.stages):
            raise ValueError(
                f"fitted must have an entry for each of {len(self.config.stages)} stages, got "
                f"{len(fitted)}; fit it with this quantizer"
            )
        used, stages = [], []
        left = matrix
        for i, config in enumerate(self.config.stages):
            quantizer = stage_quantizer(config)
            used.append(quantizer.fit(left) if fitted is None else fitted[i])
            stages.append(quantizer.encode(left, used[-1]))
            left = left - stages[-1].matrix()
        return tuple(used), stages


def stage_quantizer(config: Stage) -> Any:
    """The quantizer of a configuration."""
    if isinstance(config, ProductConfig):
        return ProductQuantizer(config)
    return LloydMaxQuantizer(config)
