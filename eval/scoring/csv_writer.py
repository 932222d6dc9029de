"""CsvWriter: a run's documents, and its tokens, as ``documents.csv`` and ``tokens.csv``."""

import csv
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import StringIO
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from eval.files.results import put_in_place
from eval.scoring.csv_cells import name_bytes, to_cell
from eval.scoring.metrics import SUFFIXES, Scored
from eval.scoring.row_file import RowFile
from eval.scoring.saved_state import SUM, Integer, Maybe, Named, Text
from eval.scoring.units import STEP, UnitSums, to_steps
from eval.types import Floats, Integers

NATS_PER_BIT = math.log(2)
REPORT = "result.json"
RESULTS = (REPORT, "documents.csv", "tokens.csv")  # what a run writes in its folder
WRITTEN = {"length": 0, "sha256": Text("[0-9a-f]{64}")}  # of a file


class CsvWriter:
    r"""Writes one CSV row for each document and, if asked, for each token, in constant memory.

    Rows grow in ``documents.csv.part`` and ``tokens.csv.part``, which take their names at the end.
    Columns of ``tokens.csv``: position in the stream; document, counted from 0; byte, the offset of
    the token in its document; bytes; token; text, as `csv_cells.to_cell` writes its bytes;
    matched_order; bits_model, bits_cache, bits. Columns of ``documents.csv``: document, name,
    tokens, bytes, the same bits, bpb_model, bpb. Columns that do not apply to a run are left out.

    Parameters
    ----------
    folder : Path
        Existing folder for the files.
    has_tokens : bool
        Whether ``tokens.csv`` is written.
    has_model, has_cache, has_match : bool
        Whether the scored tokens have `nats_model`, `nats_cache` and `matched_order`.
    state : dict, optional
        `state_dict` of an earlier run in this folder: its rows until that state are continued.
        Without it, the files are new.

    Raises
    ------
    ValueError
        If `state` has other files, or a file of the earlier run is missing, or does not begin with
        what that run wrote. No file is changed then.
    """

    def __init__(
        self,
        folder: Path,
        *,
        has_tokens: bool = True,
        has_model: bool = False,
        has_cache: bool = False,
        has_match: bool = False,
        state: dict[str, Any] | None = None,
    ) -> None:
        has = zip(SUFFIXES, (True, has_model, has_cache), strict=True)
        suffixes = [suffix for suffix, is_there in has if is_there]
        suffixes.append(suffixes.pop(0))  # the reported cost is the last column
        self._kinds = [f"nats{suffix}" for suffix in suffixes]
        bits = [f"bits{suffix}" for suffix in suffixes]
        bpb = ["bpb_model", "bpb"] if has_model else ["bpb"]
        self._needed = [*(["matched_order"] if has_match else []), *self._kinds]
        self._position, self._document, self._byte = 0, -1, 0
        self._name = ""
        self._units = UnitSums([1.0, 1.0, *[STEP] * len(self._kinds)])
        names = ["documents", *(["tokens"] if has_tokens else [])]
        written: dict[str, Any] = {}
        if state is not None:
            written = state["files"]
            if written.keys() != set(names):
                here, there = ("--tokens", "none") if has_tokens else ("none", "--tokens")
                raise ValueError(
                    f"a run must go on with the --tokens it began with, got {here} where the "
                    f"checkpoint has {there}; pass the same, or delete the checkpoint"
                )
            self._position, self._document = state["position"], state["document"]
            self._byte, self._name = state["byte"], state["name"]
            self._units.unfinished = state["unfinished"]
        location = ["position", "document", "byte", "bytes", "token", "text"]
        match = ["matched_order"] if has_match else []
        headers = {
            "documents": ["document", "name", "tokens", "bytes", *bits, *bpb],
            "tokens": [*location, *match, *bits],
        }
        self._folder = folder
        self._files = {
            name: RowFile(folder / f"{name}.csv", csv_rows([headers[name]]), written.get(name))
            for name in names
        }

    def write(self, scored: Scored, raw: bytes | None, names: Sequence[str]) -> None:
        """Write the next N tokens, and the documents that ended with them.

        Parameters
        ----------
        scored : Scored
            The tokens.
        raw : bytes or None
            The text of all N tokens; None if it is unknown: the text column is then empty.
        names : sequence of str
            Names of the documents that begin with one of these tokens.

        Raises
        ------
        ValueError
            If the number of bytes or names does not match the tokens, or a column is missing.
            Nothing is written then.
        """
        for name in self._needed:
            scored.column(name)
        n_bytes, n_begin = int(scored.n_bytes.sum()), int(scored.begins.sum())
        location = f"in the {len(scored.tokens):,} tokens from {self._position} on"
        if raw is not None and len(raw) != n_bytes:
            raise ValueError(
                f"raw bytes must be as many as the tokens stand for, got {len(raw)} for {n_bytes} "
                f"{location}; the tokenizer does not encode this text losslessly"
            )
        if len(names) != n_begin:
            raise ValueError(
                f"names must be as many as the documents that begin, got {len(names)} for "
                f"{n_begin} {location}; name each one"
            )
        if len(scored.tokens):
            self._write_documents(scored, names)
            if "tokens" in self._files:
                self._write_tokens(scored, raw)
            self._advance(scored)

    def state_dict(self) -> dict[str, Any]:
        """State for a resumed run, as JSON values; all rows written so far are on disk."""
        return {
            "files": {name: file.state_dict() for name, file in self._files.items()},
            "position": self._position,
            "document": self._document,
            "byte": self._byte,
            "name": self._name,
            "unfinished": self._units.unfinished,
        }

    @staticmethod
    def saved_like(n_kinds: int) -> dict[str, Any]:
        """What describes a state with so many kinds of costs, for `check_like`."""
        return {
            "files": Named(WRITTEN),
            "position": 0,
            "document": Integer(-1),
            "byte": 0,
            "name": "",
            "unfinished": Maybe([SUM] * (2 + n_kinds)),
        }

    def finish(self) -> None:
        """Write the last document, and let the files take their names once they are on disk."""
        self._write_sums(self._document, [self._name], self._units.remaining())
        self._units.unfinished = None
        for file in self._files.values():
            file.finish()
        put_in_place(self._folder, RESULTS, [f"{name}.csv" for name in self._files])

    def close(self) -> None:
        """Close the files without writing the open document."""
        for file in self._files.values():
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write_tokens(self, scored: Scored, raw: bytes | None) -> None:
        n_tokens = len(scored.tokens)
        begin = np.cumsum(scored.n_bytes) - scored.n_bytes
        which = np.cumsum(scored.begins)  # 0: the document open before these tokens
        first_byte = np.concatenate([[-self._byte], begin[scored.begins]])
        byte = begin - first_byte[which]
        columns: list[Iterable[Any]] = [
            range(self._position, self._position + n_tokens),
            (self._document + which).tolist(),
            byte.tolist(),
            scored.n_bytes.tolist(),
            scored.tokens.tolist(),
            repeat("", n_tokens) if raw is None else token_texts(raw, begin, scored.n_bytes),
        ]
        form = "%d,%d,%d,%d,%d,%s"
        if "matched_order" in self._needed:
            columns.append(scored.column("matched_order").tolist())
            form += ",%d"
        columns += [(scored.column(kind) / NATS_PER_BIT).tolist() for kind in self._kinds]
        form += ",%.6f" * len(self._kinds) + "\r\n"
        self._write("tokens", "".join(map(form.__mod__, zip(*columns, strict=True))))

    def _advance(self, scored: Scored) -> None:
        starts = np.flatnonzero(scored.begins)
        self._position += len(scored.tokens)
        self._document += len(starts)
        if len(starts):
            self._byte = 0
        self._byte += int(scored.n_bytes[starts[-1] if len(starts) else 0 :].sum())

    def _write_documents(self, scored: Scored, names: Sequence[str]) -> None:
        costs = [to_steps(scored.column(kind)) for kind in self._kinds]
        columns = np.stack([np.ones_like(scored.n_bytes), scored.n_bytes, *costs])
        ended = self._units.update(columns, np.flatnonzero(scored.begins))
        is_open = self._document >= 0
        open_names = [self._name, *names] if is_open else [*names]
        self._write_sums(max(self._document, 0), open_names, ended)
        self._name = open_names[-1]

    def _write_sums(self, first: int, names: Sequence[str], sums: Floats) -> None:
        """Write rows of the documents first, first + 1, ... from their sums (2 + K, D)."""
        rows = []
        for offset, (n_tokens, n_bytes, *nats) in enumerate(sums.T.tolist()):
            bits = [cost / NATS_PER_BIT for cost in nats]
            scored = [bits[0], bits[-1]] if "nats_model" in self._kinds else [bits[-1]]
            bpb = [f"{cost / n_bytes:.6f}" if n_bytes else "" for cost in scored]
            name = to_cell(name_bytes(names[offset]))
            row = [first + offset, name, int(n_tokens), int(n_bytes)]
            rows.append([*row, *(f"{cost:.6f}" for cost in bits), *bpb])
        self._write("documents", csv_rows(rows))

    def _write(self, name: str, text: str) -> None:
        if text:
            self._files[name].write(text)


def csv_rows(rows: Sequence[Sequence[Any]]) -> str:
    """Lines of a CSV file, in the dialect of Python's csv module."""
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def token_texts(raw: bytes, begin: Integers, n_bytes: Integers) -> list[str]:
    """CSV cells of N tokens; begin, n_bytes (N,): offset and length of each in `raw`."""
    bounds = zip(begin.tolist(), (begin + n_bytes).tolist(), strict=True)
    return [cell(raw[start:stop]) for start, stop in bounds]


@lru_cache(1 << 16)
def cell(raw: bytes) -> str:
    """CSV cell of the bytes of one token, quoted if need be."""
    return csv_rows([["", to_cell(raw)]])[1:-2]  # a single empty cell would be quoted
