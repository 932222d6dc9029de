"""The harness: options and their limits, paired rounds, one JSON, tables of its figures."""

import argparse
import json
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.bench import rounds as rounds_module
from eval.bench.harness import Bench, Table, fill_in, rows_of
from eval.bench.options import Option, add_arguments
from eval.bench.rounds import Rounds, environment, in_own_process, key, race, take_turns
from eval.bench.stream import load_tokens, observe
from ngrammix import NgramCache

OPTIONS = (
    Option("n-tokens", 3, "tokens"),
    Option("seconds", 0.5, "time"),
    Option("sizes", [1, 2], "sizes"),
    Option("data", None, "text", "FILE"),
)


def parse(bench, *arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser, "toy", bench.options)
    return parser.parse_args(arguments)


@pytest.fixture
def bench():
    """A bench whose figures are its options."""
    return Bench(
        options=OPTIONS,
        measure=lambda arguments: {
            "data": "a.txt", "rows": [{"name": "ours", "rate": 1234.5}, {"name": "peer"}],
            "total": arguments.n_tokens * 1000, "absent": None,
        },
        report=(
            "{total:,} tokens in all",
            Table("rows", {"": "{name}", "tokens/s": "{rate:,.1f}"}),
            "left out: {absent:.1f}",
            Table(lambda figures: [], {"": "{name}"}),
        ),
    )  # fmt: skip


def test_an_option_has_the_type_of_its_default(bench):
    values = parse(bench)
    assert (values.n_tokens, values.seconds, values.sizes, values.data) == (3, 0.5, [1, 2], None)
    values = parse(bench, "--n-tokens", "5", "--seconds", "2", "--sizes", "4", "--data", "x")
    assert (values.n_tokens, values.seconds, values.sizes, values.data) == (5, 2.0, [4], "x")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--n-tokens", "0"], "--n-tokens must be >= 1, got 0; leave it out for the default"),
        (["--sizes", "3", "-1"], "--sizes must be >= 1, got -1; leave it out for the default"),
        (["--seconds", "0"],
         "--seconds must be > 0 and finite, got 0; leave it out for the default"),
        (["--seconds", "nan"],
         "--seconds must be > 0 and finite, got nan; leave it out for the default"),
        (["--seconds", "inf"],
         "--seconds must be > 0 and finite, got inf; leave it out for the default"),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused(bench, arguments, text):
    with pytest.raises(ValueError) as caught:
        bench.run("toy", parse(bench, *arguments))
    assert str(caught.value) == text


def test_the_file_is_what_json_prints_and_the_report_shows_it(bench, tmp_path, capsys):
    out = tmp_path / "out"
    bench.run("toy", parse(bench, "--json", "--out", str(out)))
    printed = json.loads(capsys.readouterr().out)
    assert json.loads((out / "toy.json").read_text()) == printed
    assert list(printed) == ["n_tokens", "seconds", "sizes", "data", "rows", "total", "absent"]
    bench.run("toy", parse(bench, "--n-tokens", "7"))
    assert capsys.readouterr().out.splitlines() == [
        "bench toy|data:a.txt|n_tokens:7|seconds:0.5",
        "",
        "7,000 tokens in all",
        "",
        "        tokens/s",
        "----  ----------",
        "ours     1,234.5",
        "peer           -",
    ]


def test_a_picture_is_drawn_under_out_alone(tmp_path, capsys):
    drawn = []
    bench = Bench(
        measure=lambda arguments: {"a": 1}, report=(), draw=lambda *made: drawn.append(made)
    )
    bench.run("toy", parse(bench))
    assert drawn == []
    bench.run("toy", parse(bench, "--out", str(tmp_path)))
    assert drawn == [({"a": 1}, tmp_path)]


def test_a_template_without_its_figure_is_empty():
    figures = {"a": {"b": 2.5}, "none": None}
    assert fill_in("{a[b]:.2f} s", figures) == "2.50 s"
    assert fill_in("{a[c]:.2f} s", figures) == fill_in("{none:.2f}", figures) == ""
    assert fill_in("{none:s}", figures) == ""


