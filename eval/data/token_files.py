"""TokenFiles: files of token ids as one stream of documents."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.data.arrays import refuse_shrunk
from eval.data.document import Document, Opening
from eval.data.token_formats import find_header, open_integers
from eval.types import Integers
from ngrammix.checks import MAX_VOCAB_SIZE

PIECE = 1 << 20  # tokens of a piece at most


class TokenFiles:
    """Token files as one stream; a file that does not begin with `bos` continues a document.

    The first token of the stream is context only, unless it follows `bos` or begins a document
    that `document_end` ends: what stands before it is not known.

    Parameters
    ----------
    paths : sequence of str
        Shards ``.bin``, 1-D integer arrays ``.npy``, or files of ids alone, in stream order.
    bos : int, optional
        The token that begins a document; it is not part of the document. Without it and
        `document_end`, all tokens are one document.
    vocab_size : int, optional
        V. Token ids must be below it.
    token_dtype : str, optional
        Dtype of files without a header, such as ``uint16``.
    document_end : int, optional
        The token that ends a document; it is the last token of the document. If it is `bos` too, it
        begins no document.
    token_bytes : sequence of str
        A side-car file for each of `paths`: the number of raw bytes of each token, 0 for `bos`.
        Or one file with the number of raw bytes of each of the V ids.
    token_bytes_per : str, optional
        ``token`` or ``id``. Default: ``id`` for one file of V numbers, else ``token``.

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
        token_dtype: str | None = None,
        document_end: int | None = None,
        token_bytes: Sequence[str] = (),
        token_bytes_per: str | None = None,
    ) -> None:
        self._paths, self._sidecars = paths, token_bytes
        self._end = -1 if document_end is None else document_end  # no token is -1
        self._bos = -1 if bos is None or bos == document_end else bos
        self._limit = MAX_VOCAB_SIZE if vocab_size is None else vocab_size
        for name, token in (("bos", bos), ("document_end", document_end)):
            if token is not None and not 0 <= token < self._limit:
                raise ValueError(
                    f"{name} must be a token in [0, {self._limit}), got {token}; leave it out if "
                    f"no token {'begins' if name == 'bos' else 'ends'} a document"
                )
        if token_dtype is not None and all(path.lower().endswith(".npy") for path in paths):
            raise ValueError(
                f"token_dtype is for files without a header, got {token_dtype} for {paths[0]}, "
                "which holds its dtype; leave it out"
            )
        self._tokens = [open_integers(path, "tokens", token_dtype) for path in paths]
        sizes = [open_side_car(path, token_dtype) for path in token_bytes]
        self._table: Integers | None = None
        self._sizes: Sequence[NDArray[np.integer]] = ()
        if sizes and is_table(sizes, self._tokens, vocab_size, token_bytes_per):
            self._table = read_table(sizes[0], token_bytes[0], vocab_size)
        else:
            check_side_cars(sizes, token_bytes, self._tokens, paths)
            self._sizes = sizes
        described = {
            "": ", ".join(paths),
            "as ": token_dtype,
            "ends ": document_end,
            "bytes ": ", ".join(token_bytes) or None,
        }
        self.name = " ".join(f"{k}{v}" for k, v in described.items() if v is not None)
        self.size: int | None = sum(map(len, self._tokens))

    def __iter__(self) -> Iterator[Document]:
        numbers: Counter[str] = Counter()

        def next_name(path: str) -> str:
            numbers[path] += 1
            is_one = self._bos < 0 and self._end < 0
            return path if is_one else f"{path}:{numbers[path]}"

        # Of the current document; no name: the next token begins one.
        name, begins, offset = "", False, 0
        opening = Opening.NOTHING if self._end < 0 else Opening.END
        for path, tokens, sizes in self._pieces():
            start = 0
            # At the start of the stream a token with bytes is context only, BOS or not.
            first = int(offset == 0 and sizes is not None and sizes[0] > 0)
            for stop, after, next_opening in self._edges(tokens, first):
                if stop > start:
                    if not name:
                        name, begins = next_name(path), True
                    piece = slice(start, stop)
                    piece_sizes = None if sizes is None else sizes[piece]
                    yield Document(
                        name, None, tokens[piece], piece_sizes, begins, offset + stop,
                        opening=opening,
                    )  # fmt: skip
                    begins = False
                start = after
                if next_opening is Opening.BOS:
                    if begins:
                        yield self._empty(name, offset + stop)
                    name, begins, opening = next_name(path), True, Opening.BOS
                elif next_opening is Opening.END:
                    name, opening = "", Opening.END
            offset += len(tokens)
        if begins:
            yield self._empty(name, offset)

    def _edges(self, tokens: Integers, first: int) -> Iterator[tuple[int, int, Opening | None]]:
        """(end of a document's tokens, start of the next one's, its opening) in tokens (T,).

        A BOS before position `first` is not taken for one.
        """
        is_end, is_bos = tokens == self._end, tokens == self._bos
        is_bos[:first] = False
        for i in np.flatnonzero(is_bos | is_end).tolist():
            yield (i + 1, i + 1, Opening.END) if is_end[i] else (i, i + 1, Opening.BOS)
        yield len(tokens), len(tokens), None

    def _empty(self, name: str, offset: int) -> Document:
        nothing = np.zeros(0, np.int64)
        has_sizes = self._table is not None or len(self._sizes) > 0
        return Document(name, None, nothing, nothing if has_sizes else None, True, offset)

    def _pieces(self) -> Iterator[tuple[str, Integers, Integers | None]]:
        """(file, tokens, bytes of the tokens or None), at most PIECE tokens each."""
        for i, (path, array) in enumerate(zip(self._paths, self._tokens, strict=True)):
            for start in range(0, len(array), PIECE):
                tokens = checked(array, start, path, "token", self._limit)
                sizes = None
                if self._table is not None:
                    sizes = self._table[tokens]
                elif self._sizes:
                    numbers, sidecar = self._sizes[i], self._sidecars[i]
                    sizes = checked(numbers, start, sidecar, "token bytes", MAX_VOCAB_SIZE)
                if sizes is not None:
                    self._check_bos(tokens, sizes, start, i)
                yield path, tokens, sizes

    def _check_bos(self, tokens: Integers, sizes: Integers, start: int, i: int) -> None:
        """Raise ValueError if a BOS has bytes, other than the first token of the stream."""
        wrong = (tokens == self._bos) & (sizes != 0)
        wrong[: int(start == i == 0)] = False
        if wrong.any():
            first = int(wrong.argmax())
            raise ValueError(
                f"token bytes must be 0 where a document begins, got {sizes[first]} at "
                f"{start + first} of {self._sidecars[min(i, len(self._sidecars) - 1)]}; the token "
                "that begins a document is not part of its text"
            )


