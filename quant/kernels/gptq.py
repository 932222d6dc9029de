"""GPTQ over one block of columns: round the weights of a column, and let their errors drift on.

Matrices are (C, R), a row for each column of the layer in visiting order, so that the weights of a
column, which do not depend on each other, are rounded in vectors. Sums are float64: the order of
adding, and so the block, hardly shows.
"""

import numpy as np

from quant.kernels.grid import round_codebook, round_uniform
from quant.kernels.jit import jit


@jit
def add_drift(drift, errors, asked):
    """Add ``drift @ errors`` to `asked`: (n,), (n, R) and (R,) float64."""
    for i in range(len(drift)):
        factor, error = drift[i], errors[i]
        for r in range(len(asked)):
            asked[r] += factor * error[r]


@jit
def walk_uniform(
    weights, asked, drift, pivots, groups, start, stop, codes, errors, steps, zeros, lowest, highest
):
    """Choose the codes of columns start..stop - 1 on uniform levels; returns their loss.

    weights (C, R) float32; asked (C, R) float64, the weights and what errors before `start` add to
    them, overwritten from there to `stop`; drift (C, C) float64; pivots (C,) float64; groups (C,)
    int64, the group of each column; codes (C, R) int8 or uint8 and errors (stop - start or more, R)
    float64, written; steps, zeros (G, R or 1) float32; lowest, highest float32.
    """
    loss = 0.0
    is_shared = steps.shape[1] == 1
    for j in range(start, stop):
        wanted, weight, code, error = asked[j], weights[j], codes[j], errors[j - start]
        add_drift(drift[j, start:j], errors, wanted)
        step, zero, pivot = steps[groups[j]], zeros[groups[j]], pivots[j]
        for r in range(len(weight)):
            k = 0 if is_shared else r
            rounded = round_uniform(np.float32(wanted[r]), step[k], zero[k], lowest, highest)
            value = np.float64((rounded - zero[k]) * step[k])
            code[r] = np.int32(rounded)
            error[r] = np.float64(weight[r]) - value
            missed = (wanted[r] - value) * pivot
            loss += missed * missed
    return loss


@jit
def walk_codebook(
    weights, asked, drift, pivots, groups, start, stop, codes, errors, scales, codebook
):
    """Choose the codes of columns start..stop - 1 on levels codebook[code] * scale; their loss.

    scales (G, R or 1) float32; codebook (K,) float32, ascending; the others as above.
    """
    loss = 0.0
    is_shared = scales.shape[1] == 1
    for j in range(start, stop):
        wanted, weight, code, error = asked[j], weights[j], codes[j], errors[j - start]
        add_drift(drift[j, start:j], errors, wanted)
        scale, pivot = scales[groups[j]], pivots[j]
        for r in range(len(weight)):
            k = 0 if is_shared else r
            nearest = round_codebook(np.float32(wanted[r]), scale[k], codebook)
            value = np.float64(codebook[nearest] * scale[k])
            code[r] = nearest
            error[r] = np.float64(weight[r]) - value
            missed = (wanted[r] - value) * pivot
            loss += missed * missed
    return loss


@jit
def sweep_uniform(pulls, hessian, groups, start, stop, codes, moves, steps, zeros, lowest, highest):
    """Choose the codes of columns start..stop - 1 anew, by all others; returns how many changed.

    pulls (C, R) float64, H times (level - weight) before any of these changed; hessian H (C, C)
    float64; codes (C, R), overwritten; moves (stop - start or more, R) float64, written: level
    minus the level before; the others as above. A code changes only if that lowers the loss; a
    column with 0 on the diagonal stays.
    """
    changed = 0
    is_shared = steps.shape[1] == 1
    pull = np.empty(codes.shape[1])
    for j in range(start, stop):
        code, move, curve = codes[j], moves[j - start], hessian[j, j]
        if curve == 0:
            move[:] = 0
            continue
        pull[:] = pulls[j]
        add_drift(hessian[j, start:j], moves, pull)
        step, zero = steps[groups[j]], zeros[groups[j]]
        for r in range(len(code)):
            k = 0 if is_shared else r
            level = np.float64((np.float32(code[r]) - zero[k]) * step[k])
            wanted = np.float32(level - pull[r] / curve)
            rounded = round_uniform(wanted, step[k], zero[k], lowest, highest)
            by = np.float64((rounded - zero[k]) * step[k]) - level
            is_lower = by * (2 * pull[r] + curve * by) < 0
            code[r] = np.int32(rounded) if is_lower else np.int32(code[r])
            move[r] = by if is_lower else 0.0
            changed += is_lower
    return changed


@jit
def sweep_codebook(pulls, hessian, groups, start, stop, codes, moves, scales, codebook):
    """Choose the codes of columns start..stop - 1 anew, on levels codebook[code] * scale.

    As above; returns how many changed.
    """
    changed = 0
    is_shared = scales.shape[1] == 1
    pull = np.empty(codes.shape[1])
    for j in range(start, stop):
        code, move, curve = codes[j], moves[j - start], hessian[j, j]
        if curve == 0:
            move[:] = 0
            continue
        pull[:] = pulls[j]
        add_drift(hessian[j, start:j], moves, pull)
        scale = scales[groups[j]]
        for r in range(len(code)):
            k = 0 if is_shared else r
            level = np.float64(codebook[code[r]] * scale[k])
            nearest = round_codebook(np.float32(level - pull[r] / curve), scale[k], codebook)
            by = np.float64(codebook[nearest] * scale[k]) - level
            is_lower = by * (2 * pull[r] + curve * by) < 0
            code[r] = nearest if is_lower else code[r]
            move[r] = by if is_lower else 0.0
            changed += is_lower
    return changed
