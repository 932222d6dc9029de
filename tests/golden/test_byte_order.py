"""Byte order: what is written is little-endian; numbers of either order are the same numbers."""

import hashlib
import json
import struct

import numpy as np
import pytest
import torch

import quant
from eval.comparing.comparison import compare_source
from eval.comparing.result import make_comparison_result
from eval.comparing.sources import SavedSource
from eval.data.token_files import TokenFiles
from eval.data.token_formats import read_tokens
from eval.models.network_name import name_network
from eval.models.tensors import hash_array
from ngrammix import MatchModel, Mixer, NgramCache, snapshot

V, T = 20, 300
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, V, T)
LOGITS = RNG.normal(size=(T, V)).astype(np.float16)  # the same in every dtype
WEIGHT = RNG.normal(size=(16, 32)).astype(np.float16)
INTEGERS = ["<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8"]
FLOATS = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]
CONFIGS = {
    "scalar": quant.ScalarConfig(bits=4, per="group", group_size=8),
    "lloyd": quant.LloydMaxConfig(k=5),
    "product": quant.ProductConfig(dim=2, k=8),
    "gptq": quant.GptqConfig(inner=quant.ScalarConfig(bits=4)),
}


@pytest.mark.parametrize("dtype", INTEGERS)
def test_tokens_of_either_order_are_learned_to_the_same_file(tmp_path, dtype):
    for kind in (NgramCache, MatchModel):
        files = []
        for tokens in (TOKENS, TOKENS.astype(dtype)):
            model = kind(vocab_size=V)
            model.learn(tokens)
            model.save(tmp_path / "a")
            files.append((tmp_path / "a").read_bytes())
        assert files[0] == files[1]


@pytest.mark.parametrize("dtype", FLOATS)
def test_logits_of_either_order_have_the_same_cost(dtype):
    native = LOGITS.astype(dtype[1:])
    expected = Mixer(vocab_size=V).score(native, TOKENS)
    found = Mixer(vocab_size=V).score(native.astype(dtype), TOKENS.astype(">i8"))
    assert (found == expected).all()


def test_a_snapshot_is_little_endian(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.arange(3, dtype="u4")}
    swapped = {name: array.astype(array.dtype.newbyteorder(">")) for name, array in arrays.items()}
    files = []
    for each in (arrays, swapped):
        snapshot.write(tmp_path / "s", {}, each)
        files.append((tmp_path / "s").read_bytes())
        for name, array in snapshot.read(tmp_path / "s")[1].items():
            assert array.dtype.isnative
            assert (array == arrays[name]).all()
    assert files[0] == files[1]
    assert struct.unpack_from("<I", files[0], 8)[0] == snapshot.VERSION
    assert struct.pack("<6d", *range(6)) in files[0]
    assert struct.pack("<3I", *range(3)) in files[0]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_weights_of_either_order_are_quantized_to_the_same_file(tmp_path, name, dtype):
    files, native = [], WEIGHT.astype(dtype[1:])
    for weight in (native, native.astype(dtype)):
        hessian = (weight.T.astype(np.float64) @ weight.astype(np.float64)).astype(">f8")
        tensor = quant.quantize(weight, CONFIGS[name], hessian if name == "gptq" else None)
        tensors = {"w": tensor, "kept": np.arange(4).astype(dtype)}
        quant.save(tmp_path / "a.ngq", tensors, codec="none")
        files.append((tmp_path / "a.ngq").read_bytes())
        loaded = quant.load(tmp_path / "a.ngq")
        assert (loaded["w"].dequantize() == tensor.dequantize()).all()
        assert (loaded["kept"] == np.arange(4)).all()
    assert files[0] == files[1]
    little = np.dtype(dtype).newbyteorder("<")
    assert np.arange(4).astype(little).tobytes() in files[0]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_token_files_of_either_order_hold_the_same_ids(tmp_path, dtype):
    array, raw, sizes = (tmp_path / name for name in ("t.npy", "t.ids", "s.npy"))
    np.save(array, TOKENS.astype(dtype))
    TOKENS.astype(dtype).tofile(raw)
    np.save(sizes, (1 + TOKENS % 3).astype(dtype))
    for files in (
        TokenFiles([str(array)], vocab_size=V, token_bytes=[str(sizes)]),
        TokenFiles([str(raw)], vocab_size=V, token_bytes=[str(sizes)], token_dtype=dtype),
    ):
        (document,) = files
        assert document.tokens.dtype == document.token_bytes.dtype == np.int64
        assert (document.tokens == TOKENS).all()
        assert (document.token_bytes == 1 + TOKENS % 3).all()
    assert (read_tokens(array, V) == TOKENS).all()


def test_the_header_and_the_ids_of_a_shard_are_little_endian(tmp_path):
    for magic, version, letter in ((20240520, 1, "H"), (20240801, 7, "I")):
        header = struct.pack("<3i", magic, version, T).ljust(1024, b"\0")
        path = tmp_path / "a.bin"
        path.write_bytes(header + struct.pack(f"<{T}{letter}", *TOKENS))
        assert (read_tokens(path, V) == TOKENS).all()
        path.write_bytes(struct.pack(">3i", magic, version, T).ljust(1024, b"\0") + bytes(2 * T))
        with pytest.raises(ValueError, match="shard must begin with"):
            read_tokens(path, V)


def test_saved_logits_of_either_order_have_the_same_name_and_figures(tmp_path):
    np.save(tmp_path / "t.npy", TOKENS.astype(">u2"))
    flats = {}
    for dtype in FLOATS:
        np.save(tmp_path / "l.npy", LOGITS.astype(dtype))
        source = SavedSource(tmp_path / "l.npy", tmp_path / "t.npy")
        comparison = compare_source(source, ["ngrammix", "entropy"], 5)
        flats[dtype] = json.loads(make_comparison_result(comparison, source).to_json())
    for little, big in zip(FLOATS[::2], FLOATS[1::2], strict=True):
        assert flats[little] == flats[big]


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_hash_of_a_tensor_is_that_of_its_little_endian_bytes(dtype):
    little = LOGITS.astype(np.dtype(dtype).newbyteorder("<"))
    expected = hashlib.sha256(little.tobytes()).hexdigest()
    assert hash_array(LOGITS.astype(dtype)) == expected
    assert hash_array(torch.from_numpy(LOGITS.astype(dtype[1:]))) == expected
    assert name_network(of(LOGITS.astype(dtype))) == name_network(of(LOGITS.astype(dtype[1:])))


def of(table):
    return lambda tokens: table[tokens]


def test_tensors_of_every_width_have_a_hash():
    for dtype in ("bool", "uint8", "bfloat16", "complex64", "complex128", "float8_e4m3fn"):
        tensor = torch.ones(3).to(getattr(torch, dtype))
        assert len(hash_array(tensor)) == 64
        assert hash_array(tensor) != hash_array(torch.zeros(3).to(tensor.dtype))
    assert hash_array(torch.ones(())) == hash_array(torch.ones(1))
    assert hash_array(torch.ones(0)) == hashlib.sha256().hexdigest()
