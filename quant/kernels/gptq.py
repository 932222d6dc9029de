"""GPTQ and coordinate descent over one block of columns.

Matrices are transposed, (C, R): one row for each column of the layer, in visiting order. The
weights of a column do not depend on each other, so that loops over them are vectorized. Sums are
float64, so that the block size, which changes their order, hardly matters.
"""

import numpy as np

from quant.kernels.grid import round_codebook, round_uniform
from quant.kernels.jit import jit


@jit
def add_products(row, matrix, total):
    """Add ``row @ matrix`` to `total`: (n,), (n or more, R) and (R,) float64."""
    for i in range(len(row)):
        factor, values = row[i], matrix[i]
        for r in range(len(total)):
            total[r] += factor * values[r]


@jit
def solve_uniform(
    weights, compensated, feedback, pivots, groups, start, stop, codes, errors, scales,
    zero_points, lowest, highest,
):  # fmt: skip
    """Choose the codes of columns start..stop - 1 on uniform levels; return their loss.

    weights (C, R) float32; compensated (C, R) float64: the weights plus the feedback of the errors
    before `start`, overwritten from there to `stop`; feedback (C, C) float64; pivots (C,) float64;
    groups (C,) int64: the group of each column; codes (C, R) int8, uint8 or int16, and errors (stop
    - start or more, R) float64, overwritten; scales and zero_points (G, R or 1) float32; lowest and
    highest float32.
    """
    loss = 0.0
    is_shared = scales.shape[1] == 1
    for j in range(start, stop):
        target, weight, code, error = compensated[j], weights[j], codes[j], errors[j - start]
        add_products(feedback[j, start:j], errors, target)
        scale, zero_point, pivot = scales[groups[j]], zero_points[groups[j]], pivots[j]
        for r in range(len(weight)):
            k = 0 if is_shared else r
            rounded = round_uniform(np.float32(target[r]), scale[k], zero_point[k], lowest, highest)
            value = np.float64((rounded - zero_point[k]) * scale[k])
            code[r] = np.int32(rounded)
            error[r] = np.float64(weight[r]) - value
            residual = (target[r] - value) * pivot
            loss += residual * residual
    return loss


@jit
def solve_codebook(
    weights, compensated, feedback, pivots, groups, start, stop, codes, errors, scales, codebook
):
    """Choose the codes of columns start..stop - 1 on levels codebook[code] * scale.

    Returns their loss. scales (G, R or 1) float32; codebook (K,) float32, ascending; the other
    arguments as in `solve_uniform`.
    """
    loss = 0.0
    is_shared = scales.shape[1] == 1
    for j in range(start, stop):
        target, weight, code, error = compensated[j], weights[j], codes[j], errors[j - start]
        add_products(feedback[j, start:j], errors, target)
        scale, pivot = scales[groups[j]], pivots[j]
        for r in range(len(weight)):
            k = 0 if is_shared else r
            nearest = round_codebook(np.float32(target[r]), scale[k], codebook)
            value = np.float64(codebook[nearest] * scale[k])
            code[r] = nearest
            error[r] = np.float64(weight[r]) - value
            residual = (target[r] - value) * pivot
            loss += residual * residual
    return loss


@jit
def descend_uniform(
    gradient, hessian, groups, start, stop, codes, deltas, scales, zero_points, lowest, highest
):
    """Choose the codes of columns start..stop - 1 again; return how many changed.

    gradient (C, R) float64: H times (level - weight) before any of these codes changed; hessian H
    (C, C) float64; codes (C, R), overwritten; deltas (stop - start or more, R) float64,
    overwritten: level minus the level before; the other arguments as in `solve_uniform`. A code
    changes only if that lowers the loss; a column with a 0 on the diagonal keeps its codes.
    """
    n_changed = 0
    is_shared = scales.shape[1] == 1
    slope = np.empty(codes.shape[1])
    for j in range(start, stop):
        code, delta, curvature = codes[j], deltas[j - start], hessian[j, j]
        if curvature == 0:
            delta[:] = 0
            continue
        slope[:] = gradient[j]
        add_products(hessian[j, start:j], deltas, slope)
        scale, zero_point = scales[groups[j]], zero_points[groups[j]]
        for r in range(len(code)):
            k = 0 if is_shared else r
            level = np.float64((np.float32(code[r]) - zero_point[k]) * scale[k])
            target = np.float32(level - slope[r] / curvature)
            rounded = round_uniform(target, scale[k], zero_point[k], lowest, highest)
            change = np.float64((rounded - zero_point[k]) * scale[k]) - level
            is_lower = change * (2 * slope[r] + curvature * change) < 0
            code[r] = np.int32(rounded) if is_lower else np.int32(code[r])
            delta[r] = change if is_lower else 0.0
            n_changed += is_lower
    return n_changed


@jit
def descend_codebook(gradient, hessian, groups, start, stop, codes, deltas, scales, codebook):
    """Choose the codes of columns start..stop - 1 again, on levels codebook[code] * scale.

    Returns how many changed; the arguments are those of `descend_uniform` and `solve_codebook`.
    """
    n_changed = 0
    is_shared = scales.shape[1] == 1
    slope = np.empty(codes.shape[1])
    for j in range(start, stop):
        code, delta, curvature = codes[j], deltas[j - start], hessian[j, j]
        if curvature == 0:
            delta[:] = 0
            continue
        slope[:] = gradient[j]
        add_products(hessian[j, start:j], deltas, slope)
        scale = scales[groups[j]]
        for r in range(len(code)):
            k = 0 if is_shared else r
            level = np.float64(codebook[code[r]] * scale[k])
            nearest = round_codebook(np.float32(level - slope[r] / curvature), scale[k], codebook)
            change = np.float64(codebook[nearest] * scale[k]) - level
            is_lower = change * (2 * slope[r] + curvature * change) < 0
            code[r] = nearest if is_lower else code[r]
            delta[r] = change if is_lower else 0.0
            n_changed += is_lower
    return n_changed
