"""Vocabulary: what an audit of bytes asks of a tokenizer, with nothing taken on trust."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from eval.data.document import Document
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.byte_checks import BROKEN
from eval.tokenizers.library_calls import tokenizer_call
from eval.tokenizers.load_tokenizer import load_tokenizer
from eval.tokenizers.objects import OURS
from eval.tokenizers.table_tokenizer import TableTokenizer, decode_utf8
from eval.types import Integers, Tokens
from ngrammix.checks import MAX_VOCAB_SIZE, as_int, as_tokens

# Where other classes keep a tokenizer of a library, as nanochat's do.
INSIDE = ("enc", "tokenizer", "_tokenizer", "sp", "encoding")
SIZES = ("vocab_size", "n_vocab", "get_vocab_size", "get_piece_size", "__len__")

# Options with which a tokenizer of transformers neither adds to a text nor repairs it.
PLAIN = {
    "encode": {"add_special_tokens": False},
    "decode": {"clean_up_tokenization_spaces": False},
}


class Vocabulary(Protocol):
    """A tokenizer, seen token by token.

    Attributes
    ----------
    name : str
        Its name in the report.
    size : int or None
        V; None if the tokenizer does not tell.
    bos : int or None
        The token before each document.
    """

    name: str
    size: int | None
    bos: int | None

    def encode(self, document: Document) -> tuple[Tokens, Integers | None]:
        """Tokens (T,) of a text, and how many bytes the tokenizer says that each has.

        None if it says nothing.
        """

    def sizes(self, tokens: Tokens, begins: bool) -> Integers:
        """Bytes of a text that each token stands for: (T,) int64.

        `begins`: the first token stands at the start of a document.
        """

    def lengths(self, ids: Tokens) -> Integers:
        """Bytes of each of these tokens (N,) in the middle of a text: (N,) int64."""

    def text(self, tokens: Tokens, begins: bool) -> bytes:
        """The bytes of tokens (T,), without a space that is none of the text."""

    def token(self, i: int) -> bytes:
        """The bytes of a token within a text; a special token has none."""

    def piece(self, i: int) -> str:
        """The token as it is written in the vocabulary."""

    def alone(self, i: int) -> str:
        """The text of the token if the library decodes it alone."""

    def is_unknown(self, i: int) -> bool:
        """Whether the token stands for text that is not in the vocabulary."""

    def special(self) -> list[int]:
        """Ids of the tokens that are no text, such as BOS."""


class TableVocabulary:
    """A tokenizer of this package whose tokens have the same bytes in every context."""

    def __init__(self, tokenizer: TableTokenizer) -> None:
        self._tokenizer, self._table = tokenizer, tokenizer.table
        self.name, self.bos = tokenizer.name, tokenizer.bos
        self.size: int | None = tokenizer.vocab_size

    def encode(self, document: Document) -> tuple[Tokens, Integers | None]:
        """(tokens, their bytes); whether they are those of the text is not checked."""
        text = decode_utf8(document)
        ids = self._tokenizer.ids(text, document.begins) if text else []
        tokens = np.fromiter(ids, np.int64, len(ids))
        return tokens, self.sizes(tokens, document.begins)

    def sizes(self, tokens: Tokens, begins: bool) -> Integers:
        """Bytes of a text that each token stands for: (T,) int64."""
        return self._table.count(tokens, after_boundary=begins)

    def lengths(self, ids: Tokens) -> Integers:
        """Bytes of each of these tokens (N,) in the middle of a text: (N,) int64."""
        return self._table.lengths(ids)

    def text(self, tokens: Tokens, begins: bool) -> bytes:
        """The bytes of tokens (T,), without a space that is none of the text."""
        return self._table.raw_bytes(tokens, self.sizes(tokens, begins)) or b""

    def token(self, i: int) -> bytes:
        """The bytes of a token within a text."""
        return self._table.decode_bytes(np.array([i]))

    def piece(self, i: int) -> str:
        """The token as it is written in the vocabulary."""
        return self._tokenizer.piece(i) or ""

    def alone(self, i: int) -> str:
        """The text of the token if the library decodes it alone."""
        return self._tokenizer.decode([i])

    def is_unknown(self, i: int) -> bool:
        """Whether the token stands for text that is not in the vocabulary."""
        return bool(self._table.unknown[i])

    def special(self) -> list[int]:
        """Ids of the tokens that are no text."""
        marks = np.flatnonzero(self._table.boundary | self._table.unknown).tolist()
        return [i for i in marks if self._tokenizer.piece(i) and not self.token(i)]


class OwnVocabulary:
    """A tokenizer with `encode` and `decode_bytes`: bytes, or that of a user."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.name, self.bos = str(tokenizer.name), tokenizer.bos
        self.size: int | None = tokenizer.vocab_size

    def encode(self, document: Document) -> tuple[Tokens, Integers | None]:
        """(tokens, the bytes that the tokenizer says they have)."""
        with calls_of(self.name):
            tokens, sizes = self._tokenizer.encode(document)
        ids = as_tokens(tokens, MAX_VOCAB_SIZE, f"tokens of {document.name}", may_be_empty=True)
        counts = np.asarray(sizes)
        if counts.shape != ids.shape or (len(ids) and counts.dtype.kind not in "iu"):
            raise ValueError(
                f"the bytes of {len(ids)} tokens must be as many integers, got shape "
                f"{counts.shape} and dtype {counts.dtype} for {document.name}; correct the "
                f"tokenizer {self.name}"
            )
        return ids, counts.astype(np.int64)

    def sizes(self, tokens: Tokens, begins: bool) -> Integers:
        """Bytes of a text that each token stands for: (T,) int64."""
        return self.lengths(tokens)

    def lengths(self, ids: Tokens) -> Integers:
        """Bytes of each of these tokens (N,): (N,) int64."""
        known = {i: len(self.token(i)) for i in set(ids.tolist())}
        return np.array([known[i] for i in ids.tolist()], np.int64)

    def text(self, tokens: Tokens, begins: bool) -> bytes:
        """The bytes of tokens (T,)."""
        with calls_of(self.name):
            return bytes(self._tokenizer.decode_bytes(tokens))

    def token(self, i: int) -> bytes:
        """The bytes of a token within a text."""
        return self.text(np.array([i]), begins=False)

    def piece(self, i: int) -> str:
        """The text of the token."""
        return self.alone(i)

    def alone(self, i: int) -> str:
        """The text of the token if it is decoded alone."""
        return self.token(i).decode("utf-8", "replace")

    def is_unknown(self, i: int) -> bool:
        """Never: such a tokenizer does not tell."""
        return False

    def special(self) -> list[int]:
        """BOS, if it has no text."""
        return [] if self.bos is None or self.token(self.bos) else [self.bos]


