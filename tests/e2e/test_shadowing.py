"""A user's modules named eval, quant or ngrammix: they do not break the command, or are named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eval.cli import main

ROOT = Path(__file__).resolve().parents[2]
FACTORY = """
from {name} import helper

def make():
    return helper
"""


def python(*arguments, path=ROOT):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [path, ROOT]))}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=300, env=environment
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("the cat sat on the mat, the cat sat on the hat", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("name", ["eval.py", "quant.py", "eval/__init__.py", "quant/__init__.py"])
def test_the_command_finds_its_own_packages_beside_those_of_the_user(folder, name):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise SystemExit('the user has this file')", encoding="utf-8")
    done = python("-m", "ngrammix", "score", "--data", "text", "--model", "none", path=folder)
    assert done.returncode == 0, done.stderr
    assert "cache alone" in done.stdout


@pytest.mark.parametrize("name", ["quant", "ngrammix"])
def test_python_dash_m_eval_names_a_package_that_hides_ours(folder, name):
    Path(f"{name}.py").write_text("", encoding="utf-8")
    done = python("-m", "eval", "score", "--data", "text")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"ngrammix: error: {name} must be the package of ngrammix in {ROOT}, got "
        f"{folder / name}.py, which hides it; rename that, or run from another directory\n"
    )


def test_so_does_the_first_name_that_a_script_uses(folder):
    Path("quant.py").write_text("", encoding="utf-8")
    Path("train.py").write_text("from eval import score", encoding="utf-8")
    done = python("train.py")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: quant must be the package of ngrammix in {ROOT}, got {folder / 'quant.py'}"
    )


@pytest.mark.parametrize("name", ["eval", "quant", "ngrammix"])
def test_a_factory_that_wants_a_module_that_ours_hides_is_told(folder, capsys, monkeypatch, name):
    monkeypatch.syspath_prepend(folder)
    Path(f"{name}.py").write_text("def helper(): pass", encoding="utf-8")
    Path("wanting.py").write_text(FACTORY.format(name=name), encoding="utf-8")
    try:
        assert main(["score", "--data", "text", "--model", "wanting:make"]) == 2
    finally:
        sys.modules.pop("wanting", None)
    error = capsys.readouterr().err
    assert error.startswith(
        "ngrammix: error: a model must be importable, got 'wanting:make', whose"
    )
    assert error.endswith(
        f"; {folder / name}.py is hidden by the package {name} of ngrammix: rename it\n"
    )


def test_python_dash_m_ngrammix_is_the_command():
    done = python("-m", "ngrammix", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ngrammix 0.1.0\n", "")
