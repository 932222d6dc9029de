"""Table of the package's structure: files, imports, rooms, and the files that a call enters.

    python tools/structure.py                    # this checkout
    python tools/structure.py --root OTHER       # another one, for a comparison

A room is a file or folder directly inside a package. An arrow goes from a file to a file that it
imports. A call enters a file if a function of that file runs; kernels run as plain Python for this,
and what runs while a module is imported does not count.
"""

import argparse
import ast
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ngrammix", "quant", "eval")
CALLS = {
    "NgramCache.observe": """
from ngrammix import NgramCache
cache = NgramCache(order=7, vocab_size=64)
call = lambda: cache.observe([1, 2, 3, 1, 2, 3])
""",
    "Mixer.score": """
import numpy as np
from ngrammix import Mixer
mixer = Mixer(vocab_size=64, order=7)
call = lambda: mixer.score(np.zeros((6, 64)), [1, 2, 3, 1, 2, 3])
""",
    "ngrammix score": """
import pathlib, tempfile
from eval.cli import main
temporary = tempfile.TemporaryDirectory()
folder = pathlib.Path(temporary.name)
(folder / "a.txt").write_text("the cat sat on the mat. " * 20)
data, new = str(folder / "a.txt"), lambda: tempfile.mkdtemp(dir=folder)
call = lambda: main(["score", "--model", "demo", "--data", data, "--out", new()])
""",
    "quantize_model": """
import torch
from quant import quantize_model
model = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.Linear(32, 32))
inputs = [torch.randn(64, 32, generator=torch.Generator().manual_seed(0))]
call = lambda: quantize_model(model, "gptq-int4", inputs, progress=False)
""",
}  # fmt: skip


def main() -> None:
    """Print the table of one checkout, as text or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--call", choices=CALLS, help=argparse.SUPPRESS)  # a process of its own
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    if arguments.call:
        print(json.dumps(entered(root, CALLS[arguments.call])))
        return
    table = {package: imports_of(root, package) for package in PACKAGES}
    for call in CALLS:
        table[call] = run_call(root, call)
    if arguments.json:
        print(json.dumps(table, indent=1))
        return
    for name, figures in table.items():
        print(f"{name:20}", ", ".join(f"{value:,} {what}" for what, value in figures.items()))


def imports_of(root: Path, package: str) -> dict[str, int]:
    """Counts of a package's files, lines of code, arrows, and of its rooms and their arrows."""
    paths = {module_name(root, path): path for path in (root / package).rglob("*.py")}
    files = {name: path for name, path in paths.items() if path.name != "__init__.py"}
    arrows = {
        (name, target)
        for name, path in paths.items()
        for target in imported(root, path)
        if target in files and target != name
    }
    rooms = {(room(a), room(b)) for a, b in arrows if room(a) != room(b)}
    return {
        "files": len(files),
        "lines of code": sum(map(code_lines, files.values())),
        "arrows": len(arrows),
        "rooms": len({room(name) for name in paths} - {package}),
        "arrows between rooms": len(rooms),
    }


def module_name(root: Path, path: Path) -> str:
    """Dotted name of a file; that of a package for its ``__init__.py``."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(name: str) -> str:
    """The room of a module: its first two names."""
    return ".".join(name.split(".")[:2])


def imported(root: Path, path: Path, *, at_import_time: bool = False) -> set[str]:
    """Names of all modules that a file may import: anywhere in it, or as it is imported itself."""

    def is_module(name: str) -> bool:
        where = root / name.replace(".", "/")
        return where.with_suffix(".py").is_file() or (where / "__init__.py").is_file()

    names = set()
    tree = ast.parse(path.read_text("utf-8"))
    for node in tree.body if at_import_time else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = set(filter(is_module, inner))
            names |= modules if modules == inner else modules | {node.module}
    return names


def code_lines(path: Path) -> int:
    """Lines that hold code: neither blank, nor comment, nor docstring."""
    text = path.read_text("utf-8")
    lines = text.splitlines()
    skipped = set()
    for node in ast.walk(ast.parse(text)):
        value = node.value if isinstance(node, ast.Expr) else None
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            skipped |= set(range(value.lineno, (value.end_lineno or value.lineno) + 1))
    return sum(
        1
        for number, line in enumerate(lines, 1)
        if number not in skipped and line.strip() and not line.lstrip().startswith("#")
    )


def run_call(root: Path, call: str) -> dict[str, int]:
    """Files and lines that one of `CALLS` enters, measured in a process of its own."""
    environment = os.environ | {
        "NUMBA_DISABLE_JIT": "1",
        "PYTHONPATH": str(root),
        "PYTHONWARNINGS": "ignore",  # uint64 wraps on purpose
    }
    command = [sys.executable, __file__, "--root", str(root), "--call", call]
    output = subprocess.run(command, env=environment, cwd=root, stdout=subprocess.PIPE, check=True)
    result: dict[str, int] = json.loads(output.stdout.splitlines()[-1])
    return result


def entered(root: Path, setup: str) -> dict[str, int]:
    """Files entered by ``call`` of `setup`, their lines, and the functions that ran."""
    functions: set[tuple[str, str, int]] = set()
    packages = tuple(f"{root / package}{os.sep}" for package in PACKAGES)

    def record(frame, event, argument):  # type: ignore[no-untyped-def]
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(packages) and code.co_name != "<module>":
            functions.add((code.co_filename, code.co_qualname, code.co_firstlineno))

    names: dict[str, Any] = {}
    exec(setup, names)
    names["call"]()  # imports what it uses
    threading.setprofile(record)
    sys.setprofile(record)
    names["call"]()
    sys.setprofile(None)
    threading.setprofile(None)
    files = {name for name, _, _ in functions}
    lines = sum(len(Path(name).read_text("utf-8").splitlines()) for name in files)
    return {"files entered": len(files), "lines in them": lines, "functions": len(functions)}


if __name__ == "__main__":
    main()
