"""Laws of every quantizer: round trips, stored bytes, layouts, odd weights, and damaged files."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import quant
from quant.base.config import Config
from quant.io.packing import pack
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from tests.quantizers.common import CONFIGS, encode, hessian_of, inputs_of, refusal

pytestmark = pytest.mark.kernels

every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
some_config = st.sampled_from(list(CONFIGS.values()))
sizes = st.tuples(st.integers(1, 5), st.integers(1, 9))
# 0 or not so small that float16 scales underflow
numbers = st.floats(-4, 4, width=32).map(lambda w: w if abs(w) > 1e-3 else 0.0)
weights = hnp.arrays(np.float32, sizes, elements=numbers)


def assert_same(q, other):
    """Same codes and arrays."""
    assert (q.config, q.code_bits) == (other.config, other.code_bits)
    np.testing.assert_array_equal(q.codes, other.codes)
    assert q.arrays.keys() == other.arrays.keys()
    for name, array in q.arrays.items():
        assert array.dtype == other.arrays[name].dtype
        np.testing.assert_array_equal(array, other.arrays[name])


@given(some_config, weights)
def test_what_is_stored_passes_its_check_and_decodes(config, weight):
    q = encode(config, weight * np.float32(0.01))
    q.config.check(q.codes, q.arrays, weight.shape)
    assert q.dequantize().shape == weight.shape
    assert np.isfinite(q.matrix()).all()
    np.testing.assert_array_equal(q.config.decode(q.codes, q.arrays, weight.shape), q.dequantize())


@given(some_config, weights)
def test_quantizing_is_repeatable_and_leaves_the_weight_alone(config, weight):
    before = weight.copy()
    assert_same(encode(config, weight), encode(config, before))
    np.testing.assert_array_equal(weight, before)


@given(some_config, weights)
def test_what_fit_returns_gives_the_same(config, weight):
    if getattr(config, "static_groups", True):
        inputs = inputs_of(config, weight.shape[1])
        fitted = config.fit(weight, **inputs)
        needed = inputs if isinstance(config, GptqConfig) else {}
        assert_same(config.encode(weight, fitted=fitted, **needed), encode(config, weight))


@given(some_config, weights)
def test_all_bytes_are_counted(config, weight):
    q = encode(config, weight)
    n_bytes = len(pack(q.codes, q.code_bits)) + sum(array.nbytes for array in q.arrays.values())
    assert q.nbytes == n_bytes
    assert q.n_weights == weight.size
    assert q.bits_per_weight == 8 * n_bytes / weight.size


@every_config
def test_it_comes_back_from_a_file(config, rng, tmp_path):
    q = encode(config, rng.standard_normal((6, 10)))
    for packed in (True, False):
        quant.save(tmp_path / "q", {"weight": q}, packed=packed, codec="none")
        back = quant.load(tmp_path / "q")["weight"]
        assert_same(back, q)
        np.testing.assert_array_equal(back.dequantize(), q.dequantize())


@every_config
def test_it_comes_back_from_json_and_from_its_text(config, rng):
    for same in (config, encode(config, rng.standard_normal((6, 10))).config):
        assert Config.from_json(json.loads(json.dumps(same.to_json()))) == same
    names = {name: getattr(quant, name) for name in quant.__all__}
    assert eval(repr(config), names) == config


@every_config
def test_numpy_integers_are_ints(config):
    ints = {
        field.name: np.int64(getattr(config, field.name))
        for field in fields(config)
        if type(getattr(config, field.name)) is int
    }
    same = replace(config, **ints)
    assert same == config
    assert all(type(getattr(same, name)) is int for name in ints)
    json.dumps(same.to_json())


@every_config
def test_a_weight_stored_the_other_way_is_the_same(config, rng):
    weight = rng.standard_normal((6, 10)).astype(np.float32)
    q, transposed = encode(config, weight), encode(config, weight.T, transposed=True)
    assert_same(transposed, q)
    assert transposed.layout.is_transposed
    np.testing.assert_array_equal(transposed.dequantize(), q.dequantize().T)


@every_config
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_dtype_library_and_strides_come_back_and_do_not_matter(config, rng, dtype):
    tensor = torch.tensor(rng.standard_normal((6, 10))).to(getattr(torch, dtype))
    plain = tensor.float().numpy()
    q = encode(config, tensor)
    assert_same(q, encode(config, plain))
    assert_same(q, encode(config, np.asfortranarray(np.repeat(plain, 2, axis=1))[:, ::2]))
    assert q.dequantize().dtype == tensor.dtype
    assert torch.equal(q.dequantize(), torch.from_numpy(q.matrix()).to(tensor.dtype))
    if dtype != "bfloat16":
        assert encode(config, tensor.numpy()).dequantize().dtype == dtype
    assert encode(config, tensor.view(6, 5, 2)).dequantize().shape == (6, 5, 2)


@every_config
@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (5, 1), (1, 5)])
def test_zeros_and_constants_come_back(config, shape):
    assert not encode(config, np.zeros(shape)).dequantize().any()
    for value in (0.1, -3.0):
        constant = np.full(shape, value)
        back = encode(config, constant).dequantize()
        np.testing.assert_allclose(back, constant, rtol=1e-3 if "float16" in repr(config) else 1e-6)


@every_config
def test_a_row_of_zeros_is_zeros_again(config, rng):
    weight = rng.standard_normal((4, 10)).astype(np.float32)
    weight[1] = 0
    inner = getattr(config, "inner", config)
    if getattr(inner, "scale", "") != "none":  # else 0 need not be a level
        stages = getattr(config, "stages", ())
        back = encode(config, weight).dequantize()
        assert stages or not back[1].any()


@pytest.mark.filterwarnings("ignore::quant.base.config.ScaleWarning")  # float32 is a result too
@every_config
@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e30, 1e38])
def test_huge_and_tiny_weights_are_finite_or_refused(config, rng, scale):
    weight = np.clip(rng.standard_normal((4, 10)), -3, 3).astype(np.float32) * np.float32(scale)
    q = text = None
    try:
        q = encode(config, weight)
    except ValueError as error:
        text = str(error)
    if q is None:
        assert text.startswith(("scales must", "levels must", "weight must be finite"))
    else:
        q.config.check(q.codes, q.arrays, weight.shape)
        assert np.isfinite(q.matrix()).all()


@every_config
def test_what_is_no_weight_is_refused(config):
    end = "look at the training, or leave the tensor out"
    for value in (np.nan, np.inf, -np.inf):
        assert refusal(encode, config, np.array([[1.0, 0.0, value]])) == (
            f"weight must be finite, got {value} in row 0, column 2; {end}"
        )
    for shape in ((), (3,), (0, 3), (3, 0)):
        assert refusal(config.encode, np.zeros(shape)) == (
            f"weight must be a matrix (out, in) of at least one weight, got shape {shape}; pass "
            "vectors through as they are"
        )


@every_config
def test_inputs_that_are_not_used_are_refused(config, rng):
    weight = rng.standard_normal((6, 10))
    unused = {} if config.needs_hessian else {"hessian": hessian_of(10)}
    if not isinstance(config, LloydMaxConfig):
        unused["column_weights"] = np.ones(10)
    for name, value in unused.items():
        options = inputs_of(config, 10) | {name: value}
        for call in (config.fit, config.encode):
            assert name in refusal(call, weight, **options)


@every_config
def test_what_was_fitted_to_another_weight_is_refused(config, rng):
    weight, inputs = rng.standard_normal((6, 10)), inputs_of(config, 10)
    needed = inputs if isinstance(config, GptqConfig) else {}
    others = [np.zeros(3)]
    if getattr(config, "static_groups", True) and "own" not in repr(config):
        others.append(config.fit(weight[:, :9], **inputs_of(config, 9)))
    text = "fitted must" if getattr(config, "static_groups", True) else "static_groups=False"
    assert refusal(config.encode, weight, fitted=others[0], **needed).startswith(text)


@every_config
def test_damaged_arrays_are_refused(config, rng):
    q = encode(config, rng.standard_normal((6, 10)))
    shape, arrays = (6, 10), dict(q.arrays)
    q.config.check(q.codes, arrays, shape)
    for codes in (q.codes[:-1], q.codes[:, :-1], q.codes.astype(np.int16), q.codes[0]):
        assert refusal(q.config.check, codes, arrays, shape)
    assert refusal(q.config.check, q.codes, arrays | {"more": np.ones(1)}, shape)
    for name, array in arrays.items():
        others = {key: value for key, value in arrays.items() if key != name}
        assert refusal(q.config.check, q.codes, others, shape)
        for wrong in (array.astype(np.complex64), array[:0], array[..., None]):
            assert refusal(q.config.check, q.codes, others | {name: wrong}, shape)
        if array.dtype.kind == "f":
            for value in (np.nan, np.inf):
                wrong = np.full_like(array, value)
                assert refusal(q.config.check, q.codes, others | {name: wrong}, shape)


@given(some_config, weights, st.data())
def test_whatever_passes_the_check_decodes_to_finite_weights(config, weight, data):
    """Arrays of a hostile file: refused, or harmless."""
    q = encode(config, weight)
    parts = {"codes": q.codes, **q.arrays}
    for name, array in parts.items():
        if data.draw(st.booleans()):
            raw = data.draw(hnp.arrays(np.uint8, array.nbytes, elements=st.integers(0, 255)))
            parts[name] = raw.view(array.dtype).reshape(array.shape)
    codes = parts.pop("codes")
    try:
        q.config.check(codes, parts, weight.shape)
    except ValueError:
        return
    assert np.isfinite(q.config.decode(codes, parts, weight.shape)).all()
