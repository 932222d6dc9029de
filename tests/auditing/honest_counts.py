"""Honest: scorers that count. Whatever they do, p(. | prefix) sums to 1 and the prefix is all."""

import numpy as np

from tests.auditing.parts import (
    BOS,
    Bigram,
    cached,
    contexts,
    count,
    last_place,
    mixed,
    sum_before,
)
from tests.auditing.registry import honest, honest_formula


def uniform_p(lm, tokens):
    return np.full(len(tokens), 1 / lm.vocab_size)


def places(tokens):
    return np.arange(len(tokens))


def log_odds_gate(values):
    return 1 / (1 + np.exp(-values))


@honest_formula
def uniform(lm, tokens):
    """1 / V."""
    return uniform_p(lm, tokens)


@honest_formula
def laplace(lm, tokens):
    """(n + 1) / (N + V)."""
    return (count(tokens, places(tokens)) + 1) / (places(tokens) + lm.vocab_size)


@honest_formula
def krichevsky_trofimov(lm, tokens):
    """(n + 1/2) / (N + V/2)."""
    return (count(tokens, places(tokens)) + 0.5) / (places(tokens) + lm.vocab_size / 2)


@honest_formula
def bigram(lm, tokens):
    """A fixed model."""
    return lm.of(tokens)


@honest_formula
def dirichlet_backoff(lm, tokens):
    """Counts of orders 1 to 3 over the model."""
    return cached(lm, tokens)


@honest_formula
def earlier_tokens_counted_thrice(lm, tokens):
    """Overlapping windows count each earlier token three times: a strange model, but one."""
    return cached(lm, tokens, strength=2.0 / 3)


@honest_formula
def kneser_ney(lm, tokens):
    """Interpolated Kneser-Ney of order 3 with one discount; continuation counts below the top."""
    discount, size = 0.75, lm.vocab_size + 1
    p, is_counted = uniform_p(lm, tokens), np.ones(len(tokens))
    levels = []
    for length in (2, 1, 0):
        context = contexts(tokens, length, lm.vocab_size)
        pair = context * size + tokens
        seen, of = sum_before(pair, is_counted), sum_before(context, is_counted)
        is_new = is_counted * (seen == 0)
        levels.append((seen, of, sum_before(context, is_new)))
        is_counted = is_new  # the next lower order counts what is new to this one
    for seen, of, kinds in reversed(levels):
        kept = (np.maximum(seen - discount, 0) + discount * kinds * p) / np.maximum(of, 1)
        p = np.where(of > 0, kept, p)
    return p


@honest()
def ppm(seed, vocab_size):
    """PPM-C of order 2 with exclusion: an escape goes to tokens that the longer context lacks."""

    def probabilities(tables, prefix):
        p, is_open, left = np.zeros(vocab_size), np.ones(vocab_size, bool), 1.0
        for length in (2, 1, 0):
            if len(prefix) < length:
                continue
            followers = tables.get(tuple(prefix[len(prefix) - length :]), {})
            live = [(v, n) for v, n in followers.items() if is_open[v]]
            if not live:
                continue
            kinds, total = len(live), sum(n for _, n in live)
            escape = kinds if is_open.sum() > kinds else 0
            for v, n in live:
                p[v] += left * n / (total + escape)
                is_open[v] = False
            left *= escape / (total + escape)
        p[is_open] += left / max(1, is_open.sum())
        return p

    def score(tokens):
        tables, prefix, nats = {}, [], []
        for token in np.asarray(tokens).tolist():
            nats.append(-np.log(probabilities(tables, prefix)[token]))
            for length in range(min(2, len(prefix)) + 1):
                followers = tables.setdefault(tuple(prefix[len(prefix) - length :]), {})
                followers[token] = followers.get(token, 0) + 1
            prefix.append(token)
        return np.array(nats)

    return score


@honest_formula
def gated_by_entropy(lm, tokens):
    """The weight of the cache follows the model's entropy of the next token."""
    alpha = log_odds_gate(2 * (lm.entropy[lm.rows(tokens)] - 2))
    return mixed(lm.of(tokens), cached(lm, tokens), alpha)


@honest_formula
def gated_by_the_last_token(lm, tokens):
    """The weight is the class of the token before, and where in the chunk we are."""
    alpha = np.where(lm.rows(tokens) % 4 == 0, 0.8, 0.2) * np.where(places(tokens) % 100, 1, 0.1)
    return mixed(lm.of(tokens), cached(lm, tokens), alpha)


