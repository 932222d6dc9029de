"""The text of the standard library: docstrings, prose, comments and sources."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

KINDS = ("docstring", "prose", "comment", "source", "test")
# pydoc_data has the reference text; the other folders are not part of the library.
_LEFT_OUT = frozenset({"pydoc_data", "site-packages", "dist-packages", "__pycache__"})
_TABLES = frozenset({"encodings"})  # sources that are tables of data
TESTS = frozenset({"test", "tests", "idle_test"})
_PROSE_SUFFIXES = frozenset({".txt", ".rst", ".html"})
_PROSE_NAMES = frozenset({"ChangeLog", "README", "NEWS"})


@dataclass(frozen=True, kw_only=True)
class StdlibText:
    """One text with its origin and its kind.

    Parameters
    ----------
    origin : str
        The file, relative to the library, or the C module. It decides whether the text is held out.
    kind : str
        One of `KINDS`.
    text : str
        The text, never empty.
    """

    origin: str
    kind: str
    text: str


def read_stdlib_texts() -> list[StdlibText]:
    """All texts of the standard library of the running Python, in a fixed order."""
    root = Path(sysconfig.get_path("stdlib"))
    documents: list[StdlibText] = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if _LEFT_OUT.isdisjoint(parts) and path.is_file():
            documents.extend(_from_file(path, parts))
    for name in sorted(sys.stdlib_module_names):
        documents.extend(_from_c_module(name))
    return documents


def _from_file(path: Path, parts: tuple[str, ...]) -> Iterator[StdlibText]:
    """The texts of one file; none if it is neither Python nor prose, or not UTF-8."""
    is_test = not TESTS.isdisjoint(parts)
    is_prose = path.suffix in _PROSE_SUFFIXES or path.name in _PROSE_NAMES
    if path.suffix != ".py" and (is_test or not is_prose):
        return
    try:
        text = path.read_text(encoding="utf-8")
        tree = _parse(text) if path.suffix == ".py" else None
    except (UnicodeDecodeError, SyntaxError, ValueError):
        return  # some test files are invalid on purpose
    origin = "/".join(parts)
    if tree is None:
        texts = {"prose": _plain(_without_tags(text) if path.suffix == ".html" else text)}
    else:
        texts = {
            "docstring": _docstrings(tree, ".".join(parts).removesuffix(".py")),
            "comment": _comments(text),
            "test" if is_test else "source": "" if _TABLES & set(parts) else text,
        }
    for kind, body in texts.items():
        if body.strip():
            yield StdlibText(origin=origin, kind=kind, text=body.strip("\n") + "\n")


def _parse(text: str) -> ast.Module:
    """The syntax tree of a source, without warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _docstrings(tree: ast.Module, name: str) -> str:
    """The docstrings of a module as one page: each signature with its indented text."""
    entries: list[str] = []

    def visit(node: ast.AST, owner: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                heading = f"{owner}{child.name}({ast.unparse(child.args)})"
            elif isinstance(child, ast.ClassDef):
                bases = ", ".join(ast.unparse(base) for base in child.bases)
                heading = f"class {owner}{child.name}" + (f"({bases})" if bases else "")
            else:
                visit(child, owner)
                continue
            entries.append(_entry(heading, ast.get_docstring(child)))
            visit(child, f"{owner}{child.name}.")

    entries.append(_page(name, ast.get_docstring(tree)))
    visit(tree, "")
    return "\n\n".join(entry for entry in entries if entry)


def _page(name: str, text: str | None) -> str:
    """The underlined title of a page and its text; empty without text."""
    return f"{name}\n{'*' * len(name)}\n\n{_plain(text.strip())}" if text else ""


def _entry(heading: str, text: object) -> str:
    """A heading and its text, indented by three spaces as in the reference."""
    if not isinstance(text, str) or not text.strip():
        return ""
    lines = _plain(text.strip()).splitlines()
    return heading + "\n\n" + "\n".join("   " + line if line.strip() else "" for line in lines)


def _comments(source: str, min_chars: int = 100) -> str:
    """Comments of at least two whole lines as paragraphs, without the comment signs."""
    blocks = re.findall(r"(?m)(?:^[ \t]*#.*\n){2,}", source)
    paragraphs = (re.sub(r"(?m)^[ \t]*#+ ?", "", block).strip("\n") for block in blocks)
    return "\n\n".join(_plain(p) for p in paragraphs if len(p) >= min_chars)


def _plain(text: str) -> str:
    """The text with inline reStructuredText rendered as plain text."""
    text = re.sub(r":[a-z:]+:`[~!]?([^`\n]+)`", r'"\1"', text)
    text = re.sub(r"``([^`\n]+)``", r'"\1"', text)
    return text.expandtabs().replace("\f", "")


class _Text(HTMLParser):
    """Collects the text between the tags of an HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)


def _without_tags(page: str) -> str:
    """The text of an HTML page, with consecutive blank lines merged."""
    parser = _Text()
    parser.feed(page)
    return re.sub(r"\n\s*\n", "\n\n", "".join(parser.pieces))


def _from_c_module(name: str) -> Iterator[StdlibText]:
    """The docstrings of a C module as one page; none for other modules."""
    try:
        spec = importlib.util.find_spec(name)
        origin = getattr(spec, "origin", None) or ""
        if origin not in ("built-in", "frozen") and not origin.endswith((".so", ".pyd")):
            return
        module = importlib.import_module(name)
    except (ImportError, ValueError):
        return  # listed for every platform, missing on this one
    if hasattr(module, "__file__") and str(module.__file__).endswith(".py"):
        return  # frozen; its source was read as a file
    entries = [_page(name, module.__doc__)]
    for key, value in sorted(vars(module).items()):
        if inspect.ismodule(value):
            continue
        if inspect.isclass(value):
            entries.append(_entry(f"class {name}.{key}", value.__doc__))
            for attribute, member in sorted(vars(value).items()):
                # Special methods have the same docstrings in every class.
                if not attribute.startswith("__") and hasattr(member, "__doc__"):
                    entries.append(_entry(f"{key}.{_signature(attribute, member)}", member.__doc__))
        elif callable(value):
            entries.append(_entry(f"{name}.{_signature(key, value)}", value.__doc__))
    text = "\n\n".join(entry for entry in entries if entry)
    if text:
        yield StdlibText(origin=name, kind="docstring", text=text + "\n")


def _signature(name: str, member: object) -> str:
    """The name with the parameters, if the C code declares them."""
    declared = getattr(member, "__text_signature__", None) or ""
    return name + re.sub(r"\$\w+,? ?", "", declared)
