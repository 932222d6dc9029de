"""ScoreMetrics: running totals of a run, standard errors, and scores of copied and novel text."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from eval.scoring.bootstrap import BLOCK, BLOCKS, DOCUMENTS, MIN_DOCUMENTS, Bootstrap, deviations
from eval.scoring.copied import CopiedTracker
from eval.scoring.saved_state import SUM, Maybe
from eval.scoring.units import STEP, UnitSums, to_steps
from eval.tokenizers.byte_checks import bits, bits_per_byte
from eval.types import Bools, Floats, Integers

SUFFIXES = ("", "_model", "_cache")  # of the columns of nats, and of the figures from them
# Differences that have a figure, and a paired standard error: the first cost less the second.
GAPS = {"saved": ("nats_model", "nats"), "over_cache": ("nats", "nats_cache")}


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """N scored tokens, in stream order.

    Attributes
    ----------
    tokens : (N,) int64
        Ids.
    n_bytes : (N,) int64, bytes
        Bytes of the raw text that each token stands for.
    begins : (N,) bool
        Whether a document begins with this token.
    nats : (N,) float64, nats
        The reported cost: under the mixture, or under model or cache if there is no mixture.
    nats_model, nats_cache : (N,) float64, nats, or None
        Cost under the model alone and under the cache alone; None without model or cache.
    matched_order : (N,) int64 or None
        Length of the longest matching n-gram, the predicted token included; None without a cache.
    is_repeat : (N,) bool or None
        Whether the n-gram of the cache's order that ends here occurred earlier in the stream.
    """

    tokens: Integers
    n_bytes: Integers
    begins: Bools
    nats: Floats
    nats_model: Floats | None = None
    nats_cache: Floats | None = None
    matched_order: Integers | None = None
    is_repeat: Bools | None = None

    def column(self, name: str) -> Any:
        """A required column (N,); ValueError if it is None."""
        column = getattr(self, name)
        if column is None:
            raise ValueError(
                f"tokens must come with {name}, got None; pass it, or ask for no figures of it"
            )
        return column


class ScoreMetrics:
    """Running totals of a run, in constant memory; figures do not depend on the batch size.

    Parameters
    ----------
    has_model, has_cache : bool
        Whether the scored tokens have `nats_model` and `nats_cache`.
    length : int >= 1, optional
        Tokens of the n-grams of `is_repeat`; None: copied and novel text are not told apart.
    """

    def __init__(
        self, *, has_model: bool = False, has_cache: bool = False, length: int | None = None
    ) -> None:
        has = zip(SUFFIXES, (True, has_model, has_cache), strict=True)
        self._kinds = [f"nats{suffix}" for suffix, is_there in has if is_there]
        scales = [STEP] * len(self._kinds) + [1.0]  # bytes are the last column
        self._tokens = self._documents = 0
        self._totals = [0] * len(scales)
        self._totals_copied = [0] * len(scales)
        self._copied = None if length is None else CopiedTracker(length, len(scales))
        self._units = {unit: UnitSums(scales) for unit in (DOCUMENTS, BLOCKS)}
        self._bootstraps = {unit: Bootstrap(len(self._kinds)) for unit in (DOCUMENTS, BLOCKS)}

    def update(self, scored: Scored) -> None:
        """Add the next tokens.

        Raises
        ------
        ValueError
            If a cost is missing, not finite or too large, or the first token of the stream does
            not begin a document. Nothing is added then.
        """
        n_tokens = len(scored.tokens)
        if n_tokens == 0:
            return
        if not self._documents and not scored.begins[0]:
            raise ValueError(
                "a stream must start with a document, got a first token that begins none; "
                "set begins there"
            )
        is_repeat: Any = None if self._copied is None else scored.column("is_repeat")
        costs = [to_steps(scored.column(kind)) for kind in self._kinds]
        columns = np.stack([*costs, scored.n_bytes])
        if self._copied is not None:
            decided = self._copied.update(columns, is_repeat, scored.begins)
            self._totals_copied = add_totals(self._totals_copied, copied_sums(*decided))
        starts = {
            DOCUMENTS: np.flatnonzero(scored.begins),
            BLOCKS: np.arange(-self._tokens % BLOCK, n_tokens, BLOCK),
        }
        for unit, bootstrap in self._bootstraps.items():
            bootstrap.update(self._units[unit].update(columns, starts[unit]))
        self._tokens += n_tokens
        self._documents += len(starts[DOCUMENTS])
        self._totals = add_totals(self._totals, columns.sum(axis=1).tolist())

    def scores(self) -> dict[str, float | None]:
        """Bits per byte so far: ``bpb``, ``bpb_model`` and ``bpb_cache``; None if undefined."""
        totals = dict(zip(self._kinds, self._totals, strict=False))
        return {
            f"bpb{suffix}": bpb_of_steps(totals.get(f"nats{suffix}"), self._totals[-1])
            for suffix in SUFFIXES
        }

    def compute(self) -> dict[str, Any]:
        """All figures of the tokens so far, by name; None if undefined.

        ``bits`` are those of the whole text, ``bpb`` and standard errors are in bits per byte, and
        ``bits_saved`` is the model's bits minus the reported bits, ``bits_over_cache`` the reported
        bits minus the cache's. Copied and novel bytes have a ``bpb`` each.
        """
        n_bytes = self._totals[-1]
        totals = dict(zip(self._kinds, self._totals, strict=False))
        flat: dict[str, Any] = {
            "tokens": self._tokens, "bytes": n_bytes, "documents": self._documents,
        }  # fmt: skip
        for suffix in SUFFIXES:
            total = totals.get(f"nats{suffix}")
            flat[f"bits{suffix}"] = None if total is None else bits(total * STEP)
        flat |= self.scores()
        for name, (kind, other) in GAPS.items():
            gap = totals[kind] - totals[other] if {kind, other} <= totals.keys() else None
            flat[f"bits_{name}"] = None if gap is None else bits(gap * STEP)
        return flat | self._errors() | self._copied_and_novel()

    def state_dict(self) -> dict[str, Any]:
        """State for `load_state_dict`, as JSON values."""
        return {
            "tokens": self._tokens,
            "documents": self._documents,
            "totals": self._totals,
            "totals_copied": self._totals_copied,
            "copied": None if self._copied is None else self._copied.state_dict(),
            "unfinished": {unit: units.unfinished for unit, units in self._units.items()},
            "bootstraps": {unit: sums.state_dict() for unit, sums in self._bootstraps.items()},
        }

    def saved_like(self) -> dict[str, Any]:
        """What describes a state of metrics made with the same arguments, for `check_like`."""
        totals = [SUM] * len(self._totals)
        return {
            "tokens": 0,
            "documents": 0,
            "totals": totals,
            "totals_copied": [SUM] * len(self._totals_copied),
            "copied": None if self._copied is None else self._copied.saved_like(),
            "unfinished": {unit: Maybe(totals) for unit in self._units},
            "bootstraps": {unit: sums.state_dict() for unit, sums in self._bootstraps.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state of metrics made with the same arguments."""
        self._tokens, self._documents = state["tokens"], state["documents"]
        self._totals, self._totals_copied = state["totals"], state["totals_copied"]
        if self._copied is not None:
            self._copied.load_state_dict(state["copied"])
        for unit, sums in self._units.items():
            sums.unfinished = state["unfinished"][unit]
            self._bootstraps[unit].load_state_dict(state["bootstraps"][unit])

    def _errors(self) -> dict[str, Any]:
        """Standard errors of the scores and, paired, of their differences."""
        unit = DOCUMENTS if self._documents >= MIN_DOCUMENTS else BLOCKS
        ratios = self._bootstraps[unit].ratios(self._units[unit].remaining())
        of_kind = dict(zip(self._kinds, ratios, strict=True))
        for name, (kind, other) in GAPS.items():
            if {kind, other} <= of_kind.keys():
                of_kind[name] = of_kind[kind] - of_kind[other]
        errors = deviations(np.array(list(of_kind.values()))).tolist()
        defined = {
            kind: bits(error)
            for kind, error in zip(of_kind, errors, strict=True)
            if not math.isnan(error)
        }
        return {
            "bpb_standard_error": defined.get("nats"),
            "bpb_model_standard_error": defined.get("nats_model"),
            "bpb_cache_standard_error": defined.get("nats_cache"),
            **{f"{name}_standard_error": defined.get(name) for name in GAPS},
            "standard_error_unit": unit,
        }

    def _copied_and_novel(self) -> dict[str, Any]:
        """Number of copied bytes, and the scores of copied and of novel text."""
        flat: dict[str, Any] = {"bytes_copied": None}
        parts: dict[str, list[int]] = {"copied": [], "novel": []}
        if self._copied is not None:
            copied = add_totals(self._totals_copied, copied_sums(*self._copied.remaining()))
            novel = [total - part for total, part in zip(self._totals, copied, strict=True)]
            flat["bytes_copied"] = copied[-1]
            parts = {"copied": copied, "novel": novel}
        for part, sums in parts.items():
            costs = dict(zip(self._kinds, sums, strict=False))
            for suffix in ("", "_model"):
                total = costs.get(f"nats{suffix}")
                flat[f"bpb{suffix}_{part}"] = bpb_of_steps(total, sums[-1] if sums else 0)
        return flat


def bpb_of_steps(total: int | None, n_bytes: int) -> float | None:
    """Bits per byte of a total in steps of nats; None without a total or without bytes."""
    return None if total is None or n_bytes == 0 else bits_per_byte(total * STEP, n_bytes)


def copied_sums(is_copied: Bools, columns: Integers) -> list[int]:
    """C sums of columns (C, M) over the copied tokens among M."""
    sums: list[int] = (columns @ is_copied).tolist()
    return sums


def add_totals(totals: list[int], sums: list[int]) -> list[int]:
    """C totals plus C sums, in Python integers, which cannot overflow."""
    return [total + part for total, part in zip(totals, sums, strict=True)]
