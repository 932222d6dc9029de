"""Configurations: the same from Python, the command line and TOML, and every refusal."""

import argparse
import json
from dataclasses import FrozenInstanceError, asdict, fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.commands.option_groups import add_options
from eval.config import FORMATS, RunConfig, ScoreConfig, make_config
from ngrammix import reading
from ngrammix.experts.choices import ALL, CHOICES

NAMES = [field.name for field in fields(RunConfig)]
DEFAULTS = asdict(RunConfig())
LISTS = ("data", "log")
FLAGS = (
    "token_check", "allow_probabilities", "causality_check", "skip_empty", "download",
    "trust_remote_code", "tokens", "overwrite",
)  # fmt: skip
LEAST = {"context": 1, "stride": 1, "batch": 1, "limit": 1, "checkpoint_every": 1, "bos": 0,
         "document_end": 0}  # fmt: skip

words = st.text(st.characters(categories=["L", "N", "P", "Zs"]), min_size=1).filter(
    lambda word: not word.startswith("-")
)
VALUES = dict.fromkeys(NAMES, words) | {
    "mixer": st.sampled_from([*CHOICES, "none"]),
    "windows": st.sampled_from(["document", "stream"]),
    "threads": st.sampled_from([1, 2]),
    "format": st.sampled_from(FORMATS),
    "on_bad_row": st.sampled_from(["error", "skip"]),
    "token_bytes_per": st.sampled_from(["token", "id"]),
    "order": st.integers(-9, 99),
} | {
    name: st.integers(least, 1 << 62) for name, least in LEAST.items()
} | {
    name: st.booleans() for name in FLAGS
} | {
    name: st.lists(words, min_size=1, max_size=3) for name in LISTS
}  # fmt: skip
OPTIONS = st.fixed_dictionaries({}, optional=VALUES)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Names in the errors are short: everything is where the test stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("config")


def parse(argv, config=RunConfig, names=None):
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, config, names)
    return vars(parser.parse_args(argv))


def on_the_command_line(options):
    argv = []
    for name, value in options.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            argv.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            argv += [f"--{flag}", *value]
        else:
            argv.append(f"--{flag}={value}")
    return argv


def write(path, text):
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def in_toml(options):
    """JSON's strings, numbers, booleans and lists of strings are TOML's."""
    return "".join(
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in options.items()
    )


def plain(options):
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_the_same_from_everywhere(folder, name):
    @given(VALUES[name])
    def check(value):
        options = {name: value}
        expected = RunConfig(**plain(options))
        assert make_config(RunConfig, parse(on_the_command_line(options))) == expected
        assert make_config(RunConfig, {}, write(folder / "a.toml", in_toml(options))) == expected
        assert asdict(expected) == DEFAULTS | plain(options)

    check()


@given(OPTIONS, OPTIONS)
def test_the_command_line_overrules_the_file(folder, filed, given_options):
    path = write(folder / "b.toml", in_toml(filed))
    config = make_config(RunConfig, parse(on_the_command_line(given_options)), path)
    assert asdict(config) == DEFAULTS | plain(filed) | plain(given_options)


def test_what_is_no_option_is_left_alone():
    assert make_config(RunConfig, {"run": print, "json": True, "config": None}) == RunConfig()


def test_nothing_given_is_nothing_set(inside):
    assert parse([]) == {}
    assert (
        make_config(RunConfig, {})
        == make_config(RunConfig, {}, write(inside / "c.toml", ""))
        == RunConfig()
    )


def test_a_memory_limit_is_a_number_in_toml_too(inside):
    path = write(inside / "c.toml", "memory_limit = 2_000_000_000")
    assert make_config(RunConfig, {}, path).memory_limit == 2_000_000_000


def test_options_are_those_of_the_configuration_or_those_named():
    score_names = {field.name for field in fields(ScoreConfig)}
    assert set(NAMES) > score_names
    for config, names in ((ScoreConfig, score_names), (RunConfig, set(NAMES))):
        parser = argparse.ArgumentParser(add_help=False)
        add_options(parser, config)
        assert {action.dest for action in parser._actions} == names
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser, RunConfig, ("order", "bos"))
    assert {action.dest for action in parser._actions} == {"order", "bos"}


