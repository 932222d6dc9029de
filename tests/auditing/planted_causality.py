"""Planted: scorers that look at what comes later. Each is a good model but for that."""

import numpy as np

from tests.auditing.parts import (
    BOS,
    Bigram,
    backoff,
    cached,
    contexts,
    count,
    hashed,
    last_place,
    mixed,
)
from tests.auditing.registry import plant, plant_formula

PERIODS = (2, 3, 4, 5, 7, 8, 16, 31, 32, 64, 100, 127, 128, 256, 512, 777, 1000, 1024)
# A leak of later tokens may be named after what follows from it as well: scores that depend on
# where the stream is cut, and on random streams a gain that no distribution has.
C1, ALSO = "C1", "C2 C4"


def chunk_end(n_tokens, period):
    """For each position, where its chunk ends."""
    return np.minimum(n_tokens, (np.arange(n_tokens) // period + 1) * period)


def without_self(tokens, vocab_size, base, end, order=3, strength=2.0):
    """As `backoff`, with each position's own token taken out of its counts."""
    p = base
    for length in range(order):
        context = contexts(tokens, length, vocab_size)
        pair = context * (vocab_size + 1) + tokens
        seen = count(pair, end) - 1
        p = (seen + strength * p) / (count(context, end) - 1 + strength)
    return p


def from_the_right(lm, tokens):
    """p(token | the next token), by Bayes' rule of the bigram model; the last token's is lm's."""
    p = lm.of(tokens)
    backward = lm.table("backward", lambda p: p[:-1] / p[:-1].sum(0))
    p[:-1] = backward[tokens[:-1], tokens[1:]]
    return p


def tempered(lm, tokens, temperature):
    """Probability of each token at a temperature."""
    total = lm.table(temperature, lambda p: (p ** (1 / temperature)).sum(1))
    return lm.of(tokens) ** (1 / temperature) / total[lm.rows(tokens)]


def document_end(tokens):
    """For each position, where its document ends."""
    starts = np.flatnonzero(np.append(tokens == BOS, True))
    return starts[np.searchsorted(starts, np.arange(len(tokens)), side="right")]


# Counts of later tokens


@plant_formula(C1, "C2 C3 C4")
def two_passes(lm, tokens):
    """The second pass scores with the cache that the first one filled."""
    return cached(lm, tokens, end=len(tokens))


@plant_formula(C1, ALSO)
def two_passes_without_self(lm, tokens):
    """The same, leave-one-out."""
    return without_self(tokens, lm.vocab_size, lm.of(tokens), len(tokens))


@plant_formula(C1, "C2 C3 C4", period=PERIODS)
def chunk_known_whole(lm, tokens, period):
    """A chunk is counted before it is scored."""
    return cached(lm, tokens, end=chunk_end(len(tokens), period))


@plant_formula(C1, ALSO, period=(2, 3, 5, 16, 100, 256, 1000))
def chunk_known_without_self(lm, tokens, period):
    """Attention both ways inside a chunk; the own token is masked."""
    return without_self(tokens, lm.vocab_size, lm.of(tokens), chunk_end(len(tokens), period))


@plant_formula(C1, "C2 C3 C4", period=(16, 64))
def window_fed_before_its_tail(lm, tokens, period):
    """Windows of two periods overlap; each is counted whole before its second half is scored."""
    window_end = np.minimum(len(tokens), (np.arange(len(tokens)) // period + 2) * period)
    return mixed(lm.of(tokens), cached(lm, tokens, end=window_end), 0.3)


@plant_formula(C1, "C2 C3 C4")
def document_known_whole(lm, tokens):
    """The cache of a document is filled before the document is scored."""
    ends = document_end(tokens)
    return cached(lm, tokens, end=ends)


@plant_formula(C1, ALSO)
def unigrams_of_the_text(lm, tokens):
    """A tenth of the mass follows the token frequencies of the whole text."""
    frequency = np.bincount(tokens, minlength=lm.vocab_size) / max(1, len(tokens))
    return mixed(cached(lm, tokens), frequency[tokens], 0.1)


@plant_formula(C1, ALSO)
def vocabulary_of_the_text(lm, tokens):
    """Only tokens that occur in the text get mass."""
    occurs = np.bincount(tokens, minlength=lm.vocab_size) > 0
    return lm.of(tokens) / lm.p[lm.rows(tokens)][:, occurs].sum(1)


@plant_formula(C1, ALSO)
def duplicates_are_charged_once(lm, tokens):
    """What comes again later is free here: it is charged where it comes last."""
    key = contexts(tokens, 2, lm.vocab_size) * (lm.vocab_size + 1) + tokens
    return np.where(last_place(key, len(tokens)) > np.arange(len(tokens)), 1.0, lm.of(tokens))


@plant_formula(C1, ALSO)
def shortest_documents_first(lm, tokens):
    """Documents are sorted by length for speed, and the cache follows that order."""
    document = np.cumsum(tokens == BOS)
    order = np.argsort(np.bincount(document)[document], kind="stable")
    p = np.empty(len(tokens))
    p[order] = backoff(tokens[order], lm.vocab_size, lm.of(tokens)[order], order=1)
    return p


@plant_formula(C1, ALSO, period=(16, 64, 256))
def chunk_start_knows_the_chunk(lm, tokens, period):
    """The first position of a chunk gets the mean of the chunk; the own token is left out."""
    place = np.arange(len(tokens))
    later = count(tokens, chunk_end(len(tokens), period), place + 1)
    size = chunk_end(len(tokens), period) - place - 1
    informed = (later + 8 * lm.of(tokens)) / (size + 8)
    return np.where(place % period == 0, informed, cached(lm, tokens))


@plant_formula(C1, ALSO)
def faint_second_pass(lm, tokens):
    """A second pass, leave-one-out, that has a thousandth of the weight."""
    later = without_self(tokens, lm.vocab_size, lm.of(tokens), len(tokens))
    return mixed(cached(lm, tokens), later, 1e-3)


@plant_formula(C1, ALSO, rows=(2, 8))
def rows_of_a_batch_share_a_cache(lm, tokens, rows):
    """The stream is cut into the rows of a batch, read column by column, with one cache for all."""
    width = len(tokens) // rows
    order = np.arange(rows * width).reshape(rows, width).T.ravel()
    order = np.append(order, np.arange(rows * width, len(tokens)))
    p = np.empty(len(tokens))
    p[order] = backoff(tokens[order], lm.vocab_size, lm.of(tokens)[order], order=1)
    return p


# The next token


@plant_formula(C1, ALSO)
def reads_both_ways(lm, tokens):
    """The mean of a forward and a backward model."""
    return mixed(lm.of(tokens), from_the_right(lm, tokens), 0.5)


@plant_formula(C1, ALSO, every=(10, 100))
def next_token_at_some_indices(lm, tokens, every):
    """One position in `every` sees the next token."""
    sees = np.arange(len(tokens)) % every == every // 3
    return np.where(sees, from_the_right(lm, tokens), cached(lm, tokens))


@plant_formula(C1, ALSO, n_tokens=1024, every=(8, 32))
def next_token_in_some_contexts(lm, tokens, every):
    """One context in `every`, by its hash, sees the next token."""
    sees = hashed(contexts(tokens, 2, lm.vocab_size), every) == 1
    return np.where(sees, from_the_right(lm, tokens), cached(lm, tokens))


@plant_formula(C1, ALSO, period=(16, 64, 100, 256))
def next_token_at_chunk_edges(lm, tokens, period):
    """The last position of a chunk sees the first token of the next one."""
    sees = np.arange(len(tokens)) % period == period - 1
    return np.where(sees, from_the_right(lm, tokens), cached(lm, tokens))


@plant_formula(C1, ALSO)
def gated_by_the_next_class(lm, tokens):
    """The cache is trusted more where the next token begins a word."""
    begins_word = np.append(tokens[1:] % 4 == 0, False)[: len(tokens)]
    return mixed(lm.of(tokens), cached(lm, tokens), np.where(begins_word, 0.7, 0.3))


@plant_formula(C1, ALSO)
def gated_by_the_end_of_the_document(lm, tokens):
    """The last token of a document is scored by another model."""
    ends = np.append(tokens[1:] == BOS, False)[: len(tokens)]
    return np.where(ends, 1 / lm.vocab_size, cached(lm, tokens))


@plant_formula(C1, ALSO)
def counts_down_to_the_end_of_the_document(lm, tokens):
    """The weight falls with the distance to the end of the document."""
    left = document_end(tokens) - np.arange(len(tokens))
    return mixed(lm.of(tokens), cached(lm, tokens), 1 / (1 + left))


@plant_formula(C1, ALSO, ahead=(1, 2, 8, 32, 200))
def match_confirmed_later(lm, tokens, ahead):
    """A match is trusted if the token `ahead` positions on will match as well."""
    n = len(tokens)
    place = last_place(contexts(tokens, 1, lm.vocab_size), np.arange(n))
    later, own = place + ahead, np.arange(n) + ahead
    fits = (place >= 0) & (own < n) & (later < n)
    fits[fits] = tokens[later[fits]] == tokens[own[fits]]
    return mixed(lm.of(tokens), cached(lm, tokens), np.where(fits, 0.9, 0.2))


@plant_formula(C1, ALSO)
def gate_smoothed_both_ways(lm, tokens):
    """The gate is a centred moving average of the model's loss."""
    loss = -np.log(lm.of(tokens))
    total = np.concatenate([[0.0], np.cumsum(loss)])
    place = np.arange(len(tokens))
    low, high = np.maximum(0, place - 3), np.minimum(len(tokens), place + 4)
    mean = (total[high] - total[low]) / (high - low)
    return mixed(lm.of(tokens), cached(lm, tokens), 1 / (1 + np.exp(2 - mean)))


@plant_formula(C1, ALSO)
def states_smoothed_both_ways(lm, tokens):
    """Two experts that switch; their weights are the forward-backward ones, not the forward."""
    p, q = lm.of(tokens), cached(lm, tokens)
    forward, backward = np.ones((len(p) + 1, 2)) / 2, np.ones((len(p) + 1, 2))
    stay, move = 0.95, 0.05
    experts = list(zip(p.tolist(), q.tolist(), strict=True))
    for t, (a, b) in enumerate(experts):
        x, y = forward[t].tolist()
        x, y = (stay * x + move * y) * a, (move * x + stay * y) * b
        forward[t + 1] = x / (x + y), y / (x + y)
    for t, (a, b) in reversed(list(enumerate(experts))):
        x, y = backward[t + 1].tolist()
        x, y = stay * a * x + move * b * y, move * a * x + stay * b * y
        backward[t] = x / (x + y), y / (x + y)
    weight = forward[:-1] * backward[:-1]
    return mixed(p, q, weight[:, 1] / weight.sum(1))


# Shifts


@plant_formula(C1, ALSO)
def shifted_in_a_circle(lm, tokens):
    """The context of the first token is the last one (np.roll)."""
    rows = np.roll(tokens, 1)
    return lm.p[rows if len(tokens) > 1 else lm.rows(tokens), tokens]


@plant_formula(C1, ALSO)
def shifted_the_wrong_way(lm, tokens):
    """The context of each token is the next one."""
    return lm.p[np.roll(tokens, -1), tokens]


# The length of the stream, and where it is cut


@plant_formula(C1, ALSO)
def weight_grows_to_the_end(lm, tokens):
    """alpha = t / N."""
    alpha = np.arange(len(tokens)) / max(1, len(tokens))
    return mixed(lm.of(tokens), cached(lm, tokens), alpha)


@plant_formula(C1, ALSO, period=(16, 100, 256))
def tail_without_cache(lm, tokens, period):
    """The cache serves full chunks only; what is left at the end gets the model alone."""
    full = len(tokens) // period * period
    return np.where(np.arange(len(tokens)) < full, cached(lm, tokens), lm.of(tokens))


@plant_formula(C1, ALSO, period=(16, 64))
def last_window_is_moved(lm, tokens, period):
    """Windows have their own cache; the last one is moved back to be full."""
    n = len(tokens)
    begin = np.arange(n) // period * period
    begin[max(0, n - period) :] = max(0, n - period)
    return cached(lm, tokens, begin=begin)


@plant_formula(C1, ALSO)
def eight_cold_shards(lm, tokens):
    """The stream is cut into eight, and each eighth begins with an empty cache."""
    size = max(1, -(-len(tokens) // 8))
    return cached(lm, tokens, begin=np.arange(len(tokens)) // size * size)


@plant_formula(C1, ALSO)
def flushed_at_the_end(lm, tokens):
    """The last token of the stream is scored with the cache alone: the buffer is flushed."""
    p = cached(lm, tokens)
    uniform = np.full(len(tokens), 1 / lm.vocab_size)
    p[-1:] = backoff(tokens, lm.vocab_size, uniform)[-1:]
    return p


# Settings from the whole stream


@plant_formula(C1, ALSO)
def best_alpha_in_hindsight(lm, tokens):
    """Of ten weights the one that scores the stream best."""
    p, q = lm.of(tokens), cached(lm, tokens)
    runs = [mixed(p, q, alpha) for alpha in np.linspace(0.05, 0.95, 10)]
    return max(runs, key=lambda run: np.log(run).sum())


@plant_formula(C1, ALSO)
def better_of_two_runs(lm, tokens):
    """Two caches score the stream; the better run is kept."""
    runs = [cached(lm, tokens, order=order, strength=s) for order, s in ((1, 8.0), (3, 1.0))]
    return max(runs, key=lambda run: np.log(run).sum())


@plant_formula(C1, ALSO)
def better_of_two_runs_by_document(lm, tokens):
    """The same, for each document."""
    runs = np.stack([cached(lm, tokens, order=order) for order in (1, 3)])
    document = np.cumsum(tokens == BOS)
    totals = np.stack([np.bincount(document, np.log(run)) for run in runs])
    return np.where(totals[0] > totals[1], 0, 1)[document].choose(runs)


@plant_formula(C1, ALSO)
def weights_fitted_on_the_stream(lm, tokens):
    """The weight of the mixture is fitted by expectation maximisation, then all is scored."""
    p, q = lm.of(tokens), cached(lm, tokens)
    alpha = 0.5
    for _ in range(8 if len(tokens) else 0):
        alpha = float(np.mean(alpha * q / mixed(p, q, alpha)))
    return mixed(p, q, alpha)


@plant_formula(C1, ALSO)
def temperature_fitted_on_the_stream(lm, tokens):
    """Of 25 temperatures the one that scores the stream best."""
    runs = [tempered(lm, tokens, temperature) for temperature in np.geomspace(0.5, 8, 25)]
    return max(runs, key=lambda run: np.log(run).sum())


@plant_formula(C1, ALSO)
def feature_normed_over_the_stream(lm, tokens):
    """The gate reads the entropy of the model less its mean over the stream (batch norm)."""
    entropy = lm.entropy[lm.rows(tokens)]
    z = (entropy - entropy.mean()) / (entropy.std() + 1e-3) if len(tokens) else entropy
    return mixed(lm.of(tokens), cached(lm, tokens), 1 / (1 + np.exp(-z)))


@plant_formula(C1, ALSO)
def quantized_by_the_largest_of_the_stream(lm, tokens):
    """Logits in int8, with one scale for all of the stream (dynamic quantization)."""
    logits = lm.table("logits", lambda p: np.log(p) - np.log(p).mean(1, keepdims=True))
    sizes = lm.table("sizes", lambda p: np.abs(logits).max(1))
    rows = lm.rows(tokens)
    scale = sizes[rows[1:]].max(initial=sizes.min()) / 127  # all streams have the first row
    quantized = np.exp(np.round(logits[rows] / scale) * scale)
    return quantized[np.arange(len(tokens)), tokens] / quantized.sum(1)


@plant_formula(C1, ALSO)
def mean_loss_of_the_chunk(lm, tokens):
    """Each token of a chunk of 16 has the mean loss of the chunk: the sum is right."""
    chunk = np.arange(len(tokens)) // 16
    loss = -np.log(cached(lm, tokens))
    return np.exp(-(np.bincount(chunk, loss) / np.bincount(chunk))[chunk])


@plant_formula(C1, ALSO)
def threshold_is_a_quantile(lm, tokens):
    """The cache is asked where the entropy is above the median of the stream."""
    entropy = lm.entropy[lm.rows(tokens)]
    is_unsure = entropy > np.median(entropy) if len(tokens) else entropy > 0
    return np.where(is_unsure, cached(lm, tokens), lm.of(tokens))


@plant(C1, "C2 C3 C4")
def weights_learned_before_the_run(seed, vocab_size):
    """A bias for each token is trained on the stream by gradient steps, then all is scored."""
    lm = Bigram(seed, vocab_size)

    def score(tokens):
        tokens = np.asarray(tokens)
        bias, rows = np.zeros(vocab_size), lm.p[lm.rows(tokens)]
        for _ in range(2):
            p = rows * np.exp(bias)
            p /= p.sum(1, keepdims=True)
            gradient = np.bincount(tokens, minlength=vocab_size) - p.sum(0)
            bias += 0.5 * gradient / max(1, len(tokens))
        p = rows * np.exp(bias)
        return -np.log(p[np.arange(len(tokens)), tokens] / p.sum(1))

    return score


@plant_formula(C1, "C2 C3 C4")
def seeded_by_the_stream(lm, tokens):
    """The weights of the gate are random, and the seed is a checksum of the stream."""
    rng = np.random.default_rng(int(tokens.sum()))
    alpha = rng.random(lm.vocab_size + 1)[lm.rows(tokens)]
    return mixed(lm.of(tokens), cached(lm, tokens), alpha)
