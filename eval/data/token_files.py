"""TokenFiles: shards and ``.npy`` arrays as one stream of documents of tokens."""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from eval.data.arrays import open_integers
from eval.data.document import Document
from eval.types import Integers
from ngrammix.checks import MAX_VOCAB_SIZE

PIECE = 1 << 20  # tokens of a piece at most


class TokenFiles:
    """Token files as one stream; a file that does not begin with `bos` continues a document.

    Parameters
    ----------
    paths : sequence of str
        Parameter Golf shards ``.bin`` or 1-D integer arrays ``.npy``, in stream order.
    bos : int, optional
        The token that begins a document; it is not part of the document. Without it, all tokens
        are one document.
    vocab_size : int, optional
        V. Token ids must be below it.
    token_bytes : sequence of str
        A side-car file for each of `paths`: the number of raw bytes of each token, 0 for `bos`.

    Raises
    ------
    ValueError
        If a file is in the wrong format. While iterating, if a value is out of range.
    """

    def __init__(
        self,
        paths: Sequence[str],
        *,
        bos: int | None = None,
        vocab_size: int | None = None,
        token_bytes: Sequence[str] = (),
    ) -> None:
        if token_bytes and len(token_bytes) != len(paths):
            raise ValueError(
                f"token bytes must be one file for each token file, got {len(token_bytes)} for "
                f"{len(paths)}; pass them in the same order"
            )
        self._paths, self._sidecars = paths, token_bytes
        self._bos = -1 if bos is None else bos  # no token is -1
        self._limit = MAX_VOCAB_SIZE if vocab_size is None else vocab_size
        if bos is not None and not 0 <= bos < self._limit:
            raise ValueError(
                f"bos must be a token in [0, {self._limit}), got {bos}; leave it out if no token "
                "begins a document"
            )
        self._tokens = [open_integers(path, "tokens") for path in paths]
        self._sizes = [open_integers(path, "token bytes") for path in token_bytes]
        for path, tokens, sidecar, sizes in zip(
            paths, self._tokens, token_bytes, self._sizes, strict=False
        ):
            if len(sizes) != len(tokens):
                raise ValueError(
                    f"token bytes must be as many as the tokens, got {len(sizes)} in {sidecar} for "
                    f"{len(tokens)} in {path}; include the tokens that begin documents"
                )
        self.name = ", ".join(paths)
        self.size: int | None = sum(map(len, self._tokens))

    def __iter__(self) -> Iterator[Document]:
        numbers: Counter[str] = Counter()

        def next_name(path: str) -> str:
            numbers[path] += 1
            return path if self._bos < 0 else f"{path}:{numbers[path]}"

        name, begins, offset = "", False, 0  # of the current document
        for path, tokens, sizes in self._pieces():
            if not name and tokens[0] != self._bos:  # a document without bos
                name, begins = next_name(path), True
            start = 0
            for edge in [*np.flatnonzero(tokens == self._bos).tolist(), len(tokens)]:
                if edge > start:
                    piece = slice(start, edge)
                    piece_sizes = None if sizes is None else sizes[piece]
                    yield Document(name, None, tokens[piece], piece_sizes, begins, offset + edge)
                    begins = False
                if edge < len(tokens):
                    if begins:
                        yield self._empty(name, offset + edge)
                    name, begins, start = next_name(path), True, edge + 1
            offset += len(tokens)
        if begins:
            yield self._empty(name, offset)

    def _empty(self, name: str, offset: int) -> Document:
        nothing = np.zeros(0, np.int64)
        return Document(name, None, nothing, nothing if self._sizes else None, True, offset)

    def _pieces(self) -> Iterator[tuple[str, Integers, Integers | None]]:
        """(file, tokens, bytes of the tokens or None), at most PIECE tokens each."""
        for i, (path, array) in enumerate(zip(self._paths, self._tokens, strict=True)):
            for start in range(0, len(array), PIECE):
                tokens = checked(array, start, path, "token", self._limit)
                sizes = None
                if self._sizes:
                    sidecar = self._sidecars[i]
                    sizes = checked(self._sizes[i], start, sidecar, "token bytes", MAX_VOCAB_SIZE)
                    wrong = (tokens == self._bos) & (sizes != 0)
                    if wrong.any():
                        first = int(wrong.argmax())
                        raise ValueError(
                            "token bytes must be 0 where a document begins, got "
                            f"{sizes[first]} at {start + first} of {sidecar}; the token that "
                            "begins a document is not part of its text"
                        )
                yield path, tokens, sizes


def checked(array: NDArray[np.integer], start: int, path: str, name: str, limit: int) -> Integers:
    """Up to PIECE values of the array from `start`; ValueError if one is not in [0, limit)."""
    values = array[start : start + PIECE]
    if values.min() < 0 or values.max() >= limit:
        first = int(((values < 0) | (values >= limit)).argmax())
        raise ValueError(
            f"{name} must be in [0, {limit}), got {values[first]} at {start + first} of {path}; "
            "check that the file and the model have the same vocabulary"
        )
    return np.asarray(values, np.int64)
