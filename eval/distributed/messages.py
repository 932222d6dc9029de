"""Messages between ranks: requests as arrays for gloo, exact to the bit."""

import numpy as np

from eval.scoring.forward import ForwardRequest
from eval.types import Integers

HEADER_SIZE = 6  # position, whether probabilities are allowed, B, L, N, M
END = np.zeros(HEADER_SIZE, np.int64)  # header of no request: B = 0


def pack_request(request: ForwardRequest) -> tuple[Integers, Integers]:
    """(header (6,) int64, payload (2 B L + N + N M,) int32) of a request."""
    numbers = request.position, request.allow_probabilities
    header = (*numbers, *request.inputs.shape, *request.hint_tokens.shape)
    arrays = (request.inputs, request.is_scored, request.targets, request.hint_tokens)
    return np.array(header), np.concatenate([array.ravel() for array in arrays]).astype(np.int32)


def payload_size(header: Integers) -> int:
    """Length of the payload that follows a header; 0 after `END`."""
    _, _, n_rows, n_columns, n_targets, n_hints = header.tolist()
    return int(2 * n_rows * n_columns + n_targets * (1 + n_hints))


def unpack_request(header: Integers, payload: Integers) -> ForwardRequest:
    """The request that `pack_request` packed."""
    position, allowed, n_rows, n_columns, n_targets, n_hints = header.tolist()
    sizes = n_rows * n_columns, n_rows * n_columns, n_targets
    inputs, is_scored, targets, hint_tokens = np.split(payload.astype(np.int64), np.cumsum(sizes))
    return ForwardRequest(
        inputs.reshape(n_rows, n_columns),
        is_scored.reshape(n_rows, n_columns).astype(np.bool_),
        targets,
        hint_tokens.reshape(n_targets, n_hints),
        position,
        bool(allowed),
    )
