"""QuantizedTensor: every byte is counted, and it prints what it is."""

import numpy as np
import pytest
import torch

from quant.quantizers.scalar import ScalarConfig

WEIGHT = np.linspace(-1, 1, 35).reshape(5, 7).astype(np.float32)


@pytest.mark.parametrize(
    ("fields", "n_bytes"),
    [
        ({"bits": 6}, 27 + 5 * 4),  # 210 bits of codes
        ({"bits": 8}, 35 + 5 * 4),
        ({"bits": 3, "per": "tensor"}, 14 + 4),
        ({"bits": 3, "per": "column"}, 14 + 7 * 4),
        ({"bits": 2, "per": "group", "group_size": 3}, 9 + 15 * 4),
        ({"bits": 4, "symmetric": False}, 18 + 5 * 4 + 5),
        ({"bits": 4, "symmetric": False, "scale_dtype": "float16"}, 18 + 5 * 2 + 5),
    ],
)
def test_all_bytes_are_counted(fields, n_bytes):
    q = ScalarConfig(**fields).encode(WEIGHT)
    assert q.n_weights == 35
    assert q.nbytes == n_bytes
    assert q.bits_per_weight == 8 * n_bytes / 35


def test_it_prints_what_it_is():
    q = ScalarConfig(bits=8, per="tensor").encode(WEIGHT)
    assert repr(q) == (
        "QuantizedTensor(shape=(5, 7), 8.914 bits a weight, ScalarConfig(bits=8, symmetric=True, "
        "per='tensor', group_size=None, clip='absmax', scale_dtype='float32'))"
    )


def test_the_weight_comes_back_as_it_came():
    q = ScalarConfig(bits=8).encode(torch.tensor(WEIGHT).bfloat16().view(5, 7, 1, 1))
    assert q.matrix().shape == (5, 7)
    assert q.matrix().dtype == np.float32
    back = q.dequantize()
    assert back.shape == (5, 7, 1, 1)
    assert back.dtype == torch.bfloat16
    assert q.config == ScalarConfig(bits=8)
