"""Laws of GPTQ: what it costs, what it may depend on, and what it must leave alone."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from quant.base.config import Config
from quant.numerics.grid import UniformGrid
from quant.numerics.hessian import ldl_factor
from quant.quantizers.gptq import GptqConfig, gptq
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.scalar import ScalarConfig

pytestmark = [
    pytest.mark.kernels,
    # float32 scales, where float16 ones do not do, are a result too
    pytest.mark.filterwarnings("ignore::quant.base.config.ScaleWarning"),
]


@st.composite
def layers(draw):
    """(weight (R, C) float32, Hessian (C, C)) of columns that go together."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    r, c = draw(st.integers(1, 6)), draw(st.integers(1, 20))
    inputs = rng.standard_normal((draw(st.integers(1, 40)), c)) @ rng.standard_normal((c, c))
    inputs *= np.exp(rng.standard_normal(c))
    weight = rng.standard_normal((r, c)) * np.exp(rng.standard_normal((r, 1)))
    return weight.astype(np.float32), inputs.T @ inputs / len(inputs)


@st.composite
def options(draw):
    """Options of `gptq`: any grid, any order."""
    settings = {
        "bits": draw(st.integers(2, 8)),
        "clip": draw(st.sampled_from(["absmax", "mse", "hessian", "sd:2.5", "sd:12.85"])),
        "symmetric": draw(st.booleans()),
        "per": draw(st.sampled_from(["tensor", "row", "column", "group"])),
        "act_order": draw(st.booleans()),
        "damp": draw(st.sampled_from([0.01, 0.1, 1.0])),
    }
    if settings["per"] == "group":
        settings |= {"group_size": draw(st.integers(1, 9)), "static_groups": draw(st.booleans())}
    return settings


def damped(hessian, damp):
    return hessian + damp * np.diagonal(hessian).mean() * np.eye(len(hessian))


def cost(errors, hessian):
    return np.vdot(errors @ hessian, errors)


@given(layers(), options())
def test_the_loss_is_the_damped_error(layer, settings):
    weight, hessian = layer
    q = gptq(weight, hessian, **settings)
    errors = weight.astype(np.float64) - q.matrix()
    assert q.report.loss == pytest.approx(cost(errors, damped(hessian, settings["damp"])), rel=1e-9)
    assert q.report.n_dead == 0


@given(layers(), options())
def test_a_diagonal_hessian_gives_rtn_to_the_bit(layer, settings):
    weight, hessian = layer
    diagonal = np.diag(np.diagonal(hessian))
    q = gptq(weight, diagonal, **settings | {"static_groups": True})
    nearest = q.config.inner.encode(weight, fitted=q.config.fit(weight, diagonal))
    np.testing.assert_array_equal(q.codes, nearest.codes)
    np.testing.assert_array_equal(q.matrix(), nearest.matrix())


@given(layers(), options())
def test_blocks_do_not_show(layer, settings):
    weight, hessian = layer
    whole = gptq(weight, hessian, **settings, block_size=weight.shape[1])
    for block_size in (1, 7, 32, 128):
        q = gptq(weight, hessian, **settings, block_size=block_size)
        np.testing.assert_array_equal(q.codes, whole.codes)
        assert q.report.loss == pytest.approx(whole.report.loss, rel=1e-9)


@given(layers(), options())
def test_rows_do_not_depend_on_each_other(layer, settings):
    weight, hessian = layer
    assume(settings["per"] in ("row", "group"))
    q = gptq(weight, hessian, **settings)
    for row in range(len(weight)):
        alone = gptq(weight[row : row + 1], hessian, **settings)
        np.testing.assert_array_equal(alone.codes, q.codes[row : row + 1])


@given(layers(), options(), st.randoms(use_true_random=False))
def test_act_order_does_not_mind_how_columns_stand(layer, settings, random):
    weight, hessian = layer
    # groups that are fitted first go by where columns stand
    settings |= {"act_order": True, "static_groups": settings["per"] != "group"}
    order = list(range(weight.shape[1]))
    random.shuffle(order)
    q = gptq(weight, hessian, **settings)
    moved = gptq(weight[:, order], hessian[np.ix_(order, order)], **settings)
    if settings["per"] != "tensor":  # a standard deviation of all may round another way
        np.testing.assert_array_equal(moved.matrix(), q.matrix()[:, order])
    else:
        np.testing.assert_allclose(moved.report.loss, q.report.loss, rtol=1e-4)


