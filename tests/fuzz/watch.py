"""Watch: gives a reader one input after the other, and writes down each fault once."""

import faulthandler
import hashlib
import json
import os
import resource
import shutil
import tempfile
import traceback
from pathlib import Path
from time import process_time
from types import TracebackType
from typing import Self

from tests.fuzz.registry import READERS
from tests.fuzz.verdict import WrongError, complaint, place

HANG = 120  # seconds of wall time of `EVERY` inputs, after which the process is ended
EVERY = 32  # inputs between two counts
SLOW = 2.0  # seconds of processor time for one input
MAX_GROWTH = 1 << 29  # bytes of memory that one input may add, 512 MiB
MAX_ADDRESSES = 1 << 33  # bytes of address space beyond those at the start, 8 GiB


class Watch:
    """A reader, its inputs so far, and its faults.

    Parameters
    ----------
    name : str
        Of the reader.
    work : Path
        Folder for ``current``, the input at work, which shows what ended a process; ``count``, the
        number of inputs so far and the most memory; and ``findings``, a file for each fault.
    """

    def __init__(self, name: str, work: Path) -> None:
        self._reader, self._work = READERS[name], work
        self._scratch = tempfile.TemporaryDirectory(
            dir="/dev/shm" if Path("/dev/shm").is_dir() else None
        )
        self._folder = Path(self._scratch.name)
        (work / "findings").mkdir(parents=True, exist_ok=True)
        self._current = os.open(work / "current", os.O_RDWR | os.O_CREAT)
        self._n_inputs, self._first_peak = 0, 0

    def start(self) -> None:
        """Bound the memory of the process, and begin to count: all modules are loaded."""
        self._n_inputs, self._first_peak = 0, peak()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (addresses() + MAX_ADDRESSES, hard))

    def __call__(self, data: bytes) -> None:
        """Give the reader an input."""
        for path in self._folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        os.ftruncate(self._current, 0)
        os.pwrite(self._current, data, 0)
        before, began = peak(), process_time()
        try:
            self._reader.read(data, self._folder)
        except WrongError as error:
            self.write_down("wrong result", place(error), str(error), data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if (what := complaint(error, self._reader.named)) is not None:
                text = f"{what}\n{''.join(traceback.format_exception(error))}"
                self.write_down("traceback", place(error), text, data)
        seconds, growth = process_time() - began, peak() - before
        if self._first_peak and seconds > SLOW:
            self.write_down("slow", f"{seconds:.0f} s", "", data)
        if self._first_peak and growth > MAX_GROWTH:
            self.write_down("memory", f"{growth >> 20} MiB", "", data)
        self._n_inputs += 1
        if self._n_inputs % EVERY == 0:
            faulthandler.dump_traceback_later(HANG, exit=True)  # from now, not from the last count
            self.save_count()

    def save_count(self) -> None:
        """Write the number of inputs and the most memory that they took."""
        growth = max(0, peak() - self._first_peak)
        (self._work / "count").write_text(json.dumps([self._n_inputs, growth]))

    def write_down(self, kind: str, where: str, text: str, data: bytes) -> None:
        """Keep the input and the report of a fault, unless one of this place is known."""
        name = hashlib.sha256(f"{kind} {where}".encode()).hexdigest()[:10]
        report = self._work / "findings" / f"{name}.txt"
        if not report.exists():
            report.write_text(f"{kind}\n{where}\n{text}", "utf-8", "backslashreplace")
            report.with_suffix(".input").write_bytes(data)

    def __enter__(self) -> Self:
        faulthandler.dump_traceback_later(HANG, exit=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        faulthandler.cancel_dump_traceback_later()
        self.save_count()
        os.close(self._current)
        self._scratch.cleanup()


def peak() -> int:
    """Most bytes of memory that the process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def addresses() -> int:
    """Bytes of address space of the process; 0 where the system does not tell."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[0]) * resource.getpagesize() if path.exists() else 0
