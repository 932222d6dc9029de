"""The grids: kernels, numpy and torch agree to the bit; and every refusal."""

import numpy as np
import pytest
import torch

from quant.kernels.grid import round_codebook, round_uniform
from quant.numerics.grid import CodebookGrid, UniformGrid

pytestmark = pytest.mark.kernels

ROWS, COLUMNS = 5, 23
SHAPES = [
    (1, 1, COLUMNS),
    (ROWS, 1, COLUMNS),
    (ROWS, 1, 99),
    (1, COLUMNS, 1),
    (ROWS, COLUMNS, 1),
] + [(rows, -(-COLUMNS // size), size) for rows in (1, ROWS) for size in (4, 22)]


def uniform(rng, shape=(ROWS, 1, COLUMNS), *, bits=4, symmetric=True):
    rows, groups, group_size = shape
    scales = rng.uniform(0.01, 0.5, (rows, groups)).astype(np.float32)
    most = 2 ** (bits - 1) - 1
    lowest, highest = (-most, most) if symmetric else (0, 2 * most + 1)
    zeros = np.zeros_like(scales) if symmetric else np.rint(rng.uniform(0, highest, scales.shape))
    return UniformGrid(
        scales=scales,
        zero_points=zeros.astype(np.float32),
        lowest=lowest,
        highest=highest,
        group_size=group_size,
    )


def codebook(rng, k, shape=(ROWS, 1, COLUMNS)):
    rows, groups, group_size = shape
    return CodebookGrid(
        codebook=np.sort(rng.standard_normal(k)).astype(np.float32),
        scales=rng.uniform(0.1, 2, (rows, groups)).astype(np.float32),
        group_size=group_size,
    )


def weights(rng):
    matrix = rng.standard_normal((ROWS, COLUMNS)).astype(np.float32)
    matrix[0, :3] = 0, 99, -99  # on a level, and beyond the outermost
    return matrix


def spread(scales, group_size):
    """Scales of every column, (R or 1, C)."""
    return np.repeat(scales, group_size, axis=1)[:, :COLUMNS]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("symmetric", [True, False])
def test_codes_are_those_of_numpy_and_of_torch(rng, shape, symmetric):
    matrix, grid = weights(rng), uniform(rng, shape, symmetric=symmetric)
    matrix[1:3] = np.rint(matrix[1:3] * 4) * spread(grid.scales, grid.group_size)[-1] / 2  # ties
    scales, zeros = (spread(array, grid.group_size) for array in (grid.scales, grid.zero_points))
    codes = grid.encode(matrix)
    assert codes.dtype == (np.int8 if symmetric else np.uint8)
    plain = np.clip(np.rint(matrix / scales) + zeros, grid.lowest, grid.highest)
    np.testing.assert_array_equal(codes, plain)
    by_torch = torch.round(torch.tensor(matrix) / torch.tensor(scales)) + torch.tensor(zeros)
    np.testing.assert_array_equal(codes, by_torch.clamp(grid.lowest, grid.highest).numpy())

    decoded = grid.decode(codes)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, (plain - zeros) * scales)
    np.testing.assert_array_equal(
        decoded, ((torch.tensor(codes) - torch.tensor(zeros)) * torch.tensor(scales)).numpy()
    )


def test_ties_go_to_the_even_multiple(rng):
    grid = UniformGrid(
        scales=np.array([[0.5]], np.float32),
        zero_points=np.array([[3.0]], np.float32),
        lowest=0,
        highest=7,
        group_size=6,
    )
    matrix = np.array([[-0.75, -0.25, 0.25, 0.75, 1.25, 1.75]], np.float32)
    assert (grid.encode(matrix) - np.int8(3)).tolist() == [[-2, 0, 0, 2, 2, 4]]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("k", [1, 2, 3, 16, 17])
def test_codes_are_those_of_the_nearest_levels(rng, shape, k):
    matrix, grid = weights(rng), codebook(rng, k, shape)
    scales = spread(grid.scales, grid.group_size)
    codes = grid.encode(matrix)
    assert codes.dtype == np.uint8
    scaled = (matrix / scales).astype(np.float64)
    distances = np.abs(scaled[..., None] - grid.codebook.astype(np.float64))
    np.testing.assert_array_equal(codes, distances.argmin(axis=-1))  # the lower one of a tie
    np.testing.assert_array_equal(grid.decode(codes), grid.codebook[codes] * scales)


def test_all_256_levels_are_used(rng):
    grid = CodebookGrid(
        codebook=np.arange(256, dtype=np.float32),
        scales=np.ones((1, 1), np.float32),
        group_size=256,
    )
    matrix = np.arange(256, dtype=np.float32)[None]
    np.testing.assert_array_equal(grid.encode(matrix), matrix)
    np.testing.assert_array_equal(grid.encode(matrix + np.float32(0.5))[0, :-1], matrix[0, :-1])
    next_up = np.nextafter(matrix + np.float32(0.5), np.float32(999))
    np.testing.assert_array_equal(grid.encode(next_up)[0, :-1], matrix[0, 1:])


@pytest.mark.parametrize("ulps", [0, 1])
def test_the_middle_of_two_levels_is_not_rounded(ulps):
    """Neighbours in float32: a weight is one or the other, and their middle is neither."""
    one, ulp = np.float32(1), np.float32(2**-23)
    levels = np.array([one + ulps * ulp, one + (ulps + 1) * ulp], np.float32)
    grid = CodebookGrid(codebook=levels, scales=np.ones((1, 1), np.float32), group_size=2)
    assert grid.encode(levels[None]).tolist() == [[0, 1]]
    assert [round_codebook(w, one, levels) for w in levels] == [0, 1]


def test_a_tie_goes_to_the_lower_level():
    levels, half = np.array([0, 1], np.float32), np.float32(0.5)
    grid = CodebookGrid(codebook=levels, scales=np.ones((1, 1), np.float32), group_size=1)
    assert grid.encode(np.array([[half]])).tolist() == [[0]]
    assert round_codebook(half, np.float32(1), levels) == 0


def test_one_weight_alone_gets_the_same_code(rng):
    matrix, grid = weights(rng), uniform(rng, symmetric=False)
    bounds = np.float32(grid.lowest), np.float32(grid.highest)
    scales, zeros = grid.column(7)
    alone = [
        round_uniform(*array, *bounds) for array in zip(matrix[:, 7], scales, zeros, strict=True)
    ]
    assert alone == grid.encode(matrix)[:, 7].tolist()

    for k in (1, 2, 3, 16, 17):
        book = codebook(rng, k)
        scales = book.column(7)
        alone = [round_codebook(matrix[r, 7], scales[r], book.codebook) for r in range(ROWS)]
        assert alone == book.encode(matrix)[:, 7].tolist()


def test_column_is_that_of_its_group(rng):
    grid, book = uniform(rng, (ROWS, 6, 4), symmetric=False), codebook(rng, 3, (1, 6, 4))
    for i in (0, 3, 4, 22):
        scales, zeros = grid.column(i)
        np.testing.assert_array_equal(scales, grid.scales[:, i // 4])
        np.testing.assert_array_equal(zeros, grid.zero_points[:, i // 4])
        np.testing.assert_array_equal(book.column(i), book.scales[:, i // 4])


@pytest.mark.parametrize("make", [uniform, lambda rng: codebook(rng, 9)])
def test_memory_given_is_written_to(rng, make):
    matrix, grid = weights(rng), make(rng)
    codes = grid.encode(matrix)
    room, wide = np.empty_like(codes), np.empty((ROWS, 2 * COLUMNS), np.float32)
    assert grid.encode(matrix, room) is room
    np.testing.assert_array_equal(room, codes)
    out = wide[:, ::2]
    assert grid.decode(codes, out) is out
    np.testing.assert_array_equal(out, grid.decode(codes))


@pytest.mark.parametrize("make", [uniform, lambda rng: codebook(rng, 9)])
def test_strides_do_not_matter(rng, make):
    matrix, grid = weights(rng), make(rng)
    codes = grid.encode(matrix)
    np.testing.assert_array_equal(grid.encode(np.asfortranarray(matrix)), codes)
    np.testing.assert_array_equal(grid.decode(np.asfortranarray(codes)), grid.decode(codes))


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def refuse_uniform(**fields):
    ones = np.ones((2, 1), np.float32)
    settings = {
        "scales": ones,
        "zero_points": 0 * ones,
        "lowest": -7,
        "highest": 7,
        "group_size": 4,
    }
    return refusal(UniformGrid, **settings | fields)


def refuse_codebook(**fields):
    levels = np.arange(3, dtype=np.float32)
    settings = {"codebook": levels, "scales": np.ones((2, 1), np.float32), "group_size": 4}
    return refusal(CodebookGrid, **settings | fields)


@pytest.mark.parametrize("refuse", [refuse_uniform, refuse_codebook])
def test_scales_that_are_none_are_refused(refuse):
    for wrong in (np.ones(2, np.float32), np.ones((2, 1)), np.ones((0, 1), np.float32)):
        assert refuse(scales=wrong) == (
            f"scales must be float32 of shape (rows or 1, groups), got {wrong.dtype} of shape "
            f"{wrong.shape}; reshape them"
        )
    for value, shown in ((0, "0..1"), (-1, "-1..1"), (np.nan, "nan..nan"), (np.inf, "1..inf")):
        wrong = np.array([[1], [value]], np.float32)
        assert refuse(scales=wrong) == (
            f"scales must be finite and > 0, got {shown}; use 1 for a group of zeros"
        )
    assert refuse(group_size=0) == "group_size must be >= 1, got 0; use C for one group"


def test_a_uniform_grid_refuses():
    wrong = np.zeros((1, 1), np.float32)
    assert refuse_uniform(zero_points=wrong) == (
        "zero_points must be float32 of shape (2, 1), as the scales are, got float32 of shape "
        "(1, 1); make one for each scale"
    )
    for lowest, highest in ((0, 256), (-129, 7), (-7, 128), (3, 3)):
        assert refuse_uniform(lowest=lowest, highest=highest) == (
            f"codes must fit int8 or uint8, lowest < highest, got {lowest}..{highest}; use 8 bits "
            "or fewer"
        )
    for value in (0.5, 256.0, np.nan):
        wrong = np.full((2, 1), value, np.float32)
        assert refuse_uniform(zero_points=wrong) == (
            f"zero_points must be whole numbers in -255..255, got {value}..{value}; they are codes"
        )
    assert refuse_uniform(scales=np.full((2, 1), 1e38, np.float32)) == (
        "levels must be finite, got a scale of 1e+38; it is too large"
    )


def test_a_codebook_grid_refuses():
    for wrong in (np.zeros(3), np.zeros((1, 3), np.float32), np.zeros(0, np.float32)):
        assert refuse_codebook(codebook=wrong) == (
            f"codebook must be float32 of shape (1..256,), got {wrong.dtype} of shape "
            f"{wrong.shape}; a code is one byte"
        )
    for wrong in ([0, 2, 1], [0, 1, np.inf], [np.nan, 1, 2]):
        levels = np.array(wrong, np.float32)
        assert refuse_codebook(codebook=levels) == (
            f"codebook must be finite and ascending, got {levels[0]}..{levels[-1]}; sort it"
        )
    assert refuse_codebook(scales=np.full((2, 1), 3e38, np.float32)) == (
        "levels must be finite, got a scale of 3e+38; it is too large"
    )


def test_a_matrix_that_does_not_fit_is_refused(rng):
    matrix = np.zeros((ROWS, COLUMNS), np.float32)
    for grid in (uniform(rng, (ROWS, 6, 4)), codebook(rng, 3, (ROWS, 6, 4))):
        name = "uint8" if isinstance(grid, CodebookGrid) else "int8"
        codes = grid.encode(matrix)
        for call, argument in ((grid.encode, matrix), (grid.decode, codes)):
            for wrong in (argument[:-1], argument[:, :20], argument[0]):
                assert refusal(call, wrong) == (
                    "a grid must fit the matrix, got scales of shape (5, 6) for groups of 4 "
                    f"columns and a matrix of shape {wrong.shape}; fit a new grid"
                )
        assert refusal(grid.encode, matrix.astype(np.float64)) == (
            "matrix must be float32, got float64; cast it first"
        )
        assert refusal(grid.encode, matrix, np.zeros((1, 1), np.int16)) == (
            f"out must be {name} of shape (5, 23), got int16 of shape (1, 1); leave it out for a "
            "new array"
        )
        assert refusal(grid.decode, codes, matrix[1:]) == (
            "out must be float32 of shape (5, 23), got float32 of shape (4, 23); leave it out for "
            "a new array"
        )


def test_codes_of_another_grid_are_refused(rng):
    codes = np.full((ROWS, COLUMNS), 3, np.uint8)
    assert refusal(uniform(rng).decode, codes.astype(np.int64)) == (
        "codes must be int8 or uint8, got int64; cast them"
    )
    assert refusal(codebook(rng, 3).decode, codes) == (
        "codes must be uint8 below 3, got uint8 up to 3; use the codebook that they were "
        "encoded with"
    )
    assert refusal(codebook(rng, 4).decode, codes.astype(np.int8)) == (
        "codes must be uint8 below 4, got int8 up to 3; use the codebook that they were "
        "encoded with"
    )
