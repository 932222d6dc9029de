"""Documents and shards: bytes as they are, hashes, and every refusal."""

import numpy as np
import pytest

from eval.data import Document, read_documents, read_shard, sha256


def test_bytes_come_as_they_are(tmp_path):
    raw = b"a\r\nb\n\n\x00\xff \xef\xbb\xbf"
    (tmp_path / "x").write_bytes(raw)
    assert read_documents([tmp_path / "x"]) == [Document(str(tmp_path / "x"), raw)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: None, "text must be a file, got {p}, which is missing; check the path"),
        (lambda p: p.mkdir(), "text must be a file, got {p}, which is a folder; check the path"),
        (lambda p: p.touch(), "text must hold at least one byte, got the empty file {p}"),
    ],
)
def test_refused_texts(tmp_path, make, text):
    path = tmp_path / "text"
    make(path)
    with pytest.raises(ValueError) as error:
        read_documents([path])
    assert str(error.value) == text.format(p=path)


def test_the_hash_tells_documents_from_their_concatenation():
    one, two = Document("a", b"ab"), Document("b", b"c")
    assert sha256([one, two]) != sha256([Document("a", b"abc")])
    assert sha256([one, two]) == sha256([Document("x", b"ab"), Document("y", b"c")])


def shard(path, tokens, **header):
    words = np.zeros(256, "<i4")
    words[:3] = (
        header.get("magic", 20240520),
        header.get("version", 1),
        header.get("n", len(tokens)),
    )
    path.write_bytes(words.tobytes() + np.array(tokens, "<u2").tobytes())
    return path


def test_a_shard_is_read(tmp_path):
    tokens = read_shard(shard(tmp_path / "s.bin", [1, 2, 65535]))
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [1, 2, 65535]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"magic": 1},
         "shard must begin with 20240520, 1, got [1, 1] in {p}; is it a token shard?"),
        ({"version": 2},
         "shard must begin with 20240520, 1, got [20240520, 2] in {p}; is it a token shard?"),
        ({"n": 4}, "shard of 4 tokens must have 1032 bytes, got 1030 in {p}; it is cut short or "
                   "damaged"),
        ({"n": -1}, "shard must hold at least one token, got -1 in {p}; drop it"),
        ({"n": 0}, "shard must hold at least one token, got 0 in {p}; drop it"),
    ],
)  # fmt: skip
def test_refused_shards(tmp_path, header, text):
    path = shard(tmp_path / "s.bin", [1, 2, 3], **header)
    with pytest.raises(ValueError) as error:
        read_shard(path)
    assert str(error.value) == text.format(p=path)


def test_a_missing_or_tiny_shard_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shard must be a file, got .*; check the path"):
        read_shard(tmp_path / "none.bin")
    (tmp_path / "tiny.bin").write_bytes(b"\x00" * 8)
    with pytest.raises(ValueError, match=r"got \[0, 0\] in"):
        read_shard(tmp_path / "tiny.bin")


def test_the_validation_shard_of_the_corpora(shared):
    tokens = read_shard(shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin"))
    assert len(tokens) == 2_021_846
    assert tokens.max() < 1024
