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
from tqdm import tqdm

from eval.bench.harness import add_stream, at_least_one, deliver, load_tokens, timed
from eval.bench.peers.bigram_model import Bigram
from eval.comparing.features import Features, longest_hint
from eval.comparing.published_rules import Trigger, by_entropy, one_hint
from eval.tables import make_folder
from ngrammix.cache.evidence import Evidence
from ngrammix.cache.kneser_ney import MIXING_DISCOUNT, log_target_probability
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.candidates.proposer import N_FOLLOWER_ROWS, Proposer
from ngrammix.experts.gate import Gate
from ngrammix.experts.guard import Guard
from ngrammix.experts.tilt import Tilt
from ngrammix.mixer import BLOCK, Mixer
from ngrammix.reference import ReferenceMixer

CHECKED = 2000  # tokens on which the stages must cost what `Mixer.score` says
REFERENCE_TOKENS = 300
WIDE, WIDE_TOKENS = 50_000, 200_000  # the vocabulary of `probs`, and what its cache has learned
PEERS = {
    "weight by entropy in numpy": partial(
        by_entropy, constants=(0.05, 0.35, 2.0, 4.0), cache="longest match"
    ),
    "one-hint tilt in numpy": partial(
        one_hint, trigger=Trigger(0.5, 1, 1), beta=1.5, by_confidence=True
    ),
}

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    add_stream(parser)
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "runs")
    make_folder(arguments.out)
    data, tokens, vocab_size = load_tokens(arguments.data)
    figures = measure(tokens, vocab_size, arguments.order, arguments.runs)
    result = {"data": data, "tokens": len(tokens), "vocab_size": vocab_size} | figures
    deliver(result, arguments, "mix.json", table)


def measure(tokens: Tokens, vocab_size: int, order: int, runs: int) -> dict[str, Any]:
    """Tokens a second and nanoseconds by stage: a warm-up, then `runs` rounds in turn; medians."""
    model = Bigram(tokens, vocab_size)
    compile_seconds = timed(lambda: check_stages(tokens[:CHECKED], vocab_size, order))
    rounds = [
        one_round(tokens, model, order)
        for _ in tqdm(range(runs), desc="rounds", delay=2, disable=None)
    ]
    walks = {name: [seconds[name] for seconds in rounds] for name in rounds[0]}
    rates = {name: len(tokens) / median(sum(s.values()) for s in walks[name]) for name in walks}
    stages = {
        stage: 1e9 * median(seconds[stage] for seconds in walks["score"]) / len(tokens)
        for stage in walks["score"][0]
    }
    state_bytes = Tilt().nbytes + Gate(order).nbytes + 8 * N_FOLLOWER_ROWS
    return {
        "order": order,
        "runs": runs,
        "compile_seconds": compile_seconds,
        **{f"tokens_per_second_{key(name)}": rate for name, rate in rates.items()},
        **{f"ratio_to_{key(peer)}": rates["score"] / rates[peer] for peer in PEERS},
        **{f"nanoseconds_{stage}": nanoseconds for stage, nanoseconds in stages.items()},
        "tokens_per_second_plain_python": reference_rate(tokens, order),
        "milliseconds_probs": milliseconds_of_probs(tokens % WIDE, order),
        "probs_vocab_size": WIDE,
        "state_bytes": state_bytes,
    }


def one_round(tokens: Tokens, model: Bigram, order: int) -> dict[str, dict[str, float]]:
    """Seconds by stage of everyone in turn.

    Cold: a fresh cache, all its memory touched for the first time. Without a word: the same cache,
    cleared but with its pages.
    """
    cache = NgramCache(vocab_size=model.vocab_size, order=order)
    seconds = {"score cold": walk(tokens, model, cache)[0]}
    for name, has_tilt in (("score", True), ("score_nll", False)):
        cache.clear()
        seconds[name] = walk(tokens, model, cache, has_tilt=has_tilt)[0]
    for name, rule in PEERS.items():
        cache.clear()
        seconds[name] = walk_rule(tokens, model, cache, rule)
    return seconds


