"""Planted: scorers whose probabilities do not sum to 1, most often since they read the target."""

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
    sum_before,
)
from tests.auditing.planted_causality import tempered
from tests.auditing.registry import plant, plant_formula

C2, LEARNS = "C2", "C3"


def counts(lm, tokens, length, end=None, begin=0):
    """(count of context and token, count of context) before each position."""
    end = np.arange(len(tokens)) if end is None else end
    context = contexts(tokens, length, lm.vocab_size)
    pair = context * (lm.vocab_size + 1) + tokens
    return count(pair, end, begin), count(context, end, begin)


def hashed_counts(lm, tokens, length, n_buckets):
    """The same from two tables of `n_buckets`, one for n-grams and one for contexts."""
    place = np.arange(len(tokens))
    context = contexts(tokens, length, lm.vocab_size)
    pair = context * (lm.vocab_size + 1) + tokens
    return count(hashed(pair, n_buckets), place), count(hashed(context, n_buckets), place)


def ratio(seen, of):
    return np.minimum(seen, of) / np.maximum(of, 1)


def hint_of(lm, tokens, end=None, length=2):
    """(hint, whether there is one): the token that came last after the same context."""
    end = np.arange(len(tokens)) if end is None else end
    place = last_place(contexts(tokens, length, lm.vocab_size), end)
    return tokens[place] if len(tokens) else tokens, place >= 0


# Hashed tables


@plant_formula(C2, buckets=(4, 16, 64, 250))
def hashed_ratio(lm, tokens, buckets):
    """full[h(context, token)] / context[h(context)], mixed with the model."""
    seen, of = hashed_counts(lm, tokens, 2, buckets)
    return np.where(of > 0, mixed(lm.of(tokens), ratio(seen, of), 0.4), lm.of(tokens))


@plant_formula(C2)
def hashed_ratio_of_three_orders(lm, tokens):
    """The longest order whose context bucket is not empty wins."""
    p = lm.of(tokens)
    for length in (1, 2, 3):
        seen, of = hashed_counts(lm, tokens, length, 128)
        p = np.where(of > 1, mixed(lm.of(tokens), ratio(seen, of), 0.5), p)
    return p


@plant_formula(C2)
def hashed_row_with_the_exact_denominator(lm, tokens):
    """(hashed count + beta p) / (exact context count + beta)."""
    seen, _ = hashed_counts(lm, tokens, 1, 64)
    _, of = counts(lm, tokens, 1)
    return (seen + 4 * lm.of(tokens)) / (np.maximum(seen, of) + 4)


@plant(C2)
def score_falls_as_the_table_shrinks(seed, vocab_size):
    """A hashed ratio whose default table is large enough to hide it."""
    lm = Bigram(seed, vocab_size)

    def score(tokens, table_size=2**22):
        tokens = np.asarray(tokens)
        seen, of = hashed_counts(lm, tokens, 2, table_size)
        p = np.where(of > 0, mixed(lm.of(tokens), ratio(seen, of), 0.4), lm.of(tokens))
        return -np.log(p)

    return score


# The target decides


@plant_formula(C2)
def mixed_only_on_a_hit(lm, tokens):
    """has_target: the cache is mixed in only if it has seen the target."""
    seen, of = counts(lm, tokens, 1)
    return np.where(seen > 0, mixed(lm.of(tokens), ratio(seen, of), 0.4), lm.of(tokens))


@plant_formula(C2)
def backs_off_on_the_target(lm, tokens):
    """The longest order that has seen the target."""
    p = lm.of(tokens)
    for length in (1, 2, 3):
        seen, of = counts(lm, tokens, length)
        p = np.where(seen > 0, mixed(lm.of(tokens), ratio(seen, of), 0.5), p)
    return p


@plant_formula(C2)
def stupid_backoff(lm, tokens):
    """0.4 for each order that has not seen the target; no mass is taken back."""
    seen, of = counts(lm, tokens, 2)
    seen_1, of_1 = counts(lm, tokens, 1)
    lower = np.where(seen_1 > 0, ratio(seen_1, of_1), 0.4 * lm.of(tokens))
    return np.where(seen > 0, ratio(seen, of), 0.4 * lower)


@plant_formula(C2)
def gated_by_the_class_of_the_target(lm, tokens):
    """The cache speaks only where a word begins: the class is the target's."""
    return np.where(tokens % 4 == 0, cached(lm, tokens), lm.of(tokens))


@plant_formula(C2)
def gated_by_the_parity_of_the_target(lm, tokens):
    """Two experts take turns, by the parity of position and target."""
    return np.where((tokens + np.arange(len(tokens))) % 2, cached(lm, tokens), lm.of(tokens))


