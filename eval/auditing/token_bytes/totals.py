"""Totals: known bugs that explain a wrong number of bytes, where nothing is known of the tokens."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

from eval.auditing.token_bytes.known_bugs import BUGS, Token
from eval.auditing.token_bytes.text_changes import DROPPED

# Of FineWeb with tokenizers of Parameter Golf: another text has another ratio, but not by much.
RATIOS = (
    (1.16713, 0.01, "the leading space is counted twice"),
    (1.0413, 0.004, "U+FFFD is counted, three bytes, for tokens that are not UTF-8 alone"),
    (1.0895, 0.004, "sentinel tokens of a lossless transform are counted"),
)
"""(bytes counted for one byte of the text, how far that of another text is off, the bug)"""


MAX_NAMES = 4  # of bugs that give the same number


def explain_total(
    found: int, texts: Sequence[bytes], counts: Counter[int], tokens: dict[int, Token]
) -> str:
    """What a program counted that found so many bytes in these documents, as a clause.

    Parameters
    ----------
    found : int
        The bytes that it counted; not those of the documents.
    texts : sequence of bytes
        The documents.
    counts : Counter
        How often each id occurs.
    tokens : dict
        The token of each of these ids.
    """
    right = sum(map(len, texts))
    names = [name for name, total in candidates(texts, counts, tokens) if total == found]
    if names:  # several bugs may give the same number
        return "; or ".join(dict.fromkeys(names[:MAX_NAMES]))
    ratio = found / right if right else 0.0
    for known, width, name in RATIOS:
        if abs(ratio - known) <= width:
            return f"the ratio is near {known}, which is known where {name}"
    if found < right:
        return "bytes are missing: a part of the text, or of its bytes, is not counted"
    return "more bytes are counted than the text has, in no ratio that is known"


def candidates(
    texts: Sequence[bytes], counts: Counter[int], tokens: dict[int, Token]
) -> Iterator[tuple[str, int]]:
    """(bug, bytes that a program with it counts), the surest first."""
    right, n_tokens = sum(map(len, texts)), sum(counts.values())
    for bug in BUGS:
        total = 0
        for i, n in counts.items():
            charge = bug.charge(tokens[i])
            total += n * (len(tokens[i].raw) if charge is None else charge)
        yield bug.name, total
    decoded = [text.decode("utf-8", "replace") for text in texts]
    yield "characters are counted in place of bytes", sum(map(len, decoded))
    yield "tokens are counted in place of bytes", n_tokens
    n = len(texts)
    one = "one byte more is counted for each document: BOS, EOS, or a space put before the text"
    yield one, right + n
    yield "a token before and one after each document are counted, one byte each", right + 2 * n
    for name in ("<s>", "</s>", "<|bos|>", "<|endoftext|>", "<|begin_of_text|>"):
        yield (
            f"the special token {name} of each document is counted by its name",
            right + n * len(name),
        )
    yield "<s> and </s> of each document are counted by their names", right + 7 * n
    yield "the leading space of each document is not counted", right - n
    lines = (DROPPED, lambda text: re.sub("[\r\n]", "", text))
    crlf = ("CR LF is read as LF", lambda text: text.replace("\r\n", "\n"))
    strip = (
        "white space at the ends of lines or documents is dropped",
        lambda text: "\n".join(line.strip() for line in text.split("\n")).strip(),
    )
    merged = ("repeated white space is merged", lambda text: " ".join(text.split()))
    nfkc = (
        "Unicode normalisation (NFKC) comes before counting",
        lambda text: unicodedata.normalize("NFKC", text),
    )
    outer = ("white space at the ends of documents is dropped", str.strip)
    for name, change in (lines, crlf, outer, strip, merged, nfkc):
        yield name, sum(len(change(text).encode("utf-8", "replace")) for text in decoded)
    so_far = 0
    for number, text in enumerate(texts[:-1], start=1):
        so_far += len(text)
        yield f"only the first {number} of {n} documents are counted", so_far
