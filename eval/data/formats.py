"""Formats: what a file holds, by its option, its first bytes and its name, in this order."""

import json
import re
from pathlib import PurePath
from warnings import warn

from eval.config import AUTO, BYTES, TEXT
from eval.data.compression import SUFFIXES as COMPRESSED
from eval.data.compression import compression_of
from eval.data.source import HEAD, Content

# What a name says. A text of any other suffix is recognised by its content.
OF_SUFFIX = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".log"), TEXT),
    **dict.fromkeys((".jsonl", ".ndjson", ".jsonlines", ".ldjson"), "jsonl"),
    ".json": "json",
    ".csv": "csv",
    **dict.fromkeys((".tsv", ".tab"), "tsv"),
    **dict.fromkeys((".parquet", ".pq"), "parquet"),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), "arrow"),
}

PARQUET, ARROW_FILE, ARROW_STREAM = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"
NAME_IT = "name its format with --format, or the type of its ids with --token-dtype"
UNPACK = "unpack it and name the files in it"
EXPORT = "save its texts as .jsonl, or its ids as .npy"
SHARD_1, SHARD_2 = (re.escape(n.to_bytes(4, "little")) for n in (20240520, 20240801))
# (pattern of the first bytes, what begins with them, what to do). Where a text may begin with the
# same, a zero byte must follow.
FOREIGN = (
    (rb"PK.{28}\S{,80}\.npy", "a NumPy archive (.npz)", "save one array with numpy.save"),
    (rb"PK.{28}\S{,80}data\.pkl", "a file of torch.save", EXPORT),
    (rb"PK(\x03\x04|\x05\x06)", "a ZIP archive (.zip, .docx, .xlsx)", UNPACK),
    (rb".{257}ustar", "a tar archive", UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (rb"\x1f\x9d|\x89LZO|LZIP\x01", "a file of compress, lzop or lzip", "decompress it"),
    (rb"\x80[\x02-\x05]", "a Python pickle (.pkl, .pt)", EXPORT),
    (rb"\x93NUMPY", "a NumPy array", "give it the suffix .npy"),
    (SHARD_1 + b"|" + SHARD_2, "a token shard", "give it the suffix .bin"),
    (rb"\x89HDF", "an HDF5 file", EXPORT),
    (rb"SQLite format 3\x00", "a SQLite database", EXPORT),
    (rb"(ORC|FEA1|Obj\x01|GGUF|RIFF)(?=.*\x00)", "ORC, Feather 1, Avro, GGUF or RIFF data", EXPORT),
    (rb".{6}\x00\x00\{[\" }]", "a safetensors file", "name its folder with --model, or a text"),
    (rb"%PDF-", "a PDF", EXPORT),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", EXPORT),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a", "an image", "name a text"),
    (rb"\x7fELF", "a program", "name a text"),
    (
        rb"version https://git-lfs\S+\noid ",
        "a pointer of Git LFS, not the file",
        "run git lfs pull",
    ),
)
# An object with a key, or an array of objects or strings.
STRING = rb'"(?:[^"\\\n]|\\.)*"'
LIKE_JSON = re.compile(
    rb"\s*(?:\{\s*(?:%b\s*:|\})|\[\s*(?:\{|%b\s*(?:,|\]\s*\Z)))" % (STRING, STRING)
)
BOM = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
CONTROL = re.compile(rb"[\x00-\x07\x0e-\x19\x1c-\x1f\x7f]")  # that no text has


def choose_format(content: Content, option: str = AUTO) -> str:
    """The format of an open source, one of `FORMATS` but ``auto``.

    Parameters
    ----------
    content : Content
        Its first bytes and its name are looked at.
    option : str
        What the user says.

    Raises
    ------
    ValueError
        If the content is not what the option or the name says, or is binary and unknown.
    """
    if option in (TEXT, BYTES):
        return option
    head, name = content.head, content.name
    wanted = format_of_name(name) if option == AUTO else option
    found = format_of_magic(head)
    if found is not None:
        if wanted not in (None, found):
            says = "its name says" if option == AUTO else "--format says"
            raise ValueError(
                f"data must be {wanted} as {says}, got {found} in {name}; pass --format {found}"
            )
        return found
    refuse_foreign(head, name)
    if wanted == TEXT and is_json_lines(head):
        warn(
            f"{name} is scored as one text, as its name says, though its lines are JSON objects; "
            "pass --format jsonl to score their column",
            stacklevel=2,
        )
    if wanted is None and LIKE_JSON.match(head.removeprefix(BOM)):
        return "json"
    if wanted is None:
        refuse_header(head, name)
    if wanted in (None, TEXT) and is_binary(head):
        what, mend = "unknown binary data", NAME_IT
        if head.startswith(UTF_16):
            what, mend = "UTF-16 text", "convert it to UTF-8"
        raise no_text(what, mend, name)
    return wanted or TEXT


def format_of_name(name: str) -> str | None:
    """The format that a file's name says; the suffix of a compression is left out."""
    path = PurePath(name.lower())
    return OF_SUFFIX.get((path.with_suffix("") if path.suffix in COMPRESSED else path).suffix)


def format_of_magic(head: bytes) -> str | None:
    """The table format that begins with these bytes."""
    if head.startswith(PARQUET):
        return "parquet"
    # A stream of Arrow continues with the length of its schema, which is below 16 MiB.
    is_stream = head.startswith(ARROW_STREAM) and len(head) > 8 and head[7] == 0
    return "arrow" if is_stream or head.startswith(ARROW_FILE) else None


def refuse_foreign(head: bytes, name: str) -> None:
    """Raise ValueError if the first bytes are those of a format that holds no text to score."""
    found = [(what, mend) for magic, what, mend in FOREIGN if re.match(magic, head, re.DOTALL)]
    if kind := compression_of(head):
        found = [(f"{kind} data that was compressed twice", "decompress it once")]
    if found:
        raise no_text(*found[0], name)


def no_text(what: str, mend: str, name: str) -> ValueError:
    """The error of content that is neither text nor a table."""
    return ValueError(
        f"data must be text or a known format, got {what} in {name}; {mend}, or pass --format "
        "bytes to score its raw bytes"
    )


def refuse_header(head: bytes, name: str) -> None:
    """Raise ValueError if the first line of a text may be the header of CSV or TSV."""
    line = head.removeprefix(BOM).partition(b"\n")[0].rstrip(b"\r")
    for delimiter, kind in ((b",", "csv"), (b"\t", "tsv")):
        fields = [field.strip(b'"') for field in line.split(delimiter)]
        if len(fields) > 1 and b"text" in fields:
            raise ValueError(
                "data must be a text or a table, got a first line that may name columns in "
                f"{name}; pass --format {kind}, or --format text"
            )


def is_binary(head: bytes) -> bool:
    """Whether the bytes are no text: a zero byte, or control characters in what is not UTF-8."""
    if b"\x00" in head:
        return True
    return CONTROL.search(head) is not None and not is_utf_8(head)


def is_utf_8(head: bytes) -> bool:
    """Whether the bytes are UTF-8; the last character may be cut."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.end == len(head) == HEAD and error.start >= HEAD - 3
    return True


def is_json_lines(head: bytes) -> bool:
    """Whether the first line that is not blank is a JSON object, or the beginning of one."""
    line, has_break, _ = head.removeprefix(BOM).lstrip().partition(b"\n")
    if not line.startswith(b"{"):
        return False
    if not has_break and len(head) == HEAD:  # a line longer than the head
        return LIKE_JSON.match(line) is not None
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
