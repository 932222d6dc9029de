"""load: files that `save` did not write are refused, whatever they hold."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from quant.base.config import QuantizedTensor
from quant.io.container import compress
from quant.io.file import KEY, load, read_content, read_index, save

pytestmark = pytest.mark.usefixtures("inside")


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    return str(caught.value)


def rewrite(change, name="q"):
    """The file again, whole to all appearances, after `change(index, arrays)`."""
    path = Path(name)
    raw = read_content(path, 1 << 20)
    index, arrays = read_index(raw), load_safetensors(raw)
    index, arrays = change(index, arrays) or (index, arrays)
    raw = save_safetensors(arrays, {KEY: index if isinstance(index, str) else json.dumps(index)})
    path.write_bytes(compress(raw, "none"))


def test_files_of_another_kind_are_refused(tensors):
    save("q", tensors)
    whole = Path("q").read_bytes()

    def load_bytes(content):
        Path("other").write_bytes(content)
        return refusal(load, "other")

    assert (
        refusal(load, "missing") == "quantized tensors must be a file, got missing; check the path"
    )
    assert refusal(load, ".") == "quantized tensors must be a file, got .; check the path"
    assert load_bytes(b"PK\3\4") == (
        "other: compressed data must begin with NGXQUANT, got b'PK\\x03\\x04'; pass what compress "
        "or save made"
    )
    assert load_bytes(whole[:8] + b"\x01" + whole[9:]) == (
        "other: compressed data must be of version 2, got version 1; read them with the ngrammix "
        "that wrote them, or quantize and save again"
    )
    damaged = "other: compressed data must be as compress made them, got "
    assert load_bytes(whole[:20]) == damaged + "20 bytes, fewer than a header; use another copy"
    altered = damaged + "another checksum; use another copy"
    assert load_bytes(whole[:-1]) == load_bytes(whole + b"\0") == altered


def test_every_flip_cut_and_tail_is_refused(tensors):
    save("q", {"a": tensors["rows"], "b": tensors["norm"]})
    path = Path("q")
    whole = path.read_bytes()
    for at in range(len(whole)):
        for other in (
            whole[:at],
            whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :],
        ):
            path.write_bytes(other)
            refusal(load, "q")
    for tail in (b"\0", whole):
        path.write_bytes(whole + tail)
        refusal(load, "q")


def test_what_takes_too_much_is_refused_first(tensors, monkeypatch):
    def too_much(max_bytes, n_bytes, what="quantized tensors must need"):
        assert refusal(load, "q", max_bytes) == (
            f"q: {what} at most {max_bytes} bytes, got {n_bytes}; raise max_bytes if you trust them"
        )

    rows = tensors["rows"]
    save("q", {"a": rows}, packed=True)
    size = Path("q").stat().st_size
    content = len(read_content(Path("q"), 1 << 20))
    needed = content + 60 + 4 * 60  # codes unpacked, and weights
    assert load("q", needed)["a"].codes.tolist() == rows.codes.tolist()
    too_much(needed - 1, needed)
    too_much(size - 1, size)
    with monkeypatch.context() as patch:
        patch.setattr("quant.io.container.decompress_piece", None)  # is not reached
        too_much(content - 1, content, "compressed data must hold")
    for max_bytes in (-1, 1.0, None):
        assert refusal(load, "q", max_bytes) == (
            f"max_bytes must be an integer in 0..{2**63 - 1}, got {max_bytes!r}; correct it"
        )

    def grow(index, arrays):
        index["a"]["layout"]["shape"] = [1 << 40, 1 << 50]

    rewrite(grow)
    too_much(1 << 31, len(read_content(Path("q"), 1 << 20)) + 60 + (1 << 92))


def put(*path, value):
    """A change of one value of the index."""

    def change(index, arrays):
        *parents, last = path
        for key in parents:
            index = index[key]
        index[last] = value

    return change


def put_array(name, array):
    """A change of one array; None drops it."""

    def change(index, arrays):
        arrays.pop(name, None)
        if array is not None:
            arrays[name] = array

    return change


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda index, arrays: ("[", arrays),
         "Expecting value: line 1 column 2 (char 1)"),
        (lambda index, arrays: ("[" * 100_000, arrays), "RecursionError"),
        (lambda index, arrays: ([1], arrays), "TypeError"),
        (put("a", value=[]), "TypeError"),
        (put("a", "config", value=3), "AttributeError"),
        (put("a", "config", "kind", value="magic"), "kind must be one of "),
        (put("a", "config", "bits", value="6"),
         "bits must be an integer in 2..8, got '6'; correct it"),
        (put("a", "layout", "shape", value=[60]), "shape must be that of a matrix, got (60,)"),
        (put("a", "layout", "shape", value=[-6, -10]),
         f"shape must be an integer in 1..{2**63 - 1}, got -6; correct it"),
        (put("a", "layout", "shape", value=[1] * 33),
         "shape must have at most 32 dimensions, got 33"),
        (put("a", "layout", "shape", value=[10, 6]),
         "a: codes must be int8 of shape (10, 6), got int8 of shape (6, 10); the file is damaged"),
        (put("a", "layout", "dtype", value="bfloat16"),
         "dtype must be one of float16, float32, float64, got 'bfloat16'; correct it"),
        (put("a", "layout", "is_torch", value=1),
         "is_torch must be True or False, got 1; correct it"),
        (put("a", "layout", "extra", value=1), "TypeError"),
        (put("a", "extra", value=1), "TypeError"),
        (put("a", "code_bits", value=True),
         "code_bits must be an integer in 1..8, got True; correct it"),
        (put("a", "dtype", value="uint8"),
         "a: codes must be uint8 of shape (6, 10), got int8 of shape (6, 10)"),
        (put("a", "shape", value=[60]),
         "a: codes must be int8 of shape (60,), got int8 of shape (6, 10)"),
        (put("a", "is_packed", value=True),
         "a: packed must be uint8 of shape (45,) for 60 codes of 6 bits, got int8 of shape (6, "
         "10); pass all that pack returned"),
        (put("a", "arrays", value=[["scales"]]),
         "names of side arrays must be different strings other than 'codes', got ['scales']; "
         "rename them"),
        (put("a", "arrays", value=["scales", "scales"]),
         "names of side arrays must be different strings other than 'codes', got 'scales', "
         "'scales'; rename them"),
        (put("a", "arrays", value=["steps"]), "KeyError('a:steps')"),
        (put_array("a:scales", None), "KeyError('a:scales')"),
        (put_array("c", np.zeros(2)), "c of no tensor"),
        (put_array("a:codes", np.full((6, 10), 33, np.int8)),
         "a: int8 codes of 6 bits must be in -32..31, got 33; use more bits"),
        (put_array("a:codes", np.full((6, 10), -32, np.int8)),
         "a: codes must be in -31..31, got -32..-32; the file is damaged"),
        (put_array("a:scales", np.zeros((6, 1), np.complex64)),
         "a: dtype of scales must be one of "),
        (put_array("a:scales", np.full((6, 1), np.nan, np.float32)), "a: "),
        (put_array("b", np.zeros(3, np.int32)),
         "b: stored dtype must be one of float32, got 'int32'; correct it"),
        (put("b", "dtype", value="bfloat16"),
         "dtype must be one of bool, int8, uint8, int16, uint16, int32, uint32, int64, uint64, "
         "float16, float32, float64, got 'bfloat16'; correct it"),
    ],
)  # fmt: skip
def test_content_that_makes_no_sense_is_refused(tensors, change, text):
    save("q", {"a": tensors["rows"], "b": tensors["norm"]})
    rewrite(change)
    got = refusal(load, "q")
    assert got.startswith(f"q: content is not what save writes: {text}")
    assert got.endswith("; use another copy")


def test_bools_are_0_or_1():
    save("q", {"a": np.ones(3, bool)})
    raw = bytearray(read_content(Path("q"), 1 << 20))
    raw[-1] = 2
    Path("q").write_bytes(compress(bytes(raw), "none"))
    assert refusal(load, "q") == (
        "q: content is not what save writes: a: bools must be bytes of 0 or 1, got other bytes; "
        "make the array again; use another copy"
    )


def test_no_header_of_safetensors_is_refused(monkeypatch):
    for raw, text in [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        ((1 << 30).to_bytes(8, "little") + b"{}",
         "a header of 1073741824 bytes, more than 16777216"),
        ((2).to_bytes(8, "little") + b"{}", "KeyError('__metadata__')"),
        ((30).to_bytes(8, "little") + b'{"__metadata__":{"other":"{}"}}', "Expecting"),
    ]:  # fmt: skip
        Path("q").write_bytes(compress(raw, "none"))
        assert refusal(load, "q").startswith(f"q: content is not what save writes: {text}")


@pytest.mark.parametrize("packed", [False, True])
def test_hostile_content_never_crashes(tensors, packed, tmp_path):
    save("q", tensors, packed=packed)
    path = tmp_path / "q"
    whole = read_content(path, 1 << 20)

    @given(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=3))
    def check(at, data):
        raw = whole[:at] + data + whole[at + len(data) :]
        path.write_bytes(compress(raw, "none"))
        try:
            loaded = load(path)
        except ValueError:
            return
        for tensor in loaded.values():
            if isinstance(tensor, QuantizedTensor):
                assert np.isfinite(tensor.matrix()).all()

    check()