@given(layers(), options(), st.sampled_from([2.0**-40, 0.25, 1e3, 2.0**60]))
def test_the_scale_of_the_hessian_does_not_show(layer, settings, c):
    weight, hessian = layer
    q, scaled = (gptq(weight, matrix, **settings) for matrix in (hessian, c * hessian))
    np.testing.assert_array_equal(scaled.codes, q.codes)
    assert scaled.report.loss == pytest.approx(c * q.report.loss, rel=1e-9)


@given(layers(), st.booleans())
def test_babais_bound(layer, act_order):
    weight, hessian = layer
    scales = np.abs(weight).max(axis=1, keepdims=True) / np.float32(10)
    grid = UniformGrid(
        scales=scales, zero_points=np.zeros_like(scales), lowest=-127, highest=127,
        group_size=weight.shape[1],
    )  # fmt: skip
    quantizer = GptqConfig(inner=ScalarConfig(bits=8), act_order=act_order)
    q = quantizer.encode(weight, hessian, fitted=grid)
    assume(np.abs(q.codes.astype(int)).max() < 127)
    pivots = ldl_factor(hessian, act_order=act_order).pivots
    assert q.report.loss <= (1 + 1e-6) * np.outer(scales**2, pivots**2).sum() / 4


@given(layers(), st.data())
def test_dead_columns_are_rounded_and_change_no_other(layer, data):
    weight, hessian = layer
    columns = weight.shape[1]
    live = np.array(data.draw(st.lists(st.booleans(), min_size=columns, max_size=columns)))
    assume(live.any())
    hessian = hessian * np.outer(live, live)
    scales = np.abs(weight).max(axis=1, keepdims=True) / np.float32(31)
    grid = {"scales": scales, "zero_points": np.zeros_like(scales), "lowest": -31, "highest": 31}
    quantizer = GptqConfig(inner=ScalarConfig())
    whole = UniformGrid(**grid, group_size=columns)
    q = quantizer.encode(weight, hessian, fitted=whole)
    rest = quantizer.encode(
        weight[:, live],
        hessian[np.ix_(live, live)],
        fitted=UniformGrid(**grid, group_size=int(live.sum())),
    )
    np.testing.assert_array_equal(q.codes[:, ~live], whole.encode(weight)[:, ~live])
    assert q.report.n_dead == columns - live.sum()
    np.testing.assert_array_equal(q.codes[:, live], rest.codes)
    assert q.report.loss == pytest.approx(rest.report.loss, rel=1e-9)


@given(layers(), options())
def test_weights_on_the_grid_stay(layer, settings):
    weight, hessian = layer
    settings |= {"static_groups": True}
    inner = {name: value for name, value in settings.items() if name not in NOT_INNER}
    quantizer = GptqConfig(inner=ScalarConfig(**inner), act_order=settings["act_order"])
    grid = quantizer.fit(weight, hessian)
    on_grid = grid.decode(grid.encode(weight))
    q = quantizer.encode(on_grid, hessian, fitted=grid)
    np.testing.assert_array_equal(q.matrix(), on_grid)
    assert q.report.loss == 0


NOT_INNER = ("act_order", "damp", "static_groups")


@given(layers(), options())
def test_what_is_stored_is_all_that_decoding_needs(layer, settings):
    weight, hessian = layer
    q = gptq(weight, hessian, **settings)
    config = Config.from_json(json.loads(json.dumps(q.config.to_json())))
    assert config == q.config
    config.check(q.codes, q.arrays, weight.shape)
    np.testing.assert_array_equal(config.decode(q.codes, q.arrays, weight.shape), q.dequantize())


# passes of coordinate descent


@st.composite
def configs(draw):
    """Configurations of any grid, for passes."""
    settings = draw(options())
    outer = {name: settings.pop(name) for name in NOT_INNER if name in settings}
    codebooks = st.builds(
        LloydMaxConfig,
        k=st.integers(1, 9),
        scale=st.sampled_from(["absmax", "rms"]),
        group_size=st.none() | st.integers(1, 9),
        scale_dtype=st.sampled_from(["float16", "float32"]),
    )
    if outer.get("static_groups", True) and draw(st.booleans()):
        plain = st.sampled_from([LloydMaxConfig(k=4, scale="none"), LloydMaxConfig(table="nf4")])
        return GptqConfig(inner=draw(codebooks | plain), **outer)
    inner = ScalarConfig(**settings, scale_dtype=draw(st.sampled_from(["float16", "float32"])))
    return GptqConfig(inner=inner, **outer)


