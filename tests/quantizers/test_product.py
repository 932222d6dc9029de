"""ProductConfig: bytes, padding, odd weights, and every refusal."""

import numpy as np
import pytest

from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductBook, ProductConfig
from tests.quantizers.common import refusal

pytestmark = pytest.mark.kernels


def error(weight, q):
    return np.square(q.matrix() - weight, dtype=np.float64).sum()


def test_bytes_are_those_of_codes_codebook_and_scales(rng):
    weight = rng.standard_normal((40, 10))
    q = ProductConfig(dim=4, k=8, scale_dtype="float16").encode(weight)
    assert q.codes.shape == (40, 3)  # 10 columns are filled up to 12
    assert q.code_bits == 3
    assert q.nbytes == 40 * 3 * 3 // 8 + 8 * 4 * 4 + 40 * 2
    own = ProductConfig(dim=4, k=8, shared=False, scale="none").encode(weight)
    assert own.arrays["codebook"].shape == (3, 8, 4)
    assert own.nbytes == 40 * 3 * 3 // 8 + 3 * 8 * 4 * 4
    assert own.dequantize().shape == (40, 10)


@pytest.mark.parametrize("scale", ["absmax", "rms", "none"])
def test_one_weight_a_code_is_the_best_codebook(rng, scale):
    weight = rng.standard_normal((32, 64)).astype(np.float32)
    product, best = (
        quantizer.encode(weight).dequantize()
        for quantizer in (
            ProductConfig(dim=1, k=16, scale=scale),
            LloydMaxConfig(k=16, scale=scale),
        )
    )
    np.testing.assert_allclose(product, best, rtol=1e-6)


def test_codebooks_of_their_own_have_less_error_and_more_bytes(rng):
    weight = rng.standard_normal((200, 8)).astype(np.float32) * np.repeat([1, 3], 4)
    shared, own = (ProductConfig(k=16, shared=s).encode(weight) for s in (True, False))
    assert error(weight, own) < error(weight, shared)
    assert own.nbytes == shared.nbytes + 16 * 4 * 4


def test_columns_that_fill_up_cost_nothing(rng):
    weight = rng.standard_normal((50, 5)).astype(np.float32)
    quantizer = ProductConfig(dim=4, k=4, scale="none")
    q = quantizer.encode(weight)
    last = q.arrays["codebook"][:, 0]
    nearest = np.abs(weight[:, 4:] - last).argmin(axis=1)
    np.testing.assert_array_equal(q.codes[:, 1], nearest)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("scale", ["absmax", "rms", "none"])
@pytest.mark.parametrize(
    "weight",
    [np.zeros((2, 3)), np.full((2, 3), 0.7), [[-0.3]], [[0.0]], np.array([[1.5], [0], [-1e-5]])],
    ids=["zeros", "constant", "1 x 1", "1 x 1 zero", "one column"],
)
def test_odd_weights_are_exact(weight, scale, shared):
    weight = np.float32(weight)
    back = ProductConfig(dim=2, k=4, scale=scale, shared=shared).encode(weight).dequantize()
    np.testing.assert_array_equal(back, weight)


def test_a_codebook_is_fitted_to_a_sample(rng):
    weight = rng.standard_normal((100, 8)).astype(np.float32)
    some, more, every = (ProductConfig(k=8, n_train=n).encode(weight) for n in (10, 200, 1_000_000))
    np.testing.assert_array_equal(more.codes, every.codes)
    assert error(weight, every) < error(weight, some)


def test_the_product_refuses():
    for fields, text in (
        ({"dim": 0}, "dim must be an integer in 1..64, got 0; correct it"),
        ({"k": 1}, "k must be an integer in 2..256, got 1; correct it"),
        ({"shared": 1}, "shared must be True or False, got 1; correct it"),
        ({"scale": "std"}, "scale must be one of rms, absmax, none, got 'std'; correct it"),
        ({"n_train": 0}, "n_train must be an integer in 1..2147483647, got 0; correct it"),
        ({"iterations": 0}, "iterations must be an integer in 1..10000, got 0; correct it"),
        ({"seed": -1}, "seed must be an integer in 0..9223372036854775807, got -1; correct it"),
        (
            {"scale_dtype": "int8"},
            "scale_dtype must be one of float16, float32, got 'int8'; correct it",
        ),
    ):
        assert refusal(ProductConfig, **fields) == text
    quantizer = ProductConfig()
    fitted = quantizer.fit(np.ones((2, 8)))
    assert refusal(quantizer.encode, np.ones((3, 8)), fitted=fitted) == (
        f"fitted must be the codebooks of {quantizer} for a matrix of shape (3, 8), got "
        "ProductBook of other settings or another shape; use what fit returns"
    )
    large = np.full((1, 1), 1e30, np.float32)
    assert refusal(ProductBook, codebook=large, scales=large) == (
        "levels must be finite in float32, got 1e+60; the weights are too large"
    )


def test_what_comes_out_of_a_file_is_checked():
    config = ProductConfig(dim=2, k=3, shared=False, scale_dtype="float16")
    codes, shape = np.zeros((2, 2), np.uint8), (2, 3)
    arrays = {"codebook": np.ones((2, 3, 2), np.float32), "scales": np.ones((2, 1), np.float16)}
    config.check(codes, arrays, shape)

    def why(codes=codes, **changed):
        return refusal(config.check, codes, arrays | changed, shape)

    end = "; the file is damaged"
    assert why(zeros=codes) == f"arrays must be codebook, scales, got codebook, scales, zeros{end}"
    assert why(scales=np.ones((1, 1), np.float16)) == (
        f"scales must be float16 of shape (2, 1), got float16 of shape (1, 1){end}"
    )
    assert why(scales=np.full((2, 1), np.nan, np.float16)) == (
        f"scales must be finite and >= 0, got nan..nan{end}"
    )
    for wrong in ((3, 2), (2, 4, 2), (2, 0, 2), (1, 3, 2), (2, 3, 3)):
        assert why(codebook=np.ones(wrong, np.float32)) == (
            f"codebook must be float32 of shape (2, 1..3, 2), got float32 of shape {wrong}{end}"
        )
    assert why(codebook=np.full((2, 3, 2), np.inf, np.float32)) == (
        f"weights must be finite in float32, got inf{end}"
    )
    assert why(codes[:, :1]) == (
        f"codes must be uint8 of shape (2, 2), got uint8 of shape (2, 1){end}"
    )
    assert why(codes + np.uint8(9)) == (
        f"codes must be below 3, the size of the codebook, got 9{end}"
    )
