"""Low-rank corrections: the best of their rank, in few bytes, refused where damaged."""

import json
from dataclasses import replace

import numpy as np
import pytest

from quant.base.config import Config
from quant.io.file import load, save
from quant.quantizers.gptq_config import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.low_rank import LowRank, LowRankConfig, correct
from quant.quantizers.product import ProductConfig
from quant.quantizers.quantize import quantize
from quant.quantizers.scalar import ScalarConfig, rtn

INT4 = ScalarConfig(bits=4)


@pytest.fixture
def weight(rng):
    return rng.standard_normal((12, 20)).astype(np.float32)


@pytest.fixture
def hessian(rng):
    rows = rng.standard_normal((200, 20)) @ rng.standard_normal((20, 20))
    return rows.T @ rows / 200


def cost(weight, q, hessian, row_weights=None):
    error = weight.astype(np.float64) - q.matrix()
    rows = np.diag(error @ hessian @ error.T)
    return rows.sum() if row_weights is None else row_weights @ rows


def best(error, hessian, rank, row_weights=None):
    """What is left of the error after the best correction: of Eckart and Young."""
    values, vectors = np.linalg.eigh(hessian)
    root = vectors * np.sqrt(values)
    gains = np.ones(len(error)) if row_weights is None else np.sqrt(row_weights)
    sizes = np.linalg.svd(gains[:, None] * error @ root, compute_uv=False)
    return float(np.square(sizes[rank:]).sum())


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_without_a_hessian_it_is_the_truncated_svd(weight, rank):
    q = quantize(weight, INT4)
    corrected = correct(q, weight, rank=rank, factors="float16")
    error = weight.astype(np.float64) - q.matrix()
    left = cost(weight, corrected, np.eye(20))
    assert left == pytest.approx(best(error, np.eye(20), rank), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("factors", ["int8", "float16"])
@pytest.mark.parametrize("is_fisher", [False, True])
def test_with_a_hessian_it_is_the_best_of_its_rank(weight, hessian, rng, factors, is_fisher):
    row_weights = rng.uniform(0.5, 4, 12) if is_fisher else None
    q = quantize(weight, INT4)
    error = weight.astype(np.float64) - q.matrix()
    left = cost(
        weight,
        correct(q, weight, hessian, rank=3, factors=factors, row_weights=row_weights),
        hessian,
        row_weights,
    )
    least = best(error, hessian, 3, row_weights)
    assert least * 0.999 < left < least * 1.1  # damped by 0.01, and rounded
    plain = cost(weight, correct(q, weight, rank=3, factors=factors), hessian, row_weights)
    assert left < plain < cost(weight, q, hessian, row_weights)


def test_outputs_that_do_not_matter_and_dead_columns_are_no_trouble(weight, hessian):
    hessian[3], hessian[:, 3] = 0, 0
    q = quantize(weight, INT4)
    corrected = correct(q, weight, hessian, rank=2, row_weights=np.zeros(12))
    assert cost(weight, corrected, hessian) < cost(weight, q, hessian)


def test_the_rank_of_a_small_matrix(weight):
    q = quantize(weight[:1], INT4)
    corrected = correct(q, weight[:1], rank=4, factors="float16")
    assert corrected.arrays["left"].shape == (1, 1)
    np.testing.assert_allclose(corrected.matrix(), weight[:1], atol=1e-3)
    exact = quantize(np.zeros((2, 3)), LowRankConfig(inner=INT4))
    assert not exact.matrix().any()


@pytest.mark.parametrize("factors", ["int8", "float16"])
@pytest.mark.parametrize(
    "inner",
    [INT4, LloydMaxConfig(k=4), ProductConfig(dim=2, k=8), GptqConfig(inner=INT4)],
    ids=lambda inner: inner.kind,
)
def test_it_is_stored_and_loaded(weight, hessian, tmp_path, inner, factors):
    config = LowRankConfig(inner=inner, rank=3, factors=factors)
    assert Config.from_json(json.loads(json.dumps(config.to_json()))) == config
    q = quantize(weight, config, hessian)
    extra = 3 * (12 + 20) * (1 if factors == "int8" else 2) + (2 * 3 * 4) * (factors == "int8")
    assert q.nbytes == quantize(weight, inner, hessian).nbytes + extra
    save(tmp_path / "q", {"w": q})
    again = load(tmp_path / "q")["w"]
    assert again.config == q.config
    np.testing.assert_array_equal(again.dequantize(), q.dequantize())
    assert q.dequantize().dtype == np.float32


def test_transposed(weight, hessian):
    config = LowRankConfig(inner=INT4, rank=2)
    turned = quantize(weight.T, config, hessian, transposed=True)
    np.testing.assert_array_equal(turned.dequantize().T, quantize(weight, config, hessian).matrix())


def damaged(q, **arrays):
    held = {name: array for name, array in (q.arrays | arrays).items() if array is not None}
    q.config.check(q.codes, held, (12, 20))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"left": None}, "arrays must be left, left.scales, right, right.scales, got left.scales, "
         "right, right.scales; the file is damaged"),
        ({"more": np.ones(1)}, "arrays must be left, left.scales, right, right.scales, got left, "
         "left.scales, more, right, right.scales; the file is damaged"),
        ({"left": np.ones((2, 11), np.int8)}, "codes must be int8 of shape (2, 12), got int8 of "
         "shape (2, 11); the file is damaged"),
        ({"left.scales": np.full((2, 1), 1e38, np.float32),
          "right.scales": np.full((2, 1), 1e-3, np.float32)}, "levels must be finite, got a scale "
         "of 1e+38; it is too large"),
        ({"left.scales": np.full((2, 1), 1e20, np.float32),
          "right.scales": np.full((2, 1), 1e20, np.float32)}, "weights must be finite, got "
         "otherwise; the file is damaged"),
        ({"inner.scales": None}, "arrays must be {'scales': ('float32', (12, 1))}, got {}; the "
         "file is damaged"),
    ],
)  # fmt: skip
def test_damaged_arrays(weight, arrays, text):
    q = quantize(weight, LowRankConfig(inner=INT4, rank=2))
    damaged(q)
    with pytest.raises(ValueError) as error:
        damaged(q, **arrays)
    assert str(error.value) == text


