"""Line: messages to and from another rank that never leave its own rank waiting for ever.

Two threads carry the messages, for a wait inside gloo hears no signal and a message that nobody
takes holds its sender. Where there is nothing to say they send a sign of life, so that a rank that
computes, reads or loads for long is told from one that hangs.
"""

from collections.abc import Callable
from queue import Empty, Queue
from threading import Thread
from time import monotonic

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

ALIVE, GREETING, JOB, GATHERED, FAILED, END = range(6)  # kinds of messages
LAST = (FAILED, END)
SIGNS = 10  # of life, within the time after which their lack is an error
MAX_BYTES = 1 << 32  # of a message
AGAIN = "run again, with the same --checkpoint to go on"

Carry = Callable[[NDArray[np.generic]], object]


class LineError(ValueError):
    """Why there is nobody to talk to; it names the rank."""


class Line:
    """Messages to and from one rank, in order.

    Parameters
    ----------
    rank : int
        Whose line it is, for the errors.
    put, take : callable
        Send an array, or fill one with what comes next, however long that takes; RuntimeError if
        the connection is closed.
    silence : float
        Seconds without a sign of life that are an error.

    Attributes
    ----------
    why : str or None
        Why nothing more will come, once that is known, where it is an error.
    """

    def __init__(self, rank: int, put: Carry, take: Carry, silence: float) -> None:
        self._rank, self._put, self._take, self._silence = rank, put, take, silence
        self._heard = 0
        self._coming: Queue[tuple[int, Bytes]] = Queue()
        self._going: Queue[tuple[int, Bytes]] = Queue()
        self.why: str | None = None
        # Daemons: one that waits for a rank that hangs must not hold the process.
        self._threads = [Thread(target=work, daemon=True) for work in (self._read, self._write)]
        for thread in self._threads:
            thread.start()

    def send(self, kind: int, message: Bytes | None = None) -> None:
        """Let a message go, without waiting for anybody."""
        self._going.put((kind, np.empty(0, np.uint8) if message is None else message))

    def receive(self) -> tuple[int, Bytes]:
        """The next message; `LineError` if none will come."""
        left, heard = SIGNS, self._heard
        while left:
            # Many short waits: a process that was stopped itself, and goes on, blames nobody.
            try:
                kind, message = self._coming.get(timeout=self._silence / SIGNS)
            except Empty:
                left, heard = SIGNS if self._heard > heard else left - 1, self._heard
                continue
            if kind == FAILED:
                raise LineError(words(message))
            return kind, message
        self.why = f"rank {self._rank} is silent for {self._silence:g} s; {AGAIN}"
        raise LineError(self.why)

    def wait_for_end(self, timeout: float) -> None:
        """Wait until the other rank has said its last message, or is gone."""
        self._threads[0].join(timeout)

    def close(self, deadline: float) -> bool:
        """Whether both sides' last messages have come by then, as `monotonic` counts."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _read(self) -> None:
        head, kind = np.empty(2, np.int64), ALIVE
        while kind not in LAST:
            try:
                self._take(head)
                kind, size = head.tolist()
                message = np.empty(check_size(size, self._rank), np.uint8)
                if size:
                    self._take(message)
            except RuntimeError:
                gone = f"rank {self._rank} is gone (connection closed); {AGAIN}"
                kind, message = FAILED, text(gone)
            except ValueError as error:
                kind, message = FAILED, text(str(error))
            self._heard += 1
            if kind == FAILED:
                self.why = words(message)
            if kind != ALIVE:
                self._coming.put((kind, message))

    def _write(self) -> None:
        kind = ALIVE
        while kind not in LAST:
            try:
                kind, message = self._going.get(timeout=self._silence / SIGNS)
            except Empty:
                kind, message = ALIVE, np.empty(0, np.uint8)
            try:
                self._put(np.array([kind, len(message)]))
                if len(message):
                    self._put(message)
            except RuntimeError:  # the reader meets it too, and says so
                return


def text(of: str) -> Bytes:
    """Words as a message."""
    return np.frombuffer(bytearray(of.encode()), np.uint8)


def words(message: Bytes) -> str:
    """A message as words."""
    return message.tobytes().decode(errors="replace")


def check_size(size: int, rank: int) -> int:
    """The bytes of a message; ValueError if they are none that a rank sends."""
    if not 0 <= size <= MAX_BYTES:
        raise ValueError(
            f"a message must hold 0 to {MAX_BYTES} bytes, got {size} from rank {rank}; install the "
            "same ngrammix for every rank"
        )
    return size
