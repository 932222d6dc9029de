"""Scoring: a toy model through the whole way, against a loop that anybody can read."""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from eval.data import Document
from eval.report import make_result
from eval.score import score_bytes, score_model
from ngrammix import Mixer, NgramCache


@dataclass(frozen=True)
class ToyModel:
    """Bytes as tokens; logits depend on the last two tokens of the window."""

    name: str = "toy"
    vocab_size: int = 257
    context: int = 16
    bos: int = 256
    lost_bytes: int = 0

    def encode(self, document):
        tokens = np.frombuffer(document.raw, np.uint8).astype(np.int64)
        n_bytes = np.ones(len(tokens), np.int64)
        n_bytes[-1] -= self.lost_bytes
        return tokens, n_bytes

    def logits(self, tokens):
        before = np.concatenate([np.zeros_like(tokens[:, :1]), tokens[:, :-1]], axis=1)
        letters = np.arange(self.vocab_size)
        return np.cos(letters * (1 + tokens[..., None]) + before[..., None]).astype(np.float32)


DOCUMENTS = [Document("a", b"the cat sat on the mat, the cat sat on the mat"), Document("b", b"on")]


def test_scoring_equals_the_plain_loop():
    model = ToyModel()
    score = score_model(DOCUMENTS, model, order=4, stride=5)
    mixer = Mixer(vocab_size=model.vocab_size, order=4)
    nats, nats_model = [], []
    for document in DOCUMENTS:
        mixer.boundary()
        inputs = np.concatenate([[model.bos], np.frombuffer(document.raw, np.uint8)])
        for t, byte in enumerate(document.raw):
            # position t is read in the window that scores it: the first, or one of those that end
            # at 16 + 5 i
            stop = 16 if t < 16 else min(16 + 5 * math.ceil((t - 15) / 5), len(document.raw))
            start = max(0, stop - 16) if t >= 16 else 0
            logits = model.logits(inputs[None, start : t + 1])[0, -1]
            trace = mixer.trace(logits[None], [byte])
            nats.append(trace.nats[0])
            nats_model.append(trace.nats_model[0])
    np.testing.assert_array_equal(score.records.nats, nats)
    np.testing.assert_array_equal(score.records.nats_model, nats_model)
    assert score.records.document.tolist() == [0] * 46 + [1] * 2
    assert score.regret_bits <= score.bound_bits


def test_the_cache_alone_is_the_cache():
    score = score_bytes(DOCUMENTS, order=5)
    cache, nats = NgramCache(order=5, vocab_size=256), []
    for document in DOCUMENTS:
        for t, byte in enumerate(document.raw):
            nats.append(-cache.log_prob(list(document.raw[:t]), byte))
            cache.update(list(document.raw[:t]), byte)
    np.testing.assert_allclose(score.records.nats_cache, nats, rtol=1e-12)
    assert score.records.nats is None
    result = make_result(score, DOCUMENTS)
    assert result.bpb == pytest.approx(sum(nats) / math.log(2) / 48)
    assert (result.bytes, result.tokens, result.documents) == (48, 48, 2)
    assert result.bpb_model is None


@pytest.mark.parametrize("lost", [1, -1])
def test_a_tokenizer_that_loses_or_invents_bytes_is_refused(lost):
    with pytest.raises(ValueError, match=r"token bytes must sum to the raw bytes, got .* in a;"):
        score_model(DOCUMENTS, ToyModel(lost_bytes=lost), order=4, stride=5)


def test_the_result_holds_every_condition():
    result = make_result(score_model(DOCUMENTS, ToyModel(), order=4, stride=5), DOCUMENTS)
    assert result.signature == (
        f"BPB|data:{result.data_sha256[:16]}|bytes:48|tokens:48|model:toy|context:16|stride:5|"
        f"order:4|mixer:tilt+gate+guard|version:0.1.0"
    )
    assert result.bits_saved == pytest.approx(result.bits_model - result.bits)
    assert result.regret_bits == pytest.approx(-result.bits_saved, abs=1e-9)
    assert result.seconds == pytest.approx(result.seconds_model + result.seconds_mixer)
