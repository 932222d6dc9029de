"""Tally: the bytes that are charged for a text, against its raw bytes and those of its tokens."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.auditing.token_bytes.charges import PerId, Sequence, Total
from eval.auditing.token_bytes.known_bugs import Wrong
from eval.auditing.token_bytes.text_changes import change_of
from eval.auditing.token_bytes.vocabulary import Vocabulary
from eval.data.base import Data
from eval.data.document import Document, Documents
from eval.data.open_data import open_data
from eval.tokenizers.byte_checks import first_difference
from eval.types import Floats, Integers, Tokens
from ngrammix.checks import as_tokens

WHOLE = 1 << 20  # bytes of a document that are encoded at once
UNKNOWN = "text that is not in the vocabulary becomes the unknown token"


@dataclass(frozen=True, eq=False)
class Part:
    """A document, or a part of a long one, and its tokens."""

    name: str
    raw: bytes
    tokens: Tokens
    right: Integers  # bytes of the text that each token stands for
    decoded: bytes  # those bytes
    sizes: Integers | None  # bytes that the tokenizer itself says that each token has
    begins: bool
    ends: bool
    start: int  # tokens of the document before this part
    is_text: bool = True  # False: the document is tokens, and its raw bytes are theirs


@dataclass(eq=False)
class Seen:
    """Where one kind of wrong token, or of changed text, was seen first, and how often."""

    part: Part
    position: int  # of the token in its document
    offset: int  # of its first byte in the part
    document: int  # number of the document, from 0
    n: int = 0


@dataclass(eq=False)
class Tally:
    """What was counted over all documents."""

    n_documents: int = 0
    n_tokens: int = 0
    n_bytes: int = 0
    charged: float = 0.0
    malformed: dict[Wrong, Seen] = field(default_factory=dict)
    wrong: dict[Wrong, Seen] = field(default_factory=dict)
    right: set[Wrong] = field(default_factory=set)
    changed: dict[str, Seen] = field(default_factory=dict)
    documents: list[tuple[str, int, float, Part]] = field(default_factory=list)
    """Those whose sum is wrong: name, raw bytes, bytes charged, and the last part."""
    counts: Counter[int] = field(default_factory=Counter)


def with_bos(parts: Iterable[Part], bos: int | None) -> list[Part]:
    """The parts with a BOS token before each document."""
    return [
        replace(
            part,
            tokens=np.append(np.int64(bos or 0), part.tokens),
            right=np.append(np.int64(0), part.right),
            sizes=None,
        )
        if part.begins
        else part
        for part in parts
    ]


def documents_of(text: Any, vocabulary: Vocabulary) -> Data:
    """The documents of a text: str, bytes, documents, a data set, paths, or a list of these."""
    if isinstance(text, Path) or (
        isinstance(text, list | tuple) and text and all(isinstance(one, Path) for one in text)
    ):
        return open_data(text, bos=vocabulary.bos, vocab_size=vocabulary.size)
    if isinstance(text, str | bytes | bytearray | Document):
        text = [bytes(text) if isinstance(text, bytearray) else text]
    if isinstance(text, Data):
        return text
    if not isinstance(text, Iterable):
        raise ValueError(
            f"text must be str, bytes, a list of documents, a data set or a Path, got "
            f"{type(text).__name__}; pass one of these"
        )
    return Documents(text)


def whole(data: Iterable[Document], limit: int = WHOLE) -> Iterator[tuple[Document, bool]]:
    """(document or a part of it of at most about `limit` bytes, whether it is the last)."""
    held: list[Document] = []
    for document in data:
        if held and (document.begins or sum(len(one.raw or b"") for one in held) >= limit):
            yield joined(held), document.begins
            held = []
        held.append(document)
    if held:
        yield joined(held), True


def joined(parts: list[Document]) -> Document:
    """Pieces that follow each other as one."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if first.raw is None:
        ids = [part.tokens for part in parts if part.tokens is not None]
        return Document(first.name, tokens=np.concatenate(ids), begins=first.begins)
    return Document(first.name, b"".join(part.raw or b"" for part in parts), begins=first.begins)


def encoded(data: Iterable[Document], vocabulary: Vocabulary) -> Iterator[Part | ValueError]:
    """Each document with its tokens, or the error that says why it has none."""
    start = 0
    for document, ends in whole(data):
        start = 0 if document.begins else start
        try:
            if document.problem is not None:
                raise ValueError(document.problem)
            tokens, sizes = document.tokens, None
            if tokens is None:
                tokens, sizes = vocabulary.encode(document)
            else:
                tokens = as_tokens(tokens, vocabulary.size or 2**31, f"tokens of {document.name}")
            right = vocabulary.sizes(tokens, document.begins)
            decoded = vocabulary.text(tokens, document.begins)
        except ValueError as error:
            yield error
            continue
        raw = decoded if document.raw is None else document.raw
        yield Part(
            document.name, raw, tokens, right, decoded, sizes, document.begins, ends, start,
            document.raw is not None,
        )  # fmt: skip
        start += len(tokens)


