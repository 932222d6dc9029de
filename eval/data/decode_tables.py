"""The process that decodes Arrow and Parquet: a damaged file may end it, and its memory is limited.

The libraries decode such files in C++, where a few damaged bytes can end the process, and a file of
a kilobyte can hold gigabytes. So a process of its own decodes them, and hands over checked cells.

A request is a line of JSON on standard input, the replies are frames on standard output.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from eval.data.arrow import open_arrow_file, open_arrow_stream
from eval.data.arrow_columns import Cell, ColumnError
from eval.data.parquet import open_parquet
from eval.data.table_frames import END, ERROR, FRAME, GO, OPENED, OUT_OF_MEMORY, pack

Cells = Iterator[tuple[Cell, int]]
OPEN: dict[str, Callable[[str, str, str], Cells]] = {
    "arrow": open_arrow_file,
    "parquet": open_parquet,
}


def main() -> None:
    """Answer requests until standard input ends."""
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # others reserve a GiB, which counts
    import pyarrow

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)  # the stack of a thread counts as memory
    requests = sys.stdin.buffer
    replies = os.fdopen(os.dup(1), "wb", 1 << 16)
    os.dup2(2, 1)  # what a library prints is no reply
    opened: Cells = iter(())
    while line := requests.readline():
        with errors_as_frames(replies):
            if line == GO:
                send_cells(replies, opened)
                continue
            opened = iter(())  # closes the file that was opened before
            request = json.loads(line)
            path, column, name = request["path"], request["column"], request["name"]
            limit_memory(request["memory"])
            if path is None:  # a stream follows the request, and nothing follows the stream
                opened = open_arrow_stream(requests, column, name)
                send(replies, OPENED)
                send_cells(replies, opened)
                return
            opened = OPEN[request["kind"]](path, column, name)
            send(replies, OPENED)


@contextmanager
def errors_as_frames(replies: BinaryIO) -> Iterator[None]:
    """Send an error that is raised as a frame."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the replies
        raise
    except ColumnError as error:
        send(replies, ERROR, str(error).encode("utf-8", "backslashreplace"))
    except MemoryError:
        send(replies, OUT_OF_MEMORY)
    except Exception:  # pyarrow raises many kinds for damaged files, such as SystemError
        send(replies, ERROR)


def send_cells(replies: BinaryIO, opened: Cells) -> None:
    """Send the cells, then the end."""
    for frame in pack(opened):
        replies.write(frame)
        replies.flush()
    send(replies, END)


def send(replies: BinaryIO, kind: bytes, content: bytes = b"") -> None:
    """Send a frame at once."""
    replies.write(FRAME.pack(kind, 0, 0, len(content)) + content)
    replies.flush()


def limit_memory(n_bytes: int) -> None:
    """Let the process take at most so many bytes more than now; Linux only.

    Pages of a file that is mapped do not count: the system takes them back.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return
    import resource

    used = next(line for line in status.read_text().splitlines() if line.startswith("VmData:"))
    limit, most = 1024 * int(used.split()[1]) + n_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))
