"""CodedFile: coded tokens on disk, with what a decoder must know and can check.

Layout, little-endian: ``NGRCODED``; format version and bits of a table, u16; number of tokens, V
and number of documents, u32; BLAKE2b of what codes the tokens (8 bytes) and of what moves its
rounding (8 bytes); BLAKE2b of the tokens (16 bytes); BLAKE2b of all else in the file (8 bytes).
Then u32 numbers: the length of each document, and the token before each. Then the code, to the end
of the file. There is no pickle; the sizes are checked against the file before they are used.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np

from eval.auditing.codec.range_coder import PRECISION
from eval.auditing.codec.token_stream import Layout
from eval.types import Tokens
from ngrammix.atomic import replaced, target_of
from ngrammix.checks import MAX_POSITION
from ngrammix.reading import read_start

MAGIC = b"NGRCODED"
VERSION = 1
HEAD = Struct("<8s2H3I8s8s16s8s")
CHECK_BYTES = 8  # at the end of the head
MAX_FILE = 1 << 30  # bytes
NUMBER = np.dtype("<u4")
CONTENT = "coded tokens"  # as errors name it


@dataclass(frozen=True)
class CodedFile:
    """Coded tokens.

    Attributes
    ----------
    n_tokens, vocab_size : int
        Coded tokens, and V.
    layout : Layout
        The documents; of the last ones perhaps only the first tokens are coded.
    settings, surroundings : bytes
        `hash_of` the model and its options, and of versions and hardware.
    digest : bytes
        `digest_of` the tokens.
    code : bytes
        What `decode` reads.
    """

    n_tokens: int
    vocab_size: int
    layout: Layout
    settings: bytes
    surroundings: bytes
    digest: bytes
    code: bytes


def hash_of(values: Mapping[str, Any]) -> bytes:
    """8 bytes that tell values apart, which are texts, numbers and None."""
    return blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=8).digest()


def digest_of(tokens: Tokens) -> bytes:
    """16 bytes that tell tokens (N,) apart."""
    return blake2b(tokens.astype("<i8").tobytes(), digest_size=16).digest()


def write(path: str | os.PathLike[str], file: CodedFile) -> int:
    """Write a file, whole or not at all; returns its bytes. ValueError if it cannot be written."""
    documents = np.array([file.layout.lengths, file.layout.leads], NUMBER).tobytes()
    fields = (
        MAGIC, VERSION, PRECISION, file.n_tokens, file.vocab_size, len(file.layout.lengths),
        file.settings, file.surroundings, file.digest,
    )  # fmt: skip
    rest = documents + file.code
    start = HEAD.pack(*fields, bytes(CHECK_BYTES))[:-CHECK_BYTES]
    with replaced(target_of(path), CONTENT) as out:
        out.write(start + check_of(start, rest) + rest)
    return HEAD.size + len(rest)


def read(path: str | os.PathLike[str]) -> CodedFile:
    """The content of a file.

    Raises
    ------
    ValueError
        If it is missing, no such file, of another version, too large, cut or altered.
    """
    raw = _read_bytes(Path(path))
    if raw[: len(MAGIC)] != MAGIC:
        raise ValueError(
            f"coded tokens must begin with {MAGIC.decode()}, got {raw[: len(MAGIC)]!r} in {path}; "
            "is it a file of --keep?"
        )
    if len(raw) < HEAD.size:
        raise _damaged(path, "its head is cut short")
    fields = HEAD.unpack_from(raw)
    version, precision, n_tokens, vocab_size, n_documents = fields[1:6]
    if (version, precision) != (VERSION, PRECISION):
        raise ValueError(
            f"coded tokens must be of version {VERSION} with tables of {PRECISION} bits, got "
            f"{version} with {precision} in {path}; read it with the ngrammix that wrote it"
        )
    start, rest = raw[: HEAD.size - CHECK_BYTES], raw[HEAD.size :]
    if check_of(start, rest) != fields[-1]:
        raise _damaged(path, "its checksum is another")
    n_bytes = 2 * n_documents * NUMBER.itemsize
    if not 0 < n_bytes <= len(rest):
        raise _damaged(path, f"it has no room for {n_documents} documents")
    lengths, leads = np.frombuffer(rest[:n_bytes], NUMBER).reshape(2, -1).tolist()
    layout = Layout(tuple(lengths), tuple(leads))
    is_whole = min(lengths) > 0 and max(leads) < vocab_size and layout.n_tokens <= MAX_POSITION
    if not (is_whole and 0 < n_tokens <= layout.n_tokens):
        raise _damaged(path, f"{n_tokens} tokens of V = {vocab_size} do not fit its documents")
    settings, surroundings, digest = fields[6:9]
    code = rest[n_bytes:]
    return CodedFile(n_tokens, vocab_size, layout, settings, surroundings, digest, code)


def check_of(start: bytes, rest: bytes) -> bytes:
    """The checksum of a file without itself."""
    return blake2b(start + rest, digest_size=CHECK_BYTES).digest()


def _read_bytes(path: Path) -> bytes:
    """All bytes of a file of at most `MAX_FILE`."""
    if not path.is_file():
        raise ValueError(f"coded tokens must be a file, got {path}; check the path")
    raw = read_start(path, MAX_FILE + 1)
    if len(raw) > MAX_FILE:
        raise ValueError(
            f"coded tokens must have at most {MAX_FILE} bytes, got more in {path}; "
            "is it a file of --keep?"
        )
    return raw


def _damaged(path: str | os.PathLike[str], reason: str) -> ValueError:
    """The error for a file that differs from what was written."""
    return ValueError(f"{path} is damaged: {reason}; use another copy, or code the tokens anew")
