"""ResidualConfig: stages of both kinds, what they weigh, and every refusal."""

import numpy as np
import pytest

from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.residual import ResidualConfig
from quant.quantizers.scalar import ScalarConfig
from tests.quantizers.common import refusal

pytestmark = pytest.mark.kernels

LLOYD = LloydMaxConfig(k=4)
PRODUCT = ProductConfig(dim=2, k=8)


def test_stages_of_both_kinds_lie_side_by_side(rng):
    weight = rng.standard_normal((16, 7)).astype(np.float32)
    q = ResidualConfig(stages=(PRODUCT, LLOYD)).encode(weight)
    assert q.codes.shape == (16, 4 + 7)
    assert q.code_bits == 3  # of the larger, for all
    assert q.arrays.keys() == {"0.codebook", "0.scales", "1.codebook", "1.scales"}
    assert q.nbytes == 16 * 11 * 3 // 8 + 8 * 2 * 4 + 16 * 4 + 4 * 4 + 16 * 4
    stages = q.config.split(q.codes, q.arrays, weight.shape)
    total = sum(stage.decode(codes, arrays, weight.shape) for stage, codes, arrays in stages)
    np.testing.assert_array_equal(q.dequantize(), total)


def test_a_stage_takes_most_of_what_was_left(rng):
    weight = rng.standard_normal((32, 32)).astype(np.float32)
    errors = [
        np.square(ResidualConfig(stages=(LLOYD,) * n).encode(weight).dequantize() - weight).sum()
        for n in (1, 2, 3)
    ]
    assert errors[1] < 0.25 * errors[0]
    assert errors[2] < 0.25 * errors[1]


def test_the_residual_refuses(rng):
    assert refusal(ResidualConfig, stages=()) == (
        "stages must be a list of 1..16 codebook configurations, got (); correct it"
    )
    assert refusal(ResidualConfig, stages=LLOYD) == (
        f"stages must be a list of 1..16 codebook configurations, got {LLOYD!r}; correct it"
    )
    assert refusal(ResidualConfig, stages=(ScalarConfig(),)) == (
        f"stages must be LloydMaxConfig or ProductConfig, got {ScalarConfig()!r}; use one with a "
        "codebook"
    )
    quantizer = ResidualConfig(stages=(LLOYD, LLOYD))
    weight = rng.standard_normal((2, 3))
    assert refusal(quantizer.encode, weight, fitted=quantizer.fit(weight)[:1]) == (
        "fitted must have one entry for each of 2 stages, got 1; use what fit returns"
    )


def test_what_comes_out_of_a_file_is_checked(rng):
    weight = rng.standard_normal((4, 3))
    q = ResidualConfig(stages=(LLOYD, PRODUCT)).encode(weight)
    config, shape = q.config, weight.shape
    config.check(q.codes, q.arrays, shape)
    end = "; the file is damaged"
    assert refusal(config.check, q.codes[:, 1:], q.arrays, shape) == (
        f"codes must be of shape (4, 5), got (4, 4){end}"
    )
    assert refusal(config.check, q.codes, {**q.arrays, "2.scales": q.codes}, shape) == (
        f"arrays must be of stages 0..1, got 2.scales{end}"
    )
    without = {name: array for name, array in q.arrays.items() if name != "1.scales"}
    assert refusal(config.check, q.codes, without, shape) == (
        f"arrays must be codebook, scales, got codebook{end}"
    )
    wrong = q.codes.copy()
    wrong[0, 0] = 4
    assert refusal(config.check, wrong, q.arrays, shape) == (
        f"codes must be below 4, the size of the codebook, got 4{end}"
    )
    none = LloydMaxConfig(k=2, scale="none")
    twice = ResidualConfig(stages=(none, none))
    book = np.float32([0, 3e38])
    arrays = {"0.codebook": book, "1.codebook": book}
    assert refusal(twice.check, np.ones((1, 2), np.uint8), arrays, (1, 1)) == (
        f"weights must be finite in float32, got 6e+38{end}"
    )
