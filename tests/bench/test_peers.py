"""The peers of a bench do the work that they are timed for."""

import sys
from functools import partial

import numpy as np
import pytest
import torch

from eval.bench import mix, observe
from eval.bench.peers import (
    kenlm,
    numpy_counts,
    published_gptq,
    python_dict,
    random_reads,
)
from eval.bench.peers.bigram_model import Bigram
from eval.bench.peers.order2_sampler import synthesize
from eval.bench.peers.token_by_token import TokenByToken
from ngrammix import MatchModel, NgramCache
from quant import gptq


@pytest.mark.kernels
def test_the_peers_find_the_same_evidence(rng):
    tokens, order = rng.integers(0, 5, 2000), 4
    cache = NgramCache(vocab_size=5, order=order)
    ours = cache.observe(tokens)

    peer = TokenByToken(order, tokens)
    peer.clear()
    for part in (slice(0, 700), slice(700, None)):
        counts, discounts = peer.observe(tokens[part], part.start)
        np.testing.assert_array_equal(counts, ours._columns[:, part])
        np.testing.assert_array_equal(discounts, ours.discounts[:, part])

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
    peer = TokenByToken(3, tokens)
    assert peer.seconds(tokens) > 0
    peer.clear()
    np.testing.assert_array_equal(peer.observe(tokens, 0)[0], ours._columns)


@pytest.mark.parametrize("dense", [1, numpy_counts.DENSE])  # np.bincount, np.add.at
def test_numpy_counts_what_was_before_the_chunk(rng, monkeypatch, dense):
    monkeypatch.setattr(numpy_counts, "DENSE", dense)
    tokens, order, chunk = rng.integers(0, 4, 70), 3, 32
    counts = numpy_counts.HashedCounts(order)
    for _ in range(2):
        counts.clear()
        for start in range(0, len(tokens), chunk):
            stop = min(start + chunk, len(tokens))
            figures = counts.observe(tokens.astype(np.uint64), start, stop)
            assert figures.shape == (2, order, stop - start)
            for k in range(order):
                grams = [tuple(tokens[i - k : i + 1]) for i in range(k, stop)]
                before = grams[: max(0, start - k)]
                for i in range(max(start, k), stop):
                    gram = grams[i - k]
                    expected = sum(g[:k] == gram[:k] for g in before), before.count(gram)
                    assert tuple(figures[:, k, i - start]) == expected


@pytest.mark.kernels
def test_random_reads_set_a_limit(rng):
    rows = rng.integers(0, 1 << 20, (50, 8)).astype(np.uint32)
    indices = rng.integers(0, 50, 300).astype(np.uint32)
    for distance in random_reads.DISTANCES:
        assert random_reads.read(rows, indices, distance) == rows[indices, 0].sum()
    cache = NgramCache(vocab_size=5, order=3)
    cache.observe(rng.integers(0, 5, 300))
    parts = random_reads.table_bytes(cache)
    tables = cache._store.tables[1:]
    assert parts == [(t.slots.nbytes, 16 * t.n_units) for t in tables]
    figures = random_reads.measure(parts, [1.0, 0.5, 0.25], n_reads=100)
    assert figures["table_bytes"] == sum(map(sum, parts))
    assert figures["reads_per_token"] == 3.5
    assert figures["tokens_per_second_limit"] == figures["reads_per_second"] / 3.5 > 0
    assert figures["tokens_per_second_strict_limit"] > 0


def test_other_evidence_on_two_threads_is_an_error():
    tokens = np.arange(100) % 5

    def make(*, n_threads=1):
        cache = NgramCache(vocab_size=5, order=3)
        if n_threads == 2:
            cache.learn([0])
        return cache

    with pytest.raises(RuntimeError) as raised:
        observe.observe_on_two_threads(tokens, make)
    assert str(raised.value) == (
        "one and two threads must find the same evidence, got other columns in the 100 tokens from "
        "0 on; this is a bug of ngrammix: please report it with the stream"
    )
    make = partial(NgramCache, vocab_size=5, order=3)
    cache, places = observe.observe_on_two_threads(tokens, make)
    assert cache.position == 100
    assert places == [1, 0.94, 0.93]  # after each token, and pair, that occurred before


