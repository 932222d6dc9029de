"""Figures per token and per word, and the remark on a mixture worse than its cache."""

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from eval.cli import main
from eval.config import ScoreConfig
from eval.data.document import Document, Documents
from eval.models.load_model import load_demo
from eval.scoring.score import score
from eval.scoring.tokenized import text_of
from eval.tokenizers.byte_table import ByteTable
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.side_car import SideCarTokenizer
from eval.tokenizers.table_tokenizer import TableTokenizer
from tests.toy import ToyModel

TEXTS = ["the cat  sat\non the mat ", "the\u00a0cat sat", "\u7d50\u3073 caf\u00e9"]
DATA = Documents([Document(str(i), text.encode()) for i, text in enumerate(TEXTS)])


def model_nats(model, raws):
    """Nats of each byte under the toy: one forward pass a byte, softmax in float64."""
    nats = []
    for raw in raws:
        inputs = np.concatenate([[256], np.frombuffer(raw, np.uint8)])
        for t, byte in enumerate(raw):
            row = model.logits(inputs[None, : t + 1])[0, -1].astype(np.float64)
            nats.append(math.log(np.exp(row - row.max()).sum()) + row.max() - row[byte])
    return nats


@pytest.mark.parametrize("windows", ["document", "stream"])
@pytest.mark.parametrize("batch", [1, 8])
def test_figures_are_those_of_an_independent_loop(windows, batch):
    model = ToyModel(context=64)
    result = score(model, DATA, ScoreConfig(windows=windows, batch=batch, mixer="none"))
    raws = [text.encode() for text in TEXTS]
    if windows == "stream":
        assert result.tokens == sum(map(len, raws)) + 2
        total = result.bits * math.log(2)
    else:
        total = math.fsum(model_nats(model, raws))
        assert result.bits * math.log(2) == pytest.approx(total, rel=1e-9)
    words = sum(len(text.split()) for text in TEXTS)
    assert result.words == words == 6 + 3 + 2
    for suffix in ("", "_model"):
        figures = [
            getattr(result, name + suffix)
            for name in ("nats_per_token", "bits_per_token", "perplexity", "word_perplexity")
        ]
        expected = [
            total / result.tokens, total / math.log(2) / result.tokens,
            math.exp(total / result.tokens), math.exp(total / words),
        ]  # fmt: skip
        assert figures == pytest.approx(expected, rel=1e-9)
    assert result.nats_per_token_cache is result.perplexity_cache is None
    assert result.word_perplexity_cache is result.bits_per_token_cache is None


def test_the_three_costs_have_their_own_figures():
    result = score(ToyModel(), DATA)
    for suffix in ("", "_model", "_cache"):
        bits = getattr(result, f"bits{suffix}")
        assert getattr(result, f"bits_per_token{suffix}") == bits / result.tokens
        perplexity = getattr(result, f"perplexity{suffix}")
        assert math.log2(perplexity) == pytest.approx(bits / result.tokens, rel=1e-12)
        perplexity = getattr(result, f"word_perplexity{suffix}")
        assert math.log2(perplexity) == pytest.approx(bits / result.words, rel=1e-12)


def test_a_limit_counts_the_words_of_what_it_scores():
    results = [score(ToyModel(), DATA, ScoreConfig(limit=n)) for n in (3, 4, 5)]
    assert [result.words for result in results] == [1, 1, 2]


def test_the_table_is_readable_in_eighty_columns():
    table = score(ToyModel(), DATA).table().splitlines()
    assert all(len(line) <= 80 for line in table[:-1])  # the last one is the signature
    assert table[6].split() == (
        ["nats", "a", "token", "bits", "a", "token", "perplexity", "perplexity", "a", "word"]
    )
    assert [line[:13].strip() for line in table[8:11]] == [
        "model alone", "cache alone", "model + cache"
    ]  # fmt: skip
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    assert table[12] == f"{n_bytes} tokens, 11 words, {n_bytes} bytes, 3 documents"


def test_one_word_of_a_book_has_no_perplexity():
    result = score(ToyModel(), Documents([Document("a", b"x" * 3000)]), ScoreConfig(mixer="none"))
    assert (result.words, result.word_perplexity) == (1, None)
    assert json.loads(result.to_json())["word_perplexity"] is None
    assert result.table().splitlines()[6].endswith("-")


