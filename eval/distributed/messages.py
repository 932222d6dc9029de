"""Messages between ranks: jobs, and what the model said of their targets, as bytes and back.

Nothing is pickled: arrays stand one after the other, their shapes first, as both sides know them.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.scoring.forward import ForwardRequest
from ngrammix.logits import ModelLogprobs

Bytes = NDArray[np.uint8]

SHAPE_BYTES = 5 * 8  # position, rows, columns, targets, hints a target: int64, before a job


def pack_job(job: ForwardRequest) -> Bytes:
    """Bytes of a job: 4 a token of input, target and hint, one bit for whether it counts."""
    inputs, targets, hint_tokens = job.inputs, job.targets, job.hint_tokens
    width = hint_tokens.shape[1]
    shape = (job.position, *inputs.shape, len(targets), width)
    return join(
        np.array(shape, "<i8"),
        inputs.astype("<i4"),
        targets.astype("<i4"),
        hint_tokens.astype("<i4"),
        np.packbits(job.is_scored),
    )


def unpack_job(message: Bytes) -> ForwardRequest:
    """The job that `pack_job` packed, but for names and bytes of the text, which no model reads.

    Raises ValueError if its length is not what its shape says.
    """
    if len(message) < SHAPE_BYTES:
        raise damaged(message, SHAPE_BYTES)
    position, rows, columns, n, width = message[:SHAPE_BYTES].view("<i8").tolist()
    inputs, targets, hint_tokens, bits = split(
        message[SHAPE_BYTES:],
        ("<i4", (rows, columns)),
        ("<i4", (n,)),
        ("<i4", (n, max(width, 0))),
        ("u1", (-(-rows * columns // 8),)),
    )
    is_scored = np.unpackbits(bits, count=rows * columns).reshape(rows, columns).astype(np.bool_)
    return ForwardRequest(
        inputs.astype(np.int64), is_scored, targets.astype(np.int64),
        hint_tokens.astype(np.int64), position,
    )  # fmt: skip


def pack_gathered(gathered: ModelLogprobs, hint_tokens: NDArray[np.int64] | None) -> Bytes:
    """Bytes of what the model said: 28 a target, and 8 a hint that it was hint_tokens for."""
    return join(
        gathered.log_p.astype("<f8"),
        gathered.entropy.astype("<f8"),
        gathered.log_top.astype("<f8"),
        np.empty(0, "<f8")
        if hint_tokens is None
        else gathered.log_hints[hint_tokens >= 0].astype("<f8"),
        gathered.top.astype("<i4"),
    )


def unpack_gathered(message: Bytes, n: int, hint_tokens: NDArray[np.int64] | None) -> ModelLogprobs:
    """What `pack_gathered` packed of `n` targets, to the bit; ValueError if its length is wrong."""
    is_asked = np.zeros((n, 0), np.bool_) if hint_tokens is None else hint_tokens >= 0
    log_p, entropy, log_top, said, top = split(
        message,
        *[("<f8", (n,))] * 3,
        ("<f8", (int(is_asked.sum()),)),
        ("<i4", (n,)),
    )
    log_hints = np.full(is_asked.shape, -np.inf)
    log_hints[is_asked] = said
    return ModelLogprobs(log_p, entropy, top.astype(np.int64), log_top, log_hints)


def join(*arrays: NDArray[Any]) -> Bytes:
    """The arrays' bytes, one after the other."""
    return np.concatenate([np.frombuffer(array.tobytes(), np.uint8) for array in arrays])


def split(message: Bytes, *parts: tuple[str, tuple[int, ...]]) -> list[NDArray[Any]]:
    """Arrays of these dtypes and shapes, copied; ValueError unless they are the whole message."""
    sizes = [np.dtype(kind).itemsize * prod(shape) for kind, shape in parts]
    if sum(sizes) != len(message) or any(n < 0 for _, shape in parts for n in shape):
        raise damaged(message, sum(sizes))
    arrays, start = [], 0
    for (kind, shape), size in zip(parts, sizes, strict=True):
        part = message[start : start + size].tobytes()
        arrays.append(np.frombuffer(bytearray(part), kind).reshape(shape))
        start += size
    return arrays


def damaged(message: Bytes, n_bytes: int) -> ValueError:
    """The error of a message that is not what both sides agreed on."""
    return ValueError(
        f"a message between ranks must hold the {n_bytes} bytes that its shape says, got "
        f"{len(message)}; install the same ngrammix for every rank"
    )
