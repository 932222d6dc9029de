"""Real shortages: a scene in processes whose address space may grow by so many bytes and no more.

python -m tests.faults.address_space SCENE FOLDER prints JSON: the number of runs, and what was
wrong after them. A process of its own: it forks, and must have no other thread.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from tests.faults.scenes import SCENES, contents, fresh
from tests.faults.sweep import play, play_whole, wrong_end, wrong_files
from tests.fuzz.watch import addresses

LEAST = 1 << 19  # with less, Python itself waits for ever for a thread that cannot begin
GROWTH = 1.25  # from one limit to the next
LONGEST = 60  # seconds of one run
ENOUGH = 3  # runs without an error, after which no more memory is tried


def main(name: str, folder: Path) -> None:
    """Play the scene with 512 KiB, then with a quarter more each time, until it ends well."""
    scene, wrong, n_tries, n_good, limit = SCENES[name], [], 0, 0, LEAST
    fresh(scene, folder)
    after = play_whole(scene, folder)
    while n_good < ENOUGH:
        before = contents(fresh(scene, folder), scene.files)
        found = list(forked(name, folder, after, limit))
        found += wrong_files(scene, folder, before, after)
        wrong += [f"{name}, {limit >> 10} KiB: {problem}" for problem in found]
        n_good += contents(folder, scene.files) == after
        limit, n_tries = int(limit * GROWTH), n_tries + 1
    json.dump([n_tries, wrong], sys.stdout)


def forked(name: str, folder: Path, after: dict[str, bytes | None], limit: int) -> list[str]:
    """What is wrong with how the scene ends in a process with so many bytes more."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (addresses() + limit, hard))
        error = play(SCENES[name], folder)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        found = list(wrong_end(SCENES[name], folder, error, after, needs_name=False))
        os.write(writer, json.dumps(found).encode())
        os._exit(0)
    os.close(writer)
    until = time.monotonic() + LONGEST
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    return json.loads(said) if said else [f"the process ended with status {status[1]}"]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