def given(data: Data, tokens: Any, vocabulary: Vocabulary) -> Iterator[Part]:
    """Each document with the tokens that a user passes for it, or all with one array of tokens."""
    documents = [document for document, _ in whole(data, limit=1 << 62)]
    names = [document.name for document in documents]
    raws = [document.raw or b"" for document in documents]
    is_one = np.ndim(tokens[0]) == 0 if len(tokens) else True
    lists = [tokens] if is_one else list(tokens)
    if is_one:
        names, raws = [data.name if len(names) > 1 else "".join(names)], [b"".join(raws)]
    if len(lists) != len(raws):
        raise ValueError(
            f"tokens must be one array for all documents or one for each of {len(raws)}, got "
            f"{len(lists)}; pass them in the order of the documents"
        )
    for name, raw, ids in zip(names, raws, lists, strict=True):
        what, limit = f"tokens of {name}", vocabulary.size or 2**31
        ids = as_tokens(ids, limit, what, may_be_empty=True)
        right, decoded = vocabulary.sizes(ids, True), vocabulary.text(ids, True)
        yield Part(name, raw, ids, right, decoded, None, True, True, 0)


def count(
    parts: Iterable[Part], vocabulary: Vocabulary, charges: PerId | Sequence | Total | None,
    *, is_given: bool,
) -> Tally:  # fmt: skip
    """Compare what is charged for each document with its raw bytes, token by token and in all.

    Without `charges`, the tokenizer's own numbers are compared, if it has any.
    """
    tally = Tally()
    n_raw, charged_document, used = 0, 0.0, 0
    before: int | None = None
    for part in parts:
        if part.begins:  # the end of the document before may be missing
            before, n_raw, charged_document = vocabulary.bos, 0, 0.0
        charged: Floats | None = None
        if isinstance(charges, Sequence):
            charged = charges.numbers[used : used + len(part.tokens)]
            used += len(part.tokens)
        elif charges is not None and not isinstance(charges, Total):
            charged = charges.of(part.tokens, before)
        elif charges is None and part.sizes is not None:
            charged = part.sizes.astype(np.float64)
        compare_text(tally, part, vocabulary, is_given=is_given)
        if charged is not None:
            compare_tokens(tally, part, charged)
            charged_document += float(charged.sum())
        before = int(part.tokens[-1]) if len(part.tokens) else before
        tally.counts.update(part.tokens.tolist())
        n_raw += len(part.raw)
        tally.n_tokens += len(part.tokens)
        if part.ends:
            tally.n_documents += 1
            tally.n_bytes += n_raw
            tally.charged += charged_document
            if charged is not None and charged_document != n_raw:
                tally.documents.append((part.name, n_raw, charged_document, part))
            n_raw, charged_document = 0, 0.0
    return tally


def compare_text(tally: Tally, part: Part, vocabulary: Vocabulary, *, is_given: bool) -> None:
    """Note how the text changed, if the tokens of a part decode to another one."""
    decoded = part.decoded
    if decoded == part.raw:
        return
    is_unknown = any(vocabulary.is_unknown(i) for i in set(part.tokens.tolist()))
    change = UNKNOWN if is_unknown else change_of(decoded, part.raw, is_given=is_given)
    offset = first_difference(decoded, part.raw)
    ends = np.cumsum(part.right)
    position = int(np.searchsorted(ends, offset, side="right"))
    seen = tally.changed.setdefault(
        change, Seen(part, part.start + position, offset, tally.n_documents)
    )
    seen.n += 1


def compare_tokens(tally: Tally, part: Part, charged: Floats) -> None:
    """Note each kind of token that is charged with other bytes than it has, and the others."""
    right = part.right
    if not len(right):
        return
    is_first = np.arange(len(right)) < part.begins
    numbers = np.where(np.isnan(charged), -np.inf, charged)  # NaN is equal to nothing
    columns = np.stack([part.tokens, numbers, right, is_first], axis=1)
    kinds, positions, times = np.unique(columns, axis=0, return_index=True, return_counts=True)
    starts = (np.cumsum(right) - right)[positions]
    for (i, number, size, first), position, start, n in zip(
        kinds.tolist(), positions.tolist(), starts.tolist(), times.tolist(), strict=True
    ):
        value = math.nan if number == -math.inf else number
        kind = Wrong(int(i), value, int(size), bool(first))
        if number == size:
            tally.right.add(kind)
            continue
        noted = tally.wrong if is_count(number) else tally.malformed
        place = Seen(part, part.start + position, start, tally.n_documents)
        noted.setdefault(kind, place).n += n


def is_count(number: float) -> bool:
    """Whether a number is a whole one, 0 or more."""
    return number >= 0 and number.is_integer()
