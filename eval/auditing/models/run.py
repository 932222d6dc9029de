"""Run: the checks of a model one after another, until one finds a violation or the time is up."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.auditing.models.checks import Shapes, cache_reader
from eval.auditing.models.documents import describe, look_across
from eval.auditing.models.findings import finding_of, no_distribution, probabilities_in
from eval.auditing.models.reader import STOPPERS, NoDistributionError, Reader, TimeUpError
from eval.auditing.models.search import search
from eval.auditing.models.streams import Cuts, Long, Pairs, Places, Stream, Texts
from eval.auditing.models.windows import Windows
from eval.auditing.models.witness import shrunk, witness_of
from eval.models.base import Model
from eval.models.causality import find_leak
from eval.models.probe import Leak, Probe
from eval.types import Tokens
from ngrammix.auditing.report import Check, Finding, smallest_share
from ngrammix.auditing.scorer import Clock, StoppedError, described

SHORT = 64  # tokens of the windows that are read in other shapes
REPEATED, TIMES = 8, 230  # tokens, and passes: chance at 2 % of them shows with 99 %
RESERVE = 0.08  # share of the budget that is kept for the last check and for smaller windows


@dataclass(eq=False, kw_only=True)
class ModelAudit:
    """One audit of a model under way.

    Attributes
    ----------
    model : Model
    name : str
        Of the model, as the report and its findings call it.
    text : (N,) int64 or None
        Tokens such as the model will read.
    vocab_size, longest, batch, positions : int
        Ids that are put in; tokens of the longest window; rows of a batch; most rows times tokens
        of a pass.
    bos : int or None
        The token that begins a document.
    documents_apart : bool
        Whether it is a violation if the logits from there on depend on the tokens before it.
    seed : int
    clock : Clock
    findings : list of Finding
    problems, remarks : list of str
    """

    model: Model
    name: str
    text: Tokens | None
    vocab_size: int
    longest: int
    batch: int
    positions: int
    bos: int | None
    documents_apart: bool
    seed: int
    clock: Clock
    findings: list[Finding] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    _done: list[Check] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._reader = Reader(self.model, self.clock, self.batch)
        rng = np.random.default_rng(self.seed)
        specials = specials_of(self.model, self.bos, self.vocab_size)
        self._windows = Windows(self.text, self.vocab_size, specials, rng)
        can_change = min(self.longest, self.vocab_size) > 1
        self._streams = self._make_streams() if can_change else []

    def checks(self) -> list[Check]:
        """All checks, and how far they went."""
        return [
            *self._done,
            *(stream.check() for stream in self._streams if stream.calls or stream.refused),
        ]

    def run(self) -> bool:
        """Run the checks; True."""
        try:
            self._run()
        except TimeUpError:
            self.problems += [
                f"the budget of {self.clock.budget:g} s was too short after {self.clock.calls} "
                f"passes of {self.clock.tokens:,} tokens; raise budget_seconds"
            ]
        except NoDistributionError as error:
            self.findings.append(no_distribution(error, self.name))
        except StoppedError as error:
            self.problems.append(str(error))
        except Exception as error:  # of any kind: the model may raise anything
            self.problems.append(f"the model raised {described(error)}")
        return True

    def _run(self) -> None:
        short = self._batch_of(self.batch, min(self.longest, SHORT))
        long = self._batch_of(2, self.longest)
        first = self._reader(long).clone()
        self._check_logits(long, first)
        probe = Probe(self._reader, long[0], self.vocab_size, self.seed, self._windows.kinds())
        if self._found(probe.look_again(short)):
            return  # each call has other logits: nothing else can be told
        self._done.append(Check("C4", "read again, and again after other windows", len(short),
                                "windows", 5, 0.0))  # fmt: skip
        if self._found(self._quick(long)) or self._check_shapes(short, long):
            return
        end, self.clock.end = self.clock.end, (1 - RESERVE) * self.clock.budget
        try:
            found = search(self._streams, probe, self._windows)
        finally:
            self.clock.end = end
        if self._found(found):
            return
        self._check_enough()
        with suppress(TimeUpError):  # the windows were read again at the start too
            self._check_last(long, first)

    def _batch_of(self, n_rows: int, length: int) -> Tokens:
        """(B, length) int64: windows of different texts, at most as many as a run reads at once."""
        n = max(1, min(n_rows, self.batch, SHORT))
        return np.stack([self._windows.draw(length) for _ in range(n)])

    def _quick(self, long: Tokens) -> Leak | None:
        """What the probe of `score` finds."""
        calls = self.clock.calls
        text = long[0] if self.text is None else self.text
        found = find_leak(
            self._reader, text, vocab_size=self.vocab_size, longest=self.longest,
            batch=self.batch, max_rows=self.positions,
        )  # fmt: skip
        n = min(self.longest, SHORT) - 1
        self._done.append(Check(
            "C1", f"the probe that score runs: windows of {n + 1} and {self.longest} tokens", n,
            "positions", self.clock.calls - calls, None, "" if self.batch > 1 else
            "with batch 1 no rows stand beside a window",
        ))  # fmt: skip
        return found

    def _check_shapes(self, short: Tokens, long: Tokens) -> bool:
        """Whether other lengths, other batches or a cache move the logits."""
        calls = self.clock.calls
        shapes = [Shapes(self._reader, rows) for rows in (short, long)]
        for each in shapes if self.batch > 1 else []:
            n = each.rows.shape[1]
            lengths = [m for m in (1, 2, 3, 5, 7, 12, 16, 24, 31, 48, n // 2, n - 1) if m < n]
            lengths = lengths if n <= SHORT else lengths[-2:]
            found = each.shorter(lengths)
            found = found or (each.fewer([1, 2, 3]) if n <= SHORT else None)
            if self._found(found):
                return True
        if self.batch > 1:
            self._done.append(Check(
                "C1", "windows cut short, and beside fewer rows, against the whole batch",
                sum(each.passes for each in shapes), "shapes", self.clock.calls - calls,
            ))  # fmt: skip
        return self._check_cache(shapes[0]) or self._check_documents()

    def _check_cache(self, shapes: Shapes) -> bool:
        """Whether a cache of keys and values moves the logits, where the model has one."""
        read = cache_reader(self.model)
        if read is None:
            return False
        n = shapes.rows.shape[1]
        try:
            found = shapes.cached([m for m in (3, n - 8) if 0 < m < n], read)
        except Exception as error:  # of any kind: a model need not read in pieces
            self.remarks.append(f"the cache of the model was not read: {described(error)}")
            return False
        self._done.append(Check("C4", "read token by token with its cache, against one pass", n,
                                "positions", n + 8))  # fmt: skip
        return self._found(found)

    def _check_documents(self) -> bool:
        """Whether documents that shall be kept apart are not; else a remark."""
        if self.bos is None or min(self.longest, self.vocab_size) < 2:
            return False
        calls = self.clock.calls
        found, moved = look_across(self._reader, self._windows, self.longest, self.bos)
        said = describe(moved, self.bos)
        if not self.documents_apart:
            self.remarks.append(said)
            return False
        self._done.append(Check("C4", "other documents put before a document", len(moved),
                                "positions", self.clock.calls - calls))  # fmt: skip
        return self._found(found)

    def _make_streams(self) -> list[Stream]:
        common: dict[str, Any] = {
            "windows": self._windows, "longest": self.longest, "positions": self.positions
        }  # fmt: skip
        return [
            Texts(**common, weight=2.0),
            Cuts(**common, weight=4.0),
            Long(**common, weight=4.0, batch=self.batch),
            Pairs(**common, weight=2.0),
            Places(**common, weight=1.0),
        ]

    def _check_enough(self) -> None:
        """TimeUpError if there was no time to cut one of the longest windows."""
        for stream in self._streams:
            if isinstance(stream, Long) and not stream.tried and not stream.refused:
                raise TimeUpError

    def _check_logits(self, rows: Tokens, logits: Any) -> None:
        """A finding if the logits (B, T, V) of rows are probabilities; they are finite already."""
        n = rows.size
        self._done.append(Check(
            "C2", "log-softmax makes a distribution of any logits, if none is NaN or +inf", n,
            "rows", 1, None, "each pass of the other checks was looked at too",
        ))  # fmt: skip
        if (found := probabilities_in(rows, logits)) is not None:
            self.findings.append(found)

    def _check_last(self, rows: Tokens, first: Any) -> None:
        """A finding if the first windows have other logits after all the calls of the audit."""
        found = Shapes(self._reader, rows).changed(first)
        if self._found(found):
            return
        self._done.append(Check(
            "C4", f"read again after {self.clock.calls} passes", len(rows), "windows", 1, 0.0,
        ))  # fmt: skip
        self._check_chance(rows[:, :REPEATED])

    def _check_chance(self, rows: Tokens) -> None:
        """A finding if a short batch has other logits in one of many passes."""
        try:
            shapes = Shapes(self._reader, rows)
        except STOPPERS:
            raise
        except Exception:  # of any kind: a model need not take short windows
            return
        with suppress(TimeUpError):  # what was read until then is stated
            self._found(shapes.repeated(TIMES))
        self._done.append(Check(
            "C4", "a short batch read again and again", shapes.passes, "passes", shapes.passes,
            smallest_share(shapes.passes),
        ))  # fmt: skip

    def _found(self, found: Leak | None) -> bool:
        """Whether there is a leak; it becomes a finding with its smallest windows."""
        if found is None:
            return False
        found = shrunk(self._reader, found, self.clock)
        self.findings.append(finding_of(found, witness_of(self._reader, found), self.name))
        return True


def specials_of(model: Model, bos: int | None, vocab_size: int) -> list[int]:
    """Ids with a meaning of their own: those of the tokenizer and of the config, both ends."""
    config = getattr(getattr(model, "network", None), "config", None)
    ids = [bos, *(getattr(config, f"{name}_token_id", None) for name in ("bos", "eos", "pad"))]
    known = [int(i) for i in [*ids, 0, vocab_size - 1] if isinstance(i, int)]
    return [i for i in dict.fromkeys(known) if 0 <= i < vocab_size]
