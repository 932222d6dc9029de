"""The token before a document: another one, or none; streams score as the loops of others do."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.data.open_data import open_data
from eval.scoring.score import score
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.bos import token_id, with_bos
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer
from eval.tokenizers.side_car import SideCarTokenizer
from tests.toy import ToyModel

BOS = 256
MODEL = {"mixer": "none"}
STREAMS = st.lists(st.sampled_from([BOS, 65, 66, 67, 68]), min_size=2, max_size=60)


def write_shard(path, tokens):
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(tokens)
    path.write_bytes(header.tobytes() + np.array(tokens, "<u2").tobytes())
    return str(path)


def nats(model, inputs, targets):
    """Cost of the targets after the inputs, both (T,), in float64."""
    logits = model.logits(np.array([inputs])).astype(np.float64)[0]
    logprobs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -sum(logprobs[t, target] for t, target in enumerate(targets))


def published_loop(tokens, context):
    """(bits, bytes, tokens) of the loop over a stream: x is all but the last token, y the next.

    Windows do not overlap and are full; a BOS has no bytes.
    """
    model = ToyModel(context)
    x, y = tokens[:-1], tokens[1:]
    total = sum(
        nats(model, x[i : i + context], y[i : i + context]) for i in range(0, len(x), context)
    )
    return total / math.log(2), sum(t < 256 for t in y), len(y)


def full_windows(tokens, context):
    """The tokens of as many full windows as there are, and the one that they predict."""
    return tokens[: (len(tokens) - 1) // context * context + 1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bos")


@settings(max_examples=15)
@given(STREAMS, st.integers(1, 9))
def test_a_stream_scores_as_the_published_loop_does(folder, tokens, context):
    # Two BOS in a row are an empty document, and one at the end too.
    after = [*tokens[1:], BOS]
    tokens = [t for t, n in zip(tokens, after, strict=True) if not t == n == BOS]
    tokens = full_windows(tokens, context)
    if len(tokens) < 2 or tokens[-1] == BOS:
        return
    bits, n_bytes, n_tokens = published_loop(tokens, context)
    config = ScoreConfig(windows="stream", stride=context, **MODEL)
    data = open_data([write_shard(folder / "s.bin", tokens)], bos=BOS, vocab_size=257)
    result = score(ToyModel(context), data, config)
    assert (result.bytes, result.tokens) == (n_bytes, n_tokens)
    assert result.bits == pytest.approx(bits, abs=1e-4)
    assert result.tokens_context_only == (tokens[0] != BOS)


@settings(max_examples=8)
@given(STREAMS, st.integers(1, 9))
def test_documents_that_end_with_a_token_score_as_the_stream_does(folder, tokens, context):
    tokens = full_windows(tokens, context)
    if len(tokens) < 2:
        return
    bits, n_bytes, n_tokens = published_loop(tokens, context)
    path = write_shard(folder / "e.bin", tokens)
    for bos, options in (
        (None, {"document_end": BOS}),
        ("none", {"document_end": BOS}),
        ("none", {}),
    ):
        config = ScoreConfig(windows="stream", stride=context, bos=bos, **MODEL)
        result = score(ToyModel(context), open_data([path], vocab_size=257, **options), config)
        assert (result.bytes, result.tokens) == (n_bytes, n_tokens)
        assert result.bits == pytest.approx(bits, abs=1e-4)
        assert (result.tokens_context_only, result.bytes_context_only) == (1, tokens[0] < 256)


@settings(max_examples=15)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.integers(2, 9))
def test_without_a_bos_the_first_token_of_a_document_is_context_only(texts, context):
    if all(len(text) == 1 for text in texts):
        return
    model, stride = ToyModel(context), max(1, context // 2)
    total, n_bytes = 0.0, 0
    for text in texts:  # each target once, after as many tokens as fit
        tokens, done = list(text), 0
        while done < len(tokens) - 1:
            stop = min(done + (stride if done else context), len(tokens) - 1)
            seen = tokens[:stop][-context:]
            total += nats(
                model, seen, [0] * (len(seen) - stop + done) + tokens[done + 1 : stop + 1]
            )
            total -= nats(model, seen, [0] * (len(seen) - stop + done))
            done = stop
        n_bytes += len(tokens) - 1
    for pieces in (texts, [b"".join(texts)] if len(texts) == 1 else texts):
        result = score(ToyModel(context), Documents(pieces), ScoreConfig(bos="none", **MODEL))
        assert (result.bytes, result.tokens) == (n_bytes, n_bytes)
        assert result.bits == pytest.approx(total / math.log(2), abs=1e-4)
        assert result.tokens_context_only == result.bytes_context_only == len(texts)
        assert result.documents == sum(len(text) > 1 for text in texts)
        assert result.bos is None


def test_a_document_in_pieces_loses_one_token():
    pieces = [Document("x", b"a"), Document("x", b"bc", begins=False), Document("y", b"de"),
              Document("z", b"f"), Document("z", b"g", begins=False)]  # fmt: skip

    class Data:
        name, size = "x", None

        def __iter__(self):
            return iter(pieces)

    for windows, n_left in (("document", 3), ("stream", 1)):
        config = ScoreConfig(bos="none", windows=windows, **MODEL)
        result = score(ToyModel(8), Data(), config)
        assert (result.tokens, result.tokens_context_only) == (7 - n_left, n_left)
        assert result.documents == 3
    assert "context only, no BOS before them: 1 tokens, 1 bytes, in no figure" in result.table()
    assert "|tokenizer:bytes|bos:none|" in result.signature


def test_the_cache_alone_leaves_the_same_tokens_out():
    texts = [b"the cat sat on the mat", b"the cat"]
    result = score(None, Documents(texts), ScoreConfig(bos="none"))
    assert (result.tokens, result.tokens_context_only) == (27, 2)
    whole = score(None, Documents(texts), ScoreConfig())
    assert (whole.tokens, whole.bos, result.bos) == (29, 0, None)
    assert "|bos:none|" in result.signature


def test_another_bos_is_another_score_and_in_its_signature():
    data = Documents([b"the cat sat on the mat"])
    own, same, other = (
        score(ToyModel(8), data, ScoreConfig(bos=bos, **MODEL)) for bos in (None, 256, 65)
    )
    assert (own.bits, own.signature, own.bos) == (same.bits, same.signature, 256)
    assert other.bits != own.bits
    assert "|tokenizer:bytes|bos:65|" in other.signature
    assert other.bos == 65


def test_side_car_bytes_are_in_the_hash_of_the_data(folder):
    path = write_shard(folder / "t.bin", [65, 66, 67])
    model = ToyModel(8, SideCarTokenizer(257, 256))
    hashes = {
        score(model, open_data([path], token_bytes=write_shard(folder / "b.bin", sizes)),
              ScoreConfig(**MODEL)).data_sha256
        for sizes in ([1, 1, 2], [1, 2, 1])
    }  # fmt: skip
    assert len(hashes) == 2


def test_a_bos_may_be_named_by_its_text(shared):
    tokenizer = load_tokenizer(shared("models/llama-sp1024-1m4"))
    changed: Tokenizer = with_bos(tokenizer, "</s>")
    assert (changed.bos, changed.name) == (2, tokenizer.name)
    assert with_bos(tokenizer, "<s>").name == tokenizer.name
    assert with_bos(tokenizer, None) is tokenizer
    assert with_bos(ByteTokenizer(), 300).vocab_size == 301
    assert with_bos(ByteTokenizer(), "none").name == "bytes"
    with pytest.raises(ValueError) as error:
        with_bos(ByteTokenizer(), "<s>")
    assert str(error.value) == (
        "bos must be an id or a token of bytes, got '<s>'; pass the id of the token"
    )
    assert token_id(tokenizer, "</s>", "document_end") == 2


@pytest.mark.parametrize(
    ("tokenizer", "config", "text"),
    [
        (SideCarTokenizer(257), ScoreConfig(),
         "a document must begin with a token that is not scored, but the model has no tokenizer, "
         "and so no BOS token; give its id with --bos, or pass --bos none: the first token of each "
         "document is then context only"),
        (SideCarTokenizer(257), ScoreConfig(bos=257),
         "--bos must be below the 257 tokens of the model, got 257; pass the id of a token"),
    ],
)  # fmt: skip
def test_what_is_no_bos_is_refused(tokenizer, config, text):
    with pytest.raises(ValueError) as error:
        score(ToyModel(8, tokenizer), Documents([b"abc"]), config)
    assert str(error.value) == text
