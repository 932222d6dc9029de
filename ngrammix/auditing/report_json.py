"""The report of an audit as JSON, and back: witnesses are whole, so that they can be replayed.

The keys are those of `AuditReport`, `Finding`, `Witness` and `Check`, and ``verdict`` and
``exit_code`` beside them; they stay. JSON has no numbers that are not finite: they are the texts
``NaN``, ``Infinity`` and ``-Infinity`` there.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from reprlib import repr as short
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ngrammix.auditing.report import AuditReport
from ngrammix.reading import shown, unique_names

MAX_CHARACTERS = 1 << 26  # of a report: ten findings with streams of a million tokens
MAX_DEPTH = 4  # of the values of `AuditReport.conditions`
MAX_INTEGER = 1 << 62
NOT_FINITE = ("NaN", "Infinity", "-Infinity")
NUMBERS = re.compile(r"\[\n\s*(-?\d+(?:,\n\s*-?\d+)*)\n\s*\]")  # a text of JSON has no line breaks
DERIVED = ("verdict", "exit_code")  # follow from the rest, and must
MEND = "pass a report as `audit` wrote it"


def to_json(report: AuditReport) -> str:
    """The whole report as an object of JSON, each stream of tokens on one line."""
    text = json.dumps(as_json(report.to_dict()), indent=2, allow_nan=False) + "\n"
    return NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def as_json(value: Any) -> Any:
    """A value as JSON gives it back: lists for tuples, numbers of Python for those of numpy."""
    if isinstance(value, Mapping):
        return {joined(str(name)): as_json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(each) for each in value]
    if hasattr(value, "tolist"):  # of numpy
        return as_json(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, int | float | None) else joined(str(value))


def joined(text: str) -> str:
    """A text as JSON gives it back: two halves of a surrogate pair are the one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def from_json(text: str | bytes) -> AuditReport:
    """The report that `to_json` wrote.

    Raises
    ------
    ValueError
        If the text is no JSON, or no report: a part is missing, unknown, too long or of another
        type, or the verdict does not follow from the findings.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(
            f"a report must have at most {MAX_CHARACTERS:,} characters, got {len(text):,}; {MEND}"
        )
    try:
        if isinstance(text, bytes):  # `loads` takes halves of surrogate pairs, which are no UTF-8
            text = text.decode(json.detect_encoding(text))
        values = json.loads(text, object_pairs_hook=unique_names)
    # ValueError: of the JSON, of the decoding, or of a number with too many digits. RecursionError:
    # of brackets nested too deep.
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a report must be JSON, got: {shown(error, 200)}; {MEND}") from error
    return from_dict(values)


def from_dict(values: Any) -> AuditReport:
    """The report of `AuditReport.to_dict`, or of its JSON.

    Raises
    ------
    ValueError
        As `from_json` does.
    """
    derived = {}
    if isinstance(values, Mapping):
        derived = {name: values[name] for name in DERIVED if name in values}
        values = {name: value for name, value in values.items() if name not in DERIVED}
    report: AuditReport = read(AuditReport, values, "the report")
    for i, check in enumerate(report.checks):
        if check.smallest_share is not None and not 0.0 <= check.smallest_share <= 1.0:
            refuse(f"the report.checks[{i}].smallest_share", "in [0, 1]", check.smallest_share)
    for name, value in derived.items():
        if value != getattr(report, name):
            raise ValueError(
                f"the {name} of a report must follow from its findings and checks, got "
                f"{shown(short(value), 40)} where it is {getattr(report, name)!r}; {MEND}"
            )
    return report


def read(hint: Any, value: Any, place: str) -> Any:
    """A value of JSON as the type of a field; ValueError names the place of a wrong one."""
    if is_dataclass(hint):
        return read_fields(hint, value, place)
    kind, members = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value if value in members else refuse(place, f"one of {', '.join(members)}", value)
    if kind is tuple:
        if not isinstance(value, list | tuple):
            refuse(place, "a list", value)
        if members[-1] is not Ellipsis and len(value) != len(members):
            refuse(place, f"a list of {len(members)}", value)
        return tuple(read(members[0], each, f"{place}[{i}]") for i, each in enumerate(value))
    if NoneType in members:
        return None if value is None else read(members[0], value, place)
    return read_scalar(hint if kind is None else kind, value, place)


def read_scalar(kind: Any, value: Any, place: str) -> Any:
    """A text, a number, a truth or an object of JSON; ValueError if it is another."""
    if kind is float:
        if isinstance(value, str) and value in NOT_FINITE:
            return float(value)
        is_right = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_right or (isinstance(value, int) and abs(value) > MAX_INTEGER):
            refuse(place, "a number", value)
        return float(value)
    if kind is int:
        is_right = isinstance(value, int) and not isinstance(value, bool)
        if not is_right or not 0 <= value < MAX_INTEGER:
            refuse(place, "an integer >= 0", value)
        return int(value)
    names = {str: "a text", bool: "true or false", dict: f"an object of depth <= {MAX_DEPTH}"}
    if not isinstance(value, kind) or (kind is dict and not is_shallow(value, MAX_DEPTH)):
        refuse(place, names[kind], value)
    return as_json(value)


def is_shallow(value: Any, depth: int) -> bool:
    """Whether lists and objects of JSON are nested at most so deep."""
    if not isinstance(value, list | tuple | dict):
        return True
    values = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(is_shallow(each, depth - 1) for each in values)


def read_fields(kind: Any, values: Any, place: str) -> Any:
    """A dataclass from an object of JSON; what is left out has its default."""
    if not isinstance(values, Mapping):
        refuse(place, "an object", values)
    hints, known = get_type_hints(kind), {field.name: field for field in fields(kind)}
    for name in values:
        if name not in known:
            refuse(place, f"an object of {', '.join(known)}", name)
    for name, field in known.items():
        is_needed = field.default is MISSING and field.default_factory is MISSING
        if is_needed and name not in values:
            refuse(place, f"an object with {name}", "none")
    return kind(**{name: read(hints[name], values[name], f"{place}.{name}") for name in values})


def refuse(place: str, wanted: str, value: Any) -> None:
    """Raise the ValueError for a wrong part of a report."""
    raise ValueError(f"{place} must be {wanted}, got {shown(short(value), 80)}; {MEND}")
