"""Every code block of the README and of the documentation runs, and prints what the page shows."""

import importlib
import re

import pytest

from eval.commands.parser import parser
from tests.docs.pages import PAGES, ROOT, blocks_of, normalised, run_page

REPOSITORY = "https://github.com/ngrammix/ngrammix/"
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "docs" / "reference"


def name_of(page):
    return str(page.relative_to(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_runs_and_prints_what_the_page_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block, text in run_page(page):
        assert normalised(text, block.comment) == normalised(block.code, block.comment)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_block_that_is_not_run_says_why(page):
    for block in blocks_of(page):
        if block.comment.startswith("not run"):
            assert re.fullmatch(r"not run: \w.{8,}", block.comment)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_shown_is_understood(page):
    for block in blocks_of(page):
        code = block.code.replace("\\\n", " ")
        for command in re.findall(r"^\$ ngrammix (.*)$", code, re.MULTILINE):
            if not re.search(r"--help|--version|[|<>]", command):
                assert parser().parse_args(command.split()).command


@pytest.mark.parametrize("package", ["ngrammix", "quant", "eval"])
def test_every_public_name_is_on_a_reference_page(package):
    page = (REFERENCE / f"{package}.md").read_text(encoding="utf-8")
    shown = re.findall(rf"^::: {package}\.(\w+)$", page, re.MULTILINE)
    public = [n for n in importlib.import_module(package).__all__ if not n.startswith("__")]
    assert sorted(shown) == sorted(public)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 175
    assert len(README.split()) <= 1200
    assert "@" not in README  # a figure left open


def test_the_first_screen_has_code_and_the_two_commands():
    screen = "\n".join(README.splitlines()[:45])
    assert "```python" in screen
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test"):
        assert f"make {command}" in screen
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)


def test_every_link_of_the_readme_works_elsewhere_and_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", README)
    assert links
    for link in links:
        path = re.sub(f"^{REPOSITORY}(blob|tree|raw)/main/", "", link)
        assert path != link, f"{link} must be absolute, for PyPI"
        assert (ROOT / path).exists(), link
