"""CsvWriter of a run as CSV, written as it goes: ``tokens.csv`` and ``documents.csv``."""

import csv
import math
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from io import StringIO
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from eval.scoring.metrics import SUFFIXES, Scored
from eval.scoring.units import STEP, UnitSums, in_steps

NATS = math.log(2)  # of a bit


class CsvWriter:
    r"""One CSV row a token and one a document; memory does not grow with either.

    ``tokens.csv``: position in the stream; document, counted from 0; byte, where the token begins
    in its document; bytes; token; text, the bytes as UTF-8, those that are none as ``\xff``;
    matched_order; bits_model, bits_cache, bits. ``documents.csv``: document, name, tokens, bytes,
    the same bits, bpb_model, bpb. What a run does not have is no column.

    Parameters
    ----------
    folder : Path
        Where the files are written; it exists.
    has_model, has_cache, has_match : bool
        Whether what is written has `nats_model`, `nats_cache`, `matched_order`.
    state : dict, optional
        What `state` gave an earlier run in this folder: its files are taken up there, and what it
        wrote later is cut off. Without it the files are begun anew.

    Raises
    ------
    ValueError
        If a file of the earlier run is missing, or shorter than it was then.
    """

    def __init__(
        self,
        folder: Path,
        *,
        has_model: bool = False,
        has_cache: bool = False,
        has_match: bool = False,
        state: dict[str, Any] | None = None,
    ) -> None:
        has = zip(SUFFIXES, (True, has_model, has_cache), strict=True)
        suffixes = [suffix for suffix, is_there in has if is_there]
        suffixes.append(suffixes.pop(0))  # what is reported comes last
        self._kinds = [f"nats{suffix}" for suffix in suffixes]
        bits = [f"bits{suffix}" for suffix in suffixes]
        bpb = ["bpb_model", "bpb"] if has_model else ["bpb"]
        self._needed = [*(["matched_order"] if has_match else []), *self._kinds]
        self._position, self._document, self._byte = 0, -1, 0
        self._name = ""
        self._units = UnitSums([1.0, 1.0, *[STEP] * len(self._kinds)])
        lengths: dict[str, int | None] = {"tokens": None, "documents": None}
        if state is not None:
            lengths = state["lengths"]
            self._position, self._document = state["position"], state["document"]
            self._byte, self._name = state["byte"], state["name"]
            self._units.unfinished = state["unfinished"]
        paths = {name: folder / f"{name}.csv" for name in lengths}
        for name, path in paths.items():
            check_length(path, lengths[name])
        self._files = {name: open_at(path, lengths[name]) for name, path in paths.items()}
        if state is None:
            place = ["position", "document", "byte", "bytes", "token", "text"]
            match = ["matched_order"] if has_match else []
            self._write("tokens", csv_rows([[*place, *match, *bits]]))
            self._write(
                "documents", csv_rows([["document", "name", "tokens", "bytes", *bits, *bpb]])
            )

    def write(self, scored: Scored, raw: bytes | None, names: Sequence[str]) -> None:
        """Write the next N tokens, and the documents that ended with them.

        Parameters
        ----------
        scored : Scored
            The tokens.
        raw : bytes or None
            What they spell, all together; None where nobody knows: their text is left empty.
        names : sequence of str
            Of the documents that begin with one of these tokens.

        Raises
        ------
        ValueError
            If there are more or fewer bytes or names than the tokens say, or a column is missing;
            nothing is written.
        """
        for name in self._needed:
            scored.column(name)
        n_bytes, n_begin = int(scored.n_bytes.sum()), int(scored.begins.sum())
        place = f"in the {len(scored.tokens):,} tokens from {self._position} on"
        if raw is not None and len(raw) != n_bytes:
            raise ValueError(
                f"raw bytes must be as many as the tokens stand for, got {len(raw)} for {n_bytes} "
                f"{place}; the tokenizer does not encode this text losslessly"
            )
        if len(names) != n_begin:
            raise ValueError(
                f"names must be as many as the documents that begin, got {len(names)} for "
                f"{n_begin} {place}; name each one"
            )
        if len(scored.tokens):
            self._write_documents(scored, names)
            self._write_tokens(scored, raw)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON can hold it; all rows before it are on the disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        return {
            "lengths": {name: file.tell() for name, file in self._files.items()},
            "position": self._position,
            "document": self._document,
            "byte": self._byte,
            "name": self._name,
            "unfinished": self._units.unfinished,
        }

    def finish(self) -> None:
        """Write the last document, bring everything to the disk and close the files."""
        self._write_sums(self._document, [self._name], self._units.rest())
        self._units.unfinished = None
        self.state()
        self.close()

    def close(self) -> None:
        """Close the files as they are; nothing more is written."""
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
        which = np.cumsum(scored.begins)  # 0: the document that was open
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
        columns += [(scored.column(kind) / NATS).tolist() for kind in self._kinds]
        form += ",%.6f" * len(self._kinds) + "\r\n"
        self._write("tokens", "".join(map(form.__mod__, zip(*columns, strict=True))))
        self._position += n_tokens
        self._document += int(which[-1])
        self._byte = int(byte[-1] + scored.n_bytes[-1])

    def _write_documents(self, scored: Scored, names: Sequence[str]) -> None:
        costs = [in_steps(scored.column(kind)) for kind in self._kinds]
        columns = np.stack([np.ones_like(scored.n_bytes), scored.n_bytes, *costs])
        ended = self._units.add(columns, np.flatnonzero(scored.begins))
        is_open = self._document >= 0
        known = [self._name, *names] if is_open else [*names]
        self._write_sums(max(self._document, 0), known, ended)
        self._name = known[-1]

    def _write_sums(self, first: int, names: Sequence[str], sums: NDArray[np.float64]) -> None:
        """Rows of the documents first, first + 1, ... from their sums (2 + K, D)."""
        rows = []
        for offset, (n_tokens, n_bytes, *nats) in enumerate(sums.T.tolist()):
            bits = [cost / NATS for cost in nats]
            scored = [bits[0], bits[-1]] if "nats_model" in self._kinds else [bits[-1]]
            bpb = [f"{cost / n_bytes:.6f}" if n_bytes else "" for cost in scored]
            row = [first + offset, names[offset], int(n_tokens), int(n_bytes)]
            rows.append([*row, *(f"{cost:.6f}" for cost in bits), *bpb])
        self._write("documents", csv_rows(rows))

    def _write(self, name: str, text: str) -> None:
        self._files[name].write(text.encode("utf-8", "backslashreplace"))


