"""Fuzz the readers, each in a process of its own, and print a table of what was found.

python -m tests.fuzz.run [READER ...] --runs N: inputs of each reader beside its seeds, found by
coverage where atheris is installed, else by the seeded mutators. The exit status is 1 after a
fault. Its input and report are kept in OUT/READER/findings. An input that ends the process is a
fault; the next process goes on.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from tests.fuzz.child import has_guide
from tests.fuzz.registry import READERS
from tests.fuzz.verdict import ROOT

MAX_DEATHS = 20  # processes of one reader that may be ended
KINDS = ("crash", "hang", "traceback", "wrong result", "slow", "memory")
LINE = "| {:16} | {:>9} | {:>7} | {:>4} | {:>9} | {:>12} | {:>4} | {:>6} | {:>8} | {:>5} | {:>7} |"
COVERAGE = re.compile(r"cov: (\d+)")


@dataclass
class Outcome:
    """What the inputs of a reader have shown.

    Attributes
    ----------
    reader : str
    inputs : int
        Beside the seeds.
    faults : dict of int
        Number of places of each of `KINDS`.
    growth : int
        Most bytes of memory beyond those after the seeds.
    edges : int or None
        Branches that were reached; None without a guide.
    seconds : float
        Wall time.
    """

    reader: str
    inputs: int
    faults: dict[str, int]
    growth: int
    edges: int | None
    seconds: float

    def line(self) -> str:
        """The row of the table."""
        edges = "-" if self.edges is None else self.edges
        counts = [self.faults.get(kind, 0) for kind in KINDS]
        figures = (f"{self.growth >> 20}", edges, f"{self.seconds:.0f}")
        return LINE.format(self.reader, f"{self.inputs:,}", *counts, *figures)


def fuzz(name: str, out: Path, n_runs: int, seed: int) -> Outcome:
    """Give the reader `n_runs` inputs, in as many processes as it takes."""
    work = out / name
    shutil.rmtree(work, ignore_errors=True)
    (work / "findings").mkdir(parents=True)
    began, done, growth, edges, n_deaths = perf_counter(), 0, 0, 0, 0
    while done < n_runs and n_deaths < MAX_DEATHS:
        (work / "count").write_text("[0, 0]")
        words = [sys.executable, "-m", "tests.fuzz.child", name, str(work)]
        with (work / "log").open("w") as log:
            status = subprocess.run(
                [*words, str(n_runs - done), str(seed + n_deaths)],
                stdout=log, stderr=log, cwd=ROOT, check=False,
            ).returncode  # fmt: skip
        log_text = (work / "log").read_text("utf-8", "replace")
        n, more = json.loads((work / "count").read_text())
        done, growth = done + n, max(growth, more)
        edges = max([edges, *map(int, COVERAGE.findall(log_text))])
        if status == 0:
            done = n_runs
            break
        n_deaths += 1
        report = work / "findings" / f"ended-{n_deaths}.txt"
        kind = "hang" if "Timeout (" in log_text else "crash"
        report.write_text(f"{kind}\nstatus {status}\n{log_text[-4000:]}")
        shutil.copy(work / "current", report.with_suffix(".input"))
    reports = (work / "findings").glob("*.txt")
    faults = Counter(path.read_text().partition("\n")[0] for path in reports)
    outcome = Outcome(
        name, done, dict(faults), growth, edges if has_guide() else None, perf_counter() - began
    )
    (out / f"{name}.json").write_text(json.dumps(asdict(outcome) | {"seed": seed}) + "\n")
    return outcome


def main(words: Sequence[str] | None = None) -> int:
    """Fuzz the readers that are named, by default all; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tests.fuzz.run", description=__doc__)
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], metavar="READER")
    parser.add_argument("--runs", type=int, default=2000, help="inputs of each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, default=ROOT / "build/fuzz")
    options = parser.parse_args(words)
    options.out.mkdir(parents=True, exist_ok=True)
    guide = "coverage (atheris)" if has_guide() else "seeded mutators alone: no atheris installed"
    print(f"inputs by {guide}; seed {options.seed}; faults are counted by place", flush=True)
    head = ("reader", "inputs", *KINDS, "peak MiB", "edges", "seconds")
    print(LINE.format(*head), LINE.format(*["---"] * len(head)), sep="\n", flush=True)
    n_faults = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        names = options.readers or [*READERS]
        jobs = [pool.submit(fuzz, n, options.out, options.runs, options.seed) for n in names]
        for job in jobs:
            outcome = job.result()
            print(outcome.line(), flush=True)
            n_faults += sum(outcome.faults.values())
    if n_faults:
        print(f"{n_faults} faults; their inputs are in {options.out}/*/findings")
    return int(n_faults > 0)


if __name__ == "__main__":
    raise SystemExit(main())
