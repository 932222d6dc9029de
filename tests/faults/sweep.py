"""Play a scene with a fault at its first operation, at its second, and so on, until none is left.

After each fault the files are old or new, the error is one line that names a place, and the same
run without the fault ends with the same files as if there had been none.
"""

import errno
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from tests.faults.inject import Fault, tapped
from tests.faults.power import Disk, Recorder, losses, restore
from tests.faults.scenes import SCENES, Scene, contents, fresh

KINDS: dict[str, tuple[int | str, bool]] = {  # (error, whether it lasts)
    "EIO": (errno.EIO, False),
    "EIO for ever": (errno.EIO, True),
    "EACCES": (errno.EACCES, False),
    "ENOSPC": (errno.ENOSPC, False),
    "full for ever": (errno.ENOSPC, True),
    "short write": ("short", False),
}
LONGEST = 60  # seconds of one run

Contents = dict[str, bytes | None]
Block = Callable[[int], AbstractContextManager[Any]]


def sweep(name: str, folder: Path, make_block: Block, step: int = 1) -> tuple[int, list[str]]:
    """(number of faults, what was wrong after them) of a scene.

    Parameters
    ----------
    name : str
        Of the scene.
    folder : Path
        Where it is played; emptied each time.
    make_block : callable
        n -> context in which the n-th operation fails; it gives the fault, whose `hit` says where.
    step : int
        Only every `step`-th operation fails.
    """
    scene = SCENES[name]
    before = contents(fresh(scene, folder), scene.files)
    after = play_whole(scene, folder)
    n, tries, wrong = 1, 0, []
    while True:
        fresh(scene, folder)
        with make_block(n) as fault:
            error = play(scene, folder)
        if not fault.hit:
            return tries, wrong
        needs_name = isinstance(fault, Fault)
        found = chain(
            wrong_files(scene, folder, before, after),
            wrong_end(scene, folder, error, after, needs_name),
            goes_on(scene, folder, after),
        )
        wrong += [f"{name}, operation {n}, {fault.hit}: {problem}" for problem in found]
        n, tries = n + step, tries + 1


def lose_power(name: str, folder: Path) -> tuple[int, list[str]]:
    """(number of states of the disk, what was wrong with them) of a scene."""
    scene, recorder = SCENES[name], Recorder(folder)
    before = contents(fresh(scene, folder), scene.files)
    disk = Disk(folder)
    with tapped(folder, recorder):
        after = play_whole(scene, folder)
    n_states, wrong = 0, []
    for n, state in losses(disk, recorder.events):
        shutil.rmtree(folder)
        folder.mkdir()
        restore(folder, state)
        n_states += 1
        last = " ".join(map(str, recorder.events[n - 1][:2])) if n else "the start"
        found = chain(wrong_files(scene, folder, before, after), goes_on(scene, folder, after))
        wrong += [f"{name}, power lost after {n}, {last}: {problem}" for problem in found]
    return n_states, wrong


def wrong_files(scene: Scene, folder: Path, before: Contents, after: Contents) -> Iterator[str]:
    """What is wrong with the files after a fault: they must be old or new.

    A file may be missing while others, or their parts, are new: the old ones of several are removed
    before the first new one takes its name.
    """
    now = contents(folder, scene.files)
    parts = contents(folder, tuple(f"{name}.part" for name in scene.files))
    is_whole = any(after[name] in (now[name], parts[f"{name}.part"]) for name in now)
    for name, content in now.items():
        if content is None and before[name] is not None and not is_whole:
            yield f"{name} is missing"
        if content not in (None, before[name], after[name]):
            yield f"{name} is neither old nor new ({len(content)} bytes)"


def wrong_end(
    scene: Scene, folder: Path, error: BaseException | None, after: Contents, needs_name: bool
) -> Iterator[str]:
    """What is wrong with how a run with a fault has ended.

    Right is a ValueError that names the file; an OSError of Python does so too, of a path.
    """
    if error is None:
        if contents(folder, scene.files) != after:
            yield "no error, and other files"
    elif isinstance(error, OSError) and error.filename is not None and needs_name:
        return
    elif not isinstance(error, (ValueError,) if needs_name else (ValueError, MemoryError)):
        yield f"raised {error!r}"
    elif "\n" in str(error):
        yield f"an error of several lines: {error}"
    elif needs_name and str(folder) not in str(error):
        yield f"an error that names no file: {error}"


def goes_on(scene: Scene, folder: Path, after: Contents) -> Iterator[str]:
    """What is wrong with the same run after a fault: it must end as if there had been none."""
    if (error := play(scene, folder)) is not None:
        yield f"the run after it ends with {error!r}"
    elif (then := contents(folder, scene.files)) != after:
        yield f"the run after it ends with other {[n for n in then if then[n] != after[n]]}"
    elif litter := [path.name for path in folder.rglob("*.part")]:
        yield f"left after the run after it: {litter}"


def play_whole(scene: Scene, folder: Path) -> Contents:
    """The files of the scene without a fault; it may compile kernels first, which takes long."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene.play(folder)
    return contents(folder, scene.files)


def play(scene: Scene, folder: Path) -> BaseException | None:
    """Play the scene; what it raised, or None."""
    with warnings.catch_warnings(), bounded(LONGEST):
        warnings.simplefilter("ignore")
        try:
            scene.play(folder)
        except Exception as error:  # the sweep judges it
            let_go(error)
            return error
    return None


def let_go(error: BaseException | None) -> None:
    """Close the files that the frames of an error hold, as the end of the process would."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """TimeoutError if the block takes longer, in the main thread."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def files_fail(folder: Path, kind: str) -> Block:
    """Blocks in which the n-th file operation below the folder fails."""

    @contextmanager
    def block(n: int) -> Iterator[Fault]:
        error, lasts = KINDS[kind]
        fault = Fault(n, error, lasts)
        with tapped(folder, fault):
            yield fault

    return block
