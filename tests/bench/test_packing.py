"""``ngrammix bench packing``: the peers do the work that they are timed for."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from eval.bench import packing
from eval.cli import main
from quant.io.container import OVERHEAD
from quant.io.packing import pack


@pytest.mark.parametrize("bits", range(1, 9))
def test_numpy_packs_the_same_bytes(rng, bits):
    codes = rng.integers(0, 1 << bits, 1001, np.uint8)
    packed = packing.pack_by_numpy(codes, bits)
    np.testing.assert_array_equal(packed, pack(codes, bits))
    np.testing.assert_array_equal(packing.unpack_by_numpy(packed, bits, 1001), codes)


def test_entropy_is_that_of_the_counts():
    assert packing.entropy(np.zeros(100, np.int8)) == 0
    assert packing.entropy(np.arange(256, dtype=np.uint8)) == 256
    assert packing.entropy(np.repeat(np.array([1, 2, 3, 3], np.int8), 8)) == 6


def test_the_codes_of_a_file_are_measured(rng, tmp_path):
    model = tmp_path / "model.safetensors"
    save_file({"b": rng.normal(size=(40, 80)), "a": rng.normal(size=(30, 20)),
               "norm": np.ones(9)}, model)  # fmt: skip
    arguments = ["bench", "packing", "--model", str(model), "--codes", "999", "--runs", "1"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "packing.json").read_text(encoding="utf-8"))
    assert (result["model"], result["matrices"], result["weights"]) == (model.name, 2, 3800)
    rows = {(row["clip"], row["codec"]): row for row in result["compressed"]}
    for clip in packing.CLIPS:
        none, zstd, entropy = (rows[clip, codec] for codec in ("none", "zstd", "entropy"))
        assert none["bytes_together"] == 3800 + OVERHEAD
        assert none["packed_together"] == 3800 * 6 // 8 + OVERHEAD
        assert entropy["bytes_each"] <= entropy["bytes_together"] < zstd["bytes_together"] < 3800


def test_refusals(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"norm": np.ones(9)}, "norm")
    (tmp_path / "other").write_bytes(b"")
    for arguments, text in [
        (["--codes", "0"], "--codes must be >= 1, got 0; leave it out for the default"),
        (["--model", "no"], "--model must be a file of safetensors, got no; check the path"),
        (["--model", "norm"], "--model must hold a matrix, got none in norm; name another file"),
        (["--model", "other"],
         "--model must be a file of safetensors, got other: Error while deserializing header: "
         "header too small; use another copy"),
    ]:  # fmt: skip
        assert main(["bench", "packing", *arguments]) == 2
        assert capsys.readouterr().err == f"ngrammix: error: {text}\n"