def walk(
    tokens: Tokens, model: Bigram, cache: NgramCache, *, has_tilt: bool = True
) -> tuple[dict[str, float], float]:
    """(seconds by stage, nats) of what `Mixer` does with tokens (T,), but for reader the model.

    The model's numbers lie ready: logits of millions of tokens fit into no memory, and reader them
    takes longer than what is to be measured. Without the tilt it is what `Mixer.score_nll` does.
    """
    proposer = Proposer(model.vocab_size, cache.order, None)
    tilt, gate, guard = Tilt(), Gate(cache.order), Guard()
    seconds: dict[str, float] = defaultdict(float)
    nats = 0.0

    def clocked(stage: str, work: Callable[..., Any], *arguments: Any) -> Any:
        started = perf_counter()
        found = work(*arguments)
        seconds[stage] += perf_counter() - started
        return found

    for start in range(0, len(tokens), BLOCK):
        block = slice(start, start + BLOCK)
        targets = tokens[block]
        evidence = clocked("observe", cache.observe, targets)
        if has_tilt:
            hints = clocked("hints", proposer.observe, targets, evidence)
            said = model.lookup(model.previous[block], targets, hints.tokens)
            log_inner = clocked("tilt", tilt.mix, targets, said, hints)
        else:
            clocked("hints", proposer.learn, targets)
            said = model.lookup(model.previous[block], targets, np.empty((len(targets), 0), int))
            log_inner = said.log_p
        log_q = clocked(
            "backoff", log_target_probability, evidence, model.vocab_size, MIXING_DISCOUNT
        )
        cells = clocked("gate", gate.cells, evidence, said.entropy)
        log_inner = clocked("gate", gate.mix, log_inner, log_q, cells)
        nats -= clocked("guard", guard.mix, said.log_p, log_inner).sum()
        clocked("matched order", Evidence.matched_order.__get__, evidence)
    return seconds, nats


def walk_rule(
    tokens: Tokens, model: Bigram, cache: NgramCache, rule: Callable[[Features], Floats]
) -> dict[str, float]:
    """Seconds of a published rule on tokens (T,), the evidence's included."""
    seconds: dict[str, float] = defaultdict(float)
    for start in range(0, len(tokens), BLOCK):
        block = slice(start, start + BLOCK)
        started = perf_counter()
        evidence = cache.observe(tokens[block])
        hints = longest_hint(evidence)
        seconds["all"] += perf_counter() - started
        said = model.lookup(model.previous[block], tokens[block], hints[:, None])
        features = Features(
            log_p=said.log_p, entropy=said.entropy, log_hint=said.log_hints[:, 0],
            is_hint=hints == tokens[block], evidence=evidence, raw=evidence,
            vocab_size=model.vocab_size,
        )  # fmt: skip
        seconds["all"] += timed(partial(rule, features))
    return seconds


def check_stages(tokens: Tokens, vocab_size: int, order: int) -> None:
    """Compile everything; RuntimeError unless the stages cost what `Mixer.score` says."""
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


def key(name: str) -> str:
    """JSON key of a peer."""
    return name.replace("-", "_").replace(" ", "_")


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    ours = result["tokens_per_second_score"]
    lines = [
        f"Mixer beyond the forward pass and the gathering, observe included: order "
        f"{result['order']}, {result['tokens']:,} tokens of {result['data']}, "
        f"V = {result['vocab_size']:,}, one thread, medians of {result['runs']}",
        "",
        f"{'':<34}{'tokens/s':>12}  score is",
    ]
    for name in ("score", "score cold", "score_nll", *PEERS, "plain python"):
        rate = result[f"tokens_per_second_{key(name)}"]
        lines.append(f"{name:<34}{rate:>12,.0f}  {ours / rate:,.2f} times as fast")
    stages = [name for name in result if name.startswith("nanoseconds_")]
    lines += ["", "nanoseconds a token of score, by stage"]
    lines += [f"  {name.removeprefix('nanoseconds_'):<32}{result[name]:>12.0f}" for name in stages]
    lines += [
        "",
        f"Mixer.probs at V = {result['probs_vocab_size']:,}: {result['milliseconds_probs']:.1f} ms",
        f"state beyond the tables: {result['state_bytes']:,} bytes",
        f"compiling or loading the kernels: {result['compile_seconds']:.1f} s",
    ]
    return "\n".join(lines)
