"""save and load: the same bits come back, and nothing else does."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from quant.base.config import QuantizedTensor
from quant.base.matrix import Layout
from quant.io.codecs import CODECS
from quant.io.file import load, save
from quant.io.records import NUMPY_DTYPES, STORED_AS
from quant.quantizers.scalar import ScalarConfig

pytestmark = pytest.mark.usefixtures("inside")


@pytest.fixture
def tensors(tensors):
    """One tensor of every kind."""
    convolution = torch.ones(2, 3, 2, 2, dtype=torch.float64)
    return tensors | {"convolution": ScalarConfig(bits=8).encode(convolution)}


def same(one, other):
    """Whether two tensors are alike to the bit."""
    if isinstance(one, QuantizedTensor):
        names = ("code_bits", "layout", "config")
        return (
            all(getattr(one, name) == getattr(other, name) for name in names)
            and same(one.codes, other.codes)
            and list(one.arrays) == list(other.arrays)
            and all(map(same, one.arrays.values(), other.arrays.values()))
            and same(one.dequantize(), other.dequantize())
        )
    if isinstance(one, torch.Tensor):
        return (
            isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
        )
    return (
        isinstance(other, np.ndarray)
        and one.dtype.name == other.dtype.name
        and one.shape == other.shape
        and one.tobytes() == other.tobytes()
    )


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:
        call(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("codec", ["best", *CODECS])
def test_what_was_saved_is_loaded(tensors, packed, codec):
    if codec != "best" and not CODECS[codec].is_installed:
        pytest.skip(f"{codec} is not installed")
    assert save("q", tensors, packed=packed, codec=codec) is None
    loaded = load("q")
    assert list(loaded) == list(tensors)
    assert all(map(same, tensors.values(), loaded.values()))
    assert os.listdir() == ["q"]  # noqa: PTH208


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32",
                                   "int64", "uint64", "float16", "float32", "float64"])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3, 1)])
def test_arrays_of_any_dtype_and_shape_pass_through(rng, dtype, shape):
    array = np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    tensors = {"numpy": array, "torch": torch.from_numpy(array)}
    save("q", tensors, codec="none")
    loaded = load("q")
    assert all(map(same, tensors.values(), loaded.values()))
    loaded["numpy"][...] = 0  # its own


def test_arrays_of_any_layout_pass_through():
    array = np.arange(12, dtype=">f4").reshape(3, 4)
    tensors = {
        "big": array,
        "turned": array.T,
        "apart": array[::2, ::3],
        "tensor": torch.arange(6).reshape(2, 3).T,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "nan": np.array([np.nan, np.inf, -0.0]),
    }
    save("q", tensors)
    for name, loaded in load("q").items():
        expected = np.asarray(tensors[name].detach() if name == "parameter" else tensors[name])
        np.testing.assert_array_equal(loaded, expected)


@pytest.mark.parametrize("shape", [(), (3,), (0, 2), (2, 3)])
def test_bfloat16_passes_through(shape):
    tensors = {"bits": torch.full(shape, 1.0 / 3, dtype=torch.bfloat16)}
    save("q", tensors)
    assert same(load("q")["bits"], tensors["bits"])


def test_nothing_is_a_file_too():
    save("q", {})
    assert load("q") == {}


def test_packed_codes_take_their_bits(rng):
    q = ScalarConfig(bits=6).encode(rng.normal(size=(64, 64)))
    save("loose", {"a": q}, codec="none")
    save("tight", {"a": q}, codec="none", packed=True)
    loose, tight = (Path(name).stat().st_size for name in ("loose", "tight"))
    assert 4096 // 4 - 20 < loose - tight < 4096 // 4 + 20  # but for what JSON says of it


def test_one_name_may_be_any_string(tensors):
    names = ["", ":", "a:b", "codes", "é\n", "0"]
    many = dict.fromkeys(names, tensors["norm"]) | {"layer.0.weight": tensors["rows"]}
    save("q", many)
    assert list(load("q")) == list(many)


def test_the_same_tensors_are_the_same_bytes(tensors):
    save("q", tensors)
    save("r", tensors)
    assert Path("q").read_bytes() == Path("r").read_bytes()


def test_a_failure_leaves_the_old_file(tensors, monkeypatch):
    save("q", tensors)
    before = Path("q").read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert refusal(save, "q", {"other": tensors["norm"]}) == (
        "quantized tensors must become a file, got q, which cannot be written: No space left on "
        "device; make room on its disk"
    )
    assert os.listdir() == ["q"]  # noqa: PTH208
    assert Path("q").read_bytes() == before


@pytest.mark.parametrize("dtype", STORED_AS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 5)])
def test_dtypes_that_numpy_lacks_come_back(dtype, shape):
    values = torch.randn(shape).to(getattr(torch, dtype))
    for tensor in (values, values.conj(), values[..., ::2] if shape else values):
        save("q", {"a": tensor})
        back = load("q")["a"]
        assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape)
        assert back.tolist() == tensor.tolist() if shape != (2, 0) else True


def test_a_link_stays_and_what_it_leads_to_is_replaced(tensors):
    Path("folder").mkdir()
    Path("link").symlink_to("folder/q")
    save("link", {"a": tensors["norm"]})
    save("link", {"b": tensors["norm"]})
    assert Path("link").is_symlink()
    assert load("folder/q").keys() == load("link").keys() == {"b"}
    assert os.listdir("folder") == ["q"]  # noqa: PTH208


def test_a_path_that_no_file_can_take(tensors):
    Path("folder").mkdir()
    end = "a device; name a file"
    for path, text in (
        ("no/q", "quantized tensors must go into a folder that exists, got no/q; make no first"),
        ("folder", "quantized tensors must become a file, got folder, a folder; name a file"),
        ("/dev/null", f"quantized tensors must become a file, got /dev/null, {end}"),
        ("n" * 300, f"quantized tensors must become a file, got {'n' * 300}, which cannot be "
                    "written: File name too long; name another"),
    ):  # fmt: skip
        assert refusal(save, path, {"a": tensors["norm"]}) == text
    assert sorted(os.listdir()) == ["folder"]  # noqa: PTH208
    save("n" * 250, {"a": tensors["norm"]})


def test_what_could_not_be_loaded_is_not_saved(tensors):
    q = tensors["rows"]

    def change(**fields):
        return QuantizedTensor(**(vars(q) | fields))

    complex_array = np.zeros(2, np.complex64)
    numpy_dtypes = ", ".join(NUMPY_DTYPES)
    for tensor, text in [
        ([1.0], "a tensor must be a QuantizedTensor, a numpy array or a torch tensor, got list; "
                "convert it, or leave it out"),
        (complex_array, f"dtype must be one of {numpy_dtypes}, got 'complex64'; correct it"),
        (torch.empty(2, dtype=torch.bits8),
         f"dtype must be one of {numpy_dtypes}, {', '.join(STORED_AS)}, got 'bits8'; correct it"),
        (change(codes=q.codes.astype(np.int16)),
         "dtype of codes must be one of int8, uint8, got 'int16'; correct it"),
        (change(code_bits=9), "code_bits must be an integer in 1..8, got 9; correct it"),
        (change(code_bits=5),
         f"int8 codes of 5 bits must be in -16..15, got {q.codes[abs(q.codes + .5) > 16][0]}; "
         "use more bits"),
        (change(arrays={"scales": complex_array}),
         f"dtype of scales must be one of {numpy_dtypes}, got 'complex64'; correct it"),
        (change(arrays={"codes": q.codes}),
         "names of side arrays must be different strings other than 'codes', got 'codes'; rename "
         "them"),
        (change(layout=Layout(shape=(60,), dtype="float32", is_torch=False)),
         "shape must be that of a matrix, got (60,)"),
        (change(layout=Layout(shape=(5, 10), dtype="float32", is_torch=False)),
         "codes must be int8 of shape (5, 10), got int8 of shape (6, 10); the file is damaged"),
    ]:  # fmt: skip
        assert refusal(save, "q", {"a": tensor}) == f"a: {text}"
    assert refusal(save, "q", {3: tensors["norm"]}) == ("names must be strings, got 3; convert it")
    for name in ("a:codes", "__metadata__"):
        assert refusal(save, "q", {"a": q, name: tensors["norm"]}) == (
            f"names in a file must differ, got {name!r} again; rename the tensor"
        )
    assert refusal(save, "q", tensors, codec="zip") == (
        "codec must be one of best, none, zstd, brotli, lzma, got 'zip'; correct it"
    )
    assert not os.listdir()  # noqa: PTH208
