"""``ngrammix audit``: whether a scorer, a model, a tokenizer or a log line is legal."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from eval.commands.audit_options import FORMATS, KINDS, kind_of
from eval.commands.audit_watch import run_watched
from eval.files.lock import hold
from eval.files.results import check_results, write_report
from eval.terminal import show

BUDGET = 50.0  # seconds
SUFFIXES = {Path(name).suffix: format_ for format_, name in FORMATS.items()}


def run(arguments: argparse.Namespace) -> int:
    """Audit, write the report under --out, and print it; returns the exit status."""
    options = {name: value for name, value in vars(arguments).items() if name != "command"}
    job = {name: str(value) if isinstance(value, Path) else value
           for name, value in options.items()}  # fmt: skip
    kind = kind_of(options)
    budget = options.get("budget", BUDGET) if "budget" in KINDS[kind] else None
    if budget is not None and not 0 < budget < 1e9:
        raise ValueError(f"--budget must be a number of seconds > 0, got {budget:g}; leave it out")
    files = files_of(options.get("out"), kind)
    folder = next(iter(files.values())).parent if files else None
    names = [path.name for path in files.values()]
    with hold(out=folder):
        check_results(folder, names, overwrite=options.get("overwrite", False))
        outcome = run_watched({**job, "kind": kind}, budget)
        try:
            show(outcome["texts"][options.get("format", "text")])
        finally:
            for format_, path in files.items():
                if format_ in outcome["texts"]:
                    write_report(path, outcome["texts"][format_])
    return int(outcome["status"])


def files_of(out: Path | None, kind: str) -> Mapping[str, Path]:
    """The files of a report by their formats: three in a folder, or the one that is named.

    And the file of decoded tokens, which the audit itself writes.
    """
    if kind == "decode":
        if out is None or out.suffix.lower() != ".npy":
            raise ValueError(
                f"decoded tokens need --out FILE.npy, got {out or 'none'}; name the file"
            )
        return {"tokens": out}
    if out is None:
        return {}
    if (format_ := SUFFIXES.get(out.suffix.lower())) is not None and not out.is_dir():
        return {format_: out}
    return {format_: out / name for format_, name in FORMATS.items()}
