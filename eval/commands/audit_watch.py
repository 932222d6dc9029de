"""An audit in a process of its own: a scorer that takes it down still gets a verdict."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from ngrammix.auditing.card import texts_of
from ngrammix.auditing.environment import environment
from ngrammix.auditing.report import AuditReport

JOB, BEGUN, OUTCOME = "job.json", "begun", "outcome.json"  # files between the two processes
ROOT = Path(__file__).resolve().parents[2]
# Ours are imported first: modules of the same names may lie in the current folder.
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
import ngrammix, quant, eval
del sys.path[0]
from eval.commands.audit_jobs import main
main(sys.argv[2])
"""
POLL = 0.05  # seconds between two looks
LOADING = 60.0  # seconds for imports, beside twice the budget
GRACE = 5.0  # seconds to end by itself, if the scorer lets it, beside twice the budget


def run_watched(job: Mapping[str, Any], budget: float | None) -> dict[str, Any]:
    """The outcome that the job leaves; or one that says that its process ended, or hung.

    Parameters
    ----------
    job : mapping
        Options of the audit, as JSON takes them; see `eval.commands.audit_jobs`.
    budget : float, optional
        Seconds. The process may take twice as long once the scorer is loaded. None: any time.

    Raises
    ------
    ValueError
        If the job refuses its options.
    """
    with tempfile.TemporaryDirectory(prefix="ngrammix-audit-") as name:
        folder, began = Path(name), monotonic()
        (folder / JOB).write_text(json.dumps(job), encoding="utf-8")
        process = start(folder, with_input="-" in (job.get("log"), *job.get("data", ())))
        try:
            problem = wait(process, folder, budget)
        finally:
            stop(process)
        if problem is None:
            outcome: dict[str, Any] = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
            if "refused" in outcome:
                raise ValueError(outcome["refused"])
            if "failed" not in outcome:
                return outcome
            problem = f"the audit itself failed: {outcome['failed']}"
        conditions = {key: job[key] for key in ("tokens", "vocab_size", "seed") if key in job}
        report = AuditReport(
            str(job.get("scorer") or job.get("stepper") or job.get("model") or job["kind"]),
            problems=(problem,),
            conditions={**conditions, "budget_seconds": budget, **environment()},
            seconds=monotonic() - began,
        )
        return outcome_of(report)


def outcome_of(report: AuditReport) -> dict[str, Any]:
    """The outcome of an audit: its report in all formats, and the exit status."""
    return {"texts": texts_of(report), "status": report.exit_code}


def start(folder: Path, *, with_input: bool) -> subprocess.Popen[bytes]:
    """The process, in a group of its own; what the scorer prints goes to standard error."""
    try:
        os.fstat(2)
        output: int = 2
    except OSError:  # closed
        output = subprocess.DEVNULL
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(ROOT), str(folder)],
        stdin=None if with_input else subprocess.DEVNULL,
        stdout=output,
        start_new_session=True,
    )


def wait(process: subprocess.Popen[bytes], folder: Path, budget: float | None) -> str | None:
    """Wait until the process has ended; returns why there is no outcome, or None if there is."""
    most = math.inf if budget is None else 2 * budget
    limits = {False: LOADING + most, True: GRACE + most}
    began, is_loaded = monotonic(), False
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL)
        if (folder / OUTCOME).exists():
            return None
        if process.returncode is not None:
            when = "" if (folder / BEGUN).exists() else ", while it was loaded"
            return f"the scorer ended the process {ending(process.returncode)}{when}"
        if not is_loaded and (folder / BEGUN).exists():
            began, is_loaded = monotonic(), True
        if monotonic() - began > limits[is_loaded]:
            what = f"was not loaded within {limits[False]:g} seconds"
            if is_loaded:
                what = (
                    f"hung: it held the process for {limits[True]:g} seconds, with a budget of "
                    f"{budget:g}, and was stopped"
                )
            return f"the scorer {what}; raise --budget if it only needs more time"


def ending(status: int) -> str:
    """How a process ended, by its exit status or signal."""
    if status >= 0:
        return f"with exit status {status}"
    name = ""
    with suppress(ValueError):
        name = f" ({signal.Signals(-status).name})"
    memory = ", as the system does where memory runs out" if -status == 9 else ""
    return f"by signal {-status}{name}{memory}"


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it has started."""
    if hasattr(os, "killpg"):
        with suppress(OSError):  # the group is gone
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