def test_rows_are_of_the_keys_that_end_with_a_name():
    figures = {"seconds_cold": 2, "seconds_warm": 1, "ratio_cold": 3}
    assert rows_of(figures, {"cold": "at first", "warm": "again"}, "seconds", "ratio") == [
        {"name": "at first", "seconds": 2, "ratio": 3},
        {"name": "again", "seconds": 1, "ratio": None},
    ]
    assert key("Python dict, tuned") == "python_dict_tuned"


seconds = st.floats(0.01, 100)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=9), seconds)
def test_a_slow_round_moves_no_ratio(pairs, slowness):
    """Both ways of a round may be slowed down together: ratios are of the same round."""
    plain = Rounds([{"a": a, "b": b} for a, b in pairs])
    slowed = [{"a": a * slowness**i, "b": b * slowness**i} for i, (a, b) in enumerate(pairs)]
    assert Rounds(slowed).ratio("a", "b") == pytest.approx(plain.ratio("a", "b"))
    assert plain.median("a") == np.median([a for a, _ in pairs])
    assert plain.rates(10) == {name: 10 / plain.median(name) for name in ("a", "b")}


def test_ways_take_turns_after_one_run_that_does_not_count():
    calls = []
    clock = iter(range(1000))
    measured = race(
        {name: lambda name=name: calls.append(name) for name in "ab"}, 2, clock=lambda: next(clock)
    )
    assert calls == ["a", "b"] * 3
    assert measured.rounds == [{"a": 1, "b": 1}] * 2
    ways = {"a": iter([1.0, 2.0, 6.0]).__next__, "b": iter([1.0, 1.0, 2.0]).__next__}
    measured = take_turns(ways, 3)
    assert (measured.median("a"), measured.ratio("a", "b")) == (2.0, 2.0)


def test_race_measures_seconds():
    measured = race({"sleep": lambda: time.sleep(0.01)}, 2)
    assert measured.median("sleep") >= 0.01


@pytest.mark.parametrize("before", [None, "8"])
def test_the_environment_is_left_as_it_was(monkeypatch, before):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    seen = []

    def fail():
        with environment({"OMP_NUM_THREADS": "1"}):
            seen.append(os.environ["OMP_NUM_THREADS"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seen == ["1"]
    assert os.environ.get("OMP_NUM_THREADS") == before


def test_a_process_of_its_own_has_one_thread():
    assert in_own_process(os.getpid) != os.getpid()
    for name in rounds_module.ONE_THREAD:
        assert in_own_process(os.getenv, name) == "1"


def test_the_stream_is_a_shard_or_bytes_or_the_embedded_text(tmp_path):
    words = np.zeros(256, "<i4")
    words[:3] = 20240520, 1, 4
    (tmp_path / "s.bin").write_bytes(words.tobytes() + np.array([5, 0, 9, 5], "<u2").tobytes())
    (tmp_path / "text").write_bytes(b"ab\xff")
    name, tokens, vocab_size = load_tokens(str(tmp_path / "s.bin"))
    assert (name, tokens.tolist(), vocab_size) == ("s.bin", [5, 0, 9, 5], 10)
    name, tokens, vocab_size = load_tokens(str(tmp_path / "text"))
    assert (name, tokens.tolist(), vocab_size) == ("text", [97, 98, 255], 256)
    name, tokens, vocab_size = load_tokens(None)
    assert (name, vocab_size) == ("the Python language reference", 1024)
    assert len(tokens) > 100_000


def test_observe_goes_over_all_tokens(monkeypatch, rng):
    monkeypatch.setattr("eval.bench.stream.BLOCK", 7)
    tokens = rng.integers(0, 5, 100)
    cache, whole = (NgramCache(vocab_size=5, order=3) for _ in range(2))
    observe(cache, tokens)
    whole.observe(tokens)
    assert cache.position == 100
    assert len(cache) == len(whole)
