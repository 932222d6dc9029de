"""``ngrammix audit --replay``: the witnesses of a report, shown again on what it is about."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eval.commands.audit_named import Task, config_of, function_of, search
from eval.commands.from_config import load_model_of, tokenizer_of
from ngrammix.auditing.card import heading, marked, plain
from ngrammix.auditing.replay import Replayed, replay
from ngrammix.auditing.report import AuditReport, Finding
from ngrammix.auditing.report_json import MAX_CHARACTERS, as_json, from_json
from ngrammix.auditing.scorer import described
from ngrammix.auditing.stepwise import Stepper, scores_of
from ngrammix.auditing.wording import two_figures
from ngrammix.checks import as_tokens
from ngrammix.reading import read_start
from ngrammix.types import Tokens

SHOWN = {True: "shown again", False: "not shown", None: "could not be tried"}
SHARE = 0.25  # of the movement in the report must be seen again in the logits of a model
Show = Callable[[AuditReport], Sequence[Replayed]]  # what each witness of a report shows
NEEDED = {"logits": "--model", "bytes": "--tokenizer"}  # by the kind of a witness; else --scorer


def replayed(job: Mapping[str, Any]) -> Task:
    """The replay of a report; ValueError if it is none."""
    path = Path(job["replay"])
    if not path.is_file():
        raise ValueError(f"--replay must be a file, got {path}; name an audit.json")
    try:
        report = from_json(read_start(path, MAX_CHARACTERS + 1))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    shows = {
        "--log": show_log, "--scorer": scorer_of(job), "--model": model_of(job),
        "--tokenizer": bytes_of(job),
    }  # fmt: skip
    return lambda: outcome_of(show_all(report, shows))


def show_all(report: AuditReport, shows: Mapping[str, Show | None]) -> list[Replayed]:
    """What the witness of each finding shows, each on what its kind needs."""
    groups: dict[str, list[int]] = {}
    for i, finding in enumerate(report.findings):
        kind = finding.witness.kind
        needed = "--log" if kind == "log" else NEEDED.get(kind, "--scorer")
        groups.setdefault(needed, []).append(i)
    results: dict[int, Replayed] = {}
    for needed, members in groups.items():
        findings = tuple(report.findings[i] for i in members)
        function = shows[needed]
        note = f"name what it is about with {needed}"
        found = (
            [Replayed(finding, None, note=note) for finding in findings]
            if function is None
            else function(replace(report, findings=findings))
        )
        results |= zip(members, found, strict=True)
    return [results[i] for i in sorted(results)]


def scorer_of(job: Mapping[str, Any]) -> Show | None:
    """Shows witnesses of black boxes on --scorer, or on --stepper."""
    score_fn, stepper = function_of(job, "scorer"), function_of(job, "stepper")
    probs_fn = function_of(job, "probs")
    if stepper is not None:
        score_fn, probs_fn = score_fn or scores_of(stepper), probs_fn or probs_of(stepper)
    if score_fn is None:
        return None
    return partial(replay, score_fn=score_fn, probs_fn=probs_fn, **search(job, "budget"))


def probs_of(make: Callable[[], Stepper]) -> Callable[[Tokens], Any]:
    """The probabilities that a new stepper shows after a prefix."""

    def probs_fn(prefix: Tokens) -> Any:
        stepper = make()
        for token in prefix.tolist():
            stepper.probs()
            stepper.commit(token)
        return stepper.probs()

    return probs_fn


def model_of(job: Mapping[str, Any]) -> Show | None:
    """Shows two windows to --model."""
    if "model" not in job:
        return None
    from eval.auditing.models.witness import numbers_of

    model = load_model_of(config_of(job))
    if model is None:
        raise ValueError("--model must name a model to show windows to, got none; name one")

    def show_windows(finding: Finding) -> Replayed:
        witness, before = finding.witness, finding.witness.numbers
        for ids in (witness.stream, witness.other):
            as_tokens(np.array(ids, np.int64), model.vocab_size, may_be_empty=True)
        if (witness.position or 0) >= len(witness.stream):
            return Replayed(finding, None, note="its position is not in its window")
        try:
            now = numbers_of(model.logits, witness)[1]
        except Exception as error:  # of any kind: it is the model's
            return Replayed(finding, None, note=f"the model raised {described(error)}")
        least = SHARE * min(abs(before[1] - before[0]), 1e9)
        return Replayed(finding, now[0] != now[1] and abs(now[1] - now[0]) >= least, now)

    return lambda report: [show_windows(finding) for finding in report.findings]


def bytes_of(job: Mapping[str, Any]) -> Show | None:
    """Counts the bytes of a text again, by --tokenizer and --token-bytes."""
    if "tokenizer" not in job:
        return None
    from eval.auditing.token_bytes.audit_bytes import audit_bytes

    config = config_of(job)
    tokenizer = tokenizer_of(replace(config, token_bytes=None), None)

    def show_bytes(finding: Finding) -> Replayed:
        if not finding.witness.text:
            return Replayed(finding, None, note="the witness has no text")
        return judged(finding, audit_bytes(tokenizer, finding.witness.text, config.token_bytes))

    return lambda report: [show_bytes(finding) for finding in report.findings]


def show_log(report: AuditReport) -> Sequence[Replayed]:
    """Reads the line of each witness again."""
    from eval.auditing.logs.audit_log import audit_log

    return [judged(one, audit_log(text=one.witness.text)) for one in report.findings]


def judged(finding: Finding, again: AuditReport) -> Replayed:
    """What another audit of a witness says."""
    if again.verdict == "unknown":
        return Replayed(finding, None, note="; ".join(again.problems) or "too little to tell")
    numbers = again.findings[0].witness.numbers if again.findings else None
    return Replayed(finding, bool(again.findings), numbers)


def outcome_of(results: Sequence[Replayed]) -> dict[str, Any]:
    """What the witnesses show, in all formats; status 1 if one shows a violation, 2 if unclear."""
    found = [result.is_shown for result in results]
    status = 1 if True in found else 2 if None in found else 0
    summary = f"{found.count(True)} of {len(found)} witnesses show a violation again"
    if not found:
        summary = "the report has no findings: there is nothing to show again"
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