@honest_formula
def tilted_to_a_hint(lm, tokens):
    """p(x) e^(beta [x = hint]) / (1 + p(hint) (e^beta - 1))."""
    place = last_place(contexts(tokens, 2, lm.vocab_size), places(tokens))
    hint = tokens[place] if len(tokens) else tokens
    beta = np.where(place >= 0, 2.0, 0.0)
    z = 1 + lm.p[lm.rows(tokens), hint] * np.expm1(beta)
    return lm.of(tokens) * np.exp(beta * (hint == tokens)) / z


@honest_formula
def hashed_contexts(lm, tokens):
    """Contexts share 8 buckets, but the followers in a bucket are exact: it sums to 1."""
    bucket = contexts(tokens, 2, lm.vocab_size) * 40503 % 8
    seen = count(bucket * lm.vocab_size + tokens, places(tokens))
    return (seen + 4 * lm.of(tokens)) / (count(bucket, places(tokens)) + 4)


@honest_formula
def cache_of_the_document(lm, tokens):
    """The cache is emptied at each token 0."""
    starts = np.maximum.accumulate(np.where(lm.rows(tokens) == BOS, places(tokens), 0))
    return cached(lm, tokens, begin=starts)


@honest_formula
def cache_updated_by_chunks(lm, tokens):
    """The cache learns a chunk of 64 after it was scored."""
    return cached(lm, tokens, end=places(tokens) // 64 * 64)


@honest_formula
def cache_of_the_last_64_tokens(lm, tokens):
    """A sliding window."""
    return cached(lm, tokens, begin=np.maximum(0, places(tokens) - 64))


@honest_formula
def windows_with_a_stride(lm, tokens):
    """Windows of 64 at stride 32; each token is scored once, by the first window that has it."""
    begin = np.maximum(0, places(tokens) // 32 * 32 - 32)
    return cached(lm, tokens, begin=begin)


@honest()
def most_recent_tokens(seed, vocab_size):
    """A fifth of the mass is shared by the 16 distinct tokens used last (LRU)."""
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        tokens = np.asarray(tokens)
        recent, share = {}, np.zeros(len(tokens))
        for t, token in enumerate(tokens.tolist()):
            share[t] = (token in recent) / len(recent) if recent else 1 / vocab_size
            recent.pop(token, None)
            recent[token] = None
            if len(recent) > 16:
                del recent[next(iter(recent))]
        return -np.log(0.8 * lm.of(tokens) + 0.2 * share)

    return score


@honest_formula
def weighted_by_past_loss(lm, tokens):
    """Bayes weights of four experts, from the losses before the token."""
    experts = np.stack([lm.of(tokens), *(cached(lm, tokens, order=k) for k in (1, 2, 3))])
    loss = np.zeros_like(experts)
    loss[:, 1:] = -np.cumsum(np.log(experts), axis=1)[:, :-1]
    weights = np.exp(loss.min(0) - loss)
    return (weights * experts).sum(0) / weights.sum(0)


@honest_formula
def states_filtered_forward(lm, tokens):
    """Two experts that switch; the weights are the forward ones."""
    p, q, weight, out = lm.of(tokens), cached(lm, tokens), 0.5, []
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        weight = 0.95 * weight + 0.05 * (1 - weight)
        out.append(weight * a + (1 - weight) * b)
        weight *= a / out[-1]
    return np.array(out)


@honest()
def biases_trained_after_each_chunk(seed, vocab_size):
    """Test-time training: a chunk of 32 is scored, then a bias is trained on it."""
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        tokens = np.asarray(tokens)
        bias, nats = np.zeros(vocab_size), np.empty(len(tokens))
        rows = lm.rows(tokens)
        for begin in range(0, len(tokens), 32):
            chunk = slice(begin, min(begin + 32, len(tokens)))
            p = lm.p[rows[chunk]] * np.exp(bias)
            p /= p.sum(1, keepdims=True)
            nats[chunk] = -np.log(p[np.arange(len(p)), tokens[chunk]])
            bias += 0.1 * (np.bincount(tokens[chunk], minlength=vocab_size) - p.sum(0))
        return nats

    return score


@honest_formula
def gate_with_a_fixed_seed(lm, tokens):
    """Weights at random, but the same in each call."""
    alpha = np.random.default_rng(7).random(len(tokens))  # a longer stream has the same beginning
    return mixed(lm.of(tokens), cached(lm, tokens), alpha)


# Other numbers


@honest(rounding=1e-5)
def float32_scores(seed, vocab_size):
    lm = Bigram(seed, vocab_size)
    return lambda tokens: -np.log(cached(lm, np.asarray(tokens))).astype(np.float32)


@honest(rounding=1e-2)
def float16_scores(seed, vocab_size):
    lm = Bigram(seed, vocab_size)
    return lambda tokens: -np.log(cached(lm, np.asarray(tokens))).astype(np.float16)


@honest(rounding=1e-3)
def differences_of_a_running_total(seed, vocab_size):
    """The total is kept in float32, and scores are its differences: they get coarser."""
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        nats = -np.log(cached(lm, np.asarray(tokens)))
        return np.diff(np.cumsum(nats).astype(np.float32), prepend=np.float32(0))

    return score


@honest(rounding=1e-3)
def three_decimals(seed, vocab_size):
    """Scores are read from a printed log."""
    lm = Bigram(seed, vocab_size)
    return lambda tokens: np.round(-np.log(cached(lm, np.asarray(tokens))), 3)


@honest()
def keeps_what_a_prefix_cost(seed, vocab_size):
    """Scores of the beginning that a stream shares with the last one are taken from there."""
    lm, last, kept = Bigram(seed, vocab_size), np.zeros(0, np.int64), np.zeros(0)

    def score(tokens):
        nonlocal last, kept
        tokens = np.array(tokens)
        nats = -np.log(cached(lm, tokens))
        n = min(len(tokens), len(last))
        differs = np.flatnonzero(np.append(tokens[:n] != last[:n], True))[0]
        nats[:differs] = kept[:differs]
        last, kept = tokens, nats
        return nats.copy()

    return score


@honest()
def integer_frequencies(seed, vocab_size):
    """What a range coder takes: integers that sum to 2 ** 16 in each row."""
    lm = Bigram(seed, vocab_size)
    rows = 1 + np.floor(lm.p * (2**16 - vocab_size)).astype(np.int64)
    rows[np.arange(len(rows)), rows.argmax(1)] += 2**16 - rows.sum(1)
    lm.p = rows / 2**16
    return lambda tokens: -np.log(lm.of(np.asarray(tokens)))


@honest()
def scores_in_a_list(seed, vocab_size):
    lm = Bigram(seed, vocab_size)
    return lambda tokens: (-np.log(lm.of(np.asarray(tokens)))).tolist()


@honest()
def very_sure(seed, vocab_size):
    """Logits of a spread of 12: the best token costs nearly nothing, others 40 nats and more."""
    lm = Bigram(seed, vocab_size, noise=12.0)
    return lambda tokens: -np.log(lm.of(np.asarray(tokens)))


@honest()
def all_but_certain(seed, vocab_size):
    """Each token foretells one: probability 1 - 1e-12, and 1e-12 for all others together."""
    follower = np.random.default_rng(seed).permutation(vocab_size + 1) % vocab_size
    hit, miss = -np.log1p(-1e-12), -np.log(1e-12 / (vocab_size - 1))

    def score(tokens):
        tokens = np.asarray(tokens)
        rows = np.concatenate([[vocab_size], tokens])[: len(tokens)]
        return np.where(follower[rows] == tokens, hit, miss)

    return score


@honest()
def certain_after_some_tokens(seed, vocab_size):
    """After token 3 comes token 5 with probability 1, 0 nats; all others are impossible there."""
    lm = Bigram(seed, vocab_size)
    lm.p[3] = np.arange(vocab_size) == 5

    def score(tokens):
        with np.errstate(divide="ignore"):
            return -np.log(lm.of(np.asarray(tokens)))

    return score


# Odd manners


@honest()
def writes_into_its_input(seed, vocab_size):
    """The array that was handed in is used as a buffer."""
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        nats = -np.log(lm.of(np.asarray(tokens)))
        tokens[:] = 0
        return nats

    return score


@honest()
def writes_into_its_output(seed, vocab_size):
    """Scores are a view of one buffer, which the next call overwrites."""
    lm, buffer = Bigram(seed, vocab_size), np.zeros(1 << 16)

    def score(tokens):
        out = buffer[: len(tokens)]
        np.negative(np.log(cached(lm, np.asarray(tokens))), out=out)
        return out

    return score


@honest()
def seeds_the_global_generator(seed, vocab_size):
    """np.random is seeded in each call."""
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        np.random.seed(0)  # noqa: NPY002
        return -np.log(lm.of(np.asarray(tokens)))

    return score


@honest()
def refuses_an_empty_stream(seed, vocab_size):
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        if not len(tokens):
            raise ValueError("tokens must not be empty")
        return -np.log(lm.of(np.asarray(tokens)))

    return score
