"""``ngrammix bench mix``: what the mixer costs beside a model, by stages and beside its peers."""

import argparse
import math
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table, rows_of
from eval.bench.options import OPTIONS
from eval.bench.peers.bigram_model import Bigram
from eval.bench.rounds import Rounds, key, progress, timed
from eval.bench.stream import load_tokens
from eval.comparing.features import Features, longest_hint
from eval.comparing.published_rules import Trigger, by_entropy, one_hint
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import MIXING_DISCOUNT, log_target_probability
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.proposer import N_FOLLOWER_ROWS, Proposer
from ngrammix.experts.gate import Gate
from ngrammix.experts.guard import Guard
from ngrammix.experts.tilt import Tilt
from ngrammix.mixer import BLOCK, Mixer
from ngrammix.reference import ReferenceMixer

CHECKED = 2000  # tokens on which the stages must give the nats of `Mixer.score`
REFERENCE_TOKENS = 300
WIDE, WIDE_TOKENS = 50_000, 200_000  # of `probs`: vocabulary, and tokens that it learned before
PEERS = {
    "weight by entropy in numpy": partial(
        by_entropy, constants=(0.05, 0.35, 2.0, 4.0), cache="longest match"
    ),
    "one-hint tilt in numpy": partial(
        one_hint, trigger=Trigger(0.5, 1, 1), beta=1.5, by_confidence=True
    ),
}

NAMES = ("score", "score cold", "score_nll", *PEERS, "plain python")
STAGES = ("observe", "hints", "tilt", "backoff", "gate", "guard", "matched order")
FIELDS = ("tokens_per_second", "ratio_to", "nanoseconds")

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


def measure(arguments: argparse.Namespace) -> Figures:
    """Tokens a second of everyone, and nanoseconds by stage of `Mixer.score`; medians."""
    data, tokens, vocab_size = load_tokens(arguments.data)
    order: int = arguments.order
    model = Bigram(tokens, vocab_size)
    compile_seconds = timed(lambda: check_stages(tokens[:CHECKED], vocab_size, order))
    runs = progress(range(arguments.runs), "rounds")
    rounds = Rounds([one_round(tokens, model, order) for _ in runs])
    rates = rounds.rates(len(tokens))
    rates["plain python"] = reference_rate(tokens, order)
    return {
        "data": data, "tokens": len(tokens), "vocab_size": vocab_size,
        "compile_seconds": compile_seconds,
        **{f"tokens_per_second_{key(name)}": rates[name] for name in NAMES},
        **{f"ratio_to_{key(name)}": rates["score"] / rates[name] for name in NAMES[1:]},
        **{f"nanoseconds_{key(stage)}": 1e9 / rates[stage] for stage in STAGES},
        "milliseconds_probs": milliseconds_of_probs(tokens % WIDE, order),
        "probs_vocab_size": WIDE,
        "state_bytes": Tilt().nbytes + Gate(order).nbytes + 8 * N_FOLLOWER_ROWS,
    }  # fmt: skip


def one_round(tokens: Tokens, model: Bigram, order: int) -> dict[str, float]:
    """Seconds of everyone, one after the other, and of the stages of the score.

    Cold: a new cache touches all its memory for the first time. Otherwise: the same cache, cleared,
    finds its pages.
    """
    cache = NgramCache(vocab_size=model.vocab_size, order=order)
    seconds = {"score cold": sum(walk(tokens, model, cache)[0].values())}
    for name, has_tilt in (("score_nll", False), ("score", True)):
        cache.clear()
        stages, _ = walk(tokens, model, cache, has_tilt=has_tilt)
        seconds[name] = sum(stages.values())
    for name, rule in PEERS.items():
        cache.clear()
        seconds[name] = walk_rule(tokens, model, cache, rule)
    return seconds | stages


