"""Shared aliases of array types: one name for one dtype, whatever the shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Matrix = NDArray[np.float32]  # weights (R, C), and scales (R or 1, G)
Float64 = NDArray[np.float64]  # Hessians, errors, and sums
Indices = NDArray[np.int64]
Bytes = NDArray[np.uint8]
