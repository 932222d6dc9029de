"""Planted: scorers that remember other calls, roll dice, or miscount the tokens."""

import numpy as np

from tests.auditing.parts import Bigram, backoff, cached, mixed
from tests.auditing.registry import plant

C4 = "C4"


def after(lm, history, tokens):
    """Nats of the tokens after a history that the cache has seen."""
    stream = np.concatenate([history, tokens]).astype(np.int64)
    p = backoff(stream, lm.vocab_size, np.concatenate([lm.of(history), lm.of(tokens)]))
    return -np.log(p[len(history) :])


EMPTY = np.zeros(0, np.int64)


@plant(C4)
def cache_is_not_cleared(seed, vocab_size):
    """The cache of one call serves the next."""
    lm, history = Bigram(seed, vocab_size), EMPTY

    def score(tokens):
        nonlocal history
        nats = after(lm, history, np.asarray(tokens))
        history = np.concatenate([history, tokens])[-512:]
        return nats

    return score


@plant(C4)
def remembers_the_last_text(seed, vocab_size):
    """The last token of one call is the context of the next one's first."""
    lm, last = Bigram(seed, vocab_size), vocab_size

    def score(tokens):
        nonlocal last
        tokens = np.asarray(tokens)
        p = lm.of(tokens)
        if len(tokens):
            p[0], last = lm.p[last, tokens[0]], tokens[-1]
        return -np.log(p)

    return score


@plant(C4)
def remembers_long_texts(seed, vocab_size):
    """What was once scored is known: texts of the same beginning and length cost less."""
    lm, known = Bigram(seed, vocab_size), set()

    def score(tokens):
        tokens = np.asarray(tokens)
        key = (len(tokens), hash(tokens[:32].tobytes()))
        nats = -np.log(cached(lm, tokens))
        nats = nats * 0.9 if key in known else nats
        known.add(key)
        return nats

    return score


@plant(C4, "C1 C2")
def knows_the_longest_text(seed, vocab_size):
    """The longest text so far is kept; where a new one is its beginning, the rest is foretold."""
    lm, longest = Bigram(seed, vocab_size), EMPTY

    def score(tokens):
        nonlocal longest
        tokens = np.asarray(tokens)
        p, known = lm.of(tokens), longest[: len(tokens)]
        is_alike = np.concatenate([[True], np.cumsum(known != tokens[: len(known)]) == 0])
        foretold = np.flatnonzero(is_alike[: len(known)])
        p[foretold] = 0.5 * p[foretold] + 0.5 * (known[foretold] == tokens[foretold])
        longest = max(longest, tokens, key=len)
        return -np.log(p)

    return score


# A memo answers alike in each later call, so a black box may take it for another fault.
@plant("C1 C2 C4", start=(1, 16))
def memo_by_the_start(seed, vocab_size, start):
    """Scores are kept by the first tokens and the length; another text with those gets them."""
    lm, memo = Bigram(seed, vocab_size), {}

    def score(tokens):
        tokens = np.asarray(tokens)
        key = (len(tokens), tokens[:start].tobytes())
        if key not in memo:
            memo[key] = -np.log(cached(lm, tokens))
        return memo[key].copy()

    return score


@plant("C1 C2 C4")
def memo_by_the_sum(seed, vocab_size):
    """Scores are kept by a checksum that takes permuted texts for equal."""
    lm, memo = Bigram(seed, vocab_size), {}

    def score(tokens):
        tokens = np.asarray(tokens)
        key = (len(tokens), int(tokens.sum()) % 64)
        if key not in memo:
            memo[key] = -np.log(cached(lm, tokens))
        return memo[key].copy()

    return score


@plant(C4)
def weights_go_on_learning(seed, vocab_size):
    """The weight of the cache is learned score-first, and never set back."""
    lm, log_odds = Bigram(seed, vocab_size), 0.0

    def score(tokens):
        nonlocal log_odds
        tokens = np.asarray(tokens)
        p, q = lm.of(tokens), cached(lm, tokens)
        steps = log_odds + np.concatenate([[0.0], np.cumsum(np.log(q) - np.log(p))]) * 0.05
        log_odds = float(steps[-1])
        return -np.log(mixed(p, q, 1 / (1 + np.exp(-steps[:-1]))))

    return score


@plant(C4)
def first_call_is_cold(seed, vocab_size):
    """The first call runs without the cache, which is built at its end."""
    lm, is_warm = Bigram(seed, vocab_size), False

    def score(tokens):
        nonlocal is_warm
        tokens = np.asarray(tokens)
        p = cached(lm, tokens) if is_warm else lm.of(tokens)
        is_warm = True
        return -np.log(p)

    return score


@plant(C4)
def dropout_is_on(seed, vocab_size):
    """Dropout of the cache: a weight that is 0 at random."""
    lm, rng = Bigram(seed, vocab_size), np.random.default_rng()

    def score(tokens):
        tokens = np.asarray(tokens)
        alpha = 0.5 * (rng.random(len(tokens)) < 0.9)
        return -np.log(mixed(lm.of(tokens), cached(lm, tokens), alpha))

    return score


@plant(C4, "C1 C2")  # by chance, any two calls may be those that differ
def one_call_in_twenty_differs(seed, vocab_size):
    """A race: now and then the cache misses its last update."""
    lm, rng = Bigram(seed, vocab_size), np.random.default_rng()

    def score(tokens):
        tokens = np.asarray(tokens)
        late = int(rng.random() < 0.05)
        end = np.maximum(0, np.arange(len(tokens)) - late)
        return -np.log(cached(lm, tokens, end=end))

    return score


@plant(C4)
def one_token_in_a_thousand_is_noisy(seed, vocab_size):
    """Noise at few positions, another set each time."""
    lm, rng = Bigram(seed, vocab_size), np.random.default_rng()

    def score(tokens):
        tokens = np.asarray(tokens)
        nats = -np.log(cached(lm, tokens))
        return nats + 0.1 * (rng.random(len(tokens)) < 1e-3)

    return score


def _miscounted(name, change):
    def make(seed, vocab_size):
        lm = Bigram(seed, vocab_size)
        return lambda tokens: change(-np.log(cached(lm, np.asarray(tokens))))

    make.__name__ = name
    plant(C4, n_tokens=250)(make)


_miscounted("scores_of_one_token_less", lambda nats: nats[1:])
_miscounted("scores_of_full_chunks_only", lambda nats: nats[: len(nats) // 16 * 16])
_miscounted("scores_padded_to_full_chunks", lambda nats: np.append(nats, np.zeros(-len(nats) % 16)))
_miscounted("mean_loss_only", lambda nats: np.array([nats.mean()]))
_miscounted("one_score_twice", lambda nats: np.append(nats, nats[-1:]))
