"""What holds of scalar quantization for any weights."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from quant.quantizers.scalar import ScalarConfig

pytestmark = pytest.mark.kernels

# far from where float32 underflows: a step keeps all its bits
numbers = st.floats(-1e6, 1e6, width=32).map(lambda w: w if abs(w) > 1e-20 else 0.0)
matrices = stn.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=numbers)


@st.composite
def configs(draw, **fixed):
    per = fixed.get("per") or draw(st.sampled_from(["tensor", "row", "column", "group"]))
    fields = {
        "bits": draw(st.integers(2, 8)),
        "symmetric": draw(st.booleans()),
        "per": per,
        "group_size": draw(st.integers(1, 10)) if per == "group" else None,
        "clip": draw(st.sampled_from(["absmax", "mse", "sd:1.5", "sd:12.85"])),
    }
    return ScalarConfig(**fields | fixed)


def steps_of(config, q):
    """Steps of every weight, (R, C) float64."""
    grid = config.grid(q.arrays, q.codes.shape)
    columns = q.codes.shape[1]
    scales = np.repeat(grid.scales, grid.group_size, axis=1)[:, :columns]
    return np.broadcast_to(scales, q.codes.shape).astype(np.float64)


@given(matrices, configs())
def test_what_is_not_clipped_is_within_half_a_step(weight, config):
    q = config.encode(weight)
    grid = config.grid(q.arrays, weight.shape)
    clipped = (q.codes == grid.lowest) | (q.codes == grid.highest)
    if config.clip == "absmax":
        clipped[:] = False  # affine grids included: they hold the least and the greatest weight
    wide = weight.astype(np.float64)
    far = np.abs(q.matrix() - wide) > 0.5 * steps_of(config, q) + 2.0**-21 * np.abs(wide)
    assert not (far & ~clipped).any()


@given(matrices, configs())
def test_a_decoded_weight_is_encoded_as_before(weight, config):
    quantizer = config
    grid = quantizer.fit(weight)
    codes = grid.encode(weight)
    np.testing.assert_array_equal(grid.encode(grid.decode(codes)), codes)


@given(matrices, configs(), st.integers(-20, 20))
def test_a_power_of_two_scales_the_result(weight, config, exponent):
    quantizer = config
    scaled = quantizer.encode(weight * np.float32(2.0**exponent)).matrix()
    np.testing.assert_array_equal(
        scaled, quantizer.encode(weight).matrix() * np.float32(2.0**exponent)
    )


@given(matrices, configs(symmetric=True))
def test_a_symmetric_grid_knows_no_sign(weight, config):
    quantizer = config
    np.testing.assert_array_equal(quantizer.encode(-weight).codes, -quantizer.encode(weight).codes)


@given(matrices, st.integers(2, 8), st.booleans())
def test_bits_bound_the_error(weight, bits, symmetric):
    """A bound, and not the error itself: levels of more bits are not those of fewer and some."""
    q = ScalarConfig(bits=bits, symmetric=symmetric).encode(weight)
    wide = weight.astype(np.float64)
    low, high = np.minimum(wide.min(axis=1), 0), np.maximum(wide.max(axis=1), 0)
    span = 2 * np.maximum(-low, high) if symmetric else high - low
    bound = span / (2**bits - (2 if symmetric else 1)) / 2
    assert np.all(np.abs(q.matrix() - wide).max(axis=1) <= bound * (1 + 1e-4))


@given(matrices, st.one_of(configs(per="row"), configs(per="group")), st.data())
def test_a_row_depends_on_no_other(weight, config, data):
    rows = data.draw(st.permutations(range(len(weight))))[: data.draw(st.integers(1, len(weight)))]
    whole, part = (config.encode(matrix) for matrix in (weight, weight[rows]))
    np.testing.assert_array_equal(part.codes, whole.codes[rows])
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(part.arrays[name], array[rows])


@given(matrices, configs(clip="absmax"), st.data())
def test_a_search_never_errs_more_than_absmax(weight, config, data):
    column_weights = np.array(data.draw(st.lists(st.floats(0.01, 100), min_size=9, max_size=9)))
    column_weights = column_weights[: weight.shape[1]]

    def error(clip, weights, **options):
        q = replace(config, clip=clip).encode(weight, **options)
        return (weights * (weight.astype(np.float64) - q.matrix()) ** 2).sum()

    assert error("mse", 1) <= error("absmax", 1) * (1 + 1e-9)
    assert error("hessian", column_weights, column_weights=column_weights) <= error(
        "absmax", column_weights
    ) * (1 + 1e-9)
