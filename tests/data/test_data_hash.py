"""DataHash: what it tells apart, and what it must not see."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.data.data_hash import DataHash, sha256, tokens_sha256
from eval.data.document import Document

DOCUMENTS = st.lists(st.binary(max_size=20), max_size=5)


def in_pieces(raws, cuts, make):
    """The documents, each cut wherever a cut falls."""
    for raw in raws:
        edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(raw)), len(raw)]
        for i in range(len(edges) - 1):
            yield make(raw[edges[i] : edges[i + 1]], i == 0)


def text(raw, begins=True):
    return Document("x", raw, begins=begins)


def ids(raw, begins=True):
    return Document("x", tokens=np.array(list(raw), np.int64), begins=begins)


@pytest.mark.parametrize("make", [text, ids])
@given(raws=DOCUMENTS, cuts=st.sets(st.integers(1, 19)))
def test_the_hash_does_not_see_the_pieces(make, raws, cuts):
    assert sha256(in_pieces(raws, cuts, make)) == sha256(map(make, raws))


@given(st.lists(DOCUMENTS, min_size=2, max_size=2, unique_by=tuple))
def test_the_hash_tells_streams_apart(streams):
    assert len({sha256(map(make, raws)) for raws in streams for make in (text, ids) if raws}) == (
        2 * sum(map(bool, streams))
    )


def test_the_hash_is_the_one_that_the_docstring_says():
    size = (2).to_bytes(8, "little"), (1).to_bytes(8, "little")
    assert sha256([text(b"ab"), text(b"c")]) == (
        hashlib.sha256(b"ab" + size[0] + b"B" + b"c" + size[1] + b"B").hexdigest()
    )
    assert sha256([ids([258])]) == (
        hashlib.sha256(b"\x02\x01" + bytes(6) + size[1] + b"T").hexdigest()
    )


def test_the_hash_can_be_asked_on_the_way_and_does_not_see_names():
    digest = DataHash()
    digest.update(Document("a", b"ab"))
    assert digest.hexdigest() == digest.hexdigest() == sha256([text(b"ab")])
    digest.update(Document("b", b"c"))
    assert digest.hexdigest() == sha256([text(b"ab"), text(b"c")]) != sha256([text(b"abc")])


def test_a_document_of_nothing_is_refused():
    with pytest.raises(ValueError) as error:
        sha256([Document("a.txt")])
    assert str(error.value) == (
        "document must have raw bytes or tokens, got neither in a.txt; give one"
    )


def test_the_hash_of_tokens_is_that_of_their_values():
    tokens = np.array([3, 0, 7])
    assert tokens_sha256(tokens) == tokens_sha256(tokens.astype(">i8"))
    assert tokens_sha256(tokens) != tokens_sha256(tokens[::-1])
