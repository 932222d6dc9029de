"""QuantizedTensor: codes, the arrays beside them, and how to get a weight back."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import Config
from quant.base.matrix import Layout

Array = NDArray[Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantizedTensor:
    """A quantized weight.

    Attributes
    ----------
    codes : int8 or uint8, of the shape that its quantizer gives
        One code a weight, or a group of weights.
    code_bits : int in 1..8
        Bits that a code takes, packed.
    arrays : dict of arrays
        Scales, codebooks and the like, by name.
    layout : Layout
        Shape, dtype and library of the weight.
    config : Config
        How it was quantized.
    """

    codes: Array
    code_bits: int
    arrays: Mapping[str, Array]
    layout: Layout
    config: Config

    @property
    def n_weights(self) -> int:
        """How many weights it stands for."""
        return prod(self.layout.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of packed codes and of all arrays, before any compression."""
        packed = (self.codes.size * self.code_bits + 7) // 8
        return packed + sum(array.nbytes for array in self.arrays.values())

    @property
    def bits_per_weight(self) -> float:
        """All bytes, codes and arrays, in bits a weight."""
        return 8 * self.nbytes / self.n_weights

    def matrix(self) -> NDArray[np.float32]:
        """(R, C) float32: the weight as a matrix."""
        return self.config.decode(self.codes, self.arrays, self.layout.matrix_shape)

    def dequantize(self) -> Any:
        """The weight, in the shape, dtype and library that it came in; a tensor is on the CPU."""
        return self.layout.restore(self.matrix())

    def __repr__(self) -> str:
        return (
            f"QuantizedTensor(shape={self.layout.shape}, {self.bits_per_weight:.3f} bits a weight, "
            f"{self.config})"
        )
