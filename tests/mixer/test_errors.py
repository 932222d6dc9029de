"""Every error of ngrammix: the whole text, and that nothing changed when it was raised."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch

from ngrammix import Mixer, NgramCache, checks, mixer

V = 5
NAN = [[0.0, np.nan, 0.0, 0.0, 0.0]]
INF = [[0.0, np.inf, 0.0, 0.0, 0.0]]
MASKED = [[0.0, -np.inf, 0.0, 0.0, 0.0]]
EVEN = np.zeros((1, V))


@pytest.mark.parametrize("make", [partial(NgramCache, vocab_size=V), partial(Mixer, vocab_size=V)])
@pytest.mark.parametrize(
    ("order", "text"),
    [
        (0, "order must be in 1..64, got 0; it is the length of the longest n-gram, the predicted "
            "token included"),
        (65, "order must be in 1..64, got 65; it is the length of the longest n-gram, the "
             "predicted token included"),
        (2.0, "order must be an integer in 1..64, got 2.0; pass an int"),
        (True, "order must be an integer in 1..64, got True; pass an int"),
        ("7", "order must be an integer in 1..64, got '7'; pass an int"),
    ],
)  # fmt: skip
def test_order(make, order, text):
    with pytest.raises(ValueError) as error:
        make(order=order)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("vocab_size", "text"),
    [
        (0, "vocab_size must be in 1..2**31, got 0; it is the width of the logits"),
        (
            2**31 + 1,
            "vocab_size must be in 1..2**31, got 2147483649; it is the width of the logits",
        ),
        (8.0, "vocab_size must be an integer >= 1, got 8.0; pass an int"),
    ],
)
@pytest.mark.parametrize("make", [NgramCache, Mixer])
def test_vocab_size(make, vocab_size, text):
    with pytest.raises(ValueError) as error:
        make(vocab_size=vocab_size)
    assert str(error.value) == text


@pytest.mark.parametrize("make", [partial(NgramCache, vocab_size=V), partial(Mixer, vocab_size=V)])
@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (limit, f"memory_limit must be a number of bytes > 0, got {limit!r}; pass an int, or text "
                'such as "2GiB" (2G: the same; 2GB: by 1000)')
        for limit in (
            0, -1, 1.5, True, "", "2 apples", "GiB", "1e9", "0 MiB", "2" * 400, 2**62, "-2G",
            "2GG", "2 G B", "2iB", "9" * 19,
        )
    ],
)  # fmt: skip
def test_memory_limit(make, limit, text):
    with pytest.raises(ValueError) as error:
        make(memory_limit=limit)
    assert str(error.value) == text


def test_too_small_a_memory_limit():
    with pytest.raises(ValueError) as error:
        NgramCache(vocab_size=V, order=3, memory_limit="1 KiB")
    least = int(str(error.value).split()[5])
    assert str(error.value) == (
        f"memory_limit must be at least {least} bytes at order 3, got 1024; raise it, or lower the "
        "order"
    )
    assert NgramCache(vocab_size=V, order=3, memory_limit=least).memory_limit == least


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("512 MiB", 512 << 20), ("2GiB", 2 << 30), ("1.5 kb", 1500), ("10000000B", 10_000_000),
     (np.int64(1 << 24), 1 << 24), (" 1 TB ", 10**12), ("2G", 2 << 30), ("512M", 512 << 20),
     ("2 GB", 2 * 10**9), ("1.5GiB", 3 << 29), ("0.5t", 1 << 39), ("10000000", 10_000_000),
     (f"{2**53 + 1}", 2**53 + 1)],
)  # fmt: skip
def test_sizes_are_read_as_they_are_written(text, n_bytes):
    assert checks.as_bytes(text) == n_bytes


@pytest.mark.parametrize("n_threads", [0, 3, True, "2", 1.5])
@pytest.mark.parametrize("make", [partial(NgramCache, vocab_size=V), partial(Mixer, vocab_size=V)])
def test_threads(make, n_threads):
    with pytest.raises(ValueError) as error:
        make(n_threads=n_threads)
    assert str(error.value) == (
        f"n_threads must be 1 or 2, got {n_threads!r}; the bits are the same"
    )


BAD_TOKENS = [
    ([0, 5], "tokens must be in [0, 5), got 5 at position 1; raise vocab_size or check the "
             "tokenizer"),
    ([-1], "tokens must be in [0, 5), got -1 at position 0; raise vocab_size or check the "
           "tokenizer"),
    ([0.0, 1.0], "tokens must be integer token ids, got dtype float64; cast them first if they "
                 "really are token ids"),
    ([True], "tokens must be integer token ids, got dtype bool; cast them first if they really "
             "are token ids"),
    (["a"], "tokens must be integer token ids, got dtype <U1; cast them first if they really are "
            "token ids"),
    ([[0, 1]], "tokens must be 1-D, got shape (1, 2); pass them in stream order"),
    ([], "tokens must hold at least one token, got none; skip empty pieces"),
    (np.array([2**63 + 1], np.uint64),
     "tokens must be below 2**31, got 9223372036854775809 at position 0; check the tokenizer"),
]  # fmt: skip


@pytest.mark.parametrize(("tokens", "text"), BAD_TOKENS)
@pytest.mark.parametrize("verb", ["observe", "learn"])
def test_tokens_of_the_cache(verb, tokens, text):
    cache = NgramCache(vocab_size=V, order=3)
    cache.learn([0, 1, 0])
    before = cache.distribution()
    with pytest.raises(ValueError) as error:
        getattr(cache, verb)(tokens)
    assert str(error.value) == text
    assert (cache.position, len(cache)) == (3, 3)
    np.testing.assert_array_equal(cache.distribution(), before)


@pytest.mark.parametrize(("tokens", "text"), BAD_TOKENS)
def test_tokens_that_the_mixer_learns(tokens, text):
    with pytest.raises(ValueError) as error:
        Mixer(vocab_size=V).learn(tokens)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("context", "token", "text"),
    [
        ([0, 9], 1, "context must be in [0, 5), got 9 at position 1; raise vocab_size or check the "
                    "tokenizer"),
        ([0.5], 1, "context must be integer token ids, got dtype float64; cast them first if they "
                   "really are token ids"),
        ([[0]], 1, "context must be 1-D, got shape (1, 1); pass them in stream order"),
        ([0], 5, "next_token must be in [0, 5), got 5 at position 0; raise vocab_size or check "
                 "the tokenizer"),
        ([0], 1.0, "next_token must be integer token ids, got dtype float64; cast them first if "
                   "they really are token ids"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("verb", ["update", "log_prob"])
def test_context_and_next_token(verb, context, token, text):
    cache = NgramCache(vocab_size=V, order=3)
    with pytest.raises(ValueError) as error:
        getattr(cache, verb)(context, token)
    assert str(error.value) == text
    assert (cache.position, len(cache)) == (0, 0)


@pytest.mark.parametrize("discount", [0, 1, -0.5, 1e-46, float("nan")])
def test_discount(discount):
    with pytest.raises(ValueError) as error:
        NgramCache(vocab_size=V).distribution([], discount=discount)
    text = f"discount must be in (0, 1), got {discount}; or leave it out"
    assert str(error.value) == text


def test_a_cache_refuses_more_tokens_than_it_can_number(monkeypatch):
    monkeypatch.setattr(checks, "MAX_POSITION", 4)
    full = NgramCache(vocab_size=V)
    full.learn([0, 1, 2])
    text = "a cache learns at most 4 tokens, got 2 after 3; start a new one"
    for refused in (full.learn, full.observe):
        with pytest.raises(ValueError) as error:
            refused([3, 4])
        assert str(error.value) == text
    full.update([0], 1)
    with pytest.raises(ValueError, match="got 1 after 4"):
        full.update([0], 1)


BAD_SCORES = [
    (NAN, [0], "logits must be numbers below +inf, got nan at position 0; look for an overflow in "
               "the model, or compute the logits in float32"),
    (INF, [0], "logits must be numbers below +inf, got inf at position 0; look for an overflow in "
               "the model, or compute the logits in float32"),
    (MASKED, [1], "the model's probability of a target must be > 0, got 0 for token 1 at position "
                  "0; mask fewer logits, or ignore the position (ignore_index)"),
    (np.full((1, V), -np.inf), [1], "the model's probability of a target must be > 0, got 0 for "
     "token 1 at position 0; mask fewer logits, or ignore the position (ignore_index)"),
    (EVEN, [5], "targets must be in [0, 5), got 5 at position 0; raise vocab_size or check the "
                "tokenizer"),
    (EVEN, [-1], "targets must be in [0, 5), got -1 at position 0; pass ignore_index=-1 if it "
                 "marks targets that do not count"),
    (EVEN, [1.0], "targets must be integer token ids, got dtype float64; cast them first if they "
                  "really are token ids"),
    (EVEN[:0], [], "targets must hold at least one token, got none; skip empty batches"),
    (EVEN, [0, 1], "logits must have shape (2, 5), the shape of targets and then vocab_size, got "
                   "(1, 5); targets begin with the first input, as labels often do: pass "
                   "targets[..., 1:]"),
    (EVEN[:, :4], [0], "logits must have shape (1, 5), the shape of targets and then vocab_size, "
                       "got (1, 4); set vocab_size to the width of the model's output"),
    (EVEN.astype(int), [0], "logits must be floating point, got dtype int64; pass the model's "
                            "output unquantized"),
]  # fmt: skip


@pytest.mark.parametrize(("logits", "targets", "text"), BAD_SCORES)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("verb", ["score", "trace"])
def test_score(verb, kind, logits, targets, text):
    mixer, untouched = Mixer(vocab_size=V, order=3), Mixer(vocab_size=V, order=3)
    for each in (mixer, untouched):
        each.score(np.zeros((4, V)), [0, 1, 0, 1])
    logits = np.asarray(logits)
    logits = torch.from_numpy(logits) if kind == "torch" else logits
    with pytest.raises(ValueError) as error:
        getattr(mixer, verb)(logits, targets)
    expected = text.replace("dtype int64", "dtype torch.int64") if kind == "torch" else text
    assert str(error.value) == expected
    assert mixer.regret_bits == untouched.regret_bits
    np.testing.assert_array_equal(mixer.probs(np.arange(5.0)), untouched.probs(np.arange(5.0)))


BAD_LOSSES = [
    ([-0.5, 1.0], [0, 1], None, "nll must be >= 0 and below 1e+290, got -0.5 at position 0; it "
                                "is in nats and positive: -log p"),
    ([0.5, np.nan], [0, 1], None, "nll must be >= 0 and below 1e+290, got nan at position 1; it "
                                  "is in nats and positive: -log p"),
    ([0.5, np.inf], [0, 1], None, "nll must be >= 0 and below 1e+290, got inf at position 1; it "
                                  "is in nats and positive: -log p"),
    ([0.5], [0, 1], None, "nll must be floating point and of shape (2,), that of targets, got "
                          "dtype float64 and shape (1,); pass one number a target, in nats"),
    ([1, 2], [0, 1], None, "nll must be floating point and of shape (2,), that of targets, got "
                           "dtype int64 and shape (2,); pass one number a target, in nats"),
    ([0.5, 1.0], [0, 1], [1.0, -1.0], "entropy must be >= 0 and below 1e+290, got -1.0 at position "
                                      "1; it is in nats and positive: -log p"),
    ([0.5, 1.0], [0, 1], [[1.0, 1.0]], "entropy must be floating point and of shape (2,), that of "
                                       "targets, got dtype float64 and shape (1, 2); pass one "
                                       "number a target, in nats"),
    ([0.5, 1.0], [0, 5], None, "targets must be in [0, 5), got 5 at position 1; raise vocab_size "
                               "or check the tokenizer"),
    ([], [], None, "targets must hold at least one token, got none; skip empty batches"),
]  # fmt: skip


@pytest.mark.parametrize(("nll", "targets", "entropy", "text"), BAD_LOSSES)
def test_score_nll(nll, targets, entropy, text):
    mixer, untouched = Mixer(vocab_size=V, order=3), Mixer(vocab_size=V, order=3)
    for each in (mixer, untouched):
        each.score_nll(np.ones(4), [0, 1, 0, 1])
    with pytest.raises(ValueError) as error:
        mixer.score_nll(np.array(nll), targets, None if entropy is None else np.array(entropy))
    assert str(error.value) == text
    assert mixer.regret_bits == untouched.regret_bits
    np.testing.assert_array_equal(mixer.probs(np.arange(5.0)), untouched.probs(np.arange(5.0)))


def test_ignored_losses_may_be_anything():
    nats = Mixer(vocab_size=V).score_nll(torch.tensor([[np.nan, 2.0]]), [[-100, 3]])
    np.testing.assert_array_equal(nats, [[0.0, 2.0]])


@pytest.mark.parametrize("experts", ["", "gate+tilt", "tilt+gate+guard+switch", "all", None, []])
def test_experts(experts):
    with pytest.raises(ValueError) as error:
        Mixer(vocab_size=V, experts=experts)
    assert str(error.value) == (
        f"experts must name tilt, gate, and guard or switch, in this order, got {experts!r}; "
        'leave it out for "tilt+gate+guard"'
    )


def test_errors_name_the_position_in_the_users_array():
    logits = np.zeros((2, 3, V))
    logits[1, 1] = np.nan
    targets = np.array([[0, -100, 1], [-100, 2, 3]])
    with pytest.raises(ValueError, match="got nan at position 4;"):
        Mixer(vocab_size=V).score(logits, targets)
    targets[1, 1] = -100  # an ignored position may hold anything
    assert Mixer(vocab_size=V).score(logits, targets).shape == (2, 3)
    with pytest.raises(ValueError, match=r"got 7 at position 5;"):
        Mixer(vocab_size=V).score(logits, [[0, -100, 1], [-100, -100, 7]])


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (np.zeros((1, V)), "logits_row must have shape (5,), got (1, 5); pass the row of one "
                           "position"),
        (np.zeros(4), "logits_row must have shape (5,), got (4,); pass the row of one position"),
        (NAN[0], "logits must be numbers below +inf, got nan at position 0; look for an overflow "
                 "in the model, or compute the logits in float32"),
        (np.full(V, -np.inf), "logits_row must give some token a probability > 0, got -inf "
                              "everywhere; mask fewer"),
    ],
)  # fmt: skip
def test_probs(row, text):
    with pytest.raises(ValueError) as error:
        Mixer(vocab_size=V).probs(row)
    assert str(error.value) == text


def test_a_refused_call_of_many_blocks_learns_none_of_them(monkeypatch):
    monkeypatch.setattr(mixer, "BLOCK", 2)
    monkeypatch.setattr(checks, "MAX_POSITION", 4)
    full = Mixer(vocab_size=V, order=3)
    with pytest.raises(ValueError, match="at most 4 tokens, got 5 after 0"):
        full.score(np.zeros((5, V)), [0, 1, 0, 1, 0])
    assert full.score(np.zeros((4, V)), [0, 1, 0, 1]).shape == (4,)


@pytest.mark.parametrize("order", [np.uint8(20), np.int8(10), np.int64(3)])
def test_integers_of_any_width_are_integers(order):
    mixer = Mixer(vocab_size=np.uint16(V), order=order)
    mixer.score(np.zeros((60, V)), np.arange(60, dtype=np.uint8) % V)
    assert (mixer.order, mixer.vocab_size) == (int(order), V)
    assert mixer.regret_bits <= mixer.bound_bits


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("stream", [NgramCache(vocab_size=V), Mixer(vocab_size=V)])
def test_a_stream_is_not_copied(stream, copied):
    text = f"a {type(stream).__name__} cannot be copied or pickled; let a new one learn the tokens"
    with pytest.raises(TypeError, match=text):
        copied(stream)


def test_ragged_lists_and_nested_tokens_are_refused():
    cache = NgramCache(vocab_size=V)
    with pytest.raises(ValueError, match="tokens must be one array of integer token ids; setting"):
        cache.learn([[0, 1], [2]])
    with pytest.raises(ValueError, match="next_token must be one integer, got shape"):
        cache.update([0], [1])
