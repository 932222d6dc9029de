"""Play every scene with every fault, and print a table: python -m tests.faults.run [SCENE ...].

Faults: an error of the system at the n-th file operation, for every n; a short write; the n-th
allocation; a loss of power after the n-th operation. The exit status is 1 if anything is wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from tests.faults.memory import allocations_fail
from tests.faults.scenes import SCENES
from tests.faults.sweep import KINDS, files_fail, lose_power, sweep

MEMORY, ADDRESSES, POWER = "no memory", "address space", "power loss"
ROOT = Path(__file__).resolve().parents[2]
FAULTS = (*KINDS, MEMORY, ADDRESSES, POWER)
LINE = "| {:12} | {:14} | {:>6} | {:>6} | {:>7} |"


def fault_of(kind: str, folder: Path, step: int) -> Callable[[str], tuple[int, list[str]]]:
    """What plays a scene with all faults of a kind: name -> (tries, what was wrong)."""
    if kind == POWER:
        return partial(lose_power, folder=folder)
    if kind == ADDRESSES:
        return partial(short_of_addresses, folder=folder)
    block = allocations_fail if kind == MEMORY else files_fail(folder, kind)
    return partial(sweep, folder=folder, make_block=block, step=step)


def short_of_addresses(name: str, folder: Path) -> tuple[int, list[str]]:
    """(number of runs, what was wrong) of a scene in processes that lack memory."""
    words = [sys.executable, "-m", "tests.faults.address_space", name, str(folder)]
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout
    tries, wrong = json.loads(said)
    return tries, wrong


def main(words: Sequence[str] | None = None) -> int:
    """Play the scenes that are named, by default all; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests.faults.run", description=__doc__)
    parser.add_argument("scenes", nargs="*", choices=[[], *SCENES], metavar="SCENE")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=FAULTS)
    parser.add_argument("--step", type=int, default=1, help="every STEP-th operation alone fails")
    parser.add_argument("--out", type=Path, help="file for the table as JSON")
    options = parser.parse_args(words)
    print(LINE.format("scene", "fault", "tries", "wrong", "seconds"))
    print(LINE.format(*["---"] * 5), flush=True)
    rows, n_wrong = [], 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name).resolve() / "scene"
        for scene in options.scenes or SCENES:
            for kind in options.faults:
                began = perf_counter()
                tries, wrong = fault_of(kind, folder, options.step)(scene)
                row = (scene, kind, tries, len(wrong), round(perf_counter() - began))
                print(LINE.format(*row), flush=True)
                print(*wrong, sep="\n", file=sys.stderr, end="\n" * bool(wrong), flush=True)
                rows.append(row)
                n_wrong += len(wrong)
    if options.out is not None:
        options.out.write_text(json.dumps(rows) + "\n")
    return int(n_wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