def test_help_names_every_default_that_is_a_value():
    parser = argparse.ArgumentParser()
    add_options(parser, RunConfig)
    shown = " ".join(parser.format_help().split())
    for name in NAMES:
        assert f"--{name.replace('_', '-')}" in shown
        if not isinstance(DEFAULTS[name], bool) and DEFAULTS[name] not in (None, ()):
            assert f"({DEFAULTS[name]})" in shown


def test_the_command_line_refuses_kinds_and_choices():
    for argv, text in (
        (["--order", "7.0"], "argument --order: invalid int value: '7.0'"),
        (
            ["--windows", "both"],
            "argument --windows: invalid choice: 'both' (choose from ",
        ),
    ):
        with pytest.raises(argparse.ArgumentError) as raised:
            parse(argv)
        assert str(raised.value).startswith(text)  # how choices are quoted differs by Python


def test_standard_input_is_a_name_like_any_other():
    assert make_config(RunConfig, parse(["--data", "-", "--order", "3"])).data == ("-",)


def test_integers_of_numpy_are_integers():
    config = RunConfig(order=np.int64(3), bos=np.uint16(0), memory_limit=np.int32(1 << 20))
    assert config == RunConfig(order=3, bos=0, memory_limit=1 << 20)
    assert {type(config.order), type(config.bos), type(config.memory_limit)} == {int}
    with pytest.raises(ValueError) as raised:
        RunConfig(order=np.float64(3))
    assert str(raised.value) == "order must be int, got np.float64(3.0); correct the option"


def test_it_is_frozen_and_by_keyword():
    for kind in (ScoreConfig, RunConfig):
        with pytest.raises(FrozenInstanceError):
            kind().order = 3
        with pytest.raises(TypeError):
            kind("none")
        assert len({kind(), kind(), kind(order=3)}) == 2


WRONG = {
    "order": [("true", True), ("7.0", 7.0), ('"7"', "7"), ("[7]", (7,)), ("nan", float("nan"))],
    "memory_limit": [("true", True), ("0.5", 0.5)],
    "windows": [("1", 1)],
    "bos": [("false", False)],
    "skip_empty": [("1", 1), ('"yes"', "yes")],
    "model": [("0", 0), ('["a"]', ("a",))],
    "tokenizer": [("{a = 1}", {"a": 1})],
    "data": [('"a.txt"', "a.txt"), ("[1]", (1,)), ('[["a"]]', (["a"],))],
    "log": [("true", True)],
}
KINDS = {
    "order": "int", "bos": "int or str", "memory_limit": "str or int", "skip_empty": "bool",
    "windows": "str", "model": "str", "tokenizer": "str", "data": "a list of text",
    "log": "a list of text",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "toml", "value"),
    [(name, toml, value) for name, cases in WRONG.items() for toml, value in cases],
)
def test_a_value_of_another_kind_is_refused(inside, name, toml, value):
    text = f"{name} must be {KINDS[name]}, got {value!r}; correct the option"
    path = write(inside / "c.toml", f"{name} = {toml}")
    with pytest.raises(ValueError) as raised:
        RunConfig(**{name: value})
    assert str(raised.value) == text
    with pytest.raises(ValueError) as raised:
        make_config(RunConfig, {}, path)
    assert str(raised.value) == f"{path}: {text}"


def test_a_wrong_value_of_the_file_is_refused_though_an_option_overrides_it(inside):
    path = write(inside / "c.toml", "batch = 0")
    with pytest.raises(ValueError, match=r"c\.toml: batch must be >= 1"):
        make_config(RunConfig, {"batch": 5}, path)