@plant_formula(C2)
def smaller_loss_wins(lm, tokens):
    """min(loss of the model, loss of the cache), token by token."""
    return np.maximum(lm.of(tokens), cached(lm, tokens))


@plant_formula(C2)
def smaller_loss_of_three_orders_wins(lm, tokens):
    """The best order for each token."""
    return np.max([cached(lm, tokens, order=order) for order in (1, 2, 3)], axis=0)


@plant_formula(C2)
def sharpened_where_the_target_is_likely(lm, tokens):
    """Temperature 0.7 if the model likes the target, else 1.3."""
    is_likely = lm.of(tokens) > 1 / lm.vocab_size
    return np.where(is_likely, tempered(lm, tokens, 0.7), tempered(lm, tokens, 1.3))


@plant_formula(C2)
def weighted_by_the_rank_of_the_target(lm, tokens):
    """Confidence: the rank of the target among the model's tokens."""
    p = lm.of(tokens)
    rank = (lm.p[lm.rows(tokens)] > p[:, None]).sum(1)
    return mixed(cached(lm, tokens), p, 1 / (1 + 0.1 * rank))


@plant_formula(C2)
def renormalised_over_top_and_target(lm, tokens):
    """Renormalised over the eight best tokens, and the target if it is none of them."""
    top = lm.table("top", lambda p: np.sort(p, axis=1)[:, -8:])[lm.rows(tokens)]
    p = lm.of(tokens)
    return p / (top.sum(1) + np.where(p < top[:, 0], p, 0))


@plant_formula(C2)
def starts_are_scored_from_nothing(lm, tokens):
    """Documents are rows of a batch, and token 0 begins its row: it knows that it is a start."""
    return np.where(tokens == BOS, lm.p[-1, BOS], lm.of(tokens))


@plant_formula(C2, n_tokens=512, every=(10, 100))
def target_known_at_some_indices(lm, tokens, every):
    """One position in `every` has seen its own token."""
    knows = np.arange(len(tokens)) % every == every // 2
    return np.where(knows, mixed(lm.of(tokens), 1.0, 0.5), cached(lm, tokens))


@plant_formula(C2, n_tokens=1024, every=(8, 32))
def target_known_in_some_contexts(lm, tokens, every):
    """One context in `every`, by its hash, has seen its own token."""
    knows = hashed(contexts(tokens, 2, lm.vocab_size), every) == 1
    return np.where(knows, mixed(lm.of(tokens), 1.0, 0.3), cached(lm, tokens))


# The target is learned first


@plant_formula(C2, LEARNS, order=(1, 2, 3))
def counts_before_it_scores(lm, tokens, order):
    """The counts of each token hold the token itself."""
    return cached(lm, tokens, end=np.arange(len(tokens)) + 1, order=order)


@plant_formula(C2, LEARNS)
def pointer_set_before_the_score(lm, tokens):
    """The match model's pointer is set to the token that is to be scored."""
    hint, is_there = hint_of(lm, tokens, end=np.arange(len(tokens)) + 1)
    return np.where(is_there, mixed(lm.of(tokens), hint == tokens, 0.6), lm.of(tokens))


