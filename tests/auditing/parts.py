"""Parts of small scorers: counts of what came before, a bigram model, a stream of documents.

Whatever a cache knows at position t is a count over positions before some limit. The limit t is
honest. Most leaks are another limit: the end of the chunk, the end of the stream, t + 1.
"""

import numpy as np

BOS = 0  # begins each document


def count(keys, end, begin=0, asked=None):
    """How many of keys[begin[t]:end[t]] equal asked[t], for each t. By default asked = keys."""
    n = len(keys)
    asked = keys if asked is None else asked
    places = np.sort(keys * (n + 1) + np.arange(n))
    end = np.searchsorted(places, asked * (n + 1) + end)
    return np.maximum(0, end - np.searchsorted(places, asked * (n + 1) + begin))


def sum_before(keys, values):
    """Sum of the values at earlier positions of the same key, for each position."""
    order = np.argsort(keys, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(values[order])[:-1]])[: len(keys)]
    is_first = np.diff(keys[order], prepend=-1) != 0
    first = np.maximum.accumulate(np.where(is_first, np.arange(len(keys)), 0))
    sums = np.empty(len(keys))
    sums[order] = before - before[first]
    return sums


def last_place(keys, end):
    """The last position before end[t] of the same key as position t; -1 if there is none."""
    n = len(keys)
    places = np.sort(keys * (n + 1) + np.arange(n))
    place = np.searchsorted(places, keys * (n + 1) + end) - 1
    found = places[np.maximum(place, 0)]
    return np.where((place >= 0) & (found // (n + 1) == keys), found % (n + 1), -1)


def contexts(tokens, length, vocab_size):
    """A number for the `length` tokens before each position; before the stream stands token V."""
    key = np.zeros(len(tokens), np.int64)
    for back in range(length, 0, -1):
        earlier = np.concatenate([np.full(back, vocab_size), tokens])[: len(tokens)]
        key = key * (vocab_size + 1) + earlier
    return key


def hashed(keys, n_buckets):
    """A bucket for each key: multiplied by an odd number of 64 bits, and the upper bits taken."""
    spread = keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)
    return spread.astype(np.int64) % n_buckets


def backoff(tokens, vocab_size, base, end=None, begin=0, order=3, strength=2.0):
    """Probability of each token: n-gram counts over `base`, from short to long (Dirichlet).

    They sum to 1 over the vocabulary if those of `base` do and `end` is not after the position.
    """
    end = np.arange(len(tokens)) if end is None else end
    p = base
    for length in range(order):
        context = contexts(tokens, length, vocab_size)
        pair = context * (vocab_size + 1) + tokens
        seen = count(pair, end, begin)
        p = (seen + strength * p) / (count(context, end, begin) + strength)
    return p


class Bigram:
    """A fixed bigram model: `p` (V + 1, V), the row V for the start; Zipf's law and noise."""

    def __init__(self, seed, vocab_size, noise=1.5):
        rng = np.random.default_rng(seed)
        self.vocab_size = vocab_size
        logits = -np.log1p(rng.permutation(vocab_size)) + rng.normal(
            0, noise, (vocab_size + 1, vocab_size)
        )
        self.p = np.exp(logits - logits.max(1, keepdims=True))
        self.p /= self.p.sum(1, keepdims=True)
        self.entropy = -(self.p * np.log(self.p)).sum(1)
        self._tables = {}

    def table(self, name, make):
        """make(p), made once."""
        if name not in self._tables:
            self._tables[name] = make(self.p)
        return self._tables[name]

    def rows(self, tokens):
        """The row that each token is drawn from."""
        return np.concatenate([[self.vocab_size], tokens])[: len(tokens)]

    def of(self, tokens):
        """Probability of each token."""
        return self.p[self.rows(tokens), tokens]


def cached(lm, tokens, **options):
    """Probability of each token, by an honest cache over the model; options as of `backoff`."""
    return backoff(tokens, lm.vocab_size, lm.of(tokens), **options)


def mixed(p, q, alpha):
    """A mixture of two probabilities of each token, of which q has the weight alpha."""
    return (1 - alpha) * p + alpha * q


def text(seed, vocab_size, n_tokens):
    """A stream of documents: a bigram source, phrases that come again, and token 0 before each."""
    rng = np.random.default_rng([seed, 1])
    source = Bigram([seed, 2], vocab_size)
    tokens = [BOS]
    while len(tokens) < n_tokens:
        draw = rng.random()
        if draw < 0.02:
            tokens.append(BOS)
        elif draw < 0.06 and len(tokens) > 16:
            begin = int(rng.integers(len(tokens) - 8))
            tokens += tokens[begin : begin + int(rng.integers(3, 24))]
        else:
            ladder = np.cumsum(source.p[tokens[-1]])
            tokens.append(min(int(np.searchsorted(ladder, rng.random())), vocab_size - 1))
    return np.array(tokens[:n_tokens])
