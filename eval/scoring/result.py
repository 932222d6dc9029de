"""Result of a score, as table, signature line and JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from textwrap import fill
from typing import Any

from eval.scoring.conditions import OF_SOURCE, end_of_signature
from eval.scoring.dataloader import BatchStream
from eval.scoring.run import Run
from eval.scoring.words import rates
from eval.tables import align, sign
from eval.tokenizers.bos import BOS_NONE
from ngrammix.escaping import escaped

WIDTH = 80  # columns of the remarks
MAX_SHOWN = 1e7  # perplexities from here on are shown with an exponent
# The mixture counts as worse than the cache from so many standard errors, and so many bits on.
N_ERRORS, MIN_GAP_BITS = 2.0, 2.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """Every figure of a score and every condition that affects it: the keys of ``result.json``.

    `bpb` is the mixture's, or that of model or cache if there is no mixture. Tokens that are
    context only, because no BOS stands before them, are in no figure but their own. Figures that
    do not apply are None. Standard errors are in bits per byte; those of the bits saved and of the
    bits over the cache's are paired. `perplexity` is that of a token; words are what white space
    separates, and None if the text of the tokens is unknown. Copied bytes lie inside n-grams of
    `order` tokens that occurred earlier in the stream; the others are novel. Seconds are wall time:
    stages overlap, and the total excludes compiling.
    """

    bpb: float | None
    bpb_model: float | None
    bpb_cache: float | None
    bpb_standard_error: float | None
    bpb_model_standard_error: float | None
    bpb_cache_standard_error: float | None
    saved_standard_error: float | None
    over_cache_standard_error: float | None
    standard_error_unit: str
    bits: float
    bits_model: float | None
    bits_cache: float | None
    bits_saved: float | None
    bits_over_cache: float | None
    regret_bits: float | None
    bound_bits: float | None
    nats_per_token: float | None
    nats_per_token_model: float | None
    nats_per_token_cache: float | None
    bits_per_token: float | None
    bits_per_token_model: float | None
    bits_per_token_cache: float | None
    perplexity: float | None
    perplexity_model: float | None
    perplexity_cache: float | None
    word_perplexity: float | None
    word_perplexity_model: float | None
    word_perplexity_cache: float | None
    bytes: int
    tokens: int
    words: int | None
    documents: int
    rows_skipped: int
    first_skipped: str | None
    tokens_context_only: int
    bytes_context_only: int
    bytes_copied: int | None
    bpb_copied: float | None
    bpb_novel: float | None
    bpb_model_copied: float | None
    bpb_model_novel: float | None
    data: str
    on_bad_row: str
    data_sha256: str
    model: str
    dtype: str | None
    device: str | None
    hardware: str | None
    torch_threads: int | None
    torch_settings: str | None
    tokenizer: str
    windows: str
    context: int | None
    stride: int | None
    bos: int | None
    token_check: bool
    batch: int
    logits_memory: int | None
    limit: int | None
    allow_probabilities: bool
    causality_check: bool | None
    order: int | None
    mixer: str
    memory_limit: int | None
    ngrams_evicted: int
    seconds: float
    seconds_read: float
    seconds_model: float
    seconds_mixer: float
    seconds_compile: float
    tokens_per_second: float
    signature: str
    versions: str

    def to_json(self) -> str:
        """Flat JSON object with the fields in their order; null for a number that is not finite."""
        fields = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }
        return json.dumps(fields, indent=2) + "\n"

    def table(self) -> str:
        """Two short tables, remarks and the signature line."""
        bpb: list[tuple[str, ...]] = [("", "BPB", "s.e.", "bits saved", "tokens/s", "seconds")]
        units: list[tuple[str, ...]] = [
            ("", "nats a token", "bits a token", "perplexity", "perplexity a word")
        ]
        is_mixed = self.bound_bits is not None
        if self.bits_model is not None:
            seconds = self.seconds_model if is_mixed else self.seconds
            bpb.append(self._row("model alone", "_model", 0.0, seconds))
            units.append(self._units("model alone", "_model"))
        if self.bits_cache is not None:
            saved = None if self.bits_model is None else self.bits_model - self.bits_cache
            seconds_cache = None if is_mixed else self.seconds
            bpb.append(self._row("cache alone", "_cache", saved, seconds_cache))
            units.append(self._units("cache alone", "_cache"))
        if is_mixed:
            bpb.append(self._row("model + cache", "", self.bits_saved, self.seconds))
            units.append(self._units("model + cache", ""))
        remarks = [fill(escaped(remark), WIDTH) for remark in self._remarks()]
        return "\n".join([*align(bpb), "", *align(units), "", *remarks, self.last_line()])

    def _row(
        self, name: str, suffix: str, saved: float | None, seconds: float | None
    ) -> tuple[str, ...]:
        bpb, error = (getattr(self, f"bpb{suffix}{end}") for end in ("", "_standard_error"))
        return (
            name,
            "-" if bpb is None else f"{bpb:.4f}",
            "" if error is None else f"{error:.4f}",
            "" if saved is None else f"{saved:,.0f}",
            "" if seconds is None else f"{self.tokens / max(seconds, 1e-9):,.0f}",
            "" if seconds is None else f"{seconds:.2f}",
        )

    def _units(self, name: str, suffix: str) -> tuple[str, ...]:
        nats, bits = (getattr(self, f"{unit}_per_token{suffix}") for unit in ("nats", "bits"))
        token, word = (getattr(self, f"{unit}perplexity{suffix}") for unit in ("", "word_"))
        costs = ("-" if cost is None else f"{cost:.4f}" for cost in (nats, bits))
        return (name, *costs, *map(show_perplexity, (token, word)))

    def _remarks(self) -> list[str]:
        words = "" if self.words is None else f", {self.words:,} words"
        documents = f"{self.documents:,} document{'s' if self.documents != 1 else ''}"
        remarks = [f"{self.tokens:,} tokens{words}, {self.bytes:,} bytes, {documents}"]
        if (gap := self._gap_to_cache()) is not None:
            error = self.over_cache_standard_error
            known = "" if error is None else f", s.e. {error:.4f}"
            remarks.append(
                f"the cache alone is better by {gap:.4f} BPB{known}: the model does not help on "
                "this text; check the model and its tokenizer, or leave it out (--model none)"
            )
        if self.regret_bits is not None and self.bound_bits is not None:
            remarks.append(
                f"regret {self.regret_bits:,.1f} bits against the model; it never exceeds "
                f"{self.bound_bits:g} (negative: saved)"
            )
        if self.bytes_copied is not None and self.bytes:
            parts = (
                (self.bpb_model_copied, self.bpb_copied),
                (self.bpb_model_novel, self.bpb_novel),
            )
            copied, novel = (
                " -> ".join(f"{bpb:.4f}" for bpb in part if bpb is not None) or "-"
                for part in parts
            )
            remarks.append(
                f"copied, inside {self.order}-grams seen before: "
                f"{self.bytes_copied / self.bytes:.1%} of the bytes, BPB {copied}; the rest {novel}"
            )
        if self.rows_skipped:
            remarks.append(
                f"bad rows skipped, and in no figure: {self.rows_skipped:,}; the first: "
                f"{self.first_skipped}"
            )
        if self.tokens_context_only:
            remarks.append(
                f"context only, no BOS before them: {self.tokens_context_only:,} tokens, "
                f"{self.bytes_context_only:,} bytes, in no figure"
            )
        remarks.append(f"standard errors by {self.standard_error_unit}")
        remarks.append(f"compiling or loading the kernels took {self.seconds_compile:.1f} s more")
        return remarks

    def _gap_to_cache(self) -> float | None:
        """Bits per byte by which the mixture is worse than the cache, beyond the doubt; or None."""
        if self.bound_bits is None or self.bits_over_cache is None or not self.bytes:
            return None
        gap, error = self.bits_over_cache / self.bytes, self.over_cache_standard_error
        doubt = MIN_GAP_BITS / self.bytes if error is None else N_ERRORS * error
        return gap if gap > max(doubt, MIN_GAP_BITS / self.bytes) else None

    def last_line(self) -> str:
        """The signature and the bits per byte."""
        bpb = "-" if self.bpb is None else f"{self.bpb:.4f}"
        return f"{self.signature} = {bpb}"


def show_perplexity(value: float | None) -> str:
    """A perplexity in few digits."""
    if value is None:
        return "-"
    return f"{value:,.2f}" if value < MAX_SHOWN else f"{value:.3g}"


def make_result(run: Run, stream: BatchStream, conditions: Mapping[str, Any]) -> Result:
    """The result of a finished run of the stream under its conditions."""
    figures, mixer, cache = run.metrics.compute(), run.scorer.mixer, run.scorer.cache
    conditions = dict(conditions) | {
        "data_sha256": stream.sha256,
        "rows_skipped": stream.skipped.count,
        "first_skipped": stream.skipped.first,
    }
    total = run.seconds["total"]
    return Result(
        **figures,
        **rates(figures, run.words.n_words),
        **conditions,
        tokens_context_only=stream.context_only.n_tokens,
        bytes_context_only=stream.context_only.n_bytes,
        regret_bits=None if mixer is None else mixer.regret_bits,
        bound_bits=None if mixer is None else mixer.bound_bits,
        ngrams_evicted=0 if cache is None else sum(cache.stats()["evicted"]),
        seconds=total,
        seconds_read=run.seconds["read"],
        seconds_model=run.seconds["model"],
        seconds_mixer=run.seconds["observe"] + run.seconds["score"],
        seconds_compile=run.seconds["compile"],
        tokens_per_second=figures["tokens"] / max(total, 1e-9),
        signature=make_signature(figures, conditions),
    )


def make_signature(figures: Mapping[str, Any], conditions: Mapping[str, Any]) -> str:
    """One line: the conditions without which the score must not be quoted.

    The last field is the hash of all conditions, also of those that stand in ``result.json`` alone.
    """
    shown = {
        "data": conditions["data_sha256"][:16],
        "bytes": figures["bytes"],
        "tokens": figures["tokens"],
        "skipped": conditions["rows_skipped"] or None,
        **{name: conditions[name] for name in (*OF_SOURCE, "order", "mixer")},
        "bos": BOS_NONE if conditions["bos"] is None else conditions["bos"],
        **end_of_signature(conditions),
    }
    return sign("BPB", shown)