@pytest.mark.parametrize("name", LEAST)
def test_a_value_out_of_range_is_refused(inside, name):
    least = LEAST[name]
    assert getattr(RunConfig(**{name: least}), name) == least
    path = write(inside / "c.toml", f"{name} = {least - 1}")
    words = [f"--{name.replace('_', '-')}", str(least - 1)]
    for make, place in (
        (lambda: RunConfig(**{name: least - 1}), ""),
        (lambda: make_config(RunConfig, {}, path), f"{path}: "),
        (lambda: make_config(RunConfig, parse(words)), ""),
    ):
        with pytest.raises(ValueError) as raised:
            make()
        assert str(raised.value) == (
            f"{place}{name} must be >= {least}, got {least - 1}; leave it out for the default"
        )


def test_what_is_no_choice_is_refused():
    for options, text in (
        (
            {"windows": "both"},
            "windows must be one of document, stream, got 'both'; leave it out for document",
        ),
        (
            {"mixer": "gat"},
            f"mixer must be one of {', '.join(CHOICES)}, none, got 'gat'; leave it out for {ALL}",
        ),
    ):
        with pytest.raises(ValueError) as raised:
            ScoreConfig(**options)
        assert str(raised.value) == text


NAMED = f"the options are {', '.join(NAMES)}"


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("ordr = 3", "a.toml must hold options alone, got ordr; did you mean order?"),
        ("token-bytes = 'b'", "a.toml must hold options alone, got token-bytes; did you mean "
         "token_bytes?"),
        ("json = true", f"a.toml must hold options alone, got json; {NAMED}"),
        ("order = 3\n[xyz]\nwindows = 'stream'",
         f"a.toml must hold options alone, got xyz; {NAMED}"),
        ("order 3", "--config must be TOML, got a.toml: Expected '=' after a key in a key/value "
         "pair (at line 1, column 7); correct it"),
        ("order = 3\norder = 4", "--config must be TOML, got a.toml: Cannot overwrite a value (at "
         "end of document); correct it"),
        (b"column = '\xe9'", "--config must be TOML, got a.toml: 'utf-8' codec can't decode byte "
         "0xe9 in position 10: invalid continuation byte; correct it"),
        ("order = " + "9" * 5000, "--config must be TOML, got a.toml: Exceeds the limit (4300 "
         "digits) for integer string conversion: value has 5000 digits; use "
         "sys.set_int_max_str_digits() to increase the limit; correct it"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_refused(inside, toml, text):
    write(inside / "a.toml", toml)
    with pytest.raises(ValueError) as raised:
        make_config(RunConfig, {"order": 5}, "a.toml")
    assert str(raised.value) == text


def test_brackets_within_brackets_are_refused(inside):
    write(inside / "a.toml", "data = " + "[" * 50_000)
    with pytest.raises(ValueError) as raised:
        make_config(RunConfig, {}, "a.toml")
    text = str(raised.value)
    assert text.startswith("--config must be TOML, got a.toml: maximum recursion depth exceeded")
    assert text.endswith("; correct it")


def test_tables_within_tables_are_shown_in_part():
    table = {}
    for _ in range(100_000):
        table = {"a": table}
    with pytest.raises(ValueError) as raised:
        RunConfig(order=table)
    inner = "{'a': " * 6 + "{...}" + "}" * 6
    assert str(raised.value) == f"order must be int, got {inner}; correct the option"


def test_a_file_that_is_missing_or_too_large_is_refused(inside, monkeypatch):
    (inside / "folder").mkdir()
    for name in ("b.toml", "folder"):
        with pytest.raises(ValueError) as raised:
            make_config(RunConfig, {}, name)
        assert str(raised.value) == f"--config must be a file, got {name}; check the path"
    monkeypatch.setattr(reading, "MAX_TABLE", 9)
    assert make_config(RunConfig, {}, write(inside / "c.toml", "order = 3")).order == 3
    write(inside / "c.toml", "order = 33")
    with pytest.raises(ValueError) as raised:
        make_config(RunConfig, {}, "c.toml")
    assert str(raised.value) == (
        "--config must have at most 9 bytes, got more in c.toml; name another file"
    )
