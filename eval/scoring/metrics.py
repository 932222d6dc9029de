"""What a run has scored so far, in a few numbers: totals, standard errors, copied and novel."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eval.scoring.bootstrap import BLOCK, BLOCKS, DOCUMENTS, MIN_DOCUMENTS, Bootstrap, deviations
from eval.scoring.copied import Copied
from eval.scoring.units import STEP, UnitSums, in_steps
from eval.tokenizers.byte_checks import bits, bits_per_byte

SUFFIXES = ("", "_model", "_cache")  # of nats, and of the figures that are made of them

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """The next N tokens of a run, in stream order.

    Attributes
    ----------
    tokens : (N,) int64
        Ids.
    n_bytes : (N,) int64, bytes
        Of the raw text that each token stands for.
    begins : (N,) bool
        Whether a document begins with this token.
    nats : (N,) float64, nats
        The cost that is reported: of the mixture, or of the model or the cache where it is alone.
    nats_model, nats_cache : (N,) float64, nats, or None
        Cost under the model alone, under the cache alone; None where there is none.
    matched_order : (N,) int64 or None
        Length of the longest n-gram that could answer, the token included; None without a cache.
    is_repeat : (N,) bool or None
        Whether the n-gram of the cache's order that ends here stands earlier in the stream.
    """

    tokens: Integers
    n_bytes: Integers
    begins: NDArray[np.bool_]
    nats: Floats
    nats_model: Floats | None = None
    nats_cache: Floats | None = None
    matched_order: Integers | None = None
    is_repeat: NDArray[np.bool_] | None = None

    def column(self, name: str) -> Any:
        """A column (N,) that must be there; ValueError if it is None."""
        column = getattr(self, name)
        if column is None:
            raise ValueError(
                f"tokens must come with {name}, got None; give it, or ask for no figures of it"
            )
        return column


class ScoreMetrics:
    """Running totals of a run; memory does not grow, and figures do not depend on the batches.

    Parameters
    ----------
    has_model, has_cache : bool
        Whether what is added has `nats_model`, `nats_cache`.
    length : int >= 1, optional
        Tokens of the n-grams that `is_repeat` speaks of; None: nobody knows what is copied.
    """

    def __init__(
        self, *, has_model: bool = False, has_cache: bool = False, length: int | None = None
    ) -> None:
        has = zip(SUFFIXES, (True, has_model, has_cache), strict=True)
        self._kinds = [f"nats{suffix}" for suffix, is_there in has if is_there]
        scales = [STEP] * len(self._kinds) + [1.0]  # bytes come last
        self._length = length
        self._tokens = self._documents = 0
        self._totals = [0] * len(scales)
        self._totals_copied = [0] * len(scales)
        self._copied = None if length is None else Copied(length, len(scales))
        self._units = {unit: UnitSums(scales) for unit in (DOCUMENTS, BLOCKS)}
        self._bootstraps = {unit: Bootstrap(len(self._kinds)) for unit in (DOCUMENTS, BLOCKS)}

    def add(self, scored: Scored) -> None:
        """Count the next tokens.

        Raises
        ------
        ValueError
            If a cost is missing, not finite or too large to add up, or if the first token of all
            begins no document; then nothing was counted.
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
        costs = [in_steps(scored.column(kind)) for kind in self._kinds]
        columns = np.stack([*costs, scored.n_bytes])
        if self._copied is not None:
            settled = self._copied.add(columns, is_repeat, scored.begins)
            self._totals_copied = plus(self._totals_copied, copied_sums(*settled))
        starts = {
            DOCUMENTS: np.flatnonzero(scored.begins),
            BLOCKS: np.arange(-self._tokens % BLOCK, n_tokens, BLOCK),
        }
        for unit, bootstrap in self._bootstraps.items():
            bootstrap.add(self._units[unit].add(columns, starts[unit]))
        self._tokens += n_tokens
        self._documents += len(starts[DOCUMENTS])
        self._totals = plus(self._totals, columns.sum(axis=1).tolist())

    def scores(self) -> dict[str, float | None]:
        """Bits per byte so far: ``bpb``, ``bpb_model``, ``bpb_cache``; None if undefined."""
        totals = dict(zip(self._kinds, self._totals, strict=False))
        return {
            f"bpb{suffix}": score(totals.get(f"nats{suffix}"), self._totals[-1])
            for suffix in SUFFIXES
        }

    def figures(self) -> dict[str, Any]:
        """Figures of all tokens so far, as if the text ended here; None where one is undefined.

        Bits are of the whole text, ``bpb`` and standard errors in bits per byte; ``saved`` is the
        model's less the reported. Copied and novel bytes have a ``bpb`` each.
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
        saved = totals["nats_model"] - totals["nats"] if "nats_model" in totals else None
        flat["bits_saved"] = None if saved is None else bits(saved * STEP)
        return flat | self._errors() | self._split()

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on with the same figures, as JSON can hold it."""
        return {
            "has_model": "nats_model" in self._kinds,
            "has_cache": "nats_cache" in self._kinds,
            "length": self._length,
            "tokens": self._tokens,
            "documents": self._documents,
            "totals": self._totals,
            "totals_copied": self._totals_copied,
            "copied": None if self._copied is None else self._copied.state(),
            "unfinished": {unit: units.unfinished for unit, units in self._units.items()},
            "bootstraps": {unit: kept.state() for unit, kept in self._bootstraps.items()},
        }

    @classmethod
    def restore(cls, state: dict[str, Any]) -> Self:
        """The tally whose `state` that was."""
        tally = cls(**{name: state[name] for name in ("has_model", "has_cache", "length")})
        tally._tokens, tally._documents = state["tokens"], state["documents"]
        tally._totals, tally._totals_copied = state["totals"], state["totals_copied"]
        if state["copied"] is not None:
            tally._copied = Copied.restore(state["copied"])
        for unit, units in tally._units.items():
            units.unfinished = state["unfinished"][unit]
            tally._bootstraps[unit] = Bootstrap.restore(state["bootstraps"][unit])
        return tally

    def _errors(self) -> dict[str, Any]:
        """Standard errors of the scores and, paired, of what was saved."""
        unit = DOCUMENTS if self._documents >= MIN_DOCUMENTS else BLOCKS
        ratios = self._bootstraps[unit].ratios(self._units[unit].rest())
        of_kind = dict(zip(self._kinds, ratios, strict=True))
        if "nats_model" in of_kind:
            of_kind["saved"] = of_kind["nats_model"] - of_kind["nats"]
        errors = deviations(np.array(list(of_kind.values()))).tolist()
        known = {
            kind: bits(error)
            for kind, error in zip(of_kind, errors, strict=True)
            if not math.isnan(error)
        }
        return {
            "bpb_standard_error": known.get("nats"),
            "bpb_model_standard_error": known.get("nats_model"),
            "bpb_cache_standard_error": known.get("nats_cache"),
            "saved_standard_error": known.get("saved"),
            "standard_error_unit": unit,
        }

    def _split(self) -> dict[str, Any]:
        """Bytes that are copied; scores of these and of the rest."""
        flat: dict[str, Any] = {"bytes_copied": None}
        parts: dict[str, list[int]] = {"copied": [], "novel": []}
        if self._copied is not None:
            copied = plus(self._totals_copied, copied_sums(*self._copied.rest()))
            novel = [total - part for total, part in zip(self._totals, copied, strict=True)]
            flat["bytes_copied"] = copied[-1]
            parts = {"copied": copied, "novel": novel}
        for part, sums in parts.items():
            costs = dict(zip(self._kinds, sums, strict=False))
            for suffix in ("", "_model"):
                total = costs.get(f"nats{suffix}")
                flat[f"bpb{suffix}_{part}"] = score(total, sums[-1] if sums else 0)
        return flat


def score(total: int | None, n_bytes: int) -> float | None:
    """Bits per byte of a total in steps; None if there is no total, or no byte."""
    return None if total is None or n_bytes == 0 else bits_per_byte(total * STEP, n_bytes)


def copied_sums(is_copied: NDArray[np.bool_], columns: Integers) -> list[int]:
    """C sums of columns (C, M) over the copied ones of M tokens."""
    sums: list[int] = (columns @ is_copied).tolist()
    return sums


def plus(totals: list[int], sums: list[int]) -> list[int]:
    """C totals that grew by C sums; integers of Python, which do not run over."""
    return [total + part for total, part in zip(totals, sums, strict=True)]
