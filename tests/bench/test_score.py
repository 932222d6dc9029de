"""``bench score``: a stand-in that takes its time, and the whole of scoring beside it."""

from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest

from eval.bench import score as bench
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.models.load_model import load_demo
from eval.scoring.score import score
from eval.tokenizers.byte_tokenizer import ByteTokenizer


@pytest.fixture
def stand_in():
    return bench.StandIn(ByteTokenizer(256), 257, 0.01)


def test_the_stand_in_takes_its_time_for_every_token(stand_in):
    started = perf_counter()
    logits = stand_in.logits(np.zeros((5, 200), np.int64))
    assert perf_counter() - started >= 1000 * 0.01e-3
    assert (logits.shape, logits.dtype) == ((5, 200, 257), np.float32)


def test_its_logits_are_of_the_token_alone(stand_in):
    tokens = np.array([[0, 1, 255, 1]])
    logits = stand_in.logits(tokens)[0]
    np.testing.assert_array_equal(logits[1], logits[3])
    np.testing.assert_array_equal(logits[:1], stand_in.logits(tokens[:, :1])[0])
    assert not np.array_equal(logits[0], logits[1])


def test_scoring_it_is_real_work(stand_in):
    result = score(stand_in, Documents([Document("a", b"to be or not " * 40)]))
    assert result.bpb < result.bpb_model
    assert result.tokens == 13 * 40


def test_both_ways_read_every_token_once(monkeypatch):
    """The model's time counts a token that is read as one that is scored."""
    model, read = load_demo(), []

    class Counted(bench.StandIn):
        def logits(self, tokens):
            read.append(tokens.size)
            return super().logits(tokens)

    counted = Counted(model.tokenizer, model.vocab_size, 1e-6)
    data = Documents([Document("a", b"import os\nprint(os.name)\n" * 200)])
    config = ScoreConfig(context=bench.CONTEXT, stride=bench.STRIDE, batch=bench.BATCH, limit=1024)
    config = replace(config, causality_check=False)  # which reads tokens of its own
    folders = []
    scored = bench.score_into

    def spy(model, data, config, folder):
        scored(model, data, config, folder)
        folders.append({path.name for path in folder.iterdir()})

    monkeypatch.setattr(bench, "score_into", spy)
    monkeypatch.setattr(bench, "CHECKPOINT_EVERY", 1)
    figures = bench.measure_model(counted, data, config, 2)
    assert (figures["tokens"], figures["batches"]) == (1024, 1)
    assert read == [1024] * 5  # a warm-up, and two rounds of two
    assert folders == [{"tokens.csv", "documents.csv", "checkpoint"}] * 2
    assert min(figures["seconds_alone"], figures["seconds_score"]) > 0
    assert figures["added_percent"] > -100


def test_what_is_added_is_the_median_of_the_rounds(monkeypatch, stand_in):
    times = iter([1.0, 1.1, 2.0, 2.1, 4.0, 8.0])  # alone and whole, in turn
    monkeypatch.setattr(bench, "timed", lambda work: next(times))
    data = Documents([Document("a", b"abc")])
    figures = bench.measure_model(stand_in, data, ScoreConfig(context=8, stride=8), 3)
    assert (figures["seconds_alone"], figures["seconds_score"]) == (2.0, 2.1)
    assert figures["added_percent"] == pytest.approx(10)  # of 10, 5 and 100
