"""The code of functions and classes: its hash, what it uses, and whether it is the user's own."""

import dis
import hashlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType
from typing import Any

# Packages whose versions are conditions of a result, wherever they are installed.
KNOWN = {"eval", "ngrammix", "quant", "torch", "transformers", "numpy"}
INSTALLED = {"site-packages", "dist-packages"}
STDLIB = str(Path(dis.__file__).parent)


def is_own(value: Any) -> bool:
    """Whether a function or class is the user's own, neither Python's nor of a package."""
    name = str(getattr(value, "__module__", None) or "")
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None:  # builtin, or written in a shell or a notebook
        return name.partition(".")[0] not in sys.stdlib_module_names | KNOWN
    return (
        name.partition(".")[0] not in KNOWN
        and not INSTALLED & set(Path(path).parts)
        and not str(path).startswith(STDLIB)
    )


def code_of(code: CodeType) -> str:
    """The SHA-256 of compiled code; comments, and where it stands, are not part of it."""
    digest = hashlib.sha256()
    for one in codes_in(code):
        consts = [sorted(map(repr, c)) if isinstance(c, frozenset) else repr(c)
                  for c in one.co_consts if not isinstance(c, CodeType)]  # fmt: skip
        digest.update(one.co_code + repr((consts, one.co_names, one.co_varnames)).encode())
    return digest.hexdigest()


def globals_of(code: CodeType) -> list[str]:
    """The names of the globals that compiled code reads, sorted."""
    names = {
        instruction.argval
        for one in codes_in(code)
        for instruction in dis.get_instructions(one)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    return sorted(names)


def reachable(members: Mapping[str, Any], entrances: Iterable[str]) -> list[str]:
    """The members of a class that its methods `entrances` use, by way of other ones too; sorted."""
    found: set[str] = set()
    waiting = [name for name in entrances if name in members]
    while waiting:
        name = waiting.pop()
        found.add(name)
        member = members[name]
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if isinstance(code := getattr(function, "__code__", None), CodeType):
            used = {n for one in codes_in(code) for n in one.co_names}
            waiting += sorted((used & members.keys()) - found)
    return sorted(found)


def codes_in(code: CodeType) -> list[CodeType]:
    """Compiled code, and that of the functions within it."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return [code, *(one for const in inner for one in codes_in(const))]
