"""Reader: what the fuzzer needs to know of one reader, and how inputs become files."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from math import prod
from pathlib import Path

import numpy as np

from tests.faults.mutants import alter, damage

NAME = "fuzzed"  # stem of the file that holds an input; errors must name it
CUT = b"\0"  # between the parts of an input
MAX_TAIL = 1 << 24  # bytes of an array that an input need not hold

Mutator = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """A reader under test.

    Attributes
    ----------
    read : callable
        (input, empty folder) -> None; it may write the input to files, and checks what it read.
    mutate : callable, optional
        (input, random numbers) -> another input with the same structure.
    named : str or None
        What the text of every error must hold.
    """

    read: Callable[[bytes, Path], None]
    mutate: Mutator | None = None
    named: str | None = NAME


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """An input with some bytes altered, removed, repeated or inserted."""
    mutant = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        damage(mutant, rng)
    return bytes(mutant)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """The first part of an input, which is JSON, with values replaced; the rest may be damaged."""
    head, cut, rest = data.partition(CUT)
    try:
        root = [json.loads(head)]
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    try:
        for _ in range(rng.choice((1, 1, 2, 3))):
            alter(root, rng)
        head = json.dumps(root[0]).encode()
    except RecursionError:  # it is nested too deep already
        return data
    return head + cut + (mutate_bytes(rest, rng) if rest and rng.random() < 0.3 else rest)


def write_parts(data: bytes, folder: Path, names: Sequence[str]) -> None:
    """The parts of an input as files of these names in a new folder."""
    folder.mkdir(exist_ok=True)
    for name, part in zip(names, data.split(CUT, len(names) - 1), strict=False):
        (folder / name).write_bytes(part)


def mutate_part(data: bytes, rng: random.Random, mutators: Sequence[Mutator]) -> bytes:
    """An input with one of its parts mutated, each by its own mutator."""
    parts = data.split(CUT, len(mutators) - 1)
    i = rng.randrange(len(parts))
    parts[i] = mutators[i](parts[i], rng)
    return CUT.join(parts)


def mutate_rows(data: bytes, rng: random.Random) -> bytes:
    """Lines of JSON with one of them altered, or lines repeated, removed or swapped."""
    lines = data.split(b"\n")
    i = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0 | 1:
            lines[i] = mutate_json(lines[i], rng)
        case 2:
            lines[i:i] = [rng.choice(lines)] * rng.choice((1, 2, 30))
        case _:
            del lines[i]
    return b"\n".join(lines)


def write(folder: Path, data: bytes, suffix: str = "") -> Path:
    """The input as a file of the name that errors must show."""
    path = folder / f"{NAME}{suffix}"
    path.write_bytes(data)
    return path


def signed_snapshot(data: bytes) -> bytes:
    """A snapshot file with right digests, of a header in JSON and the bytes of its arrays.

    A digest that the header leaves empty is computed. The ``tail`` of an array is a number of bytes
    at its end that the input does not hold: they repeat the last byte that it holds.
    """
    from ngrammix.snapshot import MAGIC, VERSION

    header, _, body = data.partition(CUT)
    parts = []
    try:
        content = json.loads(header)
        entries = [*content["arrays"].values()]
    except (ValueError, RecursionError, TypeError, KeyError, AttributeError):
        content, entries = None, []
    for entry in entries:
        size, tail = n_bytes(entry), 0
        if isinstance(entry, dict):
            given = entry.pop("tail", 0)
            tail = min(given, size, MAX_TAIL) if type(given) is int and given > 0 else 0
        part, body = body[: size - tail], body[size - tail :]
        parts.append(part + (part[-1:] or b"\0") * tail)
        if isinstance(entry, dict) and entry.get("digest") == "":
            entry["digest"] = blake2b(parts[-1], digest_size=16).hexdigest()
    if content is not None:
        header = json.dumps(content).encode()
    file = MAGIC + np.array([VERSION, len(header)], "<u4").tobytes()
    file += blake2b(header, digest_size=16).digest() + header
    chunks, at = [file], len(file)
    for part in parts:
        chunks += [bytes(-at % 4096), part]
        at += -at % 4096 + len(part)
    return b"".join([*chunks, body])


def n_bytes(entry: object) -> int:
    """Bytes of an array, by its entry in a header; 0 if it is none."""
    if not isinstance(entry, dict):
        return 0
    dtype, shape = entry.get("dtype"), entry.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        return 0
    return prod(shape) * (int(dtype[1:]) if dtype in ("u4", "i4", "i8", "f8") else 0)


def unsigned_snapshot(file: bytes) -> bytes:
    """The input that `signed_snapshot` makes the file of: for seeds."""
    size = int.from_bytes(file[12:16], "little")
    content = json.loads(file[32 : 32 + size])
    at, body = 32 + size, b""
    for entry in content["arrays"].values():
        at += -at % 4096
        part = file[at : at + n_bytes(entry)]
        at += len(part)
        held = part.rstrip(part[-1:]) + part[-1:]
        body += held
        entry |= {"digest": "", "tail": len(part) - len(held)}
    return json.dumps(content).encode() + CUT + body


json_reader = partial(Reader, mutate=mutate_json)
