"""GPTQ over one block of columns: round the weights of a column, and let their errors drift on.

Matrices are (C, R), a row for each column of the layer in visiting order, so that the weights of a
column, which do not depend on each other, are rounded in vectors. Sums are float64: the order of
adding, and so the block, hardly shows.
"""

import numpy as np

from quant.kernels.grid import round_codebook, round_uniform
from quant.kernels.jit import jit


@jit
def add_products(feedback, errors, compensated):
    """Add ``drift @ errors`` to `asked`: (n,), (n, R) and (R,) float64."""
    for i in range(len(feedback)):
        factor, error = feedback[i], errors[i]
        for r in range(len(compensated)):
            compensated[r] += factor * error[r]


@jit
def solve_uniform(
    weights,
    compensated,
    feedback,
    pivots,
    groups,
    start,
    stop,
    codes,
    errors,
    scales,
    zero_points,
    lowest,
    highest,
):
    """Choose the codes of columns start..stop - 1 on uniform levels; returns their loss.

    weights (C, R) float32; asked (C, R) float64, the weights and what errors before `start` add to
    them, overwritten from there to `stop`; drift (C, C) float64; pivots (C,) float64; groups (C,)
    int64, the group of each column; codes (C, R) int8 or uint8 and errors (stop - start or more, R)
    float64, written; steps, zeros (G, R or 1) float32; lowest, highest float32.
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
    """Choose the codes of columns start..stop - 1 on levels codebook[code] * scale; their loss.

    scales (G, R or 1) float32; codebook (K,) float32, ascending; the others as above.
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
    """Choose the codes of columns start..stop - 1 anew, by all others; returns how many changed.

    pulls (C, R) float64, H times (level - weight) before any of these changed; hessian H (C, C)
    float64; codes (C, R), overwritten; moves (stop - start or more, R) float64, written: level
    minus the level before; the others as above. A code changes only if that lowers the loss; a
    column with 0 on the diagonal stays.
    """
    changed = 0
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
            by = np.float64((rounded - zero_point[k]) * scale[k]) - level
            is_lower = by * (2 * slope[r] + curvature * by) < 0
            code[r] = np.int32(rounded) if is_lower else np.int32(code[r])
            delta[r] = by if is_lower else 0.0
            changed += is_lower
    return changed


@jit
def descend_codebook(gradient, hessian, groups, start, stop, codes, deltas, scales, codebook):
    """Choose the codes of columns start..stop - 1 anew, on levels codebook[code] * scale.

    As above; returns how many changed.
    """
    changed = 0
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
            by = np.float64(codebook[nearest] * scale[k]) - level
            is_lower = by * (2 * slope[r] + curvature * by) < 0
            code[r] = nearest if is_lower else code[r]
            delta[r] = by if is_lower else 0.0
            changed += is_lower
    return changed
