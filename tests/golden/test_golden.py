"""Frozen figures: a change of any of them must be meant, and named in the CHANGELOG.

``python tests/golden/test_golden.py`` writes the file anew; no test ever does.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from ngrammix import Mixer, NgramCache
from ngrammix.cache.kneser_ney import log_target_probability

FILE = Path(__file__).with_name("golden.json")


def stream(n_tokens=20_000, vocab_size=50):
    """Tokens that come back: an order-2 walk of a linear congruential generator, no numpy in it."""
    state, tokens = 1, [0, 0]
    while len(tokens) < n_tokens:
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64
        noise = state >> 33
        fresh = noise % 5 == 0
        tokens.append(
            noise // 5 % vocab_size if fresh else (3 * tokens[-1] + 7 * tokens[-2] + 1) % 50
        )
    return np.array(tokens)


def figures():
    """What the cache and the mixer say of the stream."""
    tokens = stream()
    logits = np.cos(np.outer(tokens, np.arange(50)) % 17)
    logits = np.concatenate([logits[:1], logits[:-1]])
    golden = {}
    for order in (1, 2, 7, 12):
        cache = NgramCache(vocab_size=50, order=order)
        evidence = cache.observe(tokens)
        mixer = Mixer(vocab_size=50, order=order)
        nats = mixer.score(logits, tokens)
        golden[str(order)] = {
            "evidence_sha256": hashlib.sha256(evidence._columns.tobytes()).hexdigest(),
            "discounts_sha256": hashlib.sha256(evidence.discounts.tobytes()).hexdigest(),
            "ngrams": len(cache),
            "bits_cache": -log_target_probability(evidence, 50).sum() / math.log(2),
            "bits": nats.sum() / math.log(2),
            "regret_bits": mixer.regret_bits,
        }
    return golden


@pytest.mark.parametrize("order", ["1", "2", "7", "12"])
def test_figures_are_those_of_the_file(order):
    expected, found = json.loads(FILE.read_text())[order], figures()[order]
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value, rel=1e-9) if "bits" in key else value), key


def test_a_real_models_fineweb_tokens(parameter_golf):
    """The trial mixers reached 0.0518 BPB cold and 0.1016 warm on these tokens."""
    logits, targets, head, tail = parameter_golf
    gains = []
    for prefill in ([head[204799:204800]], [head[270336:], tail, head[:204800]]):
        mixer = Mixer(vocab_size=1024, order=7)
        for tokens in prefill:
            mixer.learn(tokens)
        trace = mixer.trace(logits, targets)
        assert trace.nats_model.sum() / math.log(2) / 158_557 == pytest.approx(1.7754, abs=5e-5)
        gains.append(float((trace.nats_model - trace.nats).sum()) / math.log(2) / 158_557)
    assert gains == [pytest.approx(0.0654, abs=1e-4), pytest.approx(0.1252, abs=1e-4)]


def test_the_fineweb_tail_makes_this_many_rows(shared):
    path = shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin")
    cache = NgramCache(vocab_size=1024, order=7)
    cache.learn(np.fromfile(path, "<u2", offset=1024))
    assert (cache.position, len(cache)) == (2_021_846, 2_720_877)
    cache.check()


if __name__ == "__main__":
    FILE.write_text(json.dumps(figures(), indent=2) + "\n")
