"""Documents of Arrow and Parquet, decoded by a process of its own, which a bad file may end."""

from collections.abc import Iterator
from pathlib import Path

from eval.data.arrow_columns import checked_cell
from eval.data.document import Document
from eval.data.formats import ARROW_FILE
from eval.data.source import Content, is_on_disk, path_of
from eval.data.table_frames import END, ERROR, OUT_OF_MEMORY, unpack
from eval.data.table_process import EndedError, TableProcess, give_back, take_process
from eval.data.text import row_documents

MAX_MEMORY = 1 << 30  # bytes, 1 GiB, that the process may take beside mapped files; Linux only
# What each kind of file must be, in error texts.
WHOLE = {"arrow": "complete Arrow data", "parquet": "a complete Parquet file"}


def read_arrow(content: Content, column: str) -> Iterator[Document]:
    """One column of strings as documents, in row order.

    Raises
    ------
    ValueError
        If the data is damaged, lacks the column, or must be read in any order and cannot be.
    """
    if content.head.startswith(ARROW_FILE):
        path_of(content, "Arrow file")
    return read_table(content, "arrow", column)


def read_parquet(content: Content, column: str) -> Iterator[Document]:
    """One column of strings as documents, in row order.

    Raises
    ------
    ValueError
        If the file is damaged, lacks the column, or is compressed as a whole or in a pipe.
    """
    path_of(content, "Parquet")
    return read_table(content, "parquet", column)


def read_table(content: Content, kind: str, column: str) -> Iterator[Document]:
    """The documents of a table of this kind; its column is checked at once."""
    found = documents(content, kind, column)
    next(found)
    return found


def documents(content: Content, kind: str, column: str) -> Iterator[Document]:
    """One that stands for the table, once its column is checked; then those of the rows."""
    name, number = content.name, 0
    process = take_process()
    try:
        is_path = is_on_disk(content)
        request = {
            "kind": kind, "path": str(Path(name).absolute()) if is_path else None, "name": name,
            "column": column, "memory": MAX_MEMORY,
        }  # fmt: skip
        process.request(request, None if is_path else content.stream)
        next_frame(process, name, kind, number)
        yield Document(name)
        if is_path:
            process.go()
        while (frame := next_frame(process, name, kind, number))[0] != END:
            offset = frame[1] if is_path else content.position()
            for cell in unpack(frame[3], frame[2]):
                number += 1
                row = checked_cell(cell, column, f"{name}:{number}")
                yield from row_documents(f"{name}:{number}", row, offset)
    finally:
        give_back(process)


def next_frame(
    process: TableProcess, name: str, kind: str, number: int
) -> tuple[bytes, int, int, bytes]:
    """The next frame of a table after row `number`; ValueError if it is an error."""
    try:
        frame = process.reply()
    except EndedError as error:
        if str(error).startswith("status"):  # it ended itself, before it has read the file
            raise ValueError(
                f"{name} must be decoded by a process of its own, which cannot run ({error}); free "
                "some memory, then try again"
            ) from error
        raise ValueError(
            f"{name} must be {WHOLE[kind]}, got a damaged one, whose decoder ended with {error} "
            f"after row {number}; download or write it again"
        ) from error
    if frame[0] == OUT_OF_MEMORY:
        raise ValueError(
            f"{name} must take at most {MAX_MEMORY >> 20} MiB to decode, got more after row "
            f"{number}; write it again, with fewer rows in a group or batch"
        )
    if frame[0] == ERROR and frame[3]:
        raise ValueError(frame[3].decode("utf-8"))
    if frame[0] == ERROR:
        raise ValueError(
            f"{name} must be {WHOLE[kind]}, got a damaged one; download or write it again"
        )
    return frame
