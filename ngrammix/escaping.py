"""escaped: any text as one that cannot control a terminal."""

import re

# Controls (C0, DEL, C1), marks and overrides of the direction of writing, separators of lines and
# paragraphs, the byte order mark, tags, and halves of surrogate pairs.
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def escaped(text: str, *, lines: bool = False) -> str:
    r"""The text with ``\x1b``, ``\n``, ``\u202e``, ... in the place of what controls a terminal.

    A byte of a file name that is not UTF-8 becomes ``\xff``.

    Parameters
    ----------
    text : str
        Any text: it may hold names of files, texts of data, and errors of libraries.
    lines : bool
        Keep line breaks.

    Examples
    --------
    >>> print(escaped("two\nlines, \x1b[31mred"))
    two\nlines, \x1b[31mred
    """
    return UNSAFE.sub(lambda found: escape(found[0], lines=lines), text)


def escape(char: str, *, lines: bool) -> str:
    """The escape of one character; a line break stays one if `lines`."""
    if char == "\n" and lines:
        return char
    if "\udc80" <= char <= "\udcff":  # Python's stand-in for a byte of a name
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char == "\x7f":  # the only one that JSON leaves as it is; this escape is one of JSON too
        return "\\u007f"
    return char.encode("unicode_escape").decode("ascii")
