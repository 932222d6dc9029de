"""Whether a saved state has the values of a new one: its names, and its kinds of values."""

import math
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Of:
    """Something that is made of a value, or of values, like this one."""

    like: Any


class Maybe(Of):
    """A value that may be None."""


class Many(Of):
    """A list of any length, of like values."""


class Named(Of):
    """An object of any names, of like values."""


@dataclass(frozen=True)
class Text:
    """A text that a regular expression describes."""

    pattern: str


@dataclass(frozen=True)
class Integer:
    """An integer of at most so many bits, and not below the least one."""

    least: int = 0
    bits: int = 63


SUM = Integer(bits=256)  # of costs in steps: it may need more than 63 bits


def check_like(value: Any, like: Any, name: str) -> None:
    """Raise ValueError unless a value of JSON is of the kind that another one describes.

    Objects must have the same names, lists the same length, numbers and texts the same type, at
    every depth; an integer is an `Integer` with its defaults.
    """
    match like:
        case Maybe():
            if value is not None:
                check_like(value, like.like, name)
        case Many():
            check(isinstance(value, list), value, name, "a list")
            for i, item in enumerate(value):
                check_like(item, like.like, f"{name}.{i}")
        case Named():
            check(isinstance(value, dict), value, name, "an object")
            for key, item in value.items():
                check_like(item, like.like, f"{name}.{key[:40]}")
        case dict():
            is_same = isinstance(value, dict) and value.keys() == like.keys()
            check(is_same, value, name, f"an object with {', '.join(like)}")
            for key, item in value.items():
                check_like(item, like[key], f"{name}.{key}")
        case list():
            is_same = isinstance(value, list) and len(value) == len(like)
            check(is_same, value, name, f"a list of {len(like)}")
            if set(map(type, value)) == set(map(type, like)) == {int} and (
                min(value) >= 0 and max(value) < 1 << 63
            ):
                return  # thousands of counts, at the speed of C
            for i, (item, own) in enumerate(zip(value, like, strict=True)):
                check_like(item, own, f"{name}.{i}")
        case Text():
            is_text = isinstance(value, str) and re.fullmatch(like.pattern, value, re.DOTALL)
            check(bool(is_text), value, name, "a text as it was")
        case Integer():
            is_one = type(value) is int and value >= like.least and value.bit_length() <= like.bits
            rule = f"an integer >= {like.least} of at most {like.bits} bits"
            check(is_one, value, name, rule)
        case bool() | None:
            check(type(value) is type(like), value, name, f"a {type(like).__name__}")
        case int():
            check_like(value, Integer(), name)
        case float():
            is_number = type(value) in (int, float) and 0 <= value < math.inf
            check(is_number, value, name, "a number >= 0")
        case _:
            check(isinstance(value, str), value, name, "a text")


def check(is_right: bool, value: Any, name: str, rule: str) -> None:
    """Raise ValueError unless a value is right; it is shown if it is short."""
    if is_right:
        return
    is_short = not isinstance(value, list | dict) and len(repr(value)) < 40
    shown = repr(value) if is_short else f"a {type(value).__name__}"
    raise ValueError(f"{name} must be {rule}, got {shown}")
