"""What was done to a text whose tokens decode to other bytes."""

import re
import unicodedata

from eval.auditing.token_bytes.known_bugs import FIRST, PREFIX
from eval.tokenizers.byte_checks import BROKEN, MARK, likely_cause

PRIVATE = re.compile("[\ue000-\uf8ff]")  # characters for private use: no text has them
BREAKS = re.compile("\r\n|\r|\n")
MERGED = (
    "the tokenizer's normaliser is lossy: repeated spaces become one, or spaces at the ends are "
    "dropped"
)
REPLACED = (
    "the tokenizer's normaliser is lossy: line ends, tabs or other white space become spaces or "
    "are dropped"
)
DROPPED = "line ends are dropped, as by a loader of text that reads line by line"
NFKC = "the tokenizer's normaliser is lossy: Unicode normalisation such as NFKC"


def change_of(decoded: bytes, raw: bytes, *, is_given: bool) -> str:
    """How `decoded`, the bytes of the tokens, came from `raw`, as a clause; both are not equal.

    `is_given`: the tokens were passed, so they may be those of another text.
    """
    new, old = decoded.decode("utf-8", "replace"), raw.decode("utf-8", "replace")
    if old.count(MARK) > new.count(MARK):
        return "U+2581 of the text is written like a space by this tokenizer"
    if new.count(MARK) > old.count(MARK):
        return (
            "the tokenizer has no token for U+2581 alone: a space becomes three byte tokens "
            "in place of one byte"
        )
    if len(PRIVATE.findall(new)) > len(PRIVATE.findall(old)):
        return (
            "sentinel tokens of a lossless transform are counted: characters for private use that "
            "the text does not have"
        )
    if new.split() == old.split():
        return change_of_space(new, old)
    if decoded.count(BROKEN) > raw.count(BROKEN):
        return "U+FFFD replaces bytes that cannot be decoded"
    if raw.startswith(decoded):
        if is_given:
            return "the data are partial: the tokens are those of a part of the text"
        return "the tokenizer drops the end of the text"
    if is_given and decoded.startswith(raw):
        return "the tokens are those of a longer text"
    if BREAKS.sub("", old) == BREAKS.sub("", new):
        return line_ends(new, old)
    if spaceless(new) == spaceless(old):
        if not is_given and "@" not in old:
            return REPLACED
        return (
            "the tokens are those of another string: the same text before or after detokenising, "
            "with other spaces"
        )
    normal = [unicodedata.normalize("NFKC", text) for text in (new, old)]
    if normal[0].split() == normal[1].split():
        return NFKC if normal[0] == normal[1] else f"{NFKC}, and white space is changed"
    return likely_cause(decoded, raw)


def change_of_space(new: str, old: str) -> str:
    """How the white space of a text changed, where its words are the same."""
    if BREAKS.sub("", old) == BREAKS.sub("", new):
        return line_ends(new, old)
    if new == f" {old}":
        return PREFIX.name
    if old == f" {new}":
        return FIRST.name
    if re.sub(" +", " ", old).strip(" ") == new.strip(" "):
        return MERGED
    return REPLACED


def line_ends(new: str, old: str) -> str:
    """How the line ends of a text changed, where all else is the same."""
    if len(BREAKS.findall(new)) >= len(BREAKS.findall(old)):
        return "line ends are rewritten: CR LF becomes LF, or the other way round"
    return DROPPED


def spaceless(text: str) -> str:
    """A text without white space and without the marks @ of tokenised data sets."""
    return re.sub(r"[\s@]+", "", text)
