"""The peers of a bench do the work that they are timed for."""

import numpy as np
import pytest

from eval.bench import python_dict, token_walk
from eval.bench.sampler import synthesize
from ngrammix import Evidence, NgramCache


@pytest.mark.kernels
def test_the_peers_find_the_same_evidence(rng):
    tokens, order = rng.integers(0, 5, 2000), 4
    cache = NgramCache(order=order, vocab_size=5)
    ours = cache.observe(tokens)

    walked = Evidence.allocate(order, len(tokens))
    state = token_walk.allocate(order, cache)
    for part in (slice(0, 700), slice(700, None)):
        piece = Evidence.allocate(order, len(tokens[part]))
        token_walk.observe(tokens[part], state, piece, part.start)
        walked.fields[:, part] = piece.fields
        walked.discounts[:, part] = piece.discounts
    np.testing.assert_array_equal(walked.fields, ours.fields)
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
                assert [row[f] for f in checked] == [ours.fields[k, i, f] for f in checked]


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
