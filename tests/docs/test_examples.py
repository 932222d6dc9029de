"""Every example runs on small data, as its first lines say, and prints what it promises."""

import json
import os
import re
import subprocess
import sys
from pydoc_data.topics import topics

import pytest

from tests.conftest import SHARED
from tests.docs.pages import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LLAMA = SHARED / "models" / "llama-sp1024-1m4"


def run(name, *arguments, cwd):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(cwd / "hf")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, env=environment, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text(topics["import"], encoding="utf-8")
    return path


@pytest.fixture
def llama():
    if not LLAMA.exists():
        pytest.skip("needs shared/models/llama-sp1024-1m4 beside the repository")
    return LLAMA


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_says_how_it_is_run(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert f"examples/{path.name}" in text.split('"""')[1]


def test_the_nanogpt_loop_saves_bits(notes, tmp_path):
    out = run("score_nanogpt_loop.py", notes, cwd=tmp_path)
    alone, mixed = map(float, re.findall(r"\d\.\d{3}", out))
    assert mixed < alone - 4  # an untrained model


def test_two_ranks_score_every_token_once(notes, tmp_path):
    out = run("parameter_golf_eval_val.py", notes, cwd=tmp_path)
    assert re.fullmatch(r"2 ranks: [1-3]\.\d{4} bits per byte\n", out)


def test_a_hugging_face_folder_is_scored(llama, notes, tmp_path):
    out = run("score_hf_folder.py", llama, notes, cwd=tmp_path)
    assert "model + cache" in out
    assert len(re.findall(r"bits at byte \d+", out)) == 5


def test_the_harness_saves_bits(llama, tmp_path):
    pages = tmp_path / "pages.jsonl"
    rows = [json.dumps({"text": topics[name]}) + "\n" for name in ("pass", "del", "pass")]
    pages.write_text("".join(rows), encoding="utf-8")
    out = run("lm_eval_harness.py", llama, pages, cwd=tmp_path)
    alone, mixed = map(float, re.findall(r"cache=\w+: (\d\.\d{4})", out))
    assert mixed < alone


def test_a_quantized_model_is_scored(notes, tmp_path):
    out = run("quantize_and_score.py", notes, "int8", "int4", cwd=tmp_path)
    rows = [line.split() for line in out.replace("as it is", "as-it-is").splitlines()]
    assert [row[0] for row in rows] == ["as-it-is", "int8", "int4"]
    for row in rows:
        assert float(row[2]) < float(row[1])


def test_the_cache_alone_continues_a_text(notes, tmp_path):
    out = run("predict_text.py", notes, "The ", cwd=tmp_path)
    assert float(out.split("%")[0]) > 40
    assert out.splitlines()[1].startswith("The ")