def test_without_kenlm_its_speed_is_missing(rng, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    figures = kenlm.measure(rng.integers(0, 5, 100), 5, 7)
    assert figures["kenlm"] == "not installed: pip install kenlm"
    for way in kenlm.WAYS:
        assert figures[f"tokens_per_second_{way}"] is None
        assert figures[f"ratio_to_{way}"] is None


def test_every_way_to_ask_kenlm_gives_the_same(rng):
    pytest.importorskip("kenlm")
    tokens = rng.integers(0, 5, 400)
    words = [str(token) for token in tokens]
    by_call, by_generator, at_once = (
        ask() for ask in kenlm.load(words[:200], words[200:], 3).values()
    )
    assert len(by_call) == 200
    assert by_call == by_generator
    assert at_once == pytest.approx(sum(by_call), rel=1e-5)
    figures = kenlm.measure(tokens, 5, 7)
    assert (figures["kenlm_order"], figures["kenlm_tokens"]) == (5, 200)
    for way in kenlm.WAYS:
        assert figures[f"tokens_per_second_{way}"] > 0
        assert figures[f"ratio_to_{way}"] > 0


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


def test_the_peer_finds_the_same_matches(rng):
    tokens = np.concatenate([rng.integers(0, 30, 500)] * 2)
    ours = MatchModel(vocab_size=30, min_length=4).observe(tokens)
    peer = python_dict.match(tokens.tolist(), 4)
    assert ours.hint[510:].tolist() == [hint for _, hint in peer[510:]]
    assert ours.length[510:].tolist() == [length for length, _ in peer[510:]]


def test_bench_mix_refuses_stages_that_are_not_the_mixer(monkeypatch, rng):
    tokens = np.tile(rng.integers(0, 9, 100), 10)
    mix.check_stages(tokens, 9, 3)
    monkeypatch.setattr(mix, "MIXING_DISCOUNT", 0.5)
    with pytest.raises(RuntimeError, match=r"the stages must cost what Mixer.score says, got .*"):
        mix.check_stages(tokens, 9, 3)


def test_the_models_numbers_are_those_of_its_distribution(rng):
    tokens = rng.integers(0, 7, 400)
    model = Bigram(tokens, 9)
    logits = model.logits(model.previous)
    p = np.exp(logits)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    hints = rng.integers(-1, 9, (400, 2))
    logprobs = model.lookup(model.previous, tokens, hints)
    np.testing.assert_allclose(logprobs.entropy, -(p * logits).sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(logprobs.log_p, logits[np.arange(400), tokens])
    np.testing.assert_allclose(logprobs.log_top, logits.max(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(logprobs.log_top, logits[np.arange(400), logprobs.top])
    chosen = np.where(hints < 0, -np.inf, np.take_along_axis(logits, np.maximum(hints, 0), axis=1))
    np.testing.assert_array_equal(logprobs.log_hints, chosen)


@pytest.mark.parametrize("act_order", [True, False])
def test_gptq_is_the_published_algorithm(rng, act_order):
    weight = rng.standard_normal((6, 40)).astype(np.float32)
    inputs = rng.standard_normal((200, 40)) @ rng.standard_normal((40, 40))
    hessian = inputs.T @ inputs / len(inputs)
    q = gptq(weight, hessian, bits=4, clip="sd:2.5", act_order=act_order)
    scales = torch.from_numpy(q.arrays["scales"]).flatten()
    decoded = published_gptq.quantize(
        torch.from_numpy(weight), torch.from_numpy(hessian).float(), 4, scales, act_order
    )
    np.testing.assert_allclose(q.matrix(), decoded, rtol=1e-5, atol=1e-6)
