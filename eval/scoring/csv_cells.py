r"""Text in the cells of CSV files: harmless to terminals and spreadsheets, and read back exactly.

A cell is UTF-8 as it is, but for two rules that `read_cell` undoes. Bytes that are no UTF-8, and
control characters other than tab and line breaks, are ``\xff``; so is a backslash that stands
before an x. A cell that begins as a formula does, with white space or with ``'`` begins with a
``'`` more: spreadsheets run ``=1+1``, and show ``'=1+1`` as text.
"""

import re

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\\\\(?=x)")
# Tab and line breaks: spreadsheets drop them, then see the formula. The last four are the
# full-width forms of the first four.
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20\t\r\n'")
ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


def to_cell(raw: bytes) -> str:
    r"""The cell of the bytes of a text, before csv quotes it.

    Examples
    --------
    >>> to_cell(b"=1+1"), to_cell(b"caf\xe9"), to_cell(rb"\xe9")
    ("'=1+1", 'caf\\xe9', '\\x5cxe9')
    """
    text = CONTROL.sub(escape, raw.decode("utf-8", "surrogateescape"))
    text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return f"'{text}" if text.startswith(FORMULA) else text


def escape(found: re.Match[str]) -> str:
    """The bytes of a character as escapes."""
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode("utf-8"))


def read_cell(cell: str) -> bytes:
    r"""The bytes of a text whose cell in ``tokens.csv`` or ``documents.csv`` is `cell`.

    Parameters
    ----------
    cell : str
        A field as a CSV reader gives it: ``text`` of ``tokens.csv``, ``name`` of
        ``documents.csv``.

    Returns
    -------
    bytes
        The text in UTF-8, or what else it was: ``read_cell(r"'=\xff") == b"=\xff"``.

    Examples
    --------
    >>> read_cell("'=1+1"), read_cell(r"caf\xe9")
    (b'=1+1', b'caf\xe9')
    """
    raw = cell.removeprefix("'").encode("utf-8", "surrogateescape")
    return ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), raw)


def name_bytes(name: str) -> bytes:
    """The bytes of a name; a byte that is not UTF-8 stands in it as a lone surrogate."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return name.encode("utf-8", "surrogatepass")
