"""GPTQ with Hessians of parts of the rows: each part as if it were alone."""

import numpy as np
import pytest

from quant import GptqConfig, LloydMaxConfig, ScalarConfig, gptq
from quant.numerics.parts import HessianPart, PartHessian
from tests.quantizers.common import hessian_of, refusal

GROUPS = ScalarConfig(bits=3, per="group", group_size=5)
CONFIGS = {
    "rows": GptqConfig(inner=ScalarConfig(bits=3), n_passes=2),
    "groups": GptqConfig(inner=GROUPS),
    "own order": GptqConfig(inner=GROUPS, act_order=False, static_groups=False),
    "sd": GptqConfig(),
}
PARTS = (np.arange(3), np.array([4, 3]), np.array([7, 8]))


@pytest.fixture
def weight(rng):
    return rng.standard_normal((9, 12)).astype(np.float32)


def matrices():
    return [hessian_of(12), np.diag(np.arange(1.0, 13)), 3 * hessian_of(12)[::-1, ::-1].copy()]


def hessian():
    return PartHessian(tuple(map(HessianPart, PARTS, matrices())))


@pytest.mark.parametrize("name", CONFIGS)
def test_each_part_is_as_alone_and_the_rest_is_rounded(weight, name):
    config = CONFIGS[name]
    q = config.encode(weight, hessian())
    for rows, matrix in zip(PARTS, matrices(), strict=True):
        alone = config.encode(weight[rows], matrix)
        np.testing.assert_array_equal(q.matrix()[rows], alone.matrix())
    nearest = GptqConfig(inner=config.inner).inner.encode(weight[5:7])
    if not config.n_passes:  # else scales are refitted
        np.testing.assert_array_equal(q.matrix()[5:7], nearest.matrix())
    q.config.check(q.codes, q.arrays, weight.shape)


@pytest.mark.parametrize(
    "config",
    [
        GptqConfig(inner=ScalarConfig(per="tensor", bits=4)),
        GptqConfig(inner=ScalarConfig(per="column", bits=4)),
        GptqConfig(inner=LloydMaxConfig(k=5)),
        GptqConfig(inner=GROUPS, static_groups=False),
        GptqConfig(inner=ScalarConfig(bits=4, clip="hessian")),
    ],
    ids=repr,
)
def test_what_parts_share_is_fitted_once(weight, config):
    q = config.encode(weight, hessian())
    q.config.check(q.codes, q.arrays, weight.shape)
    errors = weight.astype(np.float64) - q.matrix()
    nearest = config.inner.encode(weight, fitted=config.inner.fit_grid(weight, np.ones(12)))
    rounded = weight.astype(np.float64) - nearest.matrix()
    costs = [
        sum(np.trace(e[rows] @ h @ e[rows].T) for rows, h in zip(PARTS, matrices(), strict=True))
        for e in (errors, rounded)
    ]
    assert costs[0] < costs[1]


@pytest.mark.parametrize("n_passes", [0, 3])
@pytest.mark.parametrize("per", ["tensor", "column"])
@pytest.mark.parametrize("parts", [[[0], [1], [2]], [[1], [0, 2]]], ids=str)
def test_parts_of_one_row_share_the_scales_too(weight, per, n_passes, parts):
    """As in a depthwise convolution: no row has scales of its own, and none are refitted."""
    config = GptqConfig(inner=ScalarConfig(per=per, bits=4), n_passes=n_passes)
    rows = [HessianPart(np.array(part), hessian_of(12)) for part in parts]
    q = config.encode(weight[:3], PartHessian(tuple(rows)))
    q.config.check(q.codes, q.arrays, (3, 12))
    np.testing.assert_array_equal(
        q.arrays["scales"], config.inner.encode(weight[:3]).arrays["scales"]
    )
    whole = config.encode(weight[:3], hessian_of(12))
    np.testing.assert_array_equal(q.codes, whole.codes)


def test_rows_of_a_part_may_be_in_any_order(weight):
    config = CONFIGS["rows"]
    whole = config.encode(weight, hessian_of(12))
    for parts in ([np.arange(9)[::-1]], [np.array([8, 1, 5]), np.array([0, 7, 2, 3, 6, 4])]):
        mixed = PartHessian(tuple(HessianPart(rows, hessian_of(12)) for rows in parts))
        np.testing.assert_array_equal(config.encode(weight, mixed).matrix(), whole.matrix())


def test_one_part_of_all_rows_is_the_whole(weight):
    matrix = hessian_of(12)
    whole = gptq(weight, matrix, bits=3, n_passes=3)
    part = gptq(weight, PartHessian((HessianPart(np.arange(9), matrix),)), bits=3, n_passes=3)
    np.testing.assert_array_equal(part.codes, whole.codes)
    assert part.report == whole.report


def test_without_a_live_part_all_is_rounded(weight):
    nothing = PartHessian((HessianPart(np.arange(4), np.zeros((12, 12))),))
    q = gptq(weight, nothing, clip="absmax")
    np.testing.assert_array_equal(q.codes, ScalarConfig().encode(weight).codes)


@pytest.mark.parametrize("rows", [[0, 9], [-1], [2, 2]])
def test_rows_that_are_none(weight, rows):
    wrong = PartHessian((HessianPart(np.array(rows), hessian_of(12)),))
    assert refusal(gptq, weight, wrong) == (
        "parts must have rows in 0..8, each once, got other ones; make them from the weight's own "
        "matrix"
    )