@pytest.fixture
def uniform_score():
    """A text of few letters, with a model that tells nothing, and its score."""

    class Uniform(ToyModel):
        def logits(self, tokens):
            return np.zeros((*tokens.shape, 257), np.float32)

    raw = np.random.default_rng(0).integers(97, 101, 3000, np.uint8).tobytes()
    return score(Uniform(context=256), Documents([Document("a", raw)]), ScoreConfig(order=3))


def test_a_mixture_that_is_worse_than_its_cache_is_remarked(uniform_score):
    result = replace(
        uniform_score, bits_over_cache=300.0, over_cache_standard_error=0.0123, bytes=3000
    )
    text = " ".join(result.table().split())
    assert (
        "the cache alone is better by 0.1000 BPB, s.e. 0.0123: the model does not help on this "
        "text; check the model and its tokenizer, or leave it out (--model none) regret"
    ) in text
    assert "better by 0.1000 BPB: the" in " ".join(
        replace(result, over_cache_standard_error=None).table().split()
    )
    for change in (
        {"over_cache_standard_error": 0.06},  # within the doubt
        {"bits_over_cache": 1.5, "over_cache_standard_error": 0.0},  # within the bound
        {"bits_over_cache": -300.0}, {"bits_over_cache": None}, {"bound_bits": None}, {"bytes": 0},
    ):  # fmt: skip
        assert "the cache alone is better" not in replace(result, **change).table()


def test_bits_over_the_cache_are_those_of_the_sums(uniform_score):
    result = uniform_score
    gap = result.bits - result.bits_cache
    assert result.bits_over_cache == pytest.approx(gap, abs=1e-6)
    alone = score(None, Documents([Document("a", b"on a mat")]))
    assert alone.bits_over_cache == 0


def test_tokens_of_a_shard_have_their_text_and_words(tmp_path, capsys):
    model = load_demo()
    texts = [TEXTS[0] * 5, TEXTS[2] * 3]
    ids = [[model.tokenizer.bos, *model.tokenizer.encode(Document("", t.encode()))[0]]
           for t in texts]  # fmt: skip
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, sum(map(len, ids))
    shard = tmp_path / "a.bin"
    shard.write_bytes(header.tobytes() + np.concatenate(ids).astype("<u2").tobytes())
    for i, text in enumerate(texts):
        (tmp_path / f"{i}.txt").write_text(text, "utf-8", newline="")
    found = []
    for data in ([str(shard)], [str(tmp_path / "0.txt"), str(tmp_path / "1.txt")]):
        out = str(tmp_path / str(len(found)))
        arguments = ["score", "--model", "demo", "--data", *data, "--json", "--tokens"]
        assert main([*arguments, "--out", out]) == 0
        result = json.loads(capsys.readouterr().out)
        with (tmp_path / out / "tokens.csv").open(newline="", encoding="utf-8") as file:
            cells = [(row["token"], row["text"], row["byte"]) for row in csv.DictReader(file)]
        found.append((result["words"], result["bytes"], result["word_perplexity"], cells))
    assert found[0] == found[1]
    assert found[0][0] == sum(len(text.split()) for text in texts)


def test_text_is_that_of_the_bytes_that_count():
    """Tokens: a boundary, one whose leading space is no text after it, and one without."""
    table = ByteTable(
        [b"", b" a", b"bc"], boundary=np.array([True, False, False]), unknown=np.zeros(3, bool),
        added=np.zeros(3, bool),
        space=np.array([False, True, False]),
    )  # fmt: skip
    tokenizer = TableTokenizer("toy", table, 0)
    tokens = np.array([0, 1, 1, 0, 2, 1, 0, 1])
    n_bytes = table.count(tokens, after_boundary=True)
    assert text_of(tokens, n_bytes, tokenizer) == b"a abc aa"
    for i, wrong in ((4, 1), (1, 0), (2, 3), (0, 1)):
        changed = n_bytes.copy()
        changed[i] = wrong
        assert text_of(tokens, changed, tokenizer) is None
    assert text_of(tokens[:0], n_bytes[:0], tokenizer) == b""
    one = np.ones(2, np.int64)
    assert text_of(np.array([65, 66]), one, ByteTokenizer()) == b"AB"
    assert text_of(np.array([65, 66]), 2 * one, ByteTokenizer()) is None
    assert text_of(np.array([65, 66]), one, SideCarTokenizer(256)) is None
