"""Score documents: the model alone, the cache alone, and the two mixed, token by token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bpb import check_token_bytes
from eval.data import Document
from eval.models import Model
from eval.windows import Window, windows
from ngrammix.backoff import log_target_probability
from ngrammix.cache import NgramCache
from ngrammix.mixer import Mixer

BATCH = 8  # windows in one forward pass: more is no faster on a processor
BLOCK = 1 << 16  # tokens of the cache alone at a time

Floats = NDArray[np.float64]
Tokens = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TokenRecords:
    """One row a token of the whole data set, in stream order.

    Attributes
    ----------
    document, token, n_bytes, matched_order : (T,) int64
        Index of its document; its id; its bytes of the raw text; length of the longest n-gram that
        could answer, the token included.
    nats_cache : (T,) float64, nats
        Cost under the cache alone.
    nats_model, nats : (T,) float64, nats, or None without a model
        Cost under the model alone, and under the mixture.
    """

    document: Tokens
    token: Tokens
    n_bytes: Tokens
    matched_order: Tokens
    nats_cache: Floats
    nats_model: Floats | None = None
    nats: Floats | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """What scoring found, under which conditions; None where there was no model.

    Attributes
    ----------
    records : TokenRecords
        Token by token.
    seconds_cache, seconds_model, seconds_mixer : float
        The cache alone; the model's forward pass; gathering, cache and mixer. Without compiling.
    seconds_compile : float
        Compiling the kernels, or loading them from disk.
    """

    records: TokenRecords
    order: int
    seconds_compile: float
    seconds_cache: float
    seconds_model: float | None = None
    seconds_mixer: float | None = None
    regret_bits: float | None = None
    bound_bits: float | None = None
    model: str = "none"
    context: int | None = None
    stride: int | None = None
    mixer: str | None = None
    memory_limit: int | None = None
    ngrams_forgotten: int = 0


def score_bytes(
    documents: Sequence[Document],
    order: int,
    bar: tqdm | None = None,
    *,
    memory_limit: int | str | None = None,
) -> Score:
    """Score raw bytes with the cache alone (V = 256).

    Parameters
    ----------
    documents : sequence of Document
        One stream; no context reaches from one document into the next.
    order : int in 1..32
        Of the cache.
    bar : tqdm, optional
        Told how many tokens there are, and of each that is scored.
    memory_limit : int or str, optional
        Of the cache, bytes.
    """
    cache = NgramCache(order=order, vocab_size=256, memory_limit=memory_limit)
    streams = [np.frombuffer(document.raw, np.uint8).astype(np.int64) for document in documents]
    tokens = np.concatenate(streams)
    bar = start_bar(bar, len(tokens))
    seconds_compile = warm_up()
    started = perf_counter()
    nats, matched = cache_alone(streams, cache, bar)
    seconds_cache = perf_counter() - started
    return Score(
        records=TokenRecords(
            document_index(streams), tokens, np.ones_like(tokens), matched, nats
        ),
        order=order, seconds_compile=seconds_compile, seconds_cache=seconds_cache,
        memory_limit=cache.memory_limit, ngrams_forgotten=sum(cache.stats()["forgotten"]),
    )  # fmt: skip


def score_model(
    documents: Sequence[Document],
    model: Model,
    order: int,
    stride: int,
    bar: tqdm | None = None,
    *,
    memory_limit: int | str | None = None,
) -> Score:
    """Score documents with the model, with the cache, and with the two mixed.

    Parameters
    ----------
    documents : sequence of Document
        One stream; no context reaches from one document into the next.
    model : Model
        Reads windows of its context length.
    order : int in 1..32
        Of the cache.
    stride : int in 1..model.context
        New tokens a window.
    bar : tqdm, optional
        Told how many tokens there are, and of each that is scored.
    memory_limit : int or str, optional
        Of the cache, bytes.

    Raises
    ------
    ValueError
        If a document cannot be spelled in the model's tokens byte for byte, or stride or order is
        out of range.
    """
    mixer = Mixer(vocab_size=model.vocab_size, order=order, memory_limit=memory_limit)
    streams, token_bytes = encode(documents, model)
    bar = start_bar(bar, sum(map(len, streams)))
    seconds_compile = warm_up()

    seconds_model = seconds_mixer = 0.0
    traces = []
    for tokens in streams:
        mixer.boundary()
        for inputs, targets, first in plan(model, tokens, stride):
            started = perf_counter()
            logits = model.logits(inputs)
            passed = perf_counter()
            traces.append(mixer.trace(logits[:, first:], targets))
            seconds_mixer += perf_counter() - passed
            seconds_model += passed - started
            bar.update(targets.size)

    started = perf_counter()
    cache = NgramCache(order=order, vocab_size=model.vocab_size, memory_limit=memory_limit)
    nats_cache, _ = cache_alone(streams, cache, start_bar(None, 0))
    seconds_cache = perf_counter() - started
    records = TokenRecords(
        document_index(streams),
        np.concatenate(streams),
        token_bytes,
        np.concatenate([trace.matched_order for trace in traces]),
        nats_cache,
        np.concatenate([trace.nats_model for trace in traces]),
        np.concatenate([trace.nats for trace in traces]),
    )
    return Score(
        records=records, order=order, seconds_compile=seconds_compile,
        seconds_cache=seconds_cache, seconds_model=seconds_model, seconds_mixer=seconds_mixer,
        regret_bits=mixer.regret_bits, bound_bits=mixer.bound_bits,
        model=model.name, context=model.context, stride=stride, mixer=mixer.experts,
        memory_limit=cache.memory_limit, ngrams_forgotten=sum(mixer.cache_stats["forgotten"]),
    )  # fmt: skip


def encode(documents: Sequence[Document], model: Model) -> tuple[list[Tokens], Tokens]:
    """(tokens of each document, bytes of every token of them all).

    ValueError if a document cannot be spelled in the model's tokens byte for byte.
    """
    encoded = [model.encode(document) for document in documents]
    for document, (_, n_bytes) in zip(documents, encoded, strict=True):
        check_token_bytes(n_bytes, document)
    return [tokens for tokens, _ in encoded], np.concatenate([n_bytes for _, n_bytes in encoded])


def cache_alone(streams: Sequence[Tokens], cache: NgramCache, bar: tqdm) -> tuple[Floats, Tokens]:
    """(nats, matched order) of every token under the empty cache alone, both (T,)."""
    nats, matched = [], []
    for stream in streams:
        cache.boundary()
        for start in range(0, len(stream), BLOCK):
            evidence = cache.observe(stream[start : start + BLOCK])
            nats.append(-log_target_probability(evidence, cache.vocab_size))
            matched.append(evidence.matched_order)
            bar.update(len(evidence))
    return np.concatenate(nats), np.concatenate(matched)


def start_bar(bar: tqdm | None, n_tokens: int) -> tqdm:
    """The bar, told its total; one that shows nothing where there is none."""
    bar = tqdm(disable=True) if bar is None else bar
    bar.total = n_tokens
    return bar


def document_index(streams: Sequence[Tokens]) -> Tokens:
    """(T,) int64: which document each token of the concatenated streams is of."""
    return np.repeat(np.arange(len(streams)), [len(stream) for stream in streams])


def plan(model: Model, tokens: Tokens, stride: int) -> Iterator[tuple[Tokens, Tokens, int]]:
    """Batches of windows over a document in stream order: (inputs, targets, first).

    inputs (B, T) int64 go through the model; targets (B, T - first) are what is scored, by its
    logits from position `first` on.
    """
    inputs = np.concatenate([[model.bos], tokens[:-1]])
    for batch in batches(windows(len(tokens), model.context, stride)):
        yield (
            np.stack([inputs[w.start : w.stop] for w in batch]),
            np.stack([tokens[w.first : w.stop] for w in batch]),
            batch[0].first - batch[0].start,
        )


def batches(cover: Iterator[Window]) -> Iterator[list[Window]]:
    """Runs of up to BATCH windows that are alike in length and in what is scored of them."""
    for _, alike in groupby(cover, key=lambda w: (w.stop - w.start, w.first - w.start)):
        run = list(alike)
        for start in range(0, len(run), BATCH):
            yield run[start : start + BATCH]


def warm_up() -> float:
    """Seconds to compile every kernel that scoring uses, or to load it from disk."""
    started = perf_counter()
    mixer = Mixer(vocab_size=2, order=2)
    for dtype in (np.float32, np.float64):
        mixer.score(np.zeros((3, 2), dtype), [0, 1, 0])
    cache_alone([np.zeros(2, np.int64)], NgramCache(order=2, vocab_size=2), start_bar(None, 2))
    return perf_counter() - started
