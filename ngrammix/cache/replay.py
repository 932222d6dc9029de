"""The stored stream, chunk by chunk, with the stored n-grams that end at each token."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ngrammix.cache.store import NgramStore
from ngrammix.kernels import replay as kernel
from ngrammix.types import Nodes

CHUNK_SIZE = 8192  # tokens


class Stored(NamedTuple):
    """A chunk of the stored stream: arguments of the kernels that follow `find_all_stored`."""

    begin: int  # index in the stream
    n_tokens: int
    grams: Nodes
    known: NDArray[np.uint8]
    shortest: NDArray[np.uint8]


def stored_chunks(store: NgramStore, begin: int, stop: int) -> Iterator[Stored]:
    """Chunks of the tokens from index `begin` to `stop`; a document begins at the first one."""
    size = max(1, min(CHUNK_SIZE, stop - begin))
    grams = np.zeros((store.order + 1, size + 1), np.uint32)
    places = np.empty((store.order + 1, size), np.uint32)
    known, shortest = np.zeros(size + 1, np.uint8), np.empty(size, np.uint8)
    for start in range(begin, stop, size):
        n_tokens = min(size, stop - start)
        slots, rows, _ = store.columns
        kernel.find_all_stored(
            store.stream.array, start, n_tokens, grams, known, shortest, places, slots, rows
        )
        yield Stored(start, n_tokens, grams, known, shortest)
        grams[:, 0], known[0] = grams[:, n_tokens], known[n_tokens]