@st.composite
def gappy_layers(draw):
    """Layers with rows of zeros and dead columns, perhaps."""
    weight, hessian = draw(layers())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight[rng.random(len(weight)) < 0.3] = 0
    live = rng.random(len(hessian)) < draw(st.sampled_from([0.6, 1.0]))
    live[rng.integers(len(live))] = True
    return weight, hessian * np.outer(live, live)


def with_passes(layer, config, n_passes, **fields):
    return replace(config, n_passes=n_passes, **fields).encode(*layer)


def true_loss(layer, q):
    """(loss of what is stored, what a rounding of its sums may be)."""
    weight, hessian = layer
    diagonal = np.diagonal(hessian)
    live = diagonal > 0
    damped_hessian = hessian + q.report.damp * diagonal[live].mean() * np.diag(live)
    target = weight.astype(np.float64) * live
    return cost(target - q.matrix(), damped_hessian), 1e-20 * cost(target, damped_hessian)


@given(gappy_layers(), configs())
def test_the_loss_is_that_of_what_is_stored_and_no_pass_raises_it(layer, config):
    before = np.inf
    for n_passes in (0, 1, 2, 5):
        q = with_passes(layer, config, n_passes)
        q.config.check(q.codes, q.arrays, layer[0].shape)
        loss, rounding = true_loss(layer, q)
        assert q.report.loss == pytest.approx(loss, rel=1e-6, abs=rounding)
        assert q.report.loss <= before * (1 + 1e-9) + rounding
        before = q.report.loss


@given(layers(), configs())
def test_blocks_do_not_show_in_passes(layer, config):
    whole = with_passes(layer, config, 3, block_size=layer[0].shape[1])
    for block_size in (1, 7):
        q = with_passes(layer, config, 3, block_size=block_size)
        rounding = true_loss(layer, q)[1]
        assert q.report.loss == pytest.approx(whole.report.loss, rel=1e-9, abs=rounding)


@given(layers(), options(), st.randoms(use_true_random=False))
def test_passes_treat_each_row_on_its_own(layer, settings, random):
    weight, hessian = layer
    assume(settings["per"] in ("row", "group"))
    order = list(range(len(weight)))
    random.shuffle(order)
    q = gptq(weight, hessian, **settings, n_passes=3)
    moved = gptq(weight[order], hessian, **settings, n_passes=3)
    alone = gptq(weight[:1], hessian, **settings, n_passes=3)
    np.testing.assert_array_equal(moved.codes, q.codes[order])
    np.testing.assert_allclose(moved.arrays["scales"], q.arrays["scales"][order], rtol=1e-6)
    np.testing.assert_array_equal(alone.codes, q.codes[:1])
    np.testing.assert_allclose(alone.arrays["scales"], q.arrays["scales"][:1], rtol=1e-6)


@given(layers(), configs())
def test_where_passes_end_no_other_code_is_better(layer, config):
    weight, hessian = layer
    q = with_passes(layer, config, 64)
    before = with_passes(layer, config, 63)
    assume(all(np.array_equal(q.arrays[name], before.arrays[name]) for name in q.arrays))
    assume(np.array_equal(q.codes, before.codes))
    damped_hessian = damped(hessian, q.report.damp)
    levels, curvature = q.matrix().astype(np.float64), np.diagonal(damped_hessian)
    gradient = (levels - weight) @ damped_hessian
    if isinstance(config.inner, ScalarConfig):
        grid = q.config.inner.fit_grid(weight)
        codes = range(grid.lowest, grid.highest + 1)
    else:
        codes = range(len(q.arrays.get("codebook", range(16))))
    for code in codes:
        others = q.config.decode(np.full_like(q.codes, code), q.arrays, weight.shape)
        moves = others - levels
        change = moves * (2 * gradient + curvature * moves)
        reach = np.abs(levels) + np.abs(others) + np.abs(gradient / curvature)
        assert (
            change >= -(2.0**-20) * curvature * np.abs(moves) * reach
        ).all()  # float32 near a tie


@given(layers(), options())
def test_passes_leave_what_is_nearest_already(layer, settings):
    weight, hessian = layer
    assume(len(weight) > 1)
    settings |= {"per": "tensor", "static_groups": True}
    settings.pop("group_size", None)
    diagonal = np.diag(np.diagonal(hessian))
    plain, q = (gptq(weight, diagonal, **settings, n_passes=n_passes) for n_passes in (0, 3))
    np.testing.assert_array_equal(q.codes, plain.codes)
    np.testing.assert_array_equal(q.arrays["scales"], plain.arrays["scales"])