def walk(
    tokens: Tokens, model: Bigram, cache: NgramCache, *, has_tilt: bool = True
) -> tuple[dict[str, float], float]:
    """(seconds by stage, nats) of the work of `Mixer.score` on tokens (T,), or of `score_nll`.

    The log-probabilities of the model come from its counts, outside the clock: logits of millions
    of tokens do not fit into memory, and reading them takes longer than what is measured.
    """
    proposer = Proposer(model.vocab_size, cache.order, None)
    tilt, gate, guard = Tilt(), Gate(cache.order), Guard()
    seconds: dict[str, float] = defaultdict(float)
    nats = 0.0

    def clocked(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        started = perf_counter()
        value = work(*arguments)
        seconds[stage] += perf_counter() - started
        return value

    for start in range(0, len(tokens), BLOCK):
        block = slice(start, start + BLOCK)
        targets = tokens[block]
        evidence = clocked("observe", cache.observe, targets)
        if has_tilt:
            hints = clocked("hints", proposer.observe, targets, evidence)
            logprobs = model.lookup(model.previous[block], targets, hints.tokens)
            log_inner = clocked("tilt", tilt.mix, targets, logprobs, hints)
        else:
            clocked("hints", proposer.learn, targets)
            logprobs = model.lookup(
                model.previous[block], targets, np.empty((len(targets), 0), int)
            )
            log_inner = logprobs.log_p
        log_q = clocked(
            "backoff", log_target_probability, evidence, model.vocab_size, MIXING_DISCOUNT
        )
        cells = clocked("gate", gate.cells, evidence, logprobs.entropy)
        log_inner = clocked("gate", gate.mix, log_inner, log_q, cells)
        nats -= clocked("guard", guard.mix, logprobs.log_p, log_inner).sum()
        clocked("matched order", Evidence.matched_order.__get__, evidence)
    return seconds, nats


def walk_rule(
    tokens: Tokens, model: Bigram, cache: NgramCache, rule: Callable[[Features], Floats]
) -> float:
    """Seconds of a published rule on tokens (T,), with the evidence."""
    seconds = 0.0
    for start in range(0, len(tokens), BLOCK):
        block = slice(start, start + BLOCK)
        started = perf_counter()
        evidence = cache.observe(tokens[block])
        hints = longest_hint(evidence)
        seconds += perf_counter() - started
        logprobs = model.lookup(model.previous[block], tokens[block], hints[:, None])
        features = Features(
            log_p=logprobs.log_p, entropy=logprobs.entropy, log_hint=logprobs.log_hints[:, 0],
            is_hint=hints == tokens[block], evidence=evidence, raw=evidence,
            vocab_size=model.vocab_size,
        )  # fmt: skip
        seconds += timed(partial(rule, features))
    return seconds


def check_stages(tokens: Tokens, vocab_size: int, order: int) -> None:
    """Compile everything; RuntimeError unless the stages give the nats of `Mixer.score`."""
    model = Bigram(tokens, vocab_size)
    for has_tilt, experts in ((True, "tilt+gate+guard"), (False, "gate+guard")):
        cache = NgramCache(vocab_size=vocab_size, order=order)
        _, nats = walk(tokens, model, cache, has_tilt=has_tilt)
        mixer = Mixer(vocab_size=vocab_size, order=order, experts=experts)
        expected = mixer.score(model.logits(model.previous), tokens).sum()
        if not math.isclose(nats, expected, rel_tol=1e-9):
            raise RuntimeError(
                f"the stages must cost what Mixer.score says, got {nats} nats, not {expected}; "
                "this is a bug of ngrammix: please report it with the stream"
            )


def reference_rate(tokens: Tokens, order: int) -> float:
    """Tokens a second of the same mixer in plain Python, on a short head with few ids.

    It mixes whole distributions, so its time grows with the vocabulary too.
    """
    ids, head = np.unique(tokens[:REFERENCE_TOKENS], return_inverse=True)
    model = Bigram(head, len(ids))
    rows = model.logits(model.previous).tolist()
    mixer = ReferenceMixer(len(ids), order)

    def score() -> None:
        for row, token in zip(rows, head.tolist(), strict=True):
            mixer.score(row, token)

    return len(head) / timed(score)


def milliseconds_of_probs(tokens: Tokens, order: int) -> float:
    """Median time of `Mixer.probs` at 21 positions, after WIDE_TOKENS tokens at most."""
    mixer = Mixer(vocab_size=WIDE, order=order)
    mixer.learn(tokens[:WIDE_TOKENS])
    row = np.random.default_rng(0).normal(size=WIDE).astype(np.float32)
    times = []
    for token in tokens[:21]:
        times.append(timed(lambda: mixer.probs(row)))
        mixer.learn([token])
    return 1e3 * median(times)


BENCH = Bench(
    options=OPTIONS["mix"],
    measure=measure,
    report=(
        "Mixer on one thread, observe included, forward pass and lookup of the logits excluded; "
        "V = {vocab_size:,}",
        Table(
            lambda figures: rows_of(figures, {key(n): n for n in NAMES}, *FIELDS),
            {"": "{name}", "tokens/s": "{tokens_per_second:,.0f}", "score is": "{ratio_to:,.2f} x"},
        ),
        Table(
            lambda figures: rows_of(figures, {key(stage): stage for stage in STAGES}, *FIELDS),
            {"stage of score": "{name}", "ns a token": "{nanoseconds:.0f}"},
        ),
        "Mixer.probs at V = {probs_vocab_size:,}: {milliseconds_probs:.1f} ms; state beyond the "
        "tables: {state_bytes:,} bytes; compiling or loading the kernels: {compile_seconds:.1f} s",
    ),
)  # fmt: skip
