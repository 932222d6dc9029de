"""JsonLines: one document a line, plain or compressed, in bounded memory."""

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

MAX_ROW = 1 << 26  # bytes: 64 MiB, the longest row that is read
SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
KINDS = {type(None): "null", bool: "a boolean", int: "a number", float: "a number",
         str: "a string", list: "an array", dict: "an object"}  # fmt: skip


class JsonLines:
    """The strings of one column as documents, a line each; their bytes are those of UTF-8.

    Parameters
    ----------
    path : str
        ``.jsonl``, ``.jsonl.gz`` or ``.jsonl.zst``; Zstandard windows up to 128 MiB.
    column : str
        Key of the string.

    Raises
    ------
    ValueError
        In the loop, with its line: if it is longer than 64 MiB, no JSON object, or has no such
        string; if the compressed file is cut short or damaged.
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
                f"{self.name} must be a whole compressed file, got one that breaks in or after "
                f"line {number}; fetch or compress it anew"
            ) from error
        if len(line) > MAX_ROW:
            raise ValueError(
                f"row must have at most {MAX_ROW} bytes, got more in {self.name}:{number}; "
                "split the document"
            )
        return line


def decompress(file: BinaryIO, name: str) -> AbstractContextManager[BinaryIO]:
    """Bytes of the file, decompressed as they are read if its name says so."""
    if name.endswith(".gz"):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if name.endswith(".zst"):
        import pyarrow  # tells a file that is cut short, which zstandard's reader does not

        return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), 1 << 16)
    return file


def text_of(line: bytes, column: str, name: str) -> bytes:
    """UTF-8 bytes of the string under `column` of a JSON object; ValueError names the row."""
    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        why = str(error).partition(": line ")[0]  # a row is one line
        raise ValueError(f"row must be JSON in UTF-8, got {name} ({why}); mend it") from error
    if not isinstance(row, dict):
        raise ValueError(f"row must be a JSON object, got {KINDS[type(row)]} in {name}; mend it")
    if column not in row:
        raise ValueError(
            f"row must have column {column}, got {', '.join(row)[:200] or 'none'} in {name}; "
            "name the one that holds the text with --column"
        )
    text = row[column]
    if not isinstance(text, str):
        raise ValueError(
            f"column {column} must hold a string, got {KINDS[type(text)]} in {name}; drop the row, "
            "or name another with --column"
        )
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"text must be Unicode, got the lone surrogate U+{ord(text[error.start]):04X} at "
            f"character {error.start} in {name}; mend it"
        ) from error
