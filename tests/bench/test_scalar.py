"""``ngrammix bench quant``: the peers do the work that they are timed for."""

import json

import numpy as np
import pytest

from eval.bench import scalar as bench
from eval.cli import main
from quant.quantizers.scalar import ScalarConfig


@pytest.mark.parametrize("config", bench.FORMATS.values(), ids=bench.FORMATS)
def test_all_ways_give_the_same(rng, config):
    weight = rng.standard_normal((6, 2 * bench.GROUP)).astype(np.float32)
    q = config.encode(weight)
    for make, expected in ((bench.encoders, q.codes), (bench.decoders, q.matrix())):
        for name, way in make(weight, config).items():
            got = way()
            got = got.codes if name == "ours, fit too" else np.asarray(got)
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got.reshape(weight.shape), expected)


def test_bench_quant_measures_every_way(tmp_path, capsys):
    arguments = ["bench", "quant", "--rows", "4", "--columns", "128", "--runs", "1"]
    assert main([*arguments, "--json", "--out", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "quant.json").read_text()) == result
    assert [row["format"] for row in result["scalar"]] == list(bench.FORMATS)
    weight = np.ones((4, 128), np.float32)
    for row in result["scalar"]:
        for action, make in (("encode", bench.encoders), ("decode", bench.decoders)):
            assert row[action].keys() == make(weight, ScalarConfig()).keys()
            assert min(row[action].values()) > 0
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert table.startswith("4 x 128 weights, one thread, medians of 1; million weights/s\n")
    assert "int4 per 128" in table


def test_bench_quant_refuses_a_broken_group(capsys):
    assert main(["bench", "quant", "--columns", "100"]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: --columns must be a multiple of 128, got 100; that many share a step\n"
    )
