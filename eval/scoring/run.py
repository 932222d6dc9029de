"""Run: the state of one pass over a data set, and how a later run continues it."""

import hashlib
import json
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eval.files.results import check_results
from eval.interrupts import uninterrupted
from eval.scoring.batch import Batch
from eval.scoring.conditions import flags
from eval.scoring.csv_writer import REPORT, RESULTS, CsvWriter
from eval.scoring.metrics import Scored, ScoreMetrics
from eval.scoring.saved_state import Maybe, Named, Text
from eval.scoring.scorers import CacheScorer, Scorer
from eval.scoring.words import WORDS, WordCounter
from ngrammix.atomic import WriteError, kind_of
from ngrammix.model_logprobs import ModelLogprobs
from ngrammix.observed import Observed

MAX_REPORT = 1 << 24  # bytes of a result.json that may be a run's own


@dataclass(frozen=True, eq=False)
class PendingBatch:
    """A batch that was observed and is not scored yet.

    Attributes
    ----------
    batch : Batch
        N targets.
    position : int
        Targets of the stream before this batch.
    observed : sequence of Observed
        Evidence for the targets.
    """

    batch: Batch
    position: int
    observed: Sequence[Observed]


class Run:
    """One pass over the tokens of a data set.

    Parameters
    ----------
    scorer : Scorer
        New; it learns, or replays, every token of the run.
    metrics : ScoreMetrics
        Sums the scores.
    csv_writer : CsvWriter, optional
        Writes every token.
    needs_rows : bool
        Whether the run ends if its rows cannot be written. Otherwise it goes on without them, for
        its figures, with a warning, and `finish` raises the error.

    Attributes
    ----------
    position : int
        Number of tokens scored.
    words : WordCounter
        Counts the words of their text.
    is_whole : bool
        Whether sums and files are those of `position` tokens: False while, or after, `score` was
        stopped by an error.
    seconds : dict of float
        Wall time by stage, earlier runs included: ``read``, ``observe``, ``model``, ``score`` and
        ``total``. Stages overlap, so the total is less than their sum.
    """

    def __init__(
        self,
        scorer: Scorer,
        metrics: ScoreMetrics,
        csv_writer: CsvWriter | None = None,
        *,
        needs_rows: bool = True,
    ) -> None:
        self.scorer, self.metrics, self.csv_writer = scorer, metrics, csv_writer
        self.needs_rows = needs_rows
        self._unwritten: WriteError | None = None
        self.position = self._n_observed = 0
        self.is_whole = True
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.words = WordCounter()
        self._tokens = hashlib.sha256()

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to `seconds[stage]`."""
        started = perf_counter()
        yield
        self.seconds[stage] += perf_counter() - started

    def observe(self, batch: Batch) -> PendingBatch:
        """Observe a batch: the half that needs the tokens alone, and may run in another thread."""
        with self.clock("observe"):
            pending = PendingBatch(batch, self._n_observed, self.scorer.observe(batch))
            self._n_observed += len(batch.targets)
            return pending

    def score(self, pending: PendingBatch, model: ModelLogprobs | None) -> None:
        """Score an observed batch, sum the scores and write them; an interrupt waits till then."""
        batch = pending.batch
        with uninterrupted():
            self.is_whole = False
            with self.clock("score"):
                scored = self.scorer.score(batch, pending.observed, model)
            self.metrics.update(scored)
            for piece in batch.pieces:
                self.words.update(piece)
            if self.csv_writer is not None and self._unwritten is None:
                self._write(self.csv_writer, scored, batch)
            self._advance(batch)
            self.is_whole = True

    def replay(self, batch: Batch) -> None:
        """Learn a batch that an earlier run has scored."""
        self.scorer.replay(batch)
        self._n_observed += len(batch.targets)
        self._advance(batch)

    def state_dict(self) -> dict[str, Any]:
        """State for `load_state_dict`, without tokens and expert weights, as JSON values."""
        return {
            "position": self.position,
            "tokens": self._tokens.hexdigest(),
            "metrics": self.metrics.state_dict(),
            "words": self.words.state_dict(),
            "csv_writer": None if self.csv_writer is None else self.csv_writer.state_dict(),
            "seconds": dict(self.seconds),
        }

    def expert_state(self) -> dict[str, NDArray[Any]]:
        """Arrays that the mixer has learned from the model; empty without a mixer."""
        mixer = self.scorer.mixer
        return {} if mixer is None else mixer.state_dict()

    def load_state_dict(self, state: dict[str, Any], experts: dict[str, NDArray[Any]]) -> None:
        """Continue an earlier run, after `replay` of its tokens.

        The CSV files were already restored when they were made.

        Raises
        ------
        ValueError
            If the replayed tokens differ from those of the earlier run, or `experts` does not fit
            the mixer.
        """
        if (self.position, self._tokens.hexdigest()) != (state["position"], state["tokens"]):
            raise ValueError(
                "a run must go on with the data it began with, got other tokens, bytes or names "
                f"of documents within the first {state['position']} tokens; restore them, and the "
                f"options that read them ({flags('data')}), or delete the checkpoint"
            )
        if self.scorer.mixer is not None:
            self.scorer.mixer.load_state_dict(experts)
        elif experts:
            raise ValueError(
                f"a run without a mixer has no expert weights, got {', '.join(experts)}; delete "
                "the checkpoint"
            )
        self.metrics.load_state_dict(state["metrics"])
        self.words.load_state_dict(state["words"])
        for stage, seconds in state["seconds"].items():
            self.seconds[stage] += seconds

    def finish(self) -> None:
        """Write the last document, and let the CSV files take their names.

        Raises
        ------
        WriteError
            If a row could not be written, now or earlier. The files of another run stay.
        """
        if self._unwritten is not None:
            raise self._unwritten
        if self.csv_writer is not None:
            self.csv_writer.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.csv_writer is not None:
            self.csv_writer.close()

    def _write(self, csv_writer: CsvWriter, scored: Scored, batch: Batch) -> None:
        raws = [piece.raw for piece in batch.pieces if piece.raw is not None]
        raw = b"".join(raws) if len(raws) == len(batch.pieces) else None
        names = [name for piece in batch.pieces for name in piece.names]
        try:
            csv_writer.write(scored, raw, names)
        except WriteError as error:
            if self.needs_rows:
                raise
            self._unwritten = error
            warnings.warn(f"{error}; the run goes on without its rows", stacklevel=2)

    def _advance(self, batch: Batch) -> None:
        self._tokens.update(np.ascontiguousarray(batch.targets, "<i8").data)
        for piece in batch.pieces:
            self._tokens.update(piece.begins.data)
            self._tokens.update(np.ascontiguousarray(piece.n_bytes, "<i8").data)
            self._tokens.update(
                "".join(f"{name}\n" for name in piece.names).encode("utf-8", "surrogatepass")
            )
        self.position += len(batch.targets)


def make_run(
    scorer: Scorer,
    out: Path | None,
    state: dict[str, Any] | None,
    conditions: Mapping[str, Any],
    *,
    write_tokens: bool = False,
    overwrite: bool = False,
    needs_rows: bool = True,
    naming: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Run:
    """A new run; with `state`, its sums and CSV files continue those of an earlier run.

    `conditions` are those of the result: a ``result.json`` with other ones is another run's.
    `naming` adds the name of the state's file to the errors about CSV files that do not fit it.

    Raises
    ------
    ValueError
        If `out` holds results of another run, without `overwrite`; or if it is not that of the
        earlier run. No file is changed then.
    """
    has_model, has_cache = not isinstance(scorer, CacheScorer), scorer.cache is not None
    metrics = make_metrics(scorer)
    csv_state = None
    if state is not None:
        csv_state = state["csv_writer"]
        if (csv_state is None) != (out is None):
            raise ValueError(
                f"a run must go on with the --out it began with, got {out}; pass the same, or "
                "delete the checkpoint"
            )
    is_own = csv_state is not None and out is not None and has_result_of(out, conditions)
    check_folder(out, write_tokens=write_tokens, overwrite=overwrite or is_own)
    if out is None:
        return Run(scorer, metrics)
    has = {"has_model": has_model, "has_cache": has_cache, "has_match": has_cache}
    with naming():
        csv_writer = CsvWriter(out, **has, has_tokens=write_tokens, state=csv_state)
    return Run(scorer, metrics, csv_writer, needs_rows=needs_rows)


def make_metrics(scorer: Scorer) -> ScoreMetrics:
    """New sums of the scores that a scorer gives."""
    return ScoreMetrics(
        has_model=not isinstance(scorer, CacheScorer),
        has_cache=scorer.cache is not None,
        length=None if scorer.cache is None else scorer.cache.order,
    )


def saved_like(scorer: Scorer) -> dict[str, Any]:
    """What describes the state of a run with this scorer, for `check_like`."""
    metrics = make_metrics(scorer).saved_like()
    return {
        "position": 0,
        "tokens": Text("[0-9a-f]{64}"),
        "metrics": metrics,
        "words": WORDS,
        "csv_writer": Maybe(CsvWriter.saved_like(n_kinds=len(metrics["totals"]) - 1)),
        "seconds": Named(0.0),
    }


def has_result_of(out: Path, conditions: Mapping[str, Any]) -> bool:
    """Whether ``result.json`` in the folder, if any, is that of a run with these conditions."""
    path = out / REPORT
    if (kind := kind_of(path)) != "a file":
        return kind is None
    if path.stat().st_size > MAX_REPORT:
        return False
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(values, dict) and all(
        name in values and values[name] == value for name, value in conditions.items()
    )


def check_folder(out: Path | None, *, write_tokens: bool, overwrite: bool) -> None:
    """Raise ValueError if results of another run are in the folder, or none is named for tokens."""
    if write_tokens and out is None:
        raise ValueError("--tokens needs a folder for tokens.csv, got no --out; name one")
    check_results(out, RESULTS, overwrite=overwrite)