def check_length(path: Path, length: int | None) -> None:
    """Raise ValueError unless the file has at least the length of a checkpoint, bytes."""
    size = path.stat().st_size if path.is_file() else 0
    if length is not None and size < length:
        raise ValueError(
            f"records must hold the {length} bytes of the checkpoint, got {size} in {path}; "
            "put the file back, or start again without the checkpoint"
        )


def open_at(path: Path, length: int | None) -> Any:
    """The binary file, new, or cut off at a length in bytes; what is written comes after it."""
    if length is None:
        return path.open("wb")
    file = path.open("r+b")
    file.truncate(length)
    file.seek(length)
    return file


def csv_rows(rows: Sequence[Sequence[Any]]) -> str:
    """Lines of a CSV file, in the dialect of Python's csv module."""
    text = StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def token_texts(raw: bytes, begin: NDArray[np.int64], n_bytes: NDArray[np.int64]) -> list[str]:
    """CSV cells of the N pieces of `raw` that begin (N,) where they do."""
    bounds = zip(begin.tolist(), (begin + n_bytes).tolist(), strict=True)
    return [cell(raw[start:stop]) for start, stop in bounds]


@lru_cache(1 << 16)
def cell(raw: bytes) -> str:
    r"""CSV cell of a few bytes; what is no UTF-8 is shown as ``\xff``."""
    text = raw.decode("utf-8", "backslashreplace")
    return csv_rows([["", text]])[1:-2]  # a lone empty cell would be quoted
