"""smallest_text: the smallest text that still shows a violation."""

from collections.abc import Callable, Iterable

MAX_TRIES = 300  # texts that are encoded for one finding


def smallest_text(starts: Iterable[str], shows: Callable[[str], bool]) -> str | None:
    """A short text for which `shows` is true, or None if it is for no start.

    The first start that shows it loses parts, halves first and single characters last, as long as
    it shows it.

    Parameters
    ----------
    starts : iterable of str
        Texts, the shortest first.
    shows : function of a text
        Whether it shows the violation.
    """
    text = next((start for start in starts if start and shows(start)), None)
    if text is None:
        return None
    size, n_left = len(text) // 2, MAX_TRIES
    while size >= 1:
        start = 0
        while start < len(text) and len(text) > 1:
            shorter = text[:start] + text[start + size :]
            if (n_left := n_left - 1) < 0:
                return text
            if shorter and shows(shorter):
                text = shorter
            else:
                start += size
        size //= 2
    return text


def starts_around(raw: bytes, start: int, end: int) -> Iterable[str]:
    """The parts of a text around its bytes `start` to `end`: they alone, word, line, all of it."""
    while start > 0 and raw[start : start + 1] and raw[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(raw) and raw[end] & 0xC0 == 0x80:
        end += 1
    text = raw.decode("utf-8", "replace")
    left = len(raw[:start].decode("utf-8", "replace"))
    right = left + len(raw[start:end].decode("utf-8", "replace"))
    yield text[left:right]
    for separators in (" \n", "\n"):
        first = max(text.rfind(one, 0, left) for one in separators)
        ends = [i for one in separators if (i := text.find(one, right)) >= 0]
        yield text[max(first, 0) : min(ends, default=len(text))]
    yield text
