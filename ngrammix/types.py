"""Shared aliases of array types: one name for one dtype, whatever the shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]  # token ids
Floats = NDArray[np.float64]  # probabilities, and nats
Nodes = NDArray[np.uint32]  # rows of the tables: one row is one n-gram
Counts = NDArray[np.uint32]  # counts, ages, and other columns of the tables
Flags = NDArray[np.bool_]
StateDict = dict[str, NDArray[Any]]  # what `state_dict` returns: arrays by name
