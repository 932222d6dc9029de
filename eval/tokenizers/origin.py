"""OriginCheck: whether token ids of a file can be those of a tokenizer."""

from collections.abc import Iterator

import numpy as np

from eval.data.document import Document
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.byte_checks import check_token_bytes, location
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.side_car import SideCarTokenizer
from eval.types import Integers, Tokens
from ngrammix.checks import as_tokens

SAMPLE = 1 << 14  # tokens looked at in all
RUN = 1 << 11  # tokens of a document looked at, at most
# Most tokens that do not come back. Measured over six tokenizers and seven texts: at most 0.2 % of
# the tokens of the right tokenizer, where a text is cut, and at least 2.1 % of those of another.
N_LOST, SHARE_LOST = 4, 0.01


class OriginCheck:
    """Checks tokens of unknown origin: their text must be encoded to the same tokens again.

    The tokenizer that made the tokens gives all of them back, but for a few where a text was cut.
    Any other tokenizer decodes them to a garbled text, which it encodes to different tokens, or to
    no text at all. The first tokens of each document are looked at, until there are enough.

    Parameters
    ----------
    tokenizer : Tokenizer
        Nothing is checked for bytes, whose ids are always right, or without a tokenizer.
    is_on : bool
        False: nothing is checked.
    """

    def __init__(self, tokenizer: Tokenizer, *, is_on: bool = True) -> None:
        is_checked = is_on and not isinstance(tokenizer, ByteTokenizer | SideCarTokenizer)
        self._tokenizer = tokenizer
        self._n_left = SAMPLE if is_checked else 0
        self._n_tokens = self._n_same = 0
        self._sizes: dict[int, int] = {}  # bytes of each id

    def check(self, document: Document) -> None:
        """Look at the tokens of a document; ValueError with the evidence if they are not its own.

        A document of text is never wrong, nor are tokens whose bytes come with them.
        """
        if document.tokens is None or document.token_bytes is not None or not document.begins:
            return
        sample = document.tokens[: min(RUN, self._n_left)]
        if not len(sample):
            return
        name, tokenizer = document.name, self._tokenizer
        tokens = as_tokens(sample, tokenizer.vocab_size, f"tokens of {name}")
        self._n_left -= len(tokens)
        for run in self._text_runs(tokens):
            self._n_tokens += len(run)
            self._n_same += self._count_same(run, name)
        if self._n_tokens - self._n_same > N_LOST + SHARE_LOST * self._n_tokens:
            raise ValueError(
                f"tokens must be those of the tokenizer {tokenizer.name}, but it encodes the text "
                f"of the first {self._n_tokens} to only {self._n_same} of them; {name} would "
                f"begin {tokenizer.decode_bytes(tokens)[:40]!r}; name the tokenizer that made them "
                "with --tokenizer, or give the bytes of each token with --token-bytes"
            )

    def _text_runs(self, tokens: Tokens) -> list[Tokens]:
        """The runs of tokens (T,) between those without bytes, such as special tokens."""
        is_text = self._sizes_of(tokens) > 0
        runs = np.split(tokens, np.flatnonzero(np.diff(is_text)) + 1)
        return runs[0 if is_text[0] else 1 :: 2]

    def _count_same(self, tokens: Tokens, name: str) -> int:
        """Number of tokens (T,) that come back at the same bytes if their text is encoded again."""
        again: set[tuple[int, int]] = set()  # (end in bytes, id)
        for start, part in utf8_parts(self._tokenizer.decode_bytes(tokens)):
            try:  # as a later piece: the space that some tokenizers put before a text is in `part`
                ids, _ = self._tokenizer.encode(Document(name, part, begins=False))
            except ValueError:  # not a text of this tokenizer
                continue
            again.update(self._ends(ids, start))
        return sum(pair in again for pair in self._ends(tokens, 0))

    def _ends(self, tokens: Tokens, start: int) -> Iterator[tuple[int, int]]:
        """(end in bytes, id) of each token of a text that begins at byte `start`."""
        ends = start + np.cumsum(self._sizes_of(tokens))
        return zip(ends.tolist(), tokens.tolist(), strict=True)

    def _sizes_of(self, tokens: Tokens) -> Integers:
        """Number of bytes of each token (T,) int64."""
        ids = tokens.tolist()
        for i in set(ids) - self._sizes.keys():
            self._sizes[i] = len(self._tokenizer.decode_bytes(np.array([i])))
        return np.array([self._sizes[i] for i in ids], np.int64)


def utf8_parts(raw: bytes) -> Iterator[tuple[int, bytes]]:
    """(start, part) of the longest parts of `raw` that are UTF-8, without the bytes between."""
    start = 0
    while start < len(raw):
        try:
            raw[start:].decode("utf-8")
            stop, after = len(raw), len(raw)
        except UnicodeDecodeError as error:
            stop, after = start + error.start, start + error.end
        if stop > start:
            yield start, raw[start:stop]
        start = after


def check_encoded(
    tokens: Tokens, n_bytes: Tokens, tokenizer: Tokenizer, document: Document
) -> None:
    """Raise ValueError unless what a tokenizer returns are ids below V and the document's bytes."""
    name = location(document)
    if len(tokens):
        as_tokens(tokens, tokenizer.vocab_size, f"tokens of {name}")
    if np.shape(n_bytes) != np.shape(tokens) or (np.asarray(n_bytes) < 0).any():
        raise ValueError(
            f"token bytes must be one count >= 0 for each of {np.shape(tokens)} tokens, got shape "
            f"{np.shape(n_bytes)} for {name}; correct the tokenizer {tokenizer.name}"
        )
    check_token_bytes(n_bytes, document)
