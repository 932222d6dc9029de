"""The reader of reports of audits: what it takes can be shown and stored again."""

from pathlib import Path

from tests.fuzz.reader import Reader, mutate_json
from tests.fuzz.verdict import WrongError


def read_report(data: bytes, folder: Path) -> None:
    """A report in JSON; in all formats again, it is the same."""
    from ngrammix.auditing.card import texts_of
    from ngrammix.auditing.report_json import from_json

    report = from_json(data)
    texts = texts_of(report)
    if repr(from_json(texts["json"])) != repr(report):  # NaN is like itself here
        raise WrongError("a report is another one when it is stored and read again")
    for text in texts.values():
        text.encode("utf-8")  # no half of a surrogate pair is left
        if any(ord(char) < 32 and char != "\n" for char in text):
            raise WrongError("a control character in a report")


READERS = {"audit-report": Reader(read_report, mutate_json, named=None)}
