"""The two sources of logits: every row once, in order, with its token; and every refusal."""

import numpy as np
import pytest

from eval.comparing.sources import SavedSource, TextSource, document_index
from eval.config import ScoreConfig
from eval.data.data_hash import sha256, tokens_sha256
from eval.data.document import Document, Documents
from eval.scoring.score import score
from eval.tokenizers.byte_tokenizer import ByteTokenizer

V = 4


class NamingModel:
    """Bytes as tokens; logits name the token that they are read after."""

    name, vocab_size, context, tokenizer = "toy", 256, 8, ByteTokenizer(255)

    def logits(self, tokens):
        return np.eye(256)[tokens]


@pytest.fixture
def saved(tmp_path, rng):
    """Paths of logits and tokens, and the arrays in them."""
    logits = rng.normal(size=(11, V)).astype(np.float16)
    tokens = np.array([1, 0, 2, 1, 3, 3, 1, 0, 0, 2, 1])
    np.save(tmp_path / "l.npy", logits)
    np.save(tmp_path / "t.npy", tokens)
    return tmp_path / "l.npy", tmp_path / "t.npy", logits, tokens


@pytest.mark.parametrize("block", [1, 12, 1000])
def test_saved_logits_come_block_by_block(saved, monkeypatch, block):
    monkeypatch.setattr("eval.comparing.sources.BLOCK_LOGITS", block)
    source = SavedSource(*saved[:2])
    batches = list(source.rows())
    assert max(len(batch.logits) for batch in batches) == min(11, max(1, block // V))
    np.testing.assert_array_equal(np.concatenate([b.logits for b in batches]), saved[2])
    np.testing.assert_array_equal(np.concatenate([b.targets for b in batches]), saved[3])
    assert not any(batch.begins_document for batch in batches)


def test_what_is_known_of_saved_logits(saved):
    paths, tokens = saved[:2], saved[3]
    source = SavedSource(*paths, n_bytes=44, bos=1, prefill=[paths[1]])
    list(source.rows())
    assert source.vocab_size == V
    assert source.token_bytes.tolist() == [4.0] * 11
    assert source.document.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]
    np.testing.assert_array_equal(source.prefill, [tokens])
    conditions = source.conditions()
    assert conditions["data"] == f"{paths[0]}, {paths[1]}"
    assert conditions["data_sha256"] == tokens_sha256(tokens)
    bare = SavedSource(*paths)
    assert bare.token_bytes is None
    assert (bare.document == 0).all()
    assert len(bare.prefill) == 0


def test_the_models_name_is_the_hash_of_its_logits(saved, monkeypatch):
    names = []
    for block in (1, 1000):
        monkeypatch.setattr("eval.comparing.sources.BLOCK_LOGITS", block)
        source = SavedSource(*saved[:2])
        list(source.rows())
        names.append(source.conditions()["model"])
    assert names[0] == names[1]
    np.save(saved[0], saved[2][::-1])
    source = SavedSource(*saved[:2])
    list(source.rows())
    assert source.conditions()["model"] != names[0]


def test_documents_begin_where_the_token_does():
    tokens = np.array([5, 1, 5, 1, 1])
    assert document_index(tokens, 1).tolist() == [0, 1, 1, 2, 3]
    assert document_index(tokens, 5).tolist() == [0, 0, 1, 1, 1]
    assert document_index(tokens, None).tolist() == [0] * 5


def test_refused_arguments(saved, tmp_path):
    logits, tokens = saved[:2]
    np.save(tmp_path / "few.npy", saved[3][:5])
    np.save(tmp_path / "high.npy", [4])
    for arguments, text in (
        ({"tokens": tmp_path / "few.npy"},
         f"tokens must be as many as the rows of logits, got 5 in {tmp_path / 'few.npy'} for 11 "
         f"in {logits}; row t holds the logits of token t"),
        ({"n_bytes": 0}, "bytes must be >= 1, got 0; it is the size of the raw text"),
        ({"bos": 9}, "bos must be a token that begins documents, got 9, which does not occur; "
                     "leave it out"),
        ({"prefill": [tmp_path / "high.npy"]},
         f"tokens in {tmp_path / 'high.npy'} must be in [0, 4), got 4 at position 0; raise "
         "vocab_size or check the tokenizer"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as error:
            SavedSource(**({"logits": logits, "tokens": tokens} | arguments))
        assert str(error.value) == text


def test_text_comes_window_by_window():
    documents = [Document("a", bytes(range(100, 140))), Document("b", b"xyz")]
    source = TextSource(Documents(documents), NamingModel(), ScoreConfig(stride=3))
    batches = list(source.rows())
    tokens = np.concatenate([batch.targets for batch in batches])
    assert tokens.tolist() == [*documents[0].raw, *documents[1].raw]
    before = np.concatenate([np.argmax(batch.logits, axis=1) for batch in batches])
    assert before.tolist() == [255, *documents[0].raw[:-1], 255, *b"xy"]
    begins = np.concatenate(
        [[batch.begins_document] + [False] * (len(batch.targets) - 1) for batch in batches]
    )
    assert np.flatnonzero(begins).tolist() == [0, 40]
    assert source.document.tolist() == [0] * 40 + [1] * 3
    assert source.token_bytes.tolist() == [1.0] * 43
    conditions = source.conditions()
    assert conditions | {
        "data": "a, b", "data_sha256": sha256(documents), "rows_skipped": 0, "model": "toy",
        "tokenizer": "bytes", "bos": 255,
        "windows": "document", "context": 8, "stride": 3, "limit": None,
        "allow_probabilities": False, "causality_check": True,
    } == conditions  # fmt: skip
    scored = score(NamingModel(), Documents(documents), ScoreConfig(stride=3))
    assert {name: getattr(scored, name) for name in conditions} == conditions


def test_text_that_is_not_the_bytes_of_the_tokens_is_refused(monkeypatch):
    def two_tokens(document):
        raise ValueError(f"lost in {document.name}")

    monkeypatch.setattr(NamingModel.tokenizer, "encode", two_tokens)
    with pytest.raises(ValueError, match="lost in a"):
        TextSource(Documents([Document("a", b"abc")]), NamingModel())
