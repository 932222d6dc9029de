"""The peers of a bench do the work that they are timed for."""

import sys
from functools import partial

import numpy as np
import pytest

from eval.bench import observe
from eval.bench.peers import kenlm, numpy_counts, python_dict, random_reads, token_by_token
from eval.bench.peers.order2_sampler import synthesize
from ngrammix import Evidence, NgramCache


@pytest.mark.kernels
def test_the_peers_find_the_same_evidence(rng):
    tokens, order = rng.integers(0, 5, 2000), 4
    cache = NgramCache(vocab_size=5, order=order)
    ours = cache.observe(tokens)

    walked = Evidence.allocate(order, len(tokens))
    state = token_by_token.allocate(order, cache)
    for part in (slice(0, 700), slice(700, None)):
        piece = Evidence.allocate(order, len(tokens[part]))
        token_by_token.observe(tokens[part], state, piece, part.start)
        walked._columns[:, part] = piece._columns
        walked.discounts[:, part] = piece.discounts
    np.testing.assert_array_equal(walked._columns, ours._columns)
    np.testing.assert_array_equal(walked.discounts, ours.discounts)

    longest = order - 1
    for walk, same in [(python_dict.walk_plain, [0, 1, 2, 4]), (python_dict.walk_tuned, range(6))]:
        rows = iter(walk(tokens.tolist(), order))
        for i in range(len(tokens)):
            for k in range(min(longest, i), -1, -1):
                row = next(rows)
                checked = [
                    field for field in same if k > 0 or field < 5
                ]  # the empty one is ageless
                assert [row[f] for f in checked] == [ours._columns[k, i, f] for f in checked]


@pytest.mark.kernels
def test_a_walk_over_cleared_memory_finds_the_same(rng):
    tokens = rng.integers(0, 5, 500)
    cache = NgramCache(vocab_size=5, order=3)
    ours = cache.observe(tokens)
    state = token_by_token.allocate(3, cache)
    assert token_by_token.seconds(tokens, state) > 0
    state.clear()
    again = Evidence.allocate(3, len(tokens))
    token_by_token.observe(tokens, state, again, 0)
    np.testing.assert_array_equal(again._columns, ours._columns)


@pytest.mark.parametrize("dense", [1, numpy_counts.DENSE])  # np.bincount, np.add.at
def test_numpy_counts_what_was_before_the_chunk(rng, monkeypatch, dense):
    monkeypatch.setattr(numpy_counts, "DENSE", dense)
    tokens, order, chunk = rng.integers(0, 4, 70), 3, 32
    counts = numpy_counts.HashedCounts(order)
    for _ in range(2):
        counts.clear()
        for start in range(0, len(tokens), chunk):
            stop = min(start + chunk, len(tokens))
            found = counts.observe(tokens.astype(np.uint64), start, stop)
            assert found.shape == (2, order, stop - start)
            for k in range(order):
                grams = [tuple(tokens[i - k : i + 1]) for i in range(k, stop)]
                before = grams[: max(0, start - k)]
                for i in range(max(start, k), stop):
                    gram = grams[i - k]
                    expected = sum(g[:k] == gram[:k] for g in before), before.count(gram)
                    assert tuple(found[:, k, i - start]) == expected


@pytest.mark.kernels
def test_random_reads_set_a_limit(rng):
    rows = rng.integers(0, 1 << 20, (50, 8)).astype(np.uint32)
    places = rng.integers(0, 50, 300).astype(np.uint32)
    for ahead in random_reads.DISTANCES:
        assert random_reads.read(rows, places, ahead) == rows[places, 0].sum()
    cache = NgramCache(vocab_size=5, order=3)
    cache.observe(rng.integers(0, 5, 300))
    parts = random_reads.table_bytes(cache)
    assert parts == [(t.slots.nbytes, 4 * len(t) * t.rows.shape[1]) for t in cache._tables[1:]]
    found = random_reads.measure(parts, n_reads=100)
    assert found["table_bytes"] == sum(map(sum, parts))
    assert found["reads_per_token"] == 6
    assert found["limit_tokens_per_second"] == found["reads_per_second"] / 6 > 0
    assert found["strict_limit_tokens_per_second"] > 0


def test_other_evidence_on_two_threads_is_an_error():
    tokens = np.arange(100) % 5

    def make(*, n_threads=1):
        cache = NgramCache(vocab_size=5, order=3)
        if n_threads == 2:
            cache.learn([0])
        return cache

    with pytest.raises(RuntimeError) as raised:
        observe.same_bits(tokens, make)
    assert str(raised.value) == (
        "one and two threads must find the same evidence, got other columns in the 100 tokens from "
        "0 on; this is a bug of ngrammix: please report it with the stream"
    )
    cache = observe.same_bits(tokens, partial(NgramCache, vocab_size=5, order=3))
    assert cache.position == 100


def test_without_kenlm_its_speed_is_missing(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    found = kenlm.measure(rng.integers(0, 5, 100), 5, 7)
    assert found["kenlm"] == "not installed: pip install kenlm"
    for way in kenlm.WAYS:
        assert found[f"tokens_per_second_{way}"] is None
        assert found[f"ratio_to_{way}"] is None


def test_every_way_to_ask_kenlm_gives_the_same(rng):
    pytest.importorskip("kenlm")
    tokens = rng.integers(0, 5, 400)
    words = [str(token) for token in tokens]
    by_call, by_generator, in_one = (
        ask() for ask in kenlm.load(words[:200], words[200:], 3).values()
    )
    assert len(by_call) == 200
    assert by_call == by_generator
    assert in_one == pytest.approx(sum(by_call), rel=1e-5)
    found = kenlm.measure(tokens, 5, 7)
    assert (found["kenlm_order"], found["kenlm_tokens"]) == (5, 200)
    for way in kenlm.WAYS:
        assert found[f"tokens_per_second_{way}"] > 0
        assert found[f"ratio_to_{way}"] > 0


def test_the_arpa_text_is_a_distribution(rng):
    words = [str(token) for token in rng.integers(0, 5, 200)]
    score, backoff = {}, {}
    lines = kenlm.arpa(words, 3).splitlines()
    for line in lines:
        columns = line.split("\t")
        if len(columns) > 1:
            gram = tuple(columns[1].split(" "))
            score[gram] = float(columns[0])
            backoff[gram] = float(columns[2]) if len(columns) > 2 else 0.0
    for k in (1, 2, 3):
        assert f"ngram {k}={sum(len(gram) == k for gram in score)}" in lines

    def ask(gram):
        return score[gram] if gram in score else backoff.get(gram[:-1], 0.0) + ask(gram[1:])

    vocabulary = {*words, "<unk>"}
    for i in range(2, 30):
        for context in ((), tuple(words[i - 1 : i]), tuple(words[i - 2 : i])):
            total = sum(10 ** ask((*context, word)) for word in vocabulary)
            assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.kernels
@pytest.mark.parametrize("n_tokens", [3, 50])
def test_a_synthetic_stream_has_the_triples_of_the_text(rng, n_tokens):
    text = rng.integers(0, 4, n_tokens)
    triples = {tuple(text[i : i + 3]) for i in range(n_tokens - 2)}
    sampled = synthesize(text, 2000)
    joins = 0  # where the end of the text was reached, it begins anew
    for i in range(len(sampled) - 2):
        joins += tuple(sampled[i : i + 3]) not in triples
    assert joins <= 2 * (np.sum(sampled == text[-1]))
    np.testing.assert_array_equal(sampled, synthesize(text, 2000))
    if n_tokens > 3:
        assert {tuple(sampled[i : i + 3]) for i in range(1998)} >= triples
        assert joins < 200
