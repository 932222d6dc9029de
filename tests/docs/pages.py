"""Reads the pages of the documentation as blocks of code, and runs them.

A ``python`` block is executed; its lines ``#> ...`` are what it prints. A ``console`` block is run
by a shell; under each ``$ command`` stands its output. Blocks of a page share a namespace and a
temporary directory. An HTML comment before a block may say ``not run: REASON`` or ``times vary``
(then only words and figures of four decimals are compared).

``python -m tests.docs.pages PAGE...`` runs pages and writes the outputs into them.
"""

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(\.\d+)?")
CONDITIONS = re.compile(r"\|conditions:[0-9a-f]{8}")
SHOWN = {"text", ""}  # not code: a diagram, a file's contents


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line where its text begins, the comment."""

    language: str
    code: str
    line: int
    comment: str


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks, start, comment = [], None, ""
    for i, line in enumerate(lines):
        fence = re.fullmatch(r"( *)```(\w*).*", line)
        if fence and start is None:
            start, indent, language = i, fence[1], fence[2]
        elif fence:
            code = "\n".join(text.removeprefix(indent) for text in lines[start + 1 : i])
            blocks.append(Block(language, code + "\n", start + 1, comment))
            start, comment = None, ""
        elif start is None and line.strip():
            remark = re.fullmatch(r" *<!-- (.*) -->", line)
            comment = remark[1] if remark else ""
    return blocks


def run_page(page: Path) -> list[tuple[Block, str]]:
    """Run every block of a page in the current directory.

    Returns the blocks that ran, each with its text as it should be: code and what it printed.
    """
    namespace = {"__name__": "__main__"}
    texts = []
    for block in blocks_of(page):
        location = f"{page.relative_to(ROOT)}:{block.line}"
        if block.comment.startswith("not run: ") or block.language in SHOWN:
            continue
        if block.language == "python":
            texts.append((block, run_python(block, location, namespace)))
        elif block.language == "console":
            texts.append((block, run_console(block, location)))
        elif block.language == "toml":
            tomllib.loads(block.code)
        else:
            raise AssertionError(f"{location}: no way to run a block of {block.language!r}")
    return texts


def run_python(block: Block, location: str, namespace: dict) -> str:
    """Execute a block; returns its code, then what it printed as lines ``#> ...``."""
    printed = io.StringIO()
    code = "\n" * block.line + block.code  # so that a traceback shows the line of the page
    with contextlib.redirect_stdout(printed):
        exec(compile(code, location.partition(":")[0], "exec"), namespace)
    lines = [line for line in block.code.splitlines() if not line.startswith("#>")]
    lines += [f"#> {line}" for line in printed.getvalue().splitlines()]
    return "".join(line + "\n" for line in lines)


def run_console(block: Block, location: str) -> str:
    """Run each command of a block; returns the commands, each followed by its output."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }
    text = ""
    for command in re.findall(r"^\$ ((?:.*\\\n)*.*)\n", block.code, re.MULTILINE):
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=300
        )
        assert done.returncode == 0, f"{location}: {command}\n{done.stdout}{done.stderr}"
        text += f"$ {command}\n{done.stdout}"
    return text


def normalised(text: str, comment: str) -> list[str]:
    """Lines of a block without white space at their ends; numbers masked where times vary.

    And without the hash of the conditions, which are those of this machine.
    """
    lines = [CONDITIONS.sub("", line).rstrip() for line in text.strip().splitlines()]
    if comment != "times vary":
        return lines
    return [" ".join(re.sub(r"-{3,}", "", mask(line)).split()) for line in lines]


def mask(line: str) -> str:
    """The line with every number but those of four decimals replaced by #."""
    return NUMBER.sub(lambda n: n[0] if re.fullmatch(r"\.\d{4}", n[1] or "") else "#", line)


def write_outputs(page: Path) -> None:
    """Run a page in a temporary directory and write what its blocks print into it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        texts = run_page(page)
    lines = page.read_text(encoding="utf-8").splitlines()
    for block, text in reversed(texts):
        end = block.line + block.code.count("\n")
        lines[block.line : end] = text.splitlines()
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_outputs(Path(name).resolve())
