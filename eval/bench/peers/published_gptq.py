"""GPTQ as published (Frantar et al. 2022, https://arxiv.org/abs/2210.17323), in torch, float32.

The algorithm of the authors' code (https://github.com/IST-DASLab/gptq), one column at a time.
"""

import torch

DAMP = 0.01
BLOCK = 128


def hessian_of(inputs: torch.Tensor) -> torch.Tensor:
    """(C, C): the Hessian of inputs (N, C)."""
    return inputs.t() @ inputs / len(inputs)


def quantize(
    weight: torch.Tensor, hessian: torch.Tensor, bits: int, scales: torch.Tensor, act_order: bool
) -> torch.Tensor:
    """The weight (R, C), quantized and dequantized, with a scale (R,) for each row."""
    highest = 2 ** (bits - 1) - 1
    order = torch.arange(weight.shape[1])
    if act_order:
        order = torch.argsort(hessian.diagonal(), descending=True)
    W, damped = weight[:, order].clone(), hessian[order][:, order].clone()
    damped.diagonal().add_(DAMP * damped.diagonal().mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    Q = torch.zeros_like(W)
    for start in range(0, weight.shape[1], BLOCK):
        stop = min(start + BLOCK, weight.shape[1])
        block, errors = W[:, start:stop].clone(), torch.zeros(len(W), stop - start)
        factor = upper[start:stop, start:stop]
        for i in range(stop - start):
            column = block[:, i]
            rounded = torch.clamp(torch.round(column / scales), -highest, highest) * scales
            errors[:, i] = (column - rounded) / factor[i, i]
            Q[:, start + i] = rounded
            block[:, i:] -= errors[:, i : i + 1] * factor[i : i + 1, i:]
        W[:, stop:] -= errors @ upper[start:stop, stop:]
    return Q[:, torch.argsort(order)]
