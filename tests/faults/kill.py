"""Kill a run at its n-th file operation, or at a random moment: python -m tests.faults.kill.

The run is a child of this process. It gets SIGKILL, which nothing can catch; then the files are
looked at, and the same run is played again, as in `tests.faults.sweep`. The exit status is 1 if
anything is wrong.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from tests.faults.inject import Tap, tapped
from tests.faults.scenes import SCENES, contents, fresh
from tests.faults.sweep import Contents, goes_on, play, wrong_files

QUIET = ("read", "stat", "list")  # operations that change nothing


class Kill(Tap):
    """Kills this process at the n-th operation that changes a file, or at none if n is 0.

    With `halves`, a write is cut: half of it reaches the file first.
    """

    def __init__(self, n: int, *, halves: bool) -> None:
        self.n, self.halves, self.is_cut = n, halves, False

    def before(self, operation: str, path: Path, size: int = 0) -> int:
        """Count the operation; the process ends here, or within it."""
        if operation in QUIET:
            return size
        self.n -= 1
        if self.n:
            return size
        if self.halves and operation == "write":
            self.is_cut = True
            return size // 2
        os.kill(os.getpid(), signal.SIGKILL)
        return size

    def after(self, operation: str, path: Path, *details: object) -> None:
        """End the process behind half of a write."""
        if self.is_cut:
            os.kill(os.getpid(), signal.SIGKILL)


def in_child(run: Callable[[], object]) -> int:
    """Process id of a child that does something and ends."""
    if (child := os.fork()) == 0:
        try:
            run()
        finally:
            os._exit(0)
    return child


def was_killed(child: int) -> bool:
    """Wait for a child; whether it was killed."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def judge(name: str, folder: Path, before: Contents, after: Contents) -> list[str]:
    """What is wrong with the files after a kill, and with the run after it."""
    scene = SCENES[name]
    return [*chain(wrong_files(scene, folder, before, after), goes_on(scene, folder, after))]


def ends(name: str, folder: Path) -> tuple[Contents, Contents]:
    """The files before a scene and after it."""
    scene = SCENES[name]
    before = contents(fresh(scene, folder), scene.files)
    play(scene, folder)
    return before, contents(folder, scene.files)


def kill_at_each(
    name: str, folder: Path, *, halves: bool = False, step: int = 1
) -> tuple[int, list[str]]:
    """(kills, what was wrong after them): a kill at every `step`-th operation in turn."""
    scene, (before, after) = SCENES[name], ends(name, folder)
    n, wrong = 1, []
    while True:
        fresh(scene, folder)

        def run(n: int = n) -> None:
            with tapped(folder, Kill(n, halves=halves)):
                play(scene, folder)

        if not was_killed(in_child(run)):
            return (n - 1) // step, wrong
        wrong += [f"{name}, killed at {n}: {text}" for text in judge(name, folder, before, after)]
        n += step


def kill_at_random(name: str, folder: Path, tries: int, seed: int) -> tuple[int, list[str]]:
    """(kills, what was wrong after them): each after a random time, as long as a run takes."""
    scene, (before, after) = SCENES[name], ends(name, folder)
    draw, wrong, kills = random.Random(seed), [], 0
    for longest in durations(name, folder, tries):
        fresh(scene, folder)
        child = in_child(lambda: play(scene, folder))
        time.sleep(seconds := draw.uniform(0, longest))
        os.kill(child, signal.SIGKILL)
        kills += was_killed(child)
        wrong += [
            f"{name}, killed after {seconds:.4f} s: {text}"
            for text in judge(name, folder, before, after)
        ]
    return kills, wrong


def durations(name: str, folder: Path, tries: int) -> Iterator[float]:
    """Seconds that a whole run takes, measured before every tenth try."""
    for n in range(tries):
        if n % 10 == 0:
            fresh(SCENES[name], folder)
            began = time.perf_counter()
            was_killed(in_child(lambda: play(SCENES[name], folder)))
            seconds = time.perf_counter() - began
        yield seconds


def main(words: Sequence[str] | None = None) -> int:
    """Kill the scenes that are named, by default all; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests.faults.kill", description=__doc__)
    parser.add_argument("scenes", nargs="*", choices=[[], *SCENES], metavar="SCENE")
    parser.add_argument("--tries", type=int, default=100, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of these moments")
    parser.add_argument("--step", type=int, default=1, help="kill at every STEP-th operation")
    options = parser.parse_args(words)
    n_wrong = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name).resolve() / "scene"
        for scene in options.scenes or SCENES:
            for kind, (kills, wrong) in {
                "at an operation": kill_at_each(scene, folder, step=options.step),
                "within a write": kill_at_each(scene, folder, halves=True, step=options.step),
                "at random": kill_at_random(scene, folder, options.tries, options.seed),
            }.items():
                print(f"| {scene:12} | killed {kind:15} | {kills:6} | {len(wrong):6} |", flush=True)
                print(*wrong, sep="\n", file=sys.stderr, end="\n" * bool(wrong), flush=True)
                n_wrong += len(wrong)
    return int(n_wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
