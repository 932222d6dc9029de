"""Residual quantization: each stage quantizes the error that the stages before it left."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from quant.base.config import Config, QuantizedTensor, short
from quant.base.matrix import Layout
from quant.io.validation import check_reach
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.types import Array, Matrix

Stage = LloydMaxConfig | ProductConfig

MAX_STAGES = 16


@dataclass(frozen=True, kw_only=True)
class ResidualConfig(Config, kind="residual"):
    """Sum the values of several stages, each with its own codebooks.

    The codes of all stages are stored side by side, (R, sum of their columns), with the bits of the
    stage that needs most; arrays are named "0.codebook" and so on, by stage. `fit` returns a tuple
    of what the stages fitted. `fit` and `encode` take neither a Hessian nor column weights.

    Attributes
    ----------
    stages : tuple of LloydMaxConfig or ProductConfig
        1 to 16 stages; JSON objects of these configurations are accepted too.

    Examples
    --------
    >>> stage = LloydMaxConfig(k=2, scale="none")
    >>> q = ResidualConfig(stages=(stage, stage)).encode(np.array([[1.0, 2.0, 5.0, 6.0]]))
    >>> q.codes.tolist()
    [[0, 0, 1, 1, 0, 1, 0, 1]]
    >>> q.dequantize().tolist()
    [[1.0, 2.0, 5.0, 6.0]]
    """

    stages: tuple[Stage, ...] = (LloydMaxConfig(), LloydMaxConfig())

    def __post_init__(self) -> None:
        stages = self.stages
        if not isinstance(stages, list | tuple) or not 1 <= len(stages) <= MAX_STAGES:
            raise ValueError(
                f"stages must be a list of 1..{MAX_STAGES} codebook configurations, got "
                f"{short(stages)}; correct it"
            )
        configs = tuple(
            Config.from_json(stage) if isinstance(stage, Mapping) else stage for stage in stages
        )
        for config in configs:
            if not isinstance(config, LloydMaxConfig | ProductConfig):
                raise ValueError(
                    f"stages must be LloydMaxConfig or ProductConfig, got {config!r}; use one with "
                    "a codebook"
                )
        object.__setattr__(self, "stages", configs)

    def fit_matrix(
        self, matrix: Matrix, hessian: Any = None, *, column_weights: Any = None
    ) -> tuple[Any, ...]:
        """Return what each stage fits to the error left before it; see `Config.fit`."""
        self.refuse(hessian=hessian, column_weights=column_weights)
        fitted = []
        for stage in self.stages:
            fitted.append(stage.fit_matrix(matrix))
            matrix = matrix - encoded(stage, matrix, fitted[-1]).matrix()
        return tuple(fitted)

    def encode_matrix(
        self,
        matrix: Matrix,
        layout: Layout,
        hessian: Any = None,
        *,
        column_weights: Any = None,
        fitted: Any = None,
    ) -> QuantizedTensor:
        """Quantize a matrix (R, C); see `Config.encode`."""
        self.refuse(hessian=hessian, column_weights=column_weights)
        if fitted is not None and len(fitted) != len(self.stages):
            raise ValueError(
                f"fitted must have one entry for each of {len(self.stages)} stages, got "
                f"{len(fitted)}; use what fit returns"
            )
        tensors = []
        for i, stage in enumerate(self.stages):
            tensors.append(encoded(stage, matrix, None if fitted is None else fitted[i]))
            matrix = matrix - tensors[-1].matrix()
        return QuantizedTensor(
            codes=np.concatenate([tensor.codes for tensor in tensors], axis=1),
            code_bits=max(tensor.code_bits for tensor in tensors),
            arrays={
                f"{i}.{name}": array
                for i, tensor in enumerate(tensors)
                for name, array in tensor.arrays.items()
            },
            layout=layout,
            config=self,
        )

    def widened(self) -> Any:
        """Return the configuration with float32 scales in all stages."""
        return replace(self, stages=tuple(stage.widened() for stage in self.stages))

    def to_json(self) -> dict[str, Any]:
        """Return an object for JSON: ``kind``, and a list of the stages' objects."""
        return {"kind": self.kind, "stages": [stage.to_json() for stage in self.stages]}

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """Decode to the sum of the stages in order, a matrix (R, C) float32."""
        matrix = np.zeros(shape, np.float32)
        for stage, stage_codes, stage_arrays in self.split(codes, arrays, shape):
            matrix += stage.decode(stage_codes, stage_arrays, shape)
        return matrix

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` accepts these arrays."""
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
        for stage, stage_codes, stage_arrays in self.split(codes, arrays, shape):
            stage.check(stage_codes, stage_arrays, shape)
            reach += stage.reach(stage_arrays)
        check_reach(reach)

    def split(
        self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]
    ) -> list[tuple[Stage, Array, dict[str, Array]]]:
        """Split into (configuration, codes, arrays) of each stage."""
        parts = []
        for i, (stage, (start, stop)) in enumerate(
            zip(self.stages, pairwise(self.edges(shape)), strict=True)
        ):
            prefix = f"{i}."
            stage_arrays = {
                name.removeprefix(prefix): array
                for name, array in arrays.items()
                if name.startswith(prefix)
            }
            parts.append((stage, codes[:, start:stop], stage_arrays))
        return parts

    def edges(self, shape: tuple[int, int]) -> list[int]:
        """Return the first column of each stage's codes, and the total number of columns."""
        widths = [stage.codes_shape(shape)[1] for stage in self.stages]
        return list(accumulate(widths, initial=0))


def encoded(stage: Stage, matrix: Matrix, fitted: Any) -> QuantizedTensor:
    """Quantize the error (R, C) that is left for a stage."""
    layout = Layout(shape=matrix.shape, dtype="float32", is_torch=False)
    return stage.encode_matrix(matrix, layout, fitted=fitted)
