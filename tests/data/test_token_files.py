"""Token files as one stream: documents keep their boundaries wherever files and blocks end."""

import os
import tracemalloc
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.data.token_files import TokenFiles

TOKENS = st.lists(st.integers(0, 4), min_size=1, max_size=30)
BOS = 1


def write_shard(path, tokens):
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + np.array(tokens, "<u2").tobytes())
    return str(path)


def write_array(path, tokens, dtype=np.int32):
    np.save(path, np.array(tokens, dtype))
    return str(path)


def plain_documents(tokens):
    """The documents of a stream, read aloud: what stands between two BOS."""
    documents = [[]]
    for token in tokens:
        if token == BOS:
            documents.append([])
        else:
            documents[-1].append(token)
    return documents[1:] if tokens[0] == BOS else documents


def join(data):
    """(tokens, token bytes) of each document, from its pieces."""
    documents = []
    for piece in data:
        if piece.begins:
            documents.append(([], []))
        assert piece.raw is None
        assert piece.tokens.dtype == np.int64
        documents[-1][0].extend(piece.tokens.tolist())
        if piece.token_bytes is not None:
            documents[-1][1].extend(piece.token_bytes.tolist())
    return documents


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


@given(st.lists(TOKENS, min_size=1, max_size=3), st.integers(1, 12))
def test_documents_do_not_see_files_and_blocks(folder, files, block):
    paths, sidecars, stream = [], [], [token for tokens in files for token in tokens]
    for i, tokens in enumerate(files):
        write = write_shard if i % 2 else write_array
        suffix = "bin" if i % 2 else "npy"
        paths.append(write(folder / f"t{i}.{suffix}", tokens))
        sizes = [0 if token == BOS else 10 + token for token in tokens]
        sidecars.append(write(folder / f"s{i}.{suffix}", sizes))
    with patch("eval.data.token_files.PIECE", block):
        data = TokenFiles(paths, bos=BOS, token_bytes=sidecars)
        pieces = list(data)
        assert join(data) == [(d, [10 + t for t in d]) for d in plain_documents(stream)]
        assert join(TokenFiles(paths)) == [(stream, [])]
    assert pieces[0].begins
    assert all(len(piece.tokens) <= block for piece in pieces)
    offsets = [piece.offset for piece in pieces]
    assert offsets == sorted(offsets)
    assert (offsets[-1], data.size) == (len(stream), len(stream))


def test_names_say_where_a_document_stands(tmp_path):
    one = write_shard(tmp_path / "a.bin", [5, 1, 6, 1, 7])
    two = write_shard(tmp_path / "b.bin", [8, 1, 9, 1, 1])
    data = TokenFiles([one, two], bos=1)
    assert data.name == f"{one}, {two}"
    assert [(d.name, d.tokens.tolist(), d.begins) for d in data] == [
        (f"{one}:1", [5], True),
        (f"{one}:2", [6], True),
        (f"{one}:3", [7], True),
        (f"{one}:3", [8], False),
        (f"{two}:1", [9], True),
        (f"{two}:2", [], True),
        (f"{two}:3", [], True),
    ]
    assert [(d.name, d.begins) for d in TokenFiles([one, two])] == [(one, True), (one, False)]


def test_the_validation_documents_of_the_corpora(shared):
    path = str(shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin"))
    documents = list(TokenFiles([path], bos=1, vocab_size=1024))
    assert sum(d.begins for d in documents) == 1622
    # 1,621 of them begin here; the first one began in the shard before.
    assert sum(len(d.tokens) for d in documents) + 1621 == 2_021_846


def test_tokens_are_read_in_constant_memory(tmp_path):
    path = write_shard(tmp_path / "large.bin", [1, 2, 3])
    n = 100_000_000
    with (tmp_path / "large.bin").open("r+b") as file:
        file.seek(8)
        file.write(n.to_bytes(4, "little"))
    os.truncate(path, 1024 + 2 * n)
    data = TokenFiles([path], bos=1, vocab_size=1024)
    tracemalloc.start()
    total = sum(len(document.tokens) for document in data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == n - 1
    assert peak < 24_000_000  # of 8-byte ids a block has 8.4 MB


CASES = {
    "token beyond V": (
        lambda p: TokenFiles([write_array(p / "t.npy", [3, 0, 8])], vocab_size=8),
        "token must be in [0, 8), got 8 at 2 of {p}/t.npy; check that the file and the model have "
        "the same vocabulary",
    ),
    "token beyond all": (
        lambda p: TokenFiles([write_array(p / "t.npy", [3, 2**63], np.uint64)]),
        "token must be in [0, 2147483648), got 9223372036854775808 at 1 of {p}/t.npy; "
        "check that the file and the model have the same vocabulary",
    ),
    "negative token": (
        lambda p: TokenFiles([write_array(p / "t.npy", [3, -1])]),
        "token must be in [0, 2147483648), got -1 at 1 of {p}/t.npy; check that the file and the "
        "model have the same vocabulary",
    ),
    "bos beyond V": (
        lambda p: TokenFiles([write_array(p / "t.npy", [3])], bos=8, vocab_size=8),
        "bos must be a token in [0, 8), got 8; leave it out if no token begins a document",
    ),
    "side-car for some": (
        lambda p: TokenFiles(
            [write_array(p / "a.npy", [1]), write_array(p / "b.npy", [1])],
            token_bytes=[write_array(p / "c.npy", [1])],
        ),
        "token bytes must be one file for each token file, got 1 for 2; pass them in the same "
        "order",
    ),
    "side-car too short": (
        lambda p: TokenFiles(
            [write_array(p / "t.npy", [1, 2, 3])], token_bytes=[write_shard(p / "s.bin", [0, 4])]
        ),
        "token bytes must be as many as the tokens, got 2 in {p}/s.bin for 3 in {p}/t.npy; "
        "include the tokens that begin documents",
    ),
    "side-car counts bos": (
        lambda p: TokenFiles(
            [write_array(p / "t.npy", [1, 2, 1])],
            bos=1,
            token_bytes=[write_array(p / "s.npy", [0, 4, 3])],
        ),
        "token bytes must be 0 where a document begins, got 3 at 2 of {p}/s.npy; the token that "
        "begins a document is not part of its text",
    ),
    "negative bytes": (
        lambda p: TokenFiles(
            [write_array(p / "t.npy", [1])], token_bytes=[write_array(p / "s.npy", [-4])]
        ),
        "token bytes must be in [0, 2147483648), got -4 at 0 of {p}/s.npy; "
        "check that the file and the model have the same vocabulary",
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("block", [2, 1 << 20])
def test_refused(tmp_path, name, block):
    make, text = CASES[name]
    with pytest.raises(ValueError) as error, patch("eval.data.token_files.PIECE", block):
        list(make(tmp_path))
    assert str(error.value) == text.format(p=tmp_path)