def open_side_car(path: str, token_dtype: str | None) -> NDArray[np.integer]:
    """Numbers of raw bytes (N,), from a file whose dtype is its own or that of the tokens."""
    if path.lower().endswith(".bin") and find_header(Path(path))[1] is None:
        return open_integers(path, "token bytes", token_dtype)
    return open_integers(path, "token bytes")


def is_table(
    sizes: Sequence[NDArray[np.integer]],
    tokens: Sequence[NDArray[np.integer]],
    vocab_size: int | None,
    per: str | None,
) -> bool:
    """Whether `sizes` is one array of the bytes of each id; ValueError if it may be either."""
    fits = len(sizes) == 1 and len(sizes[0]) == vocab_size
    if per is None and fits and len(tokens) == 1 and len(tokens[0]) == vocab_size:
        raise ValueError(
            f"token bytes must be of each token or of each id, got {vocab_size} numbers for "
            f"{vocab_size} tokens of a vocabulary of {vocab_size}; pass --token-bytes-per token "
            "or id"
        )
    return fits if per is None else per == "id"


def read_table(sizes: NDArray[np.integer], path: str, vocab_size: int | None) -> Integers:
    """Bytes of each of the V ids (V,) int64; ValueError if there are not V, or one is negative."""
    if vocab_size is not None and len(sizes) != vocab_size:
        raise ValueError(
            f"token bytes must be as many as the {vocab_size} ids of the vocabulary, got "
            f"{len(sizes)} in {path}; write 0 for special tokens and unused ids"
        )
    return np.concatenate(
        [checked(sizes, start, path, "token bytes", MAX_VOCAB_SIZE)
         for start in range(0, len(sizes), PIECE)]
    )  # fmt: skip


def check_side_cars(
    sizes: Sequence[NDArray[np.integer]],
    sidecars: Sequence[str],
    tokens: Sequence[NDArray[np.integer]],
    paths: Sequence[str],
) -> None:
    """Raise ValueError unless there is one number for each token of each file, or no file."""
    if sizes and len(sizes) != len(paths):
        raise ValueError(
            f"token bytes must be one file for each token file, got {len(sizes)} for "
            f"{len(paths)}; pass them in the same order"
        )
    for path, ids, sidecar, numbers in zip(paths, tokens, sidecars, sizes, strict=False):
        if len(numbers) != len(ids):
            raise ValueError(
                f"token bytes must be as many as the tokens, got {len(numbers)} in {sidecar} for "
                f"{len(ids)} in {path}; include the tokens that begin documents"
            )


def checked(array: NDArray[np.integer], start: int, path: str, name: str, limit: int) -> Integers:
    """Up to PIECE values of the array from `start`; ValueError if one is not in [0, limit)."""
    refuse_shrunk(array)
    values = array[start : start + PIECE]
    if values.min() < 0 or values.max() >= limit:
        first = int(((values < 0) | (values >= limit)).argmax())
        raise ValueError(
            f"{name} must be in [0, {limit}), got {values[first]} at {start + first} of {path}; "
            "check that the file and the model have the same vocabulary"
        )
    return np.asarray(values, np.int64)
