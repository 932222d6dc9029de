"""Run: everything that a score has found so far, and how it goes on."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eval.scoring.batch import Batch
from eval.scoring.csv_writer import CsvWriter
from eval.scoring.metrics import ScoreMetrics
from eval.scoring.scorers import Scorer
from ngrammix.logits import ModelLogprobs
from ngrammix.observed import Observed


@dataclass(frozen=True, eq=False)
class PendingBatch:
    """A batch, where it stands in the stream, and what was known before each of its targets."""

    batch: Batch
    position: int
    observed: Sequence[Observed]


class Run:
    """One pass over the tokens of a data set.

    Parameters
    ----------
    mixing : Scorer
        New: it learns, or relearns, all tokens of the run.
    tally : ScoreMetrics
        Sums up.
    records : CsvWriter, optional
        Writes token by token.

    Attributes
    ----------
    position : int
        How many tokens were scored.
    seconds : dict of float
        By what took them, resumed runs included: ``read``, ``look``, ``model``, ``settle``, and
        ``total``, which is less than their sum where they ran side by side.
    """

    def __init__(
        self, mixing: Scorer, tally: ScoreMetrics, records: CsvWriter | None = None
    ) -> None:
        self.mixing, self.tally, self.records = mixing, tally, records
        self.position = self._looked_at = 0
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._tokens = hashlib.sha256()

    @contextmanager
    def clock(self, what: str) -> Iterator[None]:
        """Time that counts as spent on `what`."""
        started = perf_counter()
        yield
        self.seconds[what] += perf_counter() - started

    def look(self, batch: Batch) -> PendingBatch:
        """The half that needs the tokens alone; it may run ahead, in a thread of its own."""
        with self.clock("look"):
            looked = PendingBatch(batch, self._looked_at, self.mixing.look(batch))
            self._looked_at += len(batch.targets)
            return looked

    def settle(self, looked: PendingBatch, model: ModelLogprobs | None) -> None:
        """The half that needs what the model said: price, sum up, write down."""
        batch = looked.batch
        with self.clock("settle"):
            scored = self.mixing.settle(batch, looked.observed, model)
        self.tally.add(scored)
        if self.records is not None:
            raws = [piece.raw for piece in batch.new if piece.raw is not None]
            raw = b"".join(raws) if len(raws) == len(batch.new) else None
            self.records.write(scored, raw, [name for piece in batch.new for name in piece.names])
        self._advance(batch)

    def replay(self, batch: Batch) -> None:
        """Learn what an earlier run has scored."""
        self.mixing.replay(batch)
        self._looked_at += len(batch.targets)
        self._advance(batch)

    def state(self) -> dict[str, Any]:
        """What another run needs to go on from here, beside the tokens and the experience."""
        return {
            "position": self.position,
            "tokens": self._tokens.hexdigest(),
            "tally": self.tally.state(),
            "records": None if self.records is None else self.records.state(),
            "seconds": dict(self.seconds),
        }

    def load_state_dict(self, state: dict[str, Any], experience: dict[str, NDArray[Any]]) -> None:
        """Go on where another run stood, now that its tokens are replayed.

        Raises
        ------
        ValueError
            If they are not the tokens that it scored.
        """
        if (self.position, self._tokens.hexdigest()) != (state["position"], state["tokens"]):
            raise ValueError(
                f"a run goes on with the data it began with, got others within the first "
                f"{state['position']} tokens; restore them, or delete the checkpoint"
            )
        self.mixing.load_state_dict(experience)
        for what, seconds in state["seconds"].items():
            self.seconds[what] += seconds

    def finish(self) -> None:
        """Close the records; nothing more will be scored."""
        if self.records is not None:
            self.records.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.records is not None:
            self.records.close()

    def _advance(self, batch: Batch) -> None:
        self._tokens.update(np.ascontiguousarray(batch.targets, "<i8").data)
        for piece in batch.new:
            self._tokens.update(piece.begins.data)
        self.position += len(batch.targets)
