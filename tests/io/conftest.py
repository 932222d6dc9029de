"""What the tests of quantized files share: a folder of their own, and tensors to save."""

import numpy as np
import pytest
import torch

from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.scalar import ScalarConfig


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """Names in the errors are short: everything is where the test stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tensors(rng):
    """Signed and unsigned codes, a codebook, an array."""
    weight = rng.normal(size=(6, 10)).astype(np.float32)
    return {
        "rows": ScalarConfig(bits=6).encode(weight),
        "affine": ScalarConfig(bits=3, symmetric=False, per="group", group_size=4).encode(
            torch.from_numpy(weight).bfloat16()
        ),
        "codebook": LloydMaxConfig(k=5).encode(weight.astype(np.float16), transposed=True),
        "norm": weight[0],
    }
