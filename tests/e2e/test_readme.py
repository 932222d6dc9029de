"""What the README shows is what happens."""

import re
import shlex
from pathlib import Path

import pytest

from eval.cli import parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    """Contents of the README's fenced blocks of this language ('' for none)."""
    parts = re.split(r"^```(.*)\n", README, flags=re.MULTILINE)  # text, fence, code, fence, text...
    return [parts[i + 1] for i in range(1, len(parts), 4) if parts[i] == language]


@pytest.mark.parametrize("code", blocks("python"))
def test_the_code_prints_what_its_comment_says(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    shown = [line[2:] for line in code.splitlines() if line.startswith("# ")]
    assert capsys.readouterr().out.splitlines() == shown


def test_the_first_screen_has_code_and_the_two_commands():
    screen = "\n".join(README.splitlines()[:40])
    assert "```python" in screen
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in screen
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


def test_no_figure_is_left_open():
    assert "@" not in README


def test_every_link_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_command_shown_is_understood():
    lines = [line for block in blocks("") for line in block.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?ngrammix ", line)]
    assert len(commands) >= 3
    for command in commands:
        plain = re.sub(r"[\[\]]|\.\.\.", "", command)
        words = shlex.split(plain.replace("demo|none", "none").replace(" N", " 3"))
        assert parser().parse_args(words[1:]).run
