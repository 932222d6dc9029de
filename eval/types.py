"""Type aliases of the workbench: arrays by what they hold."""

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]  # token ids
Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
