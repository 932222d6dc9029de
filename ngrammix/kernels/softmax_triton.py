"""Rows of logits on a GPU, each read in float64 by one program, without a temporary of its size.

Importing this needs Triton, which comes with the builds of torch for CUDA and ROCm; the first
launch compiles, for which Triton needs a C compiler.
"""

from typing import Any

import triton
import triton.language as tl

MAX_BLOCK = 4096  # logits that a program holds at once; with 4 warps, 32 float64 a thread
N_WARPS = 4
MIN_BLOCK = 16


@triton.jit
def _block(row, start, column_stride, vocab_size, BLOCK: tl.constexpr):
    """BLOCK logits of a row from `start` on, as float64; -inf beyond the vocabulary."""
    at = start + tl.arange(0, BLOCK)
    places = row + at.to(tl.int64) * column_stride
    return tl.load(places, mask=at < vocab_size, other=-float("inf")).to(tl.float64)


@triton.jit
def _read(logits, targets, out, row_stride, column_stride, vocab_size, BLOCK: tl.constexpr):
    """Read row `program_id` of logits (N, V) twice, and write its five numbers into out (N, 5)."""
    row = tl.program_id(0).to(tl.int64)
    logits += row * row_stride
    largest = tl.full((), -float("inf"), tl.float64)
    top = tl.full((), 0, tl.int32)
    n_nan = tl.full((), 0, tl.int32)
    for start in range(0, vocab_size, BLOCK):
        z = _block(logits, start, column_stride, vocab_size, BLOCK)
        n_nan += tl.sum((z != z).to(tl.int32), 0)
        block_largest, block_top = tl.max(z, 0, return_indices=True)
        is_larger = block_largest > largest  # the first of equal ones stays
        top = tl.where(is_larger, start + block_top, top)
        largest = tl.where(is_larger, block_largest, largest)
    total = tl.full((), 0.0, tl.float64)
    weighted = tl.full((), 0.0, tl.float64)
    for start in range(0, vocab_size, BLOCK):
        z = _block(logits, start, column_stride, vocab_size, BLOCK) - largest
        weight = tl.exp(z)
        total += tl.sum(weight, 0)
        weighted += tl.sum(weight * tl.maximum(z, -1e4), 0)  # 0 * -inf is 0 here
    log_total = tl.log(total)
    target = tl.load(logits + tl.load(targets + row) * column_stride).to(tl.float64)
    out += row * 5
    tl.store(out, tl.where(n_nan > 0, float("nan"), largest))
    tl.store(out + 1, log_total)
    tl.store(out + 2, target - largest - log_total)
    tl.store(out + 3, log_total - weighted / total)
    tl.store(out + 4, top.to(tl.float64))


def read(logits: Any, targets: Any, out: Any) -> None:
    """Read logits (N, V) of any floating dtype; targets (N,) int64; tensors on the current GPU.

    Written: out (N, 5) float64, contiguous: largest logit (NaN if one is NaN), log-sum-exp minus
    it, log p of the target, entropy, first token with the largest logit. In nats.
    """
    n_rows, vocab_size = logits.shape
    if n_rows:
        block = min(MAX_BLOCK, max(MIN_BLOCK, triton.next_power_of_2(vocab_size)))
        _read[(n_rows,)](
            logits, targets, out, *logits.stride(), vocab_size, BLOCK=block, num_warps=N_WARPS
        )
