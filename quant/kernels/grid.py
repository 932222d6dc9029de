"""Encode weights and decode codes, on uniform levels and on those of a codebook.

All arithmetic is float32 and divides by the scale, not by its inverse, so that numpy, torch and
these kernels agree to the bit. `scales` and `zero_points` are (R or 1, G): one for each row, or one
for all rows; one for each group of `group_size` columns, of which the last may be shorter.
"""

import numpy as np

from quant.kernels.jit import jit

SUM = {"reassoc", "nsz"}  # allows vectorized sums


@jit
def bounds(group, group_size, columns):
    """Return (first, end) of the columns of a group; kernels slice by them and count from 0."""
    return group * group_size, min((group + 1) * group_size, columns)


@jit
def round_uniform(w, scale, zero_point, lowest, highest):
    """Return the code of `w` as a float: rint(w / scale) + zero_point, within lowest..highest.

    Ties go to the even multiple of the scale. All values are float32; codes are whole numbers.
    """
    code = np.rint(w / scale) + zero_point
    return lowest if code < lowest else highest if code > highest else code


@jit
def round_codebook(w, scale, codebook):
    """Return the index of the value of `codebook` (K,) float32, ascending, nearest to w / scale.

    Ties go to the lower value. The midpoint of two values is exact, because it is float64.
    """
    x = w / scale
    first, last = 0, len(codebook) - 1
    while first < last:
        middle = (first + last) // 2
        if x > 0.5 * (np.float64(codebook[middle]) + np.float64(codebook[middle + 1])):
            first = middle + 1
        else:
            last = middle
    return first


@jit
def encode_uniform(matrix, scales, zero_points, lowest, highest, group_size, codes):
    """Write the codes (R, C) int8 or uint8 of `matrix` (R, C) float32."""
    rows, columns = matrix.shape
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        if group_size == 1:
            for j in range(columns):
                codes[r, j] = np.int32(
                    round_uniform(matrix[r, j], scales[k, j], zero_points[k, j], lowest, highest)
                )
            continue
        for g in range(scales.shape[1]):
            scale, zero_point = scales[k, g], zero_points[k, g]
            start, stop = bounds(g, group_size, columns)
            weights, out = matrix[r, start:stop], codes[r, start:stop]
            for j in range(len(weights)):
                out[j] = np.int32(round_uniform(weights[j], scale, zero_point, lowest, highest))


@jit
def decode_uniform(codes, scales, zero_points, group_size, matrix):
    """Write `matrix` (R, C) float32: (code - zero_point) * scale."""
    rows, columns = codes.shape
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        if group_size == 1:
            for j in range(columns):
                matrix[r, j] = (np.float32(codes[r, j]) - zero_points[k, j]) * scales[k, j]
            continue
        for g in range(scales.shape[1]):
            scale, zero_point = scales[k, g], zero_points[k, g]
            start, stop = bounds(g, group_size, columns)
            group, weights = codes[r, start:stop], matrix[r, start:stop]
            for j in range(len(group)):
                weights[j] = (np.float32(group[j]) - zero_point) * scale


@jit
def encode_codebook(matrix, scales, thresholds, group_size, codes):
    """Write the codes (R, C) uint8: the number of thresholds below w / scale.

    thresholds (2^n - 1,) float32, ascending; those beyond the codebook are infinite.
    """
    rows, columns = matrix.shape
    scaled, below = np.empty(columns, np.float32), np.empty(columns, np.uint32)
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        for g in range(scales.shape[1]):
            scale = scales[k, g]
            start, stop = bounds(g, group_size, columns)
            weights, quotients = matrix[r, start:stop], scaled[start:stop]
            for j in range(len(weights)):
                quotients[j] = weights[j] / scale
        below[:] = 0
        stride = np.uint32((len(thresholds) + 1) // 2)
        while stride > 0:  # a binary search of the whole row at once
            for j in range(columns):
                is_above = scaled[j] > thresholds[below[j] + stride - np.uint32(1)]
                below[j] += stride if is_above else np.uint32(0)
            stride >>= np.uint32(1)
        for j in range(columns):
            codes[r, j] = below[j]


@jit
def decode_codebook(codes, codebook, scales, group_size, matrix):
    """Write `matrix` (R, C) float32: codebook[code] * scale; every code < K."""
    rows, columns = codes.shape
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        for g in range(scales.shape[1]):
            scale = scales[k, g]
            start, stop = bounds(g, group_size, columns)
            group, weights = codes[r, start:stop], matrix[r, start:stop]
            for j in range(len(group)):
                weights[j] = codebook[group[j]] * scale


@jit(fastmath=SUM)
def add_powers(matrix, means, group_size, sums, squares):
    """Add w - mean and its square to `sums` and `squares`, (R or 1, G) float64."""
    rows, columns = matrix.shape
    for r in range(rows):
        k = r if len(means) > 1 else 0
        for g in range(means.shape[1]):
            mean, total, square = means[k, g], 0.0, 0.0
            start, stop = bounds(g, group_size, columns)
            for w in matrix[r, start:stop]:
                d = np.float64(w) - mean
                total += d
                square += d * d
            sums[k, g] += total
            squares[k, g] += square


@jit(fastmath=SUM)
def add_errors(matrix, scales, zero_points, lowest, highest, group_size, column_weights, errors):
    """Add column_weight * (w - decoded)² to `errors` (R or 1, G); column_weights (C,); float64."""
    rows, columns = matrix.shape
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        if group_size == 1:
            for j in range(columns):
                code = round_uniform(matrix[r, j], scales[k, j], zero_points[k, j], lowest, highest)
                level = (code - zero_points[k, j]) * scales[k, j]
                d = np.float64(matrix[r, j]) - np.float64(level)
                errors[k, j] += column_weights[j] * d * d
            continue
        for g in range(scales.shape[1]):
            scale, zero_point, error = scales[k, g], zero_points[k, g], 0.0
            start, stop = bounds(g, group_size, columns)
            group, weights = matrix[r, start:stop], column_weights[start:stop]
            for j in range(len(group)):
                code = round_uniform(group[j], scale, zero_point, lowest, highest)
                d = np.float64(group[j]) - np.float64((code - zero_point) * scale)
                error += weights[j] * d * d
            errors[k, g] += error


@jit(fastmath=SUM)
def add_shifts(
    matrix, scales, zero_points, lowest, highest, group_size, column_weights, counts, shifts,
    squares,
):  # fmt: skip
    """Add three sums over each group, (R or 1, G) float64, with a the column weight (C,) of w.

    counts: a; shifts: a * w * (decoded - w); squares: a * w².
    """
    rows, columns = matrix.shape
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        for g in range(scales.shape[1]):
            scale, zero_point = scales[k, g], zero_points[k, g]
            count, shift, square = 0.0, 0.0, 0.0
            start, stop = bounds(g, group_size, columns)
            group, weights = matrix[r, start:stop], column_weights[start:stop]
            for j in range(len(group)):
                code = round_uniform(group[j], scale, zero_point, lowest, highest)
                w, a = np.float64(group[j]), weights[j]
                count += a
                shift += a * w * (np.float64((code - zero_point) * scale) - w)
                square += a * w * w
            counts[k, g] += count
            shifts[k, g] += shift
            squares[k, g] += square
