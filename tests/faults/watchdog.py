"""Watchdog: a child process that reads hostile files one by one, and what became of each."""

import json
import os
import selectors
import subprocess
import sys
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_AS, setrlimit

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("eval", "quant", "ngrammix")
OURS = tuple(str(REPOSITORY / room) for room in ROOMS)
START = 300.0  # seconds until the libraries are loaded
ROOM = 4 << 30  # bytes of address space beyond those of the loaded libraries


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    `kind`: ``read``; ``refused``, by a one-line ValueError that this package raised and that names
    the path; ``foreign``, by any other exception; ``hang``; ``crash``. `text`: the error.
    """

    kind: str
    text: str = ""

    @property
    def is_right(self):
        return self.kind in ("read", "refused")


class Watchdog:
    """A child process that calls one function, ``module:function``, with path after path.

    It is replaced when it hangs for `seconds` or dies. Each child reads the path `whole` first,
    since the first call imports libraries.
    """

    def __init__(self, function, whole=None, seconds=60.0):
        self._function, self._whole, self._seconds = function, whole, seconds
        self._child = None

    def read(self, path):
        """The `Outcome` of one path."""
        if self._child is None:
            self._start()
        answer = self._ask(path, self._seconds)
        if isinstance(answer, Outcome):
            self.close()
            return answer
        return Outcome(**answer)

    def close(self):
        """End the child process."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def _start(self):
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.watchdog", self._function],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self._buffer = b""
        assert self._answer(START) == "ready"
        if self._whole is not None:
            self._ask(self._whole, START)

    def _ask(self, path, seconds):
        self._child.stdin.write(f"{json.dumps(str(path))}\n".encode())
        self._child.stdin.flush()
        return self._answer(seconds)

    def _answer(self, seconds):
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(seconds):
                    return Outcome("hang", f"no answer within {seconds} s")
                part = os.read(self._child.stdout.fileno(), 1 << 16)
                if not part:
                    return Outcome("crash", f"exit status {self._child.wait()}")
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)


def outcome_of(function, path):
    """The `Outcome` of calling the function with the path."""
    try:
        text = function(Path(path))
    except BaseException as error:
        return judge(error, path)
    return Outcome("read", "" if text is None else str(text))


def judge(error, path):
    """The `Outcome` of an exception."""
    text, kind = str(error), type(error)
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    is_ours = last.startswith(OURS) and isinstance(error, ValueError)
    is_ours &= kind is ValueError or kind.__module__.partition(".")[0] in ROOMS
    wrong = [
        what
        for what, is_so in (
            ("of a library", not is_ours),
            ("several lines", len(text.splitlines()) > 1),
            ("no path", not any(name in text for name in (str(path), Path(path).name, " text"))),
            ("too long", len(text) > 2000),
        )
        if is_so
    ]
    if not wrong:
        return Outcome("refused", text)
    where = "".join(traceback.format_exception(error))[-3000:]
    return Outcome("foreign", f"{', '.join(wrong)}: {kind.__name__}: {text[:500]}\n{where}")


def main(name):
    """Answer each path of standard input with its outcome, as lines of JSON."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    module, _, attribute = name.partition(":")
    function = getattr(import_module(module), attribute)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    setrlimit(RLIMIT_AS, (used + ROOM, RLIM_INFINITY))
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        print(json.dumps(vars(outcome_of(function, json.loads(line)))), file=answers)


if __name__ == "__main__":
    main(sys.argv[1])
