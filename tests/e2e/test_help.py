"""The help of every command: fast, grouped, with examples that parse, in 80 columns."""

import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from eval.bench import findings
from eval.bench.options import OPTIONS, QUANTIZERS
from eval.cli import main
from eval.commands import benches, option_groups, options
from eval.commands.parser import COMMANDS, parser
from eval.comparing import names
from eval.comparing.comparison import MIXERS
from eval.comparing.published_rules import PUBLISHED_RULES
from eval.config import QuantizeConfig
from quant.models import named_quantizers
from quant.models.named_recipes import RECIPES
from quant.models.recipe_names import QUANTIZER_NAMES, RECIPE_NAMES

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numba", "torch", "transformers", "pyarrow", "datasets", "tokenizers", "numpy", "tqdm")
CALLS = [
    [],
    *([command] for command in COMMANDS),
    *(["bench", name] for name in benches.BENCHES),
]
# Runs the command line in a process of its own; prints the libraries that it has loaded.
CODE = f"""
import sys
from eval.cli import main
try:
    main(sys.argv[1:])
except SystemExit as error:
    print(error.code, [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def load(*arguments):
    done = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True, text=True, timeout=60, cwd=ROOT, env={"COLUMNS": "80"},
    )  # fmt: skip
    return done.stdout, done.stderr


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_help_loads_no_library_and_fits_80_columns(call):
    text, loaded = load(*call, "--help")
    assert loaded == "0 []\n"
    assert text.startswith(" ".join(["usage: ngrammix", *call]))
    lines = text.partition("examples:")[0].splitlines()  # examples can be copied
    assert max(map(len, lines)) <= 80


def test_neither_does_the_version_or_a_mistake_in_an_option():
    assert load("--version") == ("ngrammix 0.1.0\n", "0 []\n")
    text, error = load("score", "--data", "a.txt", "--windows", "all")
    assert text == ""
    assert "ngrammix score: error: argument --windows: invalid choice: 'all'" in error
    assert error.endswith("2 []\n")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("score --data a --ordr 3", "unrecognized argument --ordr; did you mean --order?"),
        ("compare --data a --mixrs=x", "unrecognized argument --mixrs; did you mean --mixers?"),
        ("score --data a --xyzzy 3", "unrecognized arguments: --xyzzy 3"),
    ],
)
def test_an_option_that_does_not_exist_names_the_one_that_was_meant(capsys, words, error):
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(words.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {error}\n")


def test_every_option_is_in_one_group():
    listed = [name for members in option_groups.GROUPS.values() for name in members]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {field.name for field in fields(QuantizeConfig)}


@pytest.mark.parametrize("command", COMMANDS)
def test_three_examples_parse(command):
    text, _ = load(command, "--help")
    examples = [
        line.strip()
        for line in text.partition("examples:\n")[2].splitlines()
        if line.startswith("  ngrammix ")
    ]
    assert len(examples) == 3
    for example in examples:
        words = shlex.split(example.partition(" > ")[0])[1:]
        assert words[0] == command
        if "--help" not in words:
            assert parser().parse_args(words).command == command


def test_a_list_given_twice_counts_twice():
    given = parser().parse_args(["score", "--data", "a", "b", "--order", "3", "--data", "c"])
    assert (given.data, given.order) == (["a", "b", "c"], 3)


def test_the_names_of_the_help_are_those_of_what_is_run():
    assert tuple(RECIPES) == RECIPE_NAMES
    assert tuple(named_quantizers.QUANTIZERS) == QUANTIZER_NAMES
    assert tuple(MIXERS) == names.MIXER_NAMES
    assert tuple(PUBLISHED_RULES) == names.RULE_NAMES
    assert list(findings.QUANTIZERS) == QUANTIZERS
    assert OPTIONS.keys() == benches.BENCHES.keys()
    assert options.COMMANDS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_the_completion_knows_every_command_and_option(capsys, shell):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name in (*COMMANDS, "--checkpoint", "--mixers", "--memory-limit", "gate+guard"):
        assert name.removeprefix("--") in script


def test_bash_completes(capsys, tmp_path):
    main(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")
    code = (
        "source ./script; COMP_WORDS=(ngrammix score --check); COMP_CWORD=2; "
        "_shtab_ngrammix ngrammix --check score; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "--checkpoint --checkpoint-every\n"
