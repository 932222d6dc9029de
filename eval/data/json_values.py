"""JSON: one document for each object of an array, or of objects one after the other."""

import codecs
import json
from collections.abc import Iterator

from eval.data.columns import MAX_ROW, text_of_row, too_long, too_many
from eval.data.document import Document
from eval.data.formats import is_json_lines
from eval.data.jsonl import has_many_values, not_json, read_json_lines, row_decoder
from eval.data.source import Content
from eval.data.text import row_documents

READ_SIZE = 1 << 16  # bytes of the first read of a row; later reads double it
MAX_WORD = 16  # characters of what a cut leaves incomplete in JSON, other than a string or number
SPACE = " \t\n\r"


def read_json(content: Content, column: str) -> Iterator[Document]:
    """The strings under one key as documents, in the order of their objects.

    The content is an array of objects, or objects one after the other, such as JSON lines.
    """
    if is_json_lines(content.head):
        yield from read_json_lines(content, column)
        return
    for number, value in enumerate(JsonValues(content, row_decoder(column)), 1):
        name = f"{content.name}:{number}"
        yield from row_documents(name, text_of_row(value, column, name), content.position())


class JsonValues:
    """The values of a JSON array, or of JSON values one after the other, in bounded memory.

    Parameters
    ----------
    content : Content
        JSON in UTF-8.
    decoder : json.JSONDecoder
        Decodes a value.

    Raises
    ------
    ValueError
        While iterating, if the content is not JSON, or a value is longer than 64 MiB. Where the
        next value begins is then unknown, so the rest cannot be read.
    """

    def __init__(self, content: Content, decoder: json.JSONDecoder) -> None:
        self._stream, self._name, self._decoder = content.stream, content.name, decoder
        self._utf_8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._start, self._ended = "", 0, False
        self._n_values = 0

    def __iter__(self) -> Iterator[object]:
        is_array = self._peek() == "["
        if is_array:
            self._start += 1
            if self._peek() == "]":
                self._start += 1
                self._end()
                return
        while self._peek():
            yield self._value()
            if not is_array:
                continue
            mark = self._peek()
            self._start += 1
            if mark == "]":
                self._end()
                return
            if mark != ",":
                raise self._wrong("Expecting ',' delimiter")
        if is_array:
            raise self._wrong("the end of the array is missing")

    def _value(self) -> object:
        size, n_bytes = READ_SIZE, None
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._start)
                if end < len(self._text) or self._ended:  # a number may go on
                    self._start = end
                    self._n_values += 1
                    return value
            except (ValueError, RecursionError) as error:
                # The value may be cut; any other error stays.
                if self._ended or not self._may_be_cut(error):
                    raise self._wrong(error) from error
            place = f"{self._name}:{self._n_values + 1}"
            if n_bytes is None:
                n_bytes = len(self._text[self._start :].encode("utf-8"))
            if n_bytes > MAX_ROW:
                raise too_long(place)
            if has_many_values(self._text[self._start :]):
                raise too_many("values", place)
            n_bytes += self._read(min(size, MAX_ROW + 1 - n_bytes))
            size *= 2

    def _may_be_cut(self, error: Exception) -> bool:
        """Whether more text may mend the error: it is at the end of the text, or in a string."""
        return isinstance(error, json.JSONDecodeError) and (
            error.pos > len(self._text) - MAX_WORD or error.msg.startswith("Unterminated string")
        )

    def _peek(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._start < len(self._text) and self._text[self._start] in SPACE:
                self._start += 1
            if self._start < len(self._text) or self._ended:
                return self._text[self._start : self._start + 1]
            self._read(READ_SIZE)

    def _read(self, size: int) -> int:
        """Read more text; returns the number of bytes."""
        raw = self._stream.read(size)
        self._ended = not raw
        try:
            self._text = self._text[self._start :] + self._utf_8.decode(raw, final=self._ended)
        except UnicodeDecodeError as error:
            raise self._wrong(error) from error
        self._start = 0
        return len(raw)

    def _end(self) -> None:
        if self._peek():
            raise self._wrong("more after the end of the array")

    def _wrong(self, why: Exception | str) -> ValueError:
        return not_json(f"{self._name}:{self._n_values + 1}", why)
