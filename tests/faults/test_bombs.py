"""Small files that hold gigabytes: each reader takes a stated multiple of a stated limit."""

import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.bombs import MAX_MEMORY, MAX_ROW, TABLES, TEXTS, one_row, parquet_of, press

ROOT = Path(__file__).resolve().parents[2]
SLACK = 6 << 20  # bytes: buffers of decompression, and what the allocator keeps
TIMES = 16  # as docs/guides/score.md says


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """By the name of a bomb: (bytes of memory of the reader, of its process, what came of it)."""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    folder = tmp_path_factory.mktemp("bombs")
    for name, make in {**TEXTS, **TABLES}.items():
        (folder / name).write_bytes(make())
    for suffix, compress in {"jsonl": bytes, "json.zst": press, "csv.xz": lzma.compress}.items():
        (folder / f"small.{suffix}").write_bytes(compress(one_row("text")))
    (folder / "small.parquet").write_bytes(parquet_of(lambda: ["a"])())
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.bombs", folder], cwd=ROOT, capture_output=True,
        text=True, timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {name: rest for name, *rest in map(json.loads, done.stdout.splitlines())}


READ = {"wide.jsonl", "escapes.jsonl", "wide.json", "wide.csv", "quotes.csv", "lines.txt.gz",
        "line.txt.zst", "space.json.zst"}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_takes_a_multiple_of_the_longest_row(outcomes, name):
    own, _, text = outcomes[name]
    assert own <= TIMES * MAX_ROW + SLACK
    assert text.startswith("error: " if name not in READ else "")
    assert "\n" not in text
    assert (name in READ) == text.endswith(" bytes")


@pytest.mark.parametrize("name", TABLES)
def test_a_table_takes_the_memory_of_its_process_and_of_a_row(outcomes, name):
    own, child, text = outcomes[name]
    assert own <= TIMES * MAX_ROW + SLACK
    assert child <= MAX_MEMORY + SLACK
    assert (name in READ) == text.endswith(" bytes")
    assert name in READ or "must take at most 64 MiB to decode, got more after row 0" in text
