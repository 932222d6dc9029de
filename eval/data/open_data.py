"""Data: files, pipes, tables, data sets and token shards as one stream of documents."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from eval.data.document import Document
from eval.data.hf_datasets import open_folder, open_streaming, refuse_split
from eval.data.jsonl import SUFFIXES, JsonLines
from eval.data.parquet import ParquetFile
from eval.data.text import TextFile
from eval.data.token_files import TokenFiles

TOKENS = (".bin", ".npy")
HUB_NAME = re.compile(r"(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>\w[\w.-]*))?")


class Data(Protocol):
    """A stream of documents, the same at every pass."""

    @property
    def name(self) -> str:
        """What the user named, for the result: ``a.txt, b.txt``."""

    @property
    def size(self) -> int | None:
        """All of it, in the unit of `Document.offset`; None if unknown: a pipe, the Hub."""

    def __iter__(self) -> Iterator[Document]:
        """Documents from the first one on; long text in pieces. A pipe can be read once."""


class ConcatenatedData:
    """Parts, one after the other, as one stream.

    Parameters
    ----------
    parts : sequence of Data
        At least one.
    skip_empty : bool
        Whether documents of no bytes or tokens are left out; they are refused otherwise.

    Raises
    ------
    ValueError
        In the loop, if a document is empty, or there is none in all the parts.
    """

    def __init__(self, parts: Sequence[Data], *, skip_empty: bool = False) -> None:
        self._parts, self._skip_empty = parts, skip_empty
        self.name = ", ".join(part.name for part in parts)
        sizes = [part.size for part in parts]
        self.size = None if None in sizes else sum(size or 0 for size in sizes)

    def __iter__(self) -> Iterator[Document]:
        before, offset, has_any = 0, 0, False
        for part in self._parts:
            for document in part:
                offset = before + document.offset
                if is_empty(document):
                    if self._skip_empty:
                        continue
                    unit = "byte" if document.tokens is None else "token"
                    raise ValueError(
                        f"document must hold at least one {unit}, got the empty {document.name}; "
                        "drop it, or pass --skip-empty"
                    )
                has_any = True
                yield replace(document, offset=offset) if before else document
            before = offset if part.size is None else before + part.size
        if not has_any:
            raise ValueError(
                f"data must hold at least one document, got none in {self.name}; name other files"
            )


def open_data(
    paths: Sequence[str],
    *,
    column: str = "text",
    split: str | None = None,
    bos: int | None = None,
    vocab_size: int | None = None,
    token_bytes: str | Sequence[str] | None = None,
    skip_empty: bool = False,
    download: bool = False,
) -> Data:
    """Everything under these names as one stream of documents, in constant memory.

    Parameters
    ----------
    paths : sequence of str
        Each is a table (``.jsonl``, ``.jsonl.gz``, ``.jsonl.zst``, ``.parquet``: a document a
        row), a folder with a Hugging Face data set, the name of one on the Hub (``org/name`` or
        ``org/name:config``), or any other file, or ``-`` for standard input: one document of raw
        text. Or all are token files: ``.bin`` shards and ``.npy`` arrays.
    column : str
        That holds the text, in tables and data sets.
    split : str, optional
        Of a data set that has several.
    bos : int, optional
        Token that begins a document, in token files.
    vocab_size : int, optional
        V: a token that is not below it is refused.
    token_bytes : str or sequence of str, optional
        Side-car file for each token file: the raw bytes of each token, 0 for `bos`.
    skip_empty : bool
        Leave empty documents out instead of refusing them.
    download : bool
        Permit the Hub.

    Raises
    ------
    ValueError
        If a name is missing, is not what it should be, or the options do not fit. What only shows
        as the data are read is raised in the loop, with its file and row.
    """
    if not paths:
        raise ValueError("data must be at least one name, got none; name a file")
    if all(map(is_tokens, paths)):
        sidecars = [token_bytes] if isinstance(token_bytes, str) else list(token_bytes or ())
        tokens = TokenFiles(paths, bos=bos, vocab_size=vocab_size, token_bytes=sidecars)
        return ConcatenatedData([tokens], skip_empty=skip_empty)
    if any(map(is_tokens, paths)):
        raise ValueError(
            "data must be all text or all tokens, got both in "
            f"{', '.join(paths)}; score them one by one"
        )
    if token_bytes is not None:
        raise ValueError(
            f"token bytes go with token files, got them with {paths[0]}; leave them out"
        )
    parts = [open_text(path, column, split, download=download) for path in paths]
    return ConcatenatedData(parts, skip_empty=skip_empty)


def is_empty(document: Document) -> bool:
    """Whether the document, or its piece, has no bytes and no tokens."""
    return not document.raw and (document.tokens is None or len(document.tokens) == 0)


def is_tokens(path: str) -> bool:
    """Whether a name is that of a token file."""
    return path.endswith(TOKENS)


def open_text(path: str, column: str, split: str | None, *, download: bool) -> Data:
    """The part of the stream that one name stands for; ValueError if nothing does."""
    if path == "-":
        return TextFile(path)
    if Path(path).is_dir():
        return open_folder(path, column, split)
    if not Path(path).exists():
        named = HUB_NAME.fullmatch(path)
        if download and named:
            return open_streaming(named["name"], named["config"], column, split)
        raise ValueError(
            f"data must be a file or a folder, got {path}, which is missing; check the path, or "
            "pass --download if it is a data set of the Hugging Face Hub"
        )
    refuse_split(split, path)
    if Path(path).is_file():
        with Path(path).open("rb"):  # refused by the system here, not in the middle of a run
            pass
    if path.endswith(SUFFIXES):
        return JsonLines(path, column)
    if path.endswith(".parquet"):
        return ParquetFile(path, column)
    return TextFile(path)
