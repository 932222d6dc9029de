"""Arrays in files: shards, tokens and logits are mapped, and every damage is refused."""

import numpy as np
import pytest

from eval.data.arrays import open_logits
from eval.data.token_formats import open_integers, read_shard, read_tokens


def shard(path, tokens, **header):
    words = np.zeros(256, "<i4")
    words[:3] = (
        header.get("magic", 20240520),
        header.get("version", 1),
        header.get("n", len(tokens)),
    )
    path.write_bytes(words.tobytes() + np.array(tokens, "<u2").tobytes())
    return path


def test_a_shard_is_read(tmp_path):
    tokens = read_shard(shard(tmp_path / "s.bin", [1, 2, 65535]))
    assert tokens.dtype == np.uint16
    assert tokens.tolist() == [1, 2, 65535]


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"magic": 1},
         "shard must begin with 20240520, 1, or 20240801, 7, got [1, 1] in {p}; name the dtype of "
         "a file without a header with --token-dtype, such as uint16"),
        ({"version": 2},
         "shard must begin with 20240520, 1, or 20240801, 7, got [20240520, 2] in {p}; name the "
         "dtype of a file without a header with --token-dtype, such as uint16"),
        ({"n": 4}, "shard of 4 tokens must have 1032 bytes, got 1030 in {p}; it is cut short or "
                   "damaged"),
        ({"n": -1}, "shard must hold at least one token, got -1 in {p}; leave it out"),
        ({"n": 0}, "shard must hold at least one token, got 0 in {p}; leave it out"),
    ],
)  # fmt: skip
def test_refused_shards(tmp_path, header, text):
    path = shard(tmp_path / "s.bin", [1, 2, 3], **header)
    with pytest.raises(ValueError) as error:
        read_shard(path)
    assert str(error.value) == text.format(p=path)


def test_a_missing_or_tiny_shard_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"shard must be a file, got .*; check the path"):
        read_shard(tmp_path / "none.bin")
    (tmp_path / "tiny.bin").write_bytes(b"\x00" * 8)
    with pytest.raises(ValueError, match=r"got \[0, 0\] in"):
        read_shard(tmp_path / "tiny.bin")


def test_the_validation_shard_of_the_corpora(shared):
    tokens = read_shard(shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin"))
    assert len(tokens) == 2_021_846
    assert tokens.max() < 1024


@pytest.mark.parametrize("dtype", ["<u1", "<u2", "<i4", ">i8"])
def test_tokens_are_read_from_arrays_and_shards(tmp_path, dtype):
    np.save(tmp_path / "t.npy", np.array([3, 0, 7], dtype))
    shard(tmp_path / "t.bin", [3, 0, 7])
    for name in ("t.npy", "t.bin"):
        tokens = read_tokens(tmp_path / name, 8)
        assert (tokens.dtype, tokens.tolist()) == (np.int64, [3, 0, 7])


@pytest.mark.parametrize(
    ("array", "text"),
    [
        ([0.0], "tokens in {p} must be integer token ids, got dtype float64; cast them first if "
                "they really are token ids"),
        ([[1, 2]], "tokens in {p} must be 1-D, got shape (1, 2); pass them in stream order"),
        ([1, 8], "tokens in {p} must be in [0, 8), got 8 at position 1; raise vocab_size or check "
                 "the tokenizer"),
        (np.zeros(0, int), "tokens in {p} must hold at least one token, got none; skip empty "
                           "pieces"),
        ([{}], "tokens must be a whole .npy file of numbers, got {p}; save one array with "
               "numpy.save"),
    ],
)  # fmt: skip
def test_refused_tokens(tmp_path, array, text):
    path = tmp_path / "t.npy"
    np.save(path, np.array(array))
    with pytest.raises(ValueError) as error:
        read_tokens(path, 8)
    assert str(error.value) == text.format(p=path)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f8"])
def test_logits_are_mapped_not_read(tmp_path, dtype):
    np.save(tmp_path / "l.npy", np.ones((3, 2), dtype))
    logits = open_logits(tmp_path / "l.npy")
    assert isinstance(logits, np.memmap)
    assert (logits.shape, logits.dtype) == ((3, 2), np.dtype(dtype))


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.ones((3, 2), int), "logits must be float16, float32 or float64, got int64 in {p}; "
                               "save the output of the model in one of these dtypes"),
        (np.ones((3, 2), "c8"), "logits must be float16, float32 or float64, got complex64 in {p}; "
                                "save the output of the model in one of these dtypes"),
        (np.ones((3, 2), "g"), f"logits must be float16, float32 or float64, got {np.dtype('g')} "
                               "in {p}; save the output of the model in one of these dtypes"),
        (np.ones(3), "logits must have shape (tokens, vocabulary), got (3,) in {p}; save one row "
                     "per token, in stream order"),
        (np.ones((0, 3)), "logits must have shape (tokens, vocabulary), got (0, 3) in {p}; save "
                          "one row per token, in stream order"),
    ],
)  # fmt: skip
def test_refused_logits(tmp_path, array, text):
    path = tmp_path / "l.npy"
    np.save(path, array)
    with pytest.raises(ValueError) as error:
        open_logits(path)
    assert str(error.value) == text.format(p=path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[:20],
        lambda raw: b"PK" + raw,
        lambda raw: raw.replace(b"'descr'", b"'desc\x80'"),
        lambda raw: raw.replace(b"(3, 2)", b"(3, 2("),
        lambda raw: raw.replace(b"(3, 2)", b"[3, 2]"),
        lambda raw: raw.replace(b"<f8", b"<O9"),
    ],
)
def test_damaged_arrays_are_refused(tmp_path, damage):
    path = tmp_path / "l.npy"
    np.save(path, np.ones((3, 2)))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError) as error:
        open_logits(path)
    assert str(error.value) == (
        f"logits must be a whole .npy file of numbers, got {path}; save one array with numpy.save"
    )


@pytest.mark.parametrize("name", ["missing.npy", "."])
def test_arrays_that_are_no_file(tmp_path, name):
    with pytest.raises(ValueError) as error:
        open_logits(tmp_path / name)
    assert str(error.value) == f"logits must be a file, got {tmp_path / name}; check the path"


@pytest.mark.parametrize(
    ("array", "text"),
    [
        ([0.5], "tokens must be integers, got float64 in {p}; save them as integers"),
        ([True], "tokens must be integers, got bool in {p}; save them as integers"),
        ([[1, 2]], "tokens must be a 1-D array of at least one, got shape (1, 2) in {p}; save "
                   "them in stream order"),
        (np.zeros(0, int), "tokens must be a 1-D array of at least one, got shape (0,) in {p}; "
                           "save them in stream order"),
    ],
)  # fmt: skip
def test_refused_integers(tmp_path, array, text):
    path = tmp_path / "t.npy"
    np.save(path, np.array(array))
    with pytest.raises(ValueError) as error:
        open_integers(path, "tokens")
    assert str(error.value) == text.format(p=path)


def test_integers_are_mapped_not_read(tmp_path):
    np.save(tmp_path / "t.npy", np.array([3, 4], np.uint32))
    shard(tmp_path / "t.bin", [3, 4])
    for name in ("t.npy", "t.bin"):
        tokens = open_integers(tmp_path / name, "tokens")
        assert isinstance(tokens, np.memmap)
        assert tokens.tolist() == [3, 4]