def test_damaged_float16(weight):
    q = quantize(weight, LowRankConfig(inner=INT4, rank=2, factors="float16"))
    with pytest.raises(ValueError) as error:
        damaged(q, right=np.ones((2, 20), np.float32))
    assert str(error.value) == (
        "right must be float16 of shape (2, 20), got float32 of shape (2, 20); the file is damaged"
    )


def test_errors(weight):
    q = rtn(weight, bits=4, clip="absmax")
    cases = {
        "rank must be an integer in 1..4096, got 0; correct it": lambda: LowRank(rank=0),
        "top must be an integer in 1..2147483647, got 0; correct it": lambda: LowRank(top=0),
        "factors must be one of int8, float16, got 'int4'; correct it": lambda: LowRankConfig(
            inner=INT4, factors="int4"
        ),
        "inner must be a configuration, and not low-rank, got 4; correct it": lambda: LowRankConfig(
            inner=4
        ),
        f"weight must be what was quantized, {q.layout}, got "
        f"{replace(q.layout, shape=(11, 20))}": lambda: correct(q, weight[1:]),
        "factors must fit float16, got 7.071e+05; store them as int8": lambda: quantize(
            np.full((1, 3), 1e12) * [1, 1, 0.5],
            LowRankConfig(inner=ScalarConfig(bits=2, per="tensor"), factors="float16"),
        ),
    }
    for text, call in cases.items():
        with pytest.raises(ValueError) as error:
            call()
        assert str(error.value) == text
