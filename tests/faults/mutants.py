"""Mutants: damaged copies of a file, and altered copies of a JSON value, from a seed."""

import copy
import os
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

# What a mutant puts in the place of a number, a text, a list, ...: values of every kind at the
# edges of what a reader expects.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 65_536, 2**31, 2**62, 2**63, 2**64, -(2**63), 10**30,
    0.5, -0.0, 1e308, -1e308, float("inf"), float("nan"),
    "", " ", "x", "0", "-1", "cuda", "../x", "/dev/zero", "\x00", "\x1b[31m", "\ud800", "é" * 40,
    [], [1], [None], {}, {"x": 1}, [[[[]]]],
)  # fmt: skip


def chosen(n: int) -> tuple[int, int]:
    """(number of mutants, seed) of the environment; by default `n`, and 1."""
    return int(os.environ.get("NGRAMMIX_MUTANTS", n)), int(os.environ.get("NGRAMMIX_SEED", 1))


def byte_mutants(content: bytes, seed: int, n: int) -> Iterator[bytes]:
    """`n` damaged copies: flipped bits, cuts, insertions, repeats, zeros and edge integers."""
    rng = random.Random(seed)
    for _ in range(n):
        mutant = bytearray(content)
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            damage(mutant, rng)
        yield bytes(mutant)


def damage(content: bytearray, rng: random.Random) -> None:
    """Alter the content at one place."""
    size = len(content)
    at = rng.randrange(size) if size else 0
    stop = min(size, at + rng.choice((1, 2, 4, 8, 64, 4096)))
    match rng.randrange(8):
        case 0 if size:
            content[at] ^= 1 << rng.randrange(8)
        case 1 if size:
            content[at] = rng.randrange(256)
        case 2:
            del content[at:]
        case 3:
            del content[at:stop]
        case 4:
            content[at:at] = rng.randbytes(rng.choice((1, 2, 8, 64)))
        case 5:
            content[at:at] = content[at:stop] * rng.choice((1, 2, 50))
        case 6:
            content[at:stop] = bytes(stop - at)
        case _:
            edge = rng.choice((0, 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1))
            width = rng.choice((4, 8))
            content[at : at + width] = (edge % 256**width).to_bytes(width, "little")


def json_mutants(value: Any, seed: int, n: int) -> Iterator[Any]:
    """`n` copies of a JSON value with parts replaced, removed, doubled, swapped or nested deep."""
    rng = random.Random(seed)
    for _ in range(n):
        mutant = [copy.deepcopy(value)]
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            with suppress(RecursionError):  # nested deeper than a copy can follow: left as it is
                alter(mutant, rng)
        yield mutant[0]


def alter(root: list[Any], rng: random.Random) -> None:
    """Alter one part of the value ``root[0]``."""
    places = list(walk(root))
    holder, key = rng.choice(places)
    part = holder[key]
    match rng.randrange(7):
        case 0 | 1:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        case 2 if isinstance(part, int | float) and not isinstance(part, bool):
            holder[key] = rng.choice((-part, part + 1, part - 1, part * 2, part * 1_000_003))
        case 3 if holder is not root:
            del holder[key]
        case 4 if isinstance(part, list) and part:
            part.append(copy.deepcopy(rng.choice(part)))
        case 5:
            other, name = rng.choice(places)
            holder[key] = copy.deepcopy(other[name])
        case 6:
            nested: Any = copy.deepcopy(part)
            for _ in range(rng.choice((1, 3, 100, 900))):
                nested = [nested] if rng.random() < 0.5 else {"x": nested}
            holder[key] = nested
        case _:
            if isinstance(part, dict):
                part[rng.choice(("x", "", "__class__", *part))] = copy.deepcopy(rng.choice(VALUES))
            elif isinstance(part, str):
                holder[key] = part[: rng.randrange(len(part) + 1)] + rng.choice(("", "x", "\x00"))
            else:
                holder[key] = copy.deepcopy(rng.choice(VALUES))


def walk(value: Any) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every part of a JSON value, inside lists and dicts."""
    stack = [value]
    while stack:
        holder = stack.pop()
        keys = range(len(holder)) if isinstance(holder, list) else list(holder)
        for key in keys:
            yield holder, key
            if isinstance(holder[key], list | dict):
                stack.append(holder[key])
