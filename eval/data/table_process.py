"""TableProcess: a process that decodes Arrow and Parquet, and the pipes to it."""

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import BinaryIO

from eval.data.table_frames import END, ERROR, FRAME, GO, OPENED, OUT_OF_MEMORY

MAX_IDLE = 2  # processes that wait for the next file: starting one takes a quarter of a second
READ = 1 << 18  # bytes of a read from the process, and of a write to it
PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from eval.data.decode_tables import main; main()"


class EndedError(Exception):
    """The process has ended; the text says how."""


class TableProcess:
    """A process that decodes tables.

    Attributes
    ----------
    is_free : bool
        Whether it waits for a request.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, *sys.path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            start_new_session=True,  # Ctrl-C is for the process of the user
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._replies = self._process.stdin, self._process.stdout
        self._owner = os.getpid()
        self._received = bytearray()
        self._stream: BinaryIO | None = None  # what is still to be sent
        self._unsent = b""
        self._is_last = False  # a stream follows the request: there can be no further one
        self.is_free = True

    def request(self, request: Mapping[str, object], stream: BinaryIO | None = None) -> None:
        """Send a request; the stream is sent after it, while the replies are read."""
        self._send(json.dumps(request).encode() + b"\n")
        if stream is not None:
            self._stream, self._is_last = stream, True
            os.set_blocking(self._requests.fileno(), False)
            self._selector = DefaultSelector()
            self._selector.register(self._requests, EVENT_WRITE)
            self._selector.register(self._replies, EVENT_READ)

    def go(self) -> None:
        """Request the cells of the file that was opened."""
        self._send(GO)

    def reply(self) -> tuple[bytes, int, int, bytes]:
        """The next frame: kind, offset, number of cells, content.

        EndedError if the process has ended.
        """
        kind, offset, n_cells, size = FRAME.unpack(self._read(FRAME.size))
        content = self._read(size)
        self.is_free = kind in (OPENED, ERROR, OUT_OF_MEMORY, END) and not self._is_last
        return kind, offset, n_cells, content

    def close(self) -> None:
        """End the process."""
        if self._owner != os.getpid():  # a fork of the owner
            return
        self._process.kill()
        self._end_stream()
        self._requests.close()
        self._replies.close()
        self._process.wait()

    def _send(self, line: bytes) -> None:
        self.is_free = False
        with suppress(BrokenPipeError):  # why it ended is read from its replies
            self._requests.write(line)

    def _read(self, size: int) -> bytes:
        if self._owner != os.getpid():
            raise ValueError(
                "data must be read on by the process that began, got a fork of it; iterate anew"
            )
        while len(self._received) < size:
            if self._stream is not None and not self._can_read(self._stream):
                continue
            if not (part := self._replies.read(READ)):
                raise EndedError(self._how_ended())
            self._received += part
        content = bytes(self._received[:size])
        del self._received[:size]
        return content

    def _can_read(self, stream: BinaryIO) -> bool:
        """Whether a reply has come; otherwise a part of the stream is sent."""
        ready = {key.fileobj for key, _ in self._selector.select()}
        if self._replies in ready:
            return True
        self._unsent = self._unsent or stream.read1(READ)  # type: ignore[attr-defined]
        try:
            n_sent = os.write(self._requests.fileno(), self._unsent) if self._unsent else 0
        except BrokenPipeError:  # why it ended is read from its replies
            n_sent = len(self._unsent)
        self._unsent = self._unsent[n_sent:]
        if not n_sent:
            self._end_stream()
        return False

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream = None
            self._selector.close()
            self._requests.close()

    def _how_ended(self) -> str:
        status = self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"status {status}"

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None


_idle: list[TableProcess] = []
_running: list[TableProcess] = []  # all that are not closed


def take_process() -> TableProcess:
    """A process that waits for a request."""
    with suppress(IndexError):
        while not (process := _idle.pop()).is_running():
            end(process)
        return process
    process = TableProcess()
    _running.append(process)
    return process


def give_back(process: TableProcess) -> None:
    """Keep a process for the next file if it waits for a request; otherwise end it."""
    if process.is_free and len(_idle) < MAX_IDLE:
        _idle.append(process)
    else:
        end(process)


def end(process: TableProcess) -> None:
    """End a process for good."""
    process.close()
    if process in _running:
        _running.remove(process)


def close_all() -> None:
    """End all processes."""
    _idle.clear()
    while _running:
        _running.pop().close()


atexit.register(close_all)
if hasattr(os, "register_at_fork"):  # its processes stay those of the parent
    os.register_at_fork(after_in_child=_idle.clear)