class ForeignVocabulary(OwnVocabulary):
    """An object of a user with ``encode(text)`` and ``decode(ids)``.

    The bytes of a token are those of its mapping ``vocab`` from ids to bytes. Without one, they are
    what it decodes to alone; each U+FFFD there stands for one unknown byte.
    """

    def __init__(self, source: Any) -> None:
        self._source, self.name, self.bos = source, type(source).__name__, None
        self.size = size_of(source)
        self._plain = PLAIN if hasattr(source, "convert_ids_to_tokens") else {}
        vocab = getattr(source, "vocab", None)
        is_table = isinstance(vocab, Mapping) and all(isinstance(b, bytes) for b in vocab.values())
        self._bytes: Mapping[int, bytes] = vocab if is_table and vocab is not None else {}

    def encode(self, document: Document) -> tuple[Tokens, Integers | None]:
        """(tokens, None: the tokenizer does not say how many bytes they have)."""
        text = decode_utf8(document)
        with calls_of(self.name):
            ids = self._source.encode(text, **self._plain.get("encode", {}))
        name = f"tokens of {document.name}"
        return as_tokens(ids, MAX_VOCAB_SIZE, name, may_be_empty=True), None

    def text(self, tokens: Tokens, begins: bool) -> bytes:
        """The bytes of tokens (T,)."""
        ids = tokens.tolist()
        if self._bytes:
            return b"".join(self._bytes.get(i, b"") for i in ids)
        with calls_of(self.name):
            text = self._source.decode(ids, **self._plain.get("decode", {}))
        return text if isinstance(text, bytes) else str(text).encode("utf-8", "replace")

    def token(self, i: int) -> bytes:
        """The bytes of a token, as far as they are known."""
        token = self.text(np.array([i]), begins=False)
        return token if self._bytes else token.replace(BROKEN, b"?")

    def alone(self, i: int) -> str:
        """The text of the token if it is decoded alone."""
        return self.text(np.array([i]), begins=False).decode("utf-8", "replace")


def calls_of(name: str) -> Any:
    """A context in which whatever a user's tokenizer raises becomes a ValueError."""
    return tokenizer_call(f"a text must be encoded, got an error of {name}", "correct it")


def size_of(source: Any) -> int | None:
    """V of an object, by the attribute or method that tells it; None if there is none."""
    for name in SIZES:
        value = getattr(source, name, None)
        with calls_of(type(source).__name__):
            size = as_int(value() if callable(value) else value)
        if size is not None and 1 <= size <= MAX_VOCAB_SIZE:
            return size
    return None


def vocabulary_of(source: Any) -> Vocabulary:
    """The vocabulary of a path, of an object that `load_tokenizer` takes, or of a user's class.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    if callable(getattr(source, "encode", None)) and not is_known(source):
        inside = next(
            (one for name in INSIDE if is_known(one := getattr(source, name, None))), None
        )
        if inside is None and callable(getattr(source, "decode", None)):
            return ForeignVocabulary(source)
        source = source if inside is None else inside
    tokenizer = load_tokenizer(source)
    if isinstance(tokenizer, TableTokenizer):
        return TableVocabulary(tokenizer)
    return OwnVocabulary(tokenizer)


def is_known(source: Any) -> bool:
    """Whether `load_tokenizer` takes an object: one of a library, or a `Tokenizer`."""
    libraries = ("to_str", "backend_tokenizer", "sp_model", "serialized_model_proto",
                 "_mergeable_ranks")  # fmt: skip
    return any(hasattr(source, name) for name in libraries) or all(
        hasattr(source, name) for name in OURS
    )
