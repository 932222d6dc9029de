"""What an audit or a score ran on: versions of packages, the processor and its cores."""

import os
import platform
import re
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ngrammix.version import __version__

# Packages that can change a figure; some of them need not be installed.
PACKAGES = (
    "numpy", "numba", "llvmlite", "torch", "triton", "transformers", "safetensors", "tokenizers",
    "sentencepiece", "tiktoken", "datasets", "pyarrow",
)  # fmt: skip
CPU_INFO = Path("/proc/cpuinfo")  # of Linux, where `platform` does not know the processor's name
NAME = re.compile(r"^model name\s*:\s*(.+?)\s*$", re.MULTILINE)


@cache
def versions() -> str:
    """The versions of Python and of the installed `PACKAGES`, in one line, read once."""
    parts = [f"ngrammix {__version__}"]  # also where it was not installed
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            parts.append(f"{package} {version(package)}")
    return ", ".join([*parts, f"python {platform.python_version()}"])


@cache
def hardware() -> str:
    """The machine, its processor, and the cores that this process may use: one line, read once."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [platform.machine(), processor(), f"{cores} {'core' if cores == 1 else 'cores'}"]
    return ", ".join(part for part in dict.fromkeys(parts) if part)


def processor() -> str:
    """The name of the processor; empty if the system does not tell."""
    with suppress(OSError):
        if found := NAME.search(CPU_INFO.read_text(encoding="utf-8", errors="replace")):
            return found[1]
    return platform.processor()


def environment() -> dict[str, str]:
    """``versions`` and ``hardware``, for the conditions of a report."""
    return {"versions": versions(), "hardware": hardware()}
