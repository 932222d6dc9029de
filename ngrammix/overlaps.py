"""OverlapWatch: finds windows that overlap, from where long repeats begin and end.

Text repeats itself, but not at the borders of calls. Two windows of one text that overlap do: the
later one begins with what the earlier one ended with, or ends with what the earlier one began with.
So each long repeat is compared with the borders of the rows that were scored. A repeat of the text
itself meets two borders by chance, about once in T squared times for rows of T tokens; a warning
needs more than chance explains. An evaluation that is run again repeats whole rows in their order.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from ngrammix.candidates.match_model import MatchModel
from ngrammix.checks import check_flag, warn_caller
from ngrammix.kernels.match import LONG_REPEAT, MAX_ENDED
from ngrammix.types import Flags, Floats, Tokens

LENGTHS = LONG_REPEAT << np.arange(6)  # repeats are counted from each of these lengths up
EVERY = 1 / 4  # calls, as a share of those before, between two examinations of the repeats
MAX_EXAMINED = 128  # repeats, the last ones
# Most that chance may explain before a warning: of joined rows, of rows that come again from a
# border on, and of rows that come again at once or are many.
LOG_CHANCE, CHANCE, CHANCE_AT_ONCE = math.log(1e-6), 5e-4, 0.02
TINY = 1e-9  # repeats that are expected at least
N_REGULAR = 3  # rows of one size in succession: those of windows
N_REPLAYED, N_MANY = 4, 8  # rows that come again: from the first one on; from anywhere on, and
MANY = 4096  # tokens of these
LONG_ONCE = 32  # tokens: as many are not said twice in succession where a row begins
LONG = 128  # tokens: as many do not come again from the first one on by themselves
MAX_RUNS = 1 << 16  # runs of rows that are kept


class OverlapWarning(UserWarning):
    """Targets look scored before: by a window that overlaps, or by an earlier evaluation."""


def row_sizes(shape: tuple[int, ...], positions: Tokens) -> list[int]:
    """How many of the scored targets, at flat `positions` (N,), stand in each row of `shape`."""
    width = shape[-1]
    if len(positions) == math.prod(shape):
        return [width] * (len(positions) // width)
    sizes: list[int] = np.bincount(positions // width).tolist()
    return [size for size in sizes if size > 0]


class Rows:
    """Borders of the rows that were scored: runs of consecutive rows of one size.

    A flat call of N targets is one row whose inner borders are unknown: it may be N / T rows.

    Attributes
    ----------
    n_rows : int
        Number of rows.
    first : int
        Position of the first row.
    last : list of int
        The last run: start, size, whether it is flat, number of rows.
    """

    def __init__(self) -> None:
        self.n_rows = self.first = self._n_runs = 0
        self.last = [0, 0, 0, 0]
        self._runs = np.zeros((64, 4), np.int64)  # the runs before the last one, and room

    def add(self, start: int, size: int, n_rows: int, *, is_flat: bool) -> None:
        """Add `n_rows` rows of `size` tokens, the first of which begins at `start`."""
        last_start, last_size, was_flat, n_last = self.last
        if self.n_rows == 0:
            self.first = start
        self.n_rows += n_rows
        if size == last_size and is_flat == was_flat and start == last_start + size * n_last:
            self.last[3] += n_rows
            return
        if self._n_runs + 1 == len(self._runs):
            if len(self._runs) < MAX_RUNS:
                self._runs = np.concatenate([self._runs, np.zeros_like(self._runs)])
            else:  # the oldest half is forgotten: nothing there is a border any more
                self._n_runs //= 2
                self._runs[: self._n_runs] = self._runs[self._n_runs : 2 * self._n_runs].copy()
        if last_size > 0:
            self._runs[self._n_runs] = self.last
            self._n_runs += 1
        self.last = [start, size, int(is_flat), n_rows]

    def is_border(self, position: int) -> bool:
        """Whether a row begins at this position."""
        start, size, _, n_rows = self.last
        if start <= position:
            return (position - start) % size == 0 and position < start + size * n_rows
        sizes, _, offset = self.find(np.array([position]))
        return bool(sizes[0] > 0 and offset[0] == 0)

    def find(self, positions: Tokens) -> tuple[Tokens, Flags, Tokens]:
        """(sizes, is_flat, offsets in the row), each (N,), of positions (N,); size 0 for none."""
        self._runs[self._n_runs] = self.last
        runs = self._runs[: self._n_runs + 1]
        run = np.searchsorted(runs[:, 0], positions, "right") - 1
        start, size, is_flat, n_rows = runs[run].T
        inside = (run >= 0) & (positions < start + size * n_rows)
        size = np.where(inside, size, 0)
        return size, is_flat.astype(np.bool_), (positions - start) % np.maximum(size, 1)

    def borders(self, positions: Tokens, *, is_end: bool) -> "Borders":
        """Borders at positions (N,): those that end a row, or those that begin one."""
        size, is_flat, offset = self.find(positions - is_end)
        offset = offset + is_end
        is_known = (size > 0) & (offset % np.maximum(size, 1) == 0)
        width = np.where(is_known, size, np.where(is_flat, np.gcd(offset, size), 0))
        return Borders(width, is_known)


class Borders(NamedTuple):
    """Possible borders of rows at N positions: `width` (N,) of the widest rows, 0 for no border.

    is_known (N,): it is the border of a call or of a row of known size.
    """

    width: Tokens
    is_known: Flags

    def join(self, other: "Borders", length: Tokens) -> Tokens:
        """(N,): width of the rows with borders at both; 0 if it is less than `length` (N,)."""
        width = np.gcd(self.width, other.width)
        width = np.where(self.is_known, other.width, width)
        width = np.where(other.is_known, self.width, width)
        width = np.where(self.is_known & other.is_known, np.minimum(*self.both(other)), width)
        return np.where(np.minimum(*self.both(other)) >= length, width, 0) * (width >= length)

    def both(self, other: "Borders") -> tuple[Tokens, Tokens]:
        """Widths of these borders and of the others."""
        return self.width, other.width


class _Replay:
    """Rows that come again in their order: the distance that most of the last rows agree on."""

    def __init__(self) -> None:
        self.distance = self.n_rows = self.n_tokens = self.n_documents = 0

    def add(self, distance: int, size: int, *, begins_document: bool = False) -> None:
        """Add a row of `size` tokens that stood `distance` tokens before; 0 for no such row."""
        if distance == self.distance and distance > 0:
            self.n_rows += 1
            self.n_documents += begins_document
            self.n_tokens += size
        elif self.n_rows > 1:
            self.n_rows -= 1
        else:
            self.distance, self.n_rows, self.n_tokens = distance, int(distance > 0), size
            self.n_documents = int(begins_document)

    def is_evident(self, n_rows: int, n_tokens: int) -> bool:
        """Whether most of the stream so far, of `n_rows` and `n_tokens`, has come again."""
        n_again = n_tokens - self.distance  # if the first row came again at this distance
        is_long = max(LONG, n_again / 2) <= self.n_tokens <= self.distance
        return is_long and self.n_rows >= max(2, min(N_REPLAYED, n_rows - self.n_rows))


class OverlapWatch:
    """Warns once if the targets repeat earlier ones as only overlapping windows do.

    Parameters
    ----------
    matches : MatchModel
        It learns the stream; its repeats of at least 16 tokens are examined.
    is_on : bool
        If False, it does nothing.
    """

    def __init__(self, matches: MatchModel, *, is_on: bool) -> None:
        self._is_on = check_flag(is_on, "check_overlaps")
        self._matches, self._rows = matches, Rows()
        self._n_calls = self._next_call = self._n_seen = self._n_ended = 0
        self._n_repeats, self._n_joined = np.zeros((2, len(LENGTHS)), np.int64)
        self._expected = np.zeros(len(LENGTHS))
        self._document = -1  # position of the last boundary
        self._replay = _Replay()

    def boundary(self, position: int) -> None:
        """A new document begins."""
        self._document = position

    def note(self, start: int, sizes: Sequence[int], *, is_flat: bool) -> None:
        """The tokens from `start` on were scored, as rows of these sizes; warns if they overlap.

        is_flat: it is one row, which may be several in truth.
        """
        if not self._is_on or min(sizes, default=0) < LONG_REPEAT:
            return
        if len(set(sizes)) == 1:
            self._rows.add(start, sizes[0], len(sizes), is_flat=is_flat)
        else:
            for begin, size in zip(accumulate(sizes, initial=start), sizes, strict=False):
                self._rows.add(begin, size, 1, is_flat=False)
        self._n_calls += 1
        n_new, self._n_ended = self._matches.n_ended - self._n_ended, self._matches.n_ended
        if n_new and (self._n_calls >= self._next_call or self._is_at_once(start, n_new)):
            self._next_call = int(self._n_calls * (1 + EVERY)) + 1
            n_new, self._n_seen = self._n_ended - self._n_seen, self._n_ended
            self._examine_joins(self._matches.ended(min(n_new, MAX_EXAMINED)))
        pointer, length = self._matches.current
        if self._is_on and length < sizes[-1]:
            self._replay.add(0, 0)
        elif self._is_on:
            self._examine_rows(sizes, pointer, length)

    def _is_at_once(self, start: int, n_new: int) -> bool:
        """Whether this call begins with a repeat, now ended, of what stands just before it."""
        for i in range(min(n_new, 4)):  # some have ended as the call began
            end, old_end, length = self._matches.ended_at(self._n_ended - n_new + i)
            if old_end == start:
                return end - length == start
        return False

    def _examine_joins(self, repeats: Tokens) -> None:
        """Count the repeats (N, 3) that join rows, and how many would do so by chance."""
        end, old_end, length = repeats.T
        begin, old_begin = end - length, old_end - length
        begins, old_begins = (self._rows.borders(t, is_end=False) for t in (begin, old_begin))
        ends, old_ends = (self._rows.borders(t, is_end=True) for t in (end, old_end))
        chance = self._chance_of_joins(begin, old_begin, length)
        is_joined = np.zeros(len(repeats), np.bool_)
        for one, two, other, another in (
            (begins, old_ends, old_begins, ends),  # the later row begins as the earlier one ends
            (ends, old_begins, old_ends, begins),
        ):
            width = one.join(two, length)
            is_inside = (other.width < width) & (another.width < width)
            is_joined |= is_inside
            # Whole rows come again: of the text, as far as the borders are only possible ones.
            chance[(width > 0) & ~is_inside & ~(other.is_known | another.is_known)] += 1
        is_joined &= end - old_end >= length  # two rows share no position of the stream
        for i, least in enumerate(LENGTHS):
            is_long = length >= least
            self._n_repeats[i] += is_long.sum()
            self._n_joined[i] += (is_joined & is_long).sum()
            self._expected[i] += chance[is_long].sum()
        n, expected = self._n_joined, self._expected
        for i in np.flatnonzero((n >= 2) & (n > expected)).tolist():
            if n[i] * math.log(max(expected[i], TINY)) - math.lgamma(n[i] + 1) < LOG_CHANCE:
                return self._warn(
                    f"{n[i]} of {self._n_repeats[i]} repeats of {LENGTHS[i]} tokens or more join "
                    "the end of a row to the beginning of another"
                )
        is_once = is_joined & (begin == old_end) & begins.is_known & (length >= LONG_ONCE)
        for i in np.flatnonzero(is_once).tolist():
            _, at_once = self._chances_of_rows(int(begins.width[i]), int(length[i]), int(length[i]))
            if at_once < CHANCE_AT_ONCE:
                return self._warn(
                    f"{length[i]} tokens from position {begin[i]} on, where a row begins, are "
                    "those before it"
                )
        return None

    def _chance_of_joins(self, begin: Tokens, old_begin: Tokens, length: Tokens) -> Floats:
        """(N,): how often repeats of text, not of windows, would join rows."""
        size, is_flat, _ = self._rows.find(begin)
        old_size, was_flat, _ = self._rows.find(old_begin)
        area = np.where(is_flat | was_flat, length**2 / 2, size * old_size)
        return np.where((size > 0) & (old_size > 0), 2 / np.maximum(area, 1), 0.0)

    def _examine_rows(self, sizes: Sequence[int], pointer: int, length: int) -> None:
        """Warn if the last rows are earlier ones that come again, not text that repeats."""
        position, rows = self._matches.position, self._rows
        begin, old_begin, distance = position - length, pointer - length, position - pointer
        _, size, _, n_rows = rows.last
        n_again = length // size
        if not rows.is_border(begin):  # one token before may repeat by chance
            begin, old_begin = begin + 1, old_begin + 1
        is_first = old_begin == rows.first and length >= LONG
        is_regular = is_first or n_rows - n_again >= N_REGULAR
        is_many = length >= MANY and N_MANY <= n_again <= n_rows
        if (is_regular or is_many) and rows.is_border(begin) and begin != self._document:
            chance, at_once = self._chances_of_rows(size, length, distance)
            is_again = is_many and chance < CHANCE_AT_ONCE
            if is_regular and rows.is_border(old_begin):
                is_again |= chance / size < CHANCE
                is_again |= distance == size and at_once < CHANCE_AT_ONCE * n_again
            if is_again:
                return self._warn(
                    f"{length} tokens from position {begin} on are again those from position "
                    f"{old_begin} on"
                )
        # Whole rows of any size, such as documents, that come again in their order.
        old_row = position - sizes[-1] - distance
        if rows.is_border(old_row):
            begins_document = position - sizes[-1] == self._document
            self._replay.add(distance, sizes[-1], begins_document=begins_document)
            is_one_document = self._document >= 0 and self._replay.n_documents < 2
            if not is_one_document and self._replay.is_evident(rows.n_rows, position - rows.first):
                self._warn(
                    f"{self._replay.n_rows} rows up to position {position} are again those "
                    f"{distance} tokens before, in their order"
                )
        return None

    def _chances_of_rows(self, size: int, length: int, distance: int) -> tuple[float, float]:
        """How often a repeat of text of this length, or at this distance, begins at a border."""
        end, old_end, lengths = self._matches.ended(MAX_ENDED).T
        is_inside = (end - lengths) % size != self._matches.position % size
        n_inside = int(is_inside.sum())
        n_multiple = int(((end - old_end)[is_inside] % size == 0).sum())
        # Records whose size divides that of the rows begin at borders more often than other text.
        share = n_multiple / n_inside if n_multiple > 4 + 4 * n_inside / size else 0.0
        n_longer = 1 + int(self._n_repeats[length >= LENGTHS].min())
        n_at_once = 1 + int(((end - old_end == distance) & (lengths >= size)).sum())
        return max(n_longer / size, share), max(n_at_once / size, share)

    def _warn(self, what: str) -> None:
        """Warn at the line that called the mixer."""
        self._is_on = False
        warn_caller(
            f"targets look scored before: {what}; the cache has seen these answers, so the loss is "
            "wrong: pass only the new targets of each window (positions= checks it) and a new "
            "Mixer for each evaluation, or check_overlaps=False if the text itself is so",
            OverlapWarning,
        )
