"""Result of a comparison, as table, signature line and JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.comparing.comparison import Comparison
from eval.comparing.published_rules import PUBLISHED_RULES
from eval.comparing.sources import Source
from eval.data.data_hash import tokens_sha256
from eval.scoring.bootstrap import RESAMPLES, standard_errors
from eval.scoring.conditions import OF_SOURCE, end_of_signature
from eval.tables import align, sign
from eval.tokenizers.byte_checks import bits

LEGEND = """\
setting: the best in hindsight of each published rule; sig sigmoid, H the model's entropy,
k tokens of the context, n its counts, c times the hint's share of them"""


@dataclass(frozen=True, kw_only=True)
class MixerRow:
    """Figures of one mixer; errors are None if there are fewer than two units to resample.

    Attributes
    ----------
    mixer, setting : str
        The mixer and its setting.
    score : float
        Bits per byte; bits per token without byte counts.
    gain, gain_error : float
        Score of the model minus this one, and its standard error.
    bits : float
        Bits of the whole text.
    bits_more, bits_more_error : float
        Bits of the whole text minus those of the first mixer, and their standard error.
    """

    mixer: str
    setting: str
    score: float
    gain: float
    gain_error: float | None
    bits: float
    bits_more: float
    bits_more_error: float | None


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """Figures of every mixer, and every condition that affects them."""

    rows: tuple[MixerRow, ...]
    conditions: Mapping[str, Any]
    signature: str

    def to_json(self) -> str:
        """Flat JSON object: the conditions, then the figures of each mixer under its name.

        Punctuation in names becomes ``_``: ``bpb_one_hint``. Bits per token are ``bpt``.
        """
        score = "bpb" if self.conditions["bytes"] is not None else "bpt"
        flat = dict(self.conditions)
        for row in self.rows:
            name = "".join(c if c.isalnum() else "_" for c in row.mixer)
            flat |= {
                f"{score}_{name}": row.score,
                f"setting_{name}": row.setting,
                f"gain_{name}": row.gain,
                f"gain_error_{name}": row.gain_error,
                f"bits_{name}": row.bits,
                f"bits_more_{name}": row.bits_more,
                f"bits_more_error_{name}": row.bits_more_error,
            }
        flat |= {"signature": self.signature}
        return json.dumps(flat, indent=2) + "\n"

    def table(self) -> str:
        """One line for each mixer, an explanation of the errors, and the signature."""
        score = "BPB" if self.conditions["bytes"] is not None else "bits/token"
        cells = [("", "setting", score, "gain", "+-", "bits more", "+-")]
        cells += [
            (
                row.mixer,
                row.setting,
                f"{row.score:.5f}",
                f"{row.gain:+.5f}",
                figure(row.gain_error, ".5f"),
                f"{row.bits_more:+,.0f}",
                figure(row.bits_more_error, ",.0f"),
            )
            for row in self.rows
        ]
        lines = align(cells, n_left=2)
        lines += ["", f"bits more: than {self.rows[1].mixer}, on the whole text", self._errors()]
        if any(row.mixer in PUBLISHED_RULES for row in self.rows):
            lines.append(LEGEND)
        lines.append(self.signature)
        return "\n".join(lines)

    def _errors(self) -> str:
        return (
            f"+- standard error: {self.conditions['resamples']:,} resamples of "
            f"{self.conditions['units']:,} {self.conditions['unit']}, the same for every mixer"
        )


def figure(value: float | None, form: str) -> str:
    """Text of a figure; ``?`` for None."""
    return "?" if value is None else format(value, form)


def make_comparison_result(comparison: Comparison, source: Source) -> ComparisonResult:
    """Figures of a comparison with their standard errors, and the conditions."""
    nats, sizes = comparison.nats, comparison.sizes
    size = float(sizes.sum())
    errors = standard_errors(np.concatenate([nats[0] - nats, nats - nats[1]]), sizes)
    bit_errors = [None if math.isnan(error) else bits(error) for error in errors.tolist()]
    rows = [
        MixerRow(
            mixer=mixer,
            setting=setting,
            score=bits(float(spent.sum())) / size,
            gain=bits(float((nats[0] - spent).sum())) / size,
            gain_error=gain_error,
            bits=bits(float(spent.sum())),
            bits_more=bits(float((spent - nats[1]).sum())),
            bits_more_error=None if more_error is None else more_error * size,
        )
        for mixer, setting, spent, gain_error, more_error in zip(
            comparison.mixers, comparison.settings, nats,
            bit_errors[: len(nats)], bit_errors[len(nats) :], strict=True,
        )
    ]  # fmt: skip
    conditions = make_conditions(comparison, source)
    return ComparisonResult(
        rows=tuple(rows), conditions=conditions, signature=make_signature(conditions)
    )


def make_conditions(comparison: Comparison, source: Source) -> dict[str, Any]:
    """Every condition that affects a figure, under flat keys."""
    prefill = np.concatenate([np.empty(0, np.int64), *source.prefill])
    return source.conditions() | {
        "bytes": round(comparison.sizes.sum()) if source.token_bytes is not None else None,
        "tokens": len(source.document),
        "documents": int(source.document[-1]) + 1,
        "order": comparison.order,
        "memory_limit": comparison.memory_limit,
        "prefill_tokens": len(prefill),
        "prefill_sha256": tokens_sha256(prefill) if len(prefill) else None,
        "mixers": ",".join(comparison.mixers[1:]),
        "unit": comparison.unit,
        "units": len(comparison.sizes),
        "resamples": RESAMPLES,
    }


def make_signature(conditions: Mapping[str, Any]) -> str:
    """One line: the conditions without which a figure must not be quoted."""
    prefill = conditions["prefill_sha256"]
    short = {
        "data": conditions["data_sha256"][:16],
        "bytes": conditions["bytes"],
        "tokens": conditions["tokens"],
        "skipped": conditions.get("rows_skipped") or None,
        **{name: conditions.get(name) for name in OF_SOURCE},
        "order": conditions["order"],
        "prefill": prefill and f"{conditions['prefill_tokens']}-{prefill[:8]}",
        "mixers": conditions["mixers"],
        **end_of_signature(conditions),
    }
    return sign("BPB" if conditions["bytes"] is not None else "BPT", short)
