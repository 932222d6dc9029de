"""Weights to codes and back, on uniform levels and on those of a codebook.

All in float32 and by division, never by the inverse: plain numpy, torch and these kernels agree
to the bit. `steps`, `zeros` and `scales` are (R or 1, G): of each row, or of all; of each group of
`group_size` columns, of which the last may be shorter.
"""

import numpy as np

from quant.kernels.jit import jit

SUM = {"reassoc", "nsz"}  # a sum may run in vectors


@jit
def bounds(group, group_size, columns):
    """(first, end) of the columns of a group; the kernels slice by them, and count from 0."""
    return group * group_size, min((group + 1) * group_size, columns)


@jit
def round_uniform(w, scale, zero_point, lowest, highest):
    """Code of `w`, as a float: rint(w / step) + zero, within lowest..highest.

    A tie goes to the even multiple of the step. All float32; the codes are whole numbers.
    """
    code = np.rint(w / scale) + zero_point
    return lowest if code < lowest else highest if code > highest else code


@jit
def round_codebook(w, scale, codebook):
    """Index of the level of `codebook` (K,) float32, ascending, that is nearest to w / scale.

    A tie goes to the lower level. The middle of two levels is exact: it is a float64.
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
    """Write codes (R, C) int8 or uint8 of `matrix` (R, C) float32."""
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
            weights, found = matrix[r, start:stop], codes[r, start:stop]
            for j in range(len(weights)):
                found[j] = np.int32(round_uniform(weights[j], scale, zero_point, lowest, highest))


@jit
def decode_uniform(codes, scales, zero_points, group_size, matrix):
    """Write `matrix` (R, C) float32: (code - zero) * step."""
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
            found, weights = codes[r, start:stop], matrix[r, start:stop]
            for j in range(len(found)):
                weights[j] = (np.float32(found[j]) - zero_point) * scale


@jit
def encode_codebook(matrix, scales, thresholds, group_size, codes):
    """Write codes (R, C) uint8: the number of thresholds that w / scale is above.

    thresholds (2^n - 1,) float32 ascending; those that no level needs are infinite.
    """
    rows, columns = matrix.shape
    scaled, found = np.empty(columns, np.float32), np.empty(columns, np.uint32)
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        for g in range(scales.shape[1]):
            scale = scales[k, g]
            start, stop = bounds(g, group_size, columns)
            weights, quotients = matrix[r, start:stop], scaled[start:stop]
            for j in range(len(weights)):
                quotients[j] = weights[j] / scale
        found[:] = 0
        stride = np.uint32((len(thresholds) + 1) // 2)
        while stride > 0:  # a binary search of the whole row at once
            for j in range(columns):
                is_above = scaled[j] > thresholds[found[j] + stride - np.uint32(1)]
                found[j] += stride if is_above else np.uint32(0)
            stride >>= np.uint32(1)
        for j in range(columns):
            codes[r, j] = found[j]


@jit
def decode_codebook(codes, codebook, scales, group_size, matrix):
    """Write `matrix` (R, C) float32: codebook[code] * scale; every code < K."""
    rows, columns = codes.shape
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        for g in range(scales.shape[1]):
            scale = scales[k, g]
            start, stop = bounds(g, group_size, columns)
            found, weights = codes[r, start:stop], matrix[r, start:stop]
            for j in range(len(found)):
                weights[j] = codebook[found[j]] * scale


@jit(fastmath=SUM)
def add_powers(matrix, means, group_size, sums, squares):
    """Add w - mean and its square to `sums` and `squares`, (R or 1, G) float64, of each group."""
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
def add_errors(matrix, scales, zero_points, lowest, highest, group_size, weights, errors):
    """Add weight * (w - decoded)^2 to `errors` (R or 1, G) float64; weights (C,) float64."""
    rows, columns = matrix.shape
    for r in range(rows):
        k = r if len(scales) > 1 else 0
        if group_size == 1:
            for j in range(columns):
                code = round_uniform(matrix[r, j], scales[k, j], zero_points[k, j], lowest, highest)
                level = (code - zero_points[k, j]) * scales[k, j]
                d = np.float64(matrix[r, j]) - np.float64(level)
                errors[k, j] += weights[j] * d * d
            continue
        for g in range(scales.shape[1]):
            scale, zero_point, error = scales[k, g], zero_points[k, g], 0.0
            start, stop = bounds(g, group_size, columns)
            group, column_weights = matrix[r, start:stop], weights[start:stop]
            for j in range(len(group)):
                code = round_uniform(group[j], scale, zero_point, lowest, highest)
                d = np.float64(group[j]) - np.float64((code - zero_point) * scale)
                error += column_weights[j] * d * d
            errors[k, g] += error
