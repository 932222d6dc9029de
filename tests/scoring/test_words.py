"""Words: as `str.split` counts them, however the bytes of the documents are cut."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eval.scoring.tokenized import TokenizedPiece
from eval.scoring.words import WordCounter, perplexity

SPACES = " \n\t\r\x0b\x1c\x85\xa0\u1680\u2003\u2028\u3000"
texts = st.text(st.sampled_from("ab" + SPACES + "é結\u200b\ufeff\U0001f600"), max_size=12)
raws = st.one_of(texts.map(str.encode), st.binary(max_size=12))


def pieces_of(documents, cuts):
    """Pieces of the joined bytes, each byte a token; every document begins with one of 0 bytes."""
    n_bytes = [n for raw in documents for n in (0, *[1] * len(raw))]
    begins = [b for raw in documents for b in (True, *[False] * len(raw))]
    raw, done = b"".join(documents), 0
    for start, stop in pairwise([0, *sorted({cut % len(n_bytes) for cut in cuts}), len(n_bytes)]):
        if start == stop:
            continue
        n = sum(n_bytes[start:stop])
        yield TokenizedPiece(
            np.zeros(stop - start, np.int64), np.array(n_bytes[start:stop]),
            np.array(begins[start:stop]), False, (), raw[done : done + n],
        )  # fmt: skip
        done += n


@given(st.lists(raws, min_size=1, max_size=4), st.lists(st.integers(0, 99), max_size=6))
@example([b"caf\xc3\xa9", b"\xc3"], [4])
@example([b"a\xe2\x80\x83b \xe2\x80", b"a"], [2, 3])
def test_words_are_those_of_split_wherever_the_text_is_cut(documents, cuts):
    counter = WordCounter()
    for piece in pieces_of(documents, cuts):
        counter.update(piece)
        resumed = WordCounter()
        resumed.load_state_dict(json.loads(json.dumps(counter.state_dict())))
        assert resumed.n_words == counter.n_words
        counter = resumed
    assert counter.n_words == sum(len(raw.decode("utf-8", "replace").split()) for raw in documents)


def test_one_piece_without_text_makes_the_number_unknown():
    counter = WordCounter()
    for piece in pieces_of([b"a b"], []):
        counter.update(piece)
        assert counter.n_words == 2
        counter.update(TokenizedPiece(piece.tokens, piece.n_bytes, piece.begins, False))
        counter.update(piece)
    assert counter.n_words is None
    assert WordCounter().n_words == 0


@pytest.mark.parametrize(
    ("nats", "n", "expected"),
    [(2.0, 4, np.exp(0.5)), (None, 4, None), (2.0, 0, None), (2.0, None, None), (710.0, 1, None)],
)
def test_perplexities(nats, n, expected):
    assert perplexity(nats, n) == expected
