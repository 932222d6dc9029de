"""parse_bytes: ints of any kind, and texts."""

import numpy as np
import pytest

from quant.base.memory import parse_bytes


@pytest.mark.parametrize(
    ("value", "n_bytes"),
    [(7, 7), (np.int32(9), 9), ("12B", 12), ("1.5 kb", 1500), ("2GiB", 2**31), (" 1 TiB ", 2**40),
     ("2G", 2**31), ("2 GB", 2 * 10**9), ("2", 2)],
)  # fmt: skip
def test_sizes(value, n_bytes):
    assert parse_bytes(value, "x") == n_bytes


@pytest.mark.parametrize("value", [0, -1, 2**62, 1.0, True, None, "2X", "GiB", "0B", "1e3 B"])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError) as error:
        parse_bytes(value, "limit")
    assert str(error.value) == (
        f"limit must be a number of bytes > 0, got {value!r}; pass an int, or text such as "
        '"2GiB" (2G: the same; 2GB: by 1000)'
    )
