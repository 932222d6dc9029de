"""``ngrammix audit --replay``: the witnesses of a report, on the scorer as it is now."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.commands.audit_named import Task, function_of, search
from ngrammix.auditing.card import heading, marked, plain
from ngrammix.auditing.replay import Replayed, replay
from ngrammix.auditing.report_json import MAX_CHARACTERS, as_json, from_json
from ngrammix.auditing.wording import two_figures
from ngrammix.reading import read_start

SHOWN = {True: "shown again", False: "not shown", None: "could not be tried"}


def replayed(job: Mapping[str, Any]) -> Task:
    """The replay of a report; ValueError if it is none."""
    path = Path(job["replay"])
    if not path.is_file():
        raise ValueError(f"--replay must be a file, got {path}; name an audit.json")
    try:
        report = from_json(read_start(path, MAX_CHARACTERS + 1))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    score_fn = function_of(job, "scorer")
    if score_fn is None:
        raise ValueError("a replay needs the scorer, got none; name it with --scorer")
    options = search(job, "budget") | {"probs_fn": function_of(job, "probs")}
    return lambda: outcome_of(replay(report, score_fn, **options))


def outcome_of(results: Sequence[Replayed]) -> dict[str, Any]:
    """What the witnesses show, in all formats; status 1 if one shows a violation, 2 if unclear."""
    found = [result.is_shown for result in results]
    status = 1 if True in found else 2 if None in found else 0
    summary = f"{found.count(True)} of {len(found)} witnesses show a violation again"
    lines = [f"{heading(result.finding)}: {describe(result)}" for result in results]
    stored = [
        {"condition": result.finding.condition, "position": result.finding.position,
         "is_shown": result.is_shown, "numbers": result.numbers, "note": result.note}
        for result in results
    ]  # fmt: skip
    texts = {
        "text": "\n".join([summary, *(f"  {plain(line)}" for line in lines), ""]),
        "markdown": "\n".join([f"**{summary}**", "", *(f"- {marked(line)}" for line in lines), ""]),
        "json": json.dumps(as_json({"exit_code": status, "replayed": stored}), indent=2) + "\n",
    }
    return {"texts": texts, "status": status}


def describe(result: Replayed) -> str:
    """What one witness shows, in a line."""
    parts = [SHOWN[result.is_shown]]
    if result.numbers is not None:
        parts.append("{} and {}".format(*two_figures(*result.numbers)))
    return "; ".join([*parts, *filter(None, [result.note])])
