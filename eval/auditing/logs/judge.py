"""judge: whether the figures of one record of a log can all be true."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from eval.auditing.logs.keys import Kind
from eval.auditing.logs.known_totals import (
    NAME,
    RIGHT,
    TOKENS,
    bug_of,
    bug_of_share,
    bug_of_total,
    is_right,
)
from eval.auditing.logs.printed import Printed, digits, exact
from eval.auditing.logs.records import Record, read_log
from ngrammix.auditing.report import Finding
from ngrammix.auditing.witness import Witness

MAX_WITNESS = 500  # characters of a line in a witness
LN2 = exact(math.log(2))
HIGHEST_LOSS = 30.0  # nats a token: a uniform model of a million tokens needs 14
LOWEST_BPB = 0.5  # of a text of the web; code, logs and tables may be below
BYTES_A_TOKEN = (0.4, 40.0)  # beyond them are no bytes of a text
USUAL = (0.9, 16.0)  # of tokenizers in use
MAX_OFF = 0.01  # relative: how far a figure may be off that of a wrong formula that is named
SURE = 1e-5  # relative width of bytes that are known well enough to be recognised
WRITTEN = {"loss_bits": "bits_per_token"}  # a name that is read again
WORDS: dict[Kind, str] = {
    "loss": "the loss in nats a token",
    "tokens": "the number of tokens",
    "bytes": "the number of raw bytes",
    "bpb": "bits per byte",
}


@dataclass(frozen=True)
class Judged:
    """What is said of one record.

    Attributes
    ----------
    outcome : str
        ``right``, ``wrong``, or ``open`` if it has too few figures.
    finding : Finding or None
        If it is wrong.
    checks : tuple of str
        ``perplexity``, ``bytes``, ``known`` and ``tokens``: what was checked.
    remarks : tuple of str
        What follows from the figures, and what is unusual.
    lacks : str
        What an open record lacks.
    """

    outcome: Literal["right", "wrong", "open"]
    finding: Finding | None = None
    checks: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    lacks: str = ""


def judge(record: Record) -> Judged:
    """Compare the figures of a record with each other and with what is known."""
    numbers, remarks = dict(record.numbers), []
    if "loss_bits" in numbers:
        numbers.setdefault("loss", numbers["loss_bits"] * LN2)
    if record.line and (remark := drop_bytes(numbers, record)):
        remarks.append(remark)
    if record.line and "loss" in numbers and numbers["loss"].low > HIGHEST_LOSS:
        loss = numbers.pop("loss")
        remarks.append(f"a loss of {digits(loss)}{place(record)} is taken for a sum of tokens")
    checks: list[str] = []
    for check in (of_perplexity, of_identity, of_known, of_size):
        name, finding = check(numbers, record)
        checks += [name] if name else []
        if finding is not None:
            return Judged("wrong", finding, tuple(checks), tuple(remarks))
    remarks += follows(numbers, record)
    if {"perplexity", "bytes", "known"}.intersection(checks):
        return Judged("right", None, tuple(checks), tuple(remarks))
    return Judged("open", None, tuple(checks), tuple(remarks), lacking(numbers, record))


def place(record: Record) -> str:
    """Where a record stands, for a message."""
    return f" in line {record.line}" if record.line else ""


def finding_of(record: Record, right: float, found: float, unit: str, message: str) -> Finding:
    """The finding of a wrong line; its position is the number of the line."""
    witness = Witness("log", (right, found), unit, text=replayable(record))
    return Finding("bytes", record.line or None, witness, message)


def replayable(record: Record) -> str:
    """The line, or its figures by their names where the line alone does not give them all."""
    again = read_log(record.text).records if len(record.text) <= MAX_WITNESS else []
    if len(again) == 1 and again[0].numbers == record.numbers:
        return record.text
    return " ".join(f"{WRITTEN.get(k, k)}={number.text}" for k, number in record.numbers.items())


Checked = tuple[str, Finding | None]


def of_perplexity(numbers: Mapping[Kind, Printed], record: Record) -> Checked:
    """Bits per byte are the logarithm of the perplexity of a byte to base 2."""
    if not {"byte_perplexity", "bpb"} <= numbers.keys():
        return "", None
    found, bpb = numbers["byte_perplexity"], numbers["bpb"]
    right, low, high = (math.log2(x) for x in (found.value, found.low, found.high))
    if Printed(right, low, high).fits(bpb):
        return "perplexity", None
    return "perplexity", finding_of(
        record, right, bpb.value, "bits per byte",
        "bits per byte must be the logarithm of the byte perplexity to base 2, "
        f"{right:.6f}, got {digits(bpb)}{place(record)}; take both from one run",
    )  # fmt: skip


def of_identity(numbers: Mapping[Kind, Printed], record: Record) -> Checked:
    """Bits per byte are loss / ln 2 * tokens / bytes."""
    if not WORDS.keys() <= numbers.keys():
        return "", None
    loss, bpb = numbers["loss"], numbers["bpb"]
    share = numbers["tokens"] / numbers["bytes"]
    right = loss / LN2 * share
    if right.fits(bpb):
        return "bytes", None
    others = (
        (loss * share, "the loss is not divided by ln 2, or it is in bits"),
        (loss / LN2, "these are bits a token: multiply by tokens / bytes"),
        (loss, "this is the loss itself"),
        (loss / LN2 / share, "tokens and bytes are exchanged"),
        (loss / LN2 / LN2 * share, "the loss is divided by ln 2 twice"),
        (loss / exact(math.log(10)) * share, "the logarithm is to base 10"),
    )
    needed = derived(numbers, "bytes")
    ratio = needed / numbers["bytes"]
    near = [(abs(other.value / bpb.value - 1), why) for other, why in others if other.fits(bpb)]
    why = next((why for off, why in sorted(near) if off < MAX_OFF), None)
    if why is None and (bug := bug_of(ratio)):
        why = f"such a ratio is known where {bug}"
    return "bytes", finding_of(
        record, right.value, bpb.value, "bits per byte",
        f"bits per byte must be loss / ln 2 * tokens / bytes = {digits(right)}, got {digits(bpb)}"
        f"{place(record)}: it needs {digits(needed)} bytes for {digits(numbers['bytes'])}, "
        f"x{ratio.value:.5f}{f'; {why}' if why else ''}; divide by the raw bytes of the text",
    )  # fmt: skip


def bytes_of(numbers: Mapping[Kind, Printed]) -> Printed | None:
    """The bytes that the figures give, or that follow from the other three; None without them."""
    if "bytes" in numbers:
        return numbers["bytes"]
    if not {"loss", "tokens", "bpb"} <= numbers.keys():
        return None
    return derived(numbers, "bytes")


def of_known(numbers: Mapping[Kind, Printed], record: Record) -> Checked:
    """Known numbers of tokens have known bytes; some wrong numbers of bytes are known too."""
    n_bytes = bytes_of(numbers)
    if n_bytes is None:
        return "", None
    tokenizer = TOKENS.get(round(numbers["tokens"].value)) if "tokens" in numbers else None
    is_sure = n_bytes.high - n_bytes.low <= SURE * n_bytes.value
    ratio = n_bytes / exact(RIGHT)
    why = bug_of_total(n_bytes)
    if tokenizer is None and why is None:
        return ("known" if is_sure and is_right(n_bytes) else ""), None
    if is_right(n_bytes):
        return "known", None
    follow = "" if "bytes" in numbers else " (they follow from the other figures)"
    tokens = f" of {numbers['tokens'].value:,.0f} tokens of {tokenizer}" if tokenizer else ""
    why = why or bug_of(ratio)
    if why is None:
        why = "a part of the text is not counted" if ratio.high < 1 else "in no ratio that is known"
    return "known", finding_of(
        record, float(RIGHT), n_bytes.value, "bytes",
        f"{NAME}{tokens} has {RIGHT:,} raw bytes, got {digits(n_bytes)}{follow}{place(record)}, "
        f"x{ratio.value:.5f}: {why}; divide by the raw bytes of the text",
    )  # fmt: skip


def size_of_token(numbers: Mapping[Kind, Printed]) -> Printed | None:
    """Bytes a token, from the counts or from loss and bits per byte; None without them."""
    if "tokens" in numbers and "bytes" in numbers:
        return numbers["bytes"] / numbers["tokens"]
    if "loss" in numbers and "bpb" in numbers:
        return numbers["loss"] / LN2 / numbers["bpb"]
    return None


def can_be_of_text(size: Printed) -> bool:
    """Whether a text can have so many bytes a token."""
    lowest, highest = BYTES_A_TOKEN
    return size.high >= lowest and size.low <= highest


def of_size(numbers: Mapping[Kind, Printed], record: Record) -> Checked:
    """A token has not less than a part of a byte, and not a line of text."""
    size = size_of_token(numbers)
    if size is None:
        return "", None
    if can_be_of_text(size):
        return "tokens", None
    lowest, highest = BYTES_A_TOKEN
    nearest = lowest if size.value < lowest else highest
    return "tokens", finding_of(
        record, nearest, size.value, "bytes a token",
        f"a token must have {lowest} to {highest:g} bytes on average, got {size.value:.4g}"
        f"{place(record)}, tokens a byte {1 / size.value:.4g}; check which figure is which",
    )  # fmt: skip


def drop_bytes(numbers: dict[Kind, Printed], record: Record) -> str:
    """Remove bytes that can be none of the text, such as the size of a model; why, or empty."""
    if "bytes" not in numbers or "tokens" not in numbers or "loss" not in numbers:
        return ""
    size = numbers["bytes"] / numbers["tokens"]
    if can_be_of_text(size):
        return ""
    n_bytes = numbers.pop("bytes")
    return (
        f"{digits(n_bytes)} bytes{place(record)} are taken for those of a file: they are "
        f"{size.value:.3g} a token"
    )


def follows(numbers: Mapping[Kind, Printed], record: Record) -> list[str]:
    """What follows from the figures of a record that is not wrong, and what is unusual."""
    remarks = []
    missing = [kind for kind in WORDS if kind not in numbers]
    if len(missing) == 1:
        value = derived(numbers, missing[0])
        remarks.append(
            f"{WORDS[missing[0]]}{place(record)} follows from the others: {digits(value)}"
            f"{between(value)}"
        )
    bpb, size = numbers.get("bpb"), size_of_token(numbers)
    if bpb is not None and bpb.high < LOWEST_BPB:
        remarks.append(
            f"{digits(bpb)} bits per byte{place(record)} are less than any model is known to need "
            "for text of the web: audit the scorer"
        )
    if size is not None and not USUAL[0] <= size.value <= USUAL[1]:
        remarks.append(f"{size.value:.3g} bytes a token{place(record)} are unusual")
    if "tokens" not in numbers and "loss" in numbers and bpb is not None:
        share = bpb * LN2 / numbers["loss"]
        why = bug_of_share(share)
        if why is not None:
            remarks.append(
                f"{share.value:.5f} tokens a byte{place(record)} are those of {NAME} where {why}: "
                "give the number of tokens to be sure"
            )
    return remarks


def derived(numbers: Mapping[Kind, Printed], missing: Kind) -> Printed:
    """The figure that is missing, from the other three."""
    if missing == "bpb":
        return numbers["loss"] / LN2 * numbers["tokens"] / numbers["bytes"]
    if missing == "bytes":
        return numbers["loss"] / LN2 * numbers["tokens"] / numbers["bpb"]
    if missing == "tokens":
        return numbers["bpb"] * numbers["bytes"] * LN2 / numbers["loss"]
    return numbers["bpb"] * LN2 * numbers["bytes"] / numbers["tokens"]


def between(value: Printed) -> str:
    """The interval of a figure, if its digits leave one open."""
    if value.high - value.low <= 1e-9 * value.value:
        return ""
    whole = value.value >= 1000
    low, high = (f"{x:,.0f}" if whole else f"{x:.6g}" for x in (value.low, value.high))
    return f" ({low} to {high})"


def lacking(numbers: Mapping[Kind, Printed], record: Record) -> str:
    """What a record lacks to be checked; empty for one with counts alone."""
    if not {"loss", "bpb", "byte_perplexity"}.intersection(numbers):
        return "" if record.line else f"lacks {WORDS['loss']} and {WORDS['bpb']}; pass them"
    missing = [WORDS[kind] for kind in WORDS if kind not in numbers]
    where = f"line {record.line} " if record.line else ""
    known = f" (only the data of {NAME} are known without)" if len(missing) == 1 else ""
    return f"{where}lacks {', '.join(missing)}{known}; pass them"
