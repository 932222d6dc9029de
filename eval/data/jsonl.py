"""JsonLines: one document per line, plain or compressed, read in bounded memory."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from eval.data.document import Document
from eval.data.text import row_documents

MAX_ROW = 1 << 26  # bytes, 64 MiB: longer rows are refused
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number",
         str: "a string", list: "an array", dict: "an object"}  # fmt: skip


class JsonLines:
    """The strings under one key as documents, one per line, encoded in UTF-8.

    Parameters
    ----------
    path : str
        ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst``; Zstandard windows up to 128 MiB.
    column : str
        The key of the text.

    Raises
    ------
    ValueError
        While iterating, if a line is longer than 64 MiB, is no JSON object, or has no string under
        the key, or if the compressed file is truncated or damaged. The error names the line.
    """

    def __init__(self, path: str, column: str) -> None:
        self._column = column
        self.name = path
        self.size: int | None = Path(path).stat().st_size

    def __iter__(self) -> Iterator[Document]:
        with Path(self.name).open("rb") as file, decompress(file, self.name) as stream:
            number = 0
            while line := self._line(stream, number + 1):
                number += 1
                name = f"{self.name}:{number}"
                yield from row_documents(name, text_of(line, self._column, name), file.tell())

    def _line(self, stream: BinaryIO, number: int) -> bytes:
        try:
            line = stream.readline(MAX_ROW + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(
                f"{self.name} must be a complete compressed file, got an error in or after line "
                f"{number}; download or compress it again"
            ) from error
        if len(line) > MAX_ROW:
            raise ValueError(
                f"row must have at most {MAX_ROW} bytes, got more in {self.name}:{number}; "
                "split the document"
            )
        return line


def decompress(file: BinaryIO, name: str) -> AbstractContextManager[BinaryIO]:
    """A stream of the bytes of the file, decompressed if its suffix is .gz or .zst."""
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if name.endswith(".zst"):
        import pyarrow  # detects a truncated file, unlike the reader of zstandard

        return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), 1 << 16)
    return file


def text_of(line: bytes, column: str, name: str) -> bytes:
    """UTF-8 bytes of the string under `column` in a row; the ValueError names the row."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        why = str(error).partition(": line ")[0]  # a row is one line
        raise ValueError(f"row must be JSON in UTF-8, got {name} ({why}); correct it") from error
    if not isinstance(row, dict):
        raise ValueError(f"row must be a JSON object, got {KINDS[type(row)]} in {name}; correct it")
    if column not in row:
        raise ValueError(
            f"row must have column {column}, got {', '.join(row)[:200] or 'none'} in {name}; "
            "name the column of the text with --column"
        )
    text = row[column]
    if not isinstance(text, str):
        raise ValueError(
            f"column {column} must hold a string, got {KINDS[type(text)]} in {name}; remove the "
            "row, or name another column with --column"
        )
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must be Unicode, got the lone surrogate U+{ord(text[error.start]):04X} at "
            f"character {error.start} in {name}; correct it"
        ) from error
