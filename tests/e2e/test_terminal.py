"""Nothing that data, names or options hold reaches the terminal as a control character."""

import io
import json
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.cli import main
from eval.notes import note
from eval.plots import plot_bits_saved
from eval.tables import align, sign
from eval.terminal import show
from ngrammix.escaping import escaped

ROOT = Path(__file__).resolve().parents[2]
UNSAFE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ud800-\udfff]"
)
ATTACK = "\x1b[2J\x1b]0;owned\x07\u202egnp.txt\u2066\x9b31m\x08\r\x7f"


def test_escapes_are_those_of_python():
    assert escaped("plain, caf\u00e9 \u4e16 \U0001f469\u200d\U0001f680") == (
        "plain, caf\u00e9 \u4e16 \U0001f469\u200d\U0001f680"
    )
    assert escaped("a\x1b[0m\n\t\r\0\x9b") == r"a\x1b[0m\n\t\r\x00\x9b"
    assert escaped("a\nb\u2028", lines=True) == "a\nb\\u2028"
    assert escaped("\u202e\u2066\ud800") == r"\u202e\u2066\ud800"
    assert escaped(b"caf\xe9".decode("utf-8", "surrogateescape")) == r"caf\xe9"
    assert json.loads(escaped(json.dumps({"a": "\x7f\x1b"}))) == {"a": "\x7f\x1b"}


@given(st.text(st.characters(exclude_categories=())))
def test_no_text_escapes(text):
    shown = escaped(text)
    assert not UNSAFE.search(shown)
    assert "\n" not in shown
    shown.encode("utf-8")


def test_every_way_to_the_terminal_is_escaped(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("sys.stdout", io.StringIO())
    note(f"error: {ATTACK}\nsecond")
    show(f"{ATTACK}\nsecond")
    lines = [*align([("", "x"), (f"{ATTACK}\n", "1")]), sign("BPB", {"model": f"{ATTACK}\n"})]
    written = sys.stderr.getvalue(), sys.stdout.getvalue(), *lines
    for text in written:  # of the table also the header and the line under it
        assert not UNSAFE.search(text)
        assert r"\x1b[2J" in text or not text.strip("x -")
    assert written[0].count("\n") == 1
    assert written[1].count("\n") == 2
    assert not any("\n" in line for line in lines)


def test_an_output_without_the_letters_is_no_error(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, "ascii"))
    show("caf\u00e9")
    sys.stdout.flush()
    assert raw.getvalue() == b"caf\\xe9\n"


def test_only_the_doors_print():
    # The last two print their own script, and that `ngrammix` is hidden, which has `escaped`.
    doors = {"terminal.py", "notes.py", "completion.py", "__main__.py"}
    pattern = re.compile(r"\bprint\(|std(out|err)\.write")
    for path in (ROOT / "eval").rglob("*.py"):
        code = path.read_text(encoding="utf-8")
        is_free = path.name in doors or "training" in path.parts
        assert is_free or not pattern.search(re.sub(r">>> print.*", "", code)), path


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in `tmp_path`: (status, output, errors without notes)."""
    monkeypatch.chdir(tmp_path)

    def run_words(*words):
        try:
            status = main(words)
        except SystemExit as error:  # of argparse
            status = error.code
        out, err = capsys.readouterr()
        return status, out, err.replace("ngrammix: compiling kernels (first run only)\n", "")

    return run_words


@pytest.mark.parametrize(
    "words",
    [
        ("--model", "none", "--data", f"missing{ATTACK}\n"),
        ("--model", "none", "--data", "bad{}.jsonl"),
        ("--model", "none", "--data", "bad{}.jsonl", "--column", f"x{ATTACK}"),
        ("--model", f"no{ATTACK}\n", "--data", "bad{}.jsonl"),
        ("--model", "none", "--data", "bad{}.jsonl", "--out", "bad{}.jsonl"),
        ("--model", "none", "--data", "bad{}.jsonl", "--batch", f"1{ATTACK}"),
        ("--model", "none", "--data", "bad{}.jsonl", f"--b{ATTACK}"),
        (f"--b{ATTACK}\n",),
    ],
    ids=range(8),
)
def test_an_error_of_hostile_names_is_one_harmless_line(tmp_path, run, words):
    name = f"{ATTACK}\nline"
    content = b'{"text": "\\ud800"}\n{"\\u001b[2J": 1}\n'
    (tmp_path / f"bad{name}.jsonl").write_bytes(content)
    status, out, err = run("score", *(word.replace("{}", name) for word in words))
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert "error: " in lines[-1]
    assert lines[0].startswith(("ngrammix: error:", "usage: "))
    assert not UNSAFE.search(err)
    assert len(lines) == 1 or lines[0].startswith("usage: ")  # argparse says how it is called


def test_a_result_of_hostile_names_is_harmless(tmp_path, run):
    name = f"{ATTACK}\nline.jsonl"
    content = b'{"text": "=1+1 the cat sat"}\n{"text": "\\ud800"}\n'
    (tmp_path / name).write_bytes(content)
    words = ("score", "--model", "none", "--data", name, "--on-bad-row", "skip")
    status, out, err = run(*words, "--out", "out", "--tokens")
    assert status == 0
    assert r"\x1b[2J" in out
    assert not UNSAFE.search(out + err)
    for file in ("documents.csv", "tokens.csv"):
        text = (tmp_path / "out" / file).read_text("utf-8")
        assert not re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]", text)
    status, out, _ = run(*words, "--json")
    assert status == 0
    assert name in json.loads(out)["first_skipped"]
    assert not UNSAFE.search(out)


def test_a_picture_takes_any_label(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    header = "bytes,bits_model,bits\r\n"
    (folder / "tokens.csv").write_text(header + "2,3.0,1.0\r\n" * 9, encoding="utf-8")
    plot_bits_saved([folder], tmp_path / "a.svg", labels=[f"$\\frac$ {ATTACK}"])
    assert r"$\frac$ \x1b[2J" in (tmp_path / "a.svg").read_text(encoding="utf-8")
