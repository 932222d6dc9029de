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