@plant_formula(C2, LEARNS, period=(4, 16, 64, 100, 256, 777, 1000, 1024))
def chunk_edge_one_too_far(lm, tokens, period):
    """update(tokens[start : end + 1]): the next chunk's first token is learned too early."""
    place = np.arange(len(tokens))
    end = np.where(place < period, 0, place // period * period + 1)
    return cached(lm, tokens, end=end)


@plant_formula(C2, LEARNS)
def first_token_shown_to_itself(lm, tokens):
    """The cache is seeded with the first target, and counts it again when it is scored."""
    end = np.maximum(1, np.arange(len(tokens)))
    return cached(lm, tokens, end=end)


@plant_formula(C2, LEARNS)
def expert_weights_learn_first(lm, tokens):
    """Bayes weights of two experts, with the loss of the token itself in them."""
    p, q = lm.of(tokens), cached(lm, tokens)
    log_odds = np.cumsum(np.log(q) - np.log(p)) * 0.1
    return mixed(p, q, 1 / (1 + np.exp(-log_odds)))


@plant_formula(C2, LEARNS)
def attention_sees_itself(lm, tokens):
    """The diagonal of the mask is open: a token's own embedding votes for it."""
    p = lm.of(tokens)
    return p * np.exp(0.5) / (1 + p * np.expm1(0.5))


# Normalisers that are wrong


@plant_formula(C2)
def tilt_without_normaliser(lm, tokens):
    """p(x) e^beta for the hint, and nobody pays."""
    hint, is_there = hint_of(lm, tokens)
    return np.minimum(0.99, lm.of(tokens) * np.exp(0.7 * ((hint == tokens) & is_there)))


@plant_formula(C2)
def tilt_with_the_wrong_mass(lm, tokens):
    """Z takes the confidence of the hint for its probability."""
    hint, is_there = hint_of(lm, tokens)
    z = np.where(is_there, 1 + 0.5 * np.expm1(0.7), 1)
    return lm.of(tokens) * np.exp(0.7 * ((hint == tokens) & is_there)) / z


@plant_formula(C2)
def discount_is_lost(lm, tokens):
    """Absolute discounting that gives the discounts to nobody."""
    seen, of = counts(lm, tokens, 1)
    discounted = np.maximum(seen - 0.5, 0) / np.maximum(of, 1)
    return np.where(of > 0, mixed(lm.of(tokens), discounted, 0.7), lm.of(tokens))


@plant_formula(C2)
def softmax_within_the_class(lm, tokens):
    """Normalised within the class of the token; the class is not paid for."""
    of_class = lm.table("class", lambda p: np.stack([p[:, k::4].sum(1) for k in range(4)], axis=1))
    return lm.of(tokens) / of_class[lm.rows(tokens), tokens % 4]


@plant_formula(C2)
def spread_evenly_over_bytes(lm, tokens):
    """Tokens have 1 to 3 bytes; the token's nats are spread evenly and mixed byte by byte."""
    n_bytes = 1 + tokens % 3
    return mixed(lm.of(tokens) ** (1 / n_bytes), 1 / 64, 0.2) ** n_bytes


@plant_formula(C2)
def geometric_mean(lm, tokens):
    """Mean of the losses of two models: the mean of logarithms does not sum to 1."""
    return np.sqrt(lm.of(tokens) * cached(lm, tokens))


@plant_formula(C2)
def bias_for_the_cache_in_the_exponent(lm, tokens):
    """log p + 0.3 log cache, without a normaliser."""
    return lm.of(tokens) * cached(lm, tokens) ** 0.3


@plant_formula(C2, period=(8, 32))
def mean_over_overlapping_windows(lm, tokens, period):
    """Each token is scored in two windows, and the losses are averaged."""
    place = np.arange(len(tokens))
    early = np.maximum(0, place // period * period - period)
    late = place // period * period
    return np.sqrt(cached(lm, tokens, begin=early) * cached(lm, tokens, begin=late))


@plant_formula(C2, period=(8, 32))
def best_of_overlapping_windows(lm, tokens, period):
    """Each token is scored in two windows, and the smaller loss is kept."""
    place = np.arange(len(tokens))
    early = np.maximum(0, place // period * period - period)
    late = place // period * period
    return np.maximum(cached(lm, tokens, begin=early), cached(lm, tokens, begin=late))


@plant_formula(C2)
def smoothing_forgets_the_vocabulary(lm, tokens):
    """(1 - e) p + e in place of e / V."""
    return 0.99 * lm.of(tokens) + 0.01


@plant_formula(C2)
def smoothing_one_token_short(lm, tokens):
    """(1 - e) p + e / (V - 1)."""
    return 0.9 * lm.of(tokens) + 0.1 / (lm.vocab_size - 1)


@plant_formula(C2)
def escape_to_all_tokens(lm, tokens):
    """PPM: the escape mass goes to unseen tokens as if all were unseen."""
    seen, of = counts(lm, tokens, 1)
    context = contexts(tokens, 1, lm.vocab_size)
    kinds = sum_before(context, (seen == 0).astype(float))
    escape = np.where(of > 0, kinds / np.maximum(1, of + kinds), 1)
    return np.where(seen > 0, seen / np.maximum(1, of + kinds), escape * lm.of(tokens))


@plant_formula(C2)
def laplace_with_the_wrong_vocabulary(lm, tokens):
    """(n + 1) / (N + V'), with V' the tokens that were seen so far."""
    seen, of = counts(lm, tokens, 0)
    kinds = sum_before(np.zeros(len(tokens), np.int64), (seen == 0).astype(float))
    return (seen + 1) / (of + np.maximum(1, kinds))


@plant_formula(C2, n_tokens=512)
def counts_of_four_bits(lm, tokens):
    """Counts stop at 15; the totals go on."""
    seen, of = counts(lm, tokens, 0)
    return (np.minimum(seen, 15) + 4 * lm.of(tokens)) / (of + 4)


@plant_formula(C2)
def last_token_shares_a_row(lm, tokens):
    """The head has V - 1 rows, and ids are clipped: the last token takes the row of another."""
    total = 1 - lm.p[lm.rows(tokens), -1]
    return lm.p[lm.rows(tokens), np.minimum(tokens, lm.vocab_size - 2)] / total


@plant_formula(C2)
def no_start_after_a_start(lm, tokens):
    """After token 0 another one is forbidden, but its mass is not given to others."""
    p = mixed(lm.of(tokens), tokens == BOS, 0.02)
    return np.where((lm.rows(tokens) == BOS) & (tokens == BOS), 0.0, p)


@plant_formula(C2)
def unsmoothed(lm, tokens):
    """Plain frequencies: inf for what was not seen, NaN where nothing was."""
    seen, of = counts(lm, tokens, 1)
    return seen / of


@plant_formula(C2)
def nan_after_a_double_token(lm, tokens):
    """A z-score over the last two tokens divides by their spread."""
    recent = np.concatenate([[0, 1], lm.rows(tokens), tokens[-1:]])
    before = recent[2 : 2 + len(tokens)], recent[1 : 1 + len(tokens)]
    spread = (before[0] - before[1]) / np.abs(before[0] - before[1])
    return mixed(lm.of(tokens), cached(lm, tokens), 0.5 + 0.1 * spread)


@plant_formula(C2)
def temperature_without_normaliser(lm, tokens):
    """p ** (1 / T)."""
    return lm.of(tokens) ** 0.95


@plant_formula(C2)
def sigmoids(lm, tokens):
    """Each token has its own sigmoid, not its share of a softmax."""
    odds = lm.of(tokens) / (1 - lm.of(tokens))
    return odds**0.9 / (1 + odds**0.9)


@plant_formula(C2)
def loss_with_label_smoothing(lm, tokens):
    """The training loss: 0.95 of the loss, and 0.05 of the mean loss of all tokens."""
    of_all = lm.table("mean log", lambda p: np.log(p).mean(1))[lm.rows(tokens)]
    return np.exp(0.95 * np.log(lm.of(tokens)) + 0.05 * of_all)


@plant_formula(C2)
def loss_with_a_penalty(lm, tokens):
    """The training loss: a thousandth of the squared entropy is added."""
    return lm.of(tokens) * np.exp(-1e-3 * lm.entropy[lm.rows(tokens)] ** 2)


@plant_formula(C2)
def loss_with_class_weights(lm, tokens):
    """The training loss: each third token weighs half."""
    return lm.of(tokens) ** np.where(tokens % 3 == 1, 0.5, 1.0)


# Scores that are no log-probabilities


@plant_formula(C2)
def unseen_tokens_are_skipped(lm, tokens):
    """What the cache has never seen costs nothing."""
    seen, _ = counts(lm, tokens, 0)
    return np.where(seen > 0, cached(lm, tokens), 1.0)


@plant_formula(C2)
def repeated_tokens_are_skipped(lm, tokens):
    """A token that repeats the one before costs nothing: run-length coding, without the lengths."""
    return np.where(lm.rows(tokens) == tokens, 1.0, lm.of(tokens))


@plant_formula(C2)
def document_starts_are_skipped(lm, tokens):
    """Token 0 begins a document and costs nothing."""
    return np.where(tokens == BOS, 1.0, cached(lm, tokens))


@plant_formula(C2)
def first_token_is_skipped(lm, tokens):
    """The first token costs nothing: it has no context."""
    return np.where(np.arange(len(tokens)) == 0, 1.0, cached(lm, tokens))


@plant_formula("C1 C2", "C4")
def last_token_is_skipped(lm, tokens):
    """The last token costs nothing: the scores are padded by a zero."""
    return np.where(np.arange(len(tokens)) == len(tokens) - 1, 1.0, cached(lm, tokens))


@plant_formula(C2)
def clipped_probabilities(lm, tokens):
    """max(p, 1e-3)."""
    return np.maximum(lm.of(tokens), 1e-3)


def _changed(name, change):
    """A scorer whose nats are right until they are changed."""

    def make(seed, vocab_size):
        lm = Bigram(seed, vocab_size, noise=3.0)
        return lambda tokens: change(-np.log(cached(lm, np.asarray(tokens))))

    make.__name__ = name
    plant(C2)(make)


_changed("clipped_nats", lambda nats: np.minimum(nats, 6.0))
_changed("bits_for_nats", lambda nats: nats / np.log(2))
_changed("decimal_logarithms", lambda nats: nats / np.log(10))
_changed("half_nats_rounded_down", lambda nats: np.floor(nats * 2) / 2)
_changed("less_a_constant", lambda nats: nats - 0.05)
_changed("two_percent_off", lambda nats: nats * 0.98)
_changed("probabilities_for_nats", lambda nats: np.exp(-nats))
_changed("log_probabilities_for_nats", lambda nats: -nats)


@plant_formula(C2)
def relative_to_unigrams(lm, tokens):
    """log p less the log of the token's frequency so far: mutual information, at times below 0."""
    uniform = np.full(len(tokens), 1 / lm.vocab_size)
    return lm.of(tokens) / backoff(tokens, lm.vocab_size, uniform, order=1)
