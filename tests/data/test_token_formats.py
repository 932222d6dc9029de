"""Files of token ids: every header and dtype, and what is refused."""

import lzma

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.data.document import Opening
from eval.data.open_data import open_data
from eval.data.token_formats import open_integers, parse_dtype, read_shard

IDS = np.arange(100, 200)


def write_shard(path, tokens, magic=20240520, version=1, dtype="<u2", n=None):
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(tokens) if n is None else n
    path.write_bytes(header.tobytes() + np.asarray(tokens).astype(dtype).tobytes())
    return str(path)


def write_plain(path, tokens, dtype="<u2"):
    path.write_bytes(np.asarray(tokens).astype(dtype).tobytes())
    return str(path)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("u16", "<u2"), ("uint16", "<u2"), ("u2", "<u2"), ("<u2", "<u2"), (">u2", ">u2"),
     ("u32", "<u4"), ("uint32", "<u4"), (">u4", ">u4"), ("i32", "<i4"), ("int64", "<i8"),
     ("i64", "<i8"), ("<u8", "<u8"), ("uint8", "|u1"), ("<u1", "|u1")],
)  # fmt: skip
def test_files_of_ids_alone_are_read_in_the_dtype_that_is_named(tmp_path, name, dtype):
    assert parse_dtype(name) == np.dtype(dtype)
    path = write_plain(tmp_path / "val.bin", IDS, dtype)
    tokens = read_shard(path, name)
    assert isinstance(tokens, np.memmap)
    assert tokens.tolist() == IDS.tolist()
    (document,) = open_data([path], token_dtype=name, vocab_size=256)
    assert (document.tokens.tolist(), document.tokens.dtype) == (IDS.tolist(), np.int64)
    assert document.opening is Opening.NOTHING
    (document,) = open_data([write_plain(tmp_path / "val.u16", IDS, dtype)], token_dtype=name)
    assert document.tokens.tolist() == IDS.tolist()


@pytest.mark.parametrize("name", ["u8", "i8", "float32", "u", "16", "<u3", "uint", "", ">u16"])
def test_what_is_no_dtype_of_ids_is_refused(name):
    with pytest.raises(ValueError) as error:
        parse_dtype(name)
    assert str(error.value) == (
        f"token_dtype must be uint8, uint16, uint32, int32 or int64, got {name!r}; write >u2 for "
        "the other byte order"
    )


def test_shards_of_both_kinds_are_read(tmp_path):
    small = write_shard(tmp_path / "a.bin", [1, 65535])
    large = write_shard(tmp_path / "b.bin", [1, 128_000], 20240801, 7, "<u4")
    assert read_shard(small).tolist() == [1, 65535]
    assert read_shard(large).tolist() == [1, 128_000]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "<i4", "<u4", ">i8", "u1"])
def test_arrays_hold_their_dtype(tmp_path, dtype):
    np.save(tmp_path / "a.npy", IDS.astype(dtype))
    assert open_integers(tmp_path / "a.npy", "tokens").tolist() == IDS.tolist()


@given(st.integers(40, 300), st.integers(0, 9), st.sampled_from(["<u4", "<i8", ">u4"]))
def test_ids_of_another_width_are_refused(tmp_path_factory, n, seed, dtype):
    ids = np.random.default_rng(seed).integers(5, 50_000, n)
    path = write_plain(tmp_path_factory.mktemp("w") / "a.bin", ids, dtype)
    with pytest.raises(ValueError, match=r"must not be the halves of wider ones, got at most 0 at"):
        read_shard(path, ">u2" if dtype[0] == ">" else "u16")
    assert read_shard(path, dtype).tolist() == ids.tolist()


CASES = {
    "no header": (
        lambda p: read_shard(write_plain(p / "a.bin", [5, 0, 6, 0])),
        "shard must begin with 20240520, 1, or 20240801, 7, got [5, 6] in {p}/a.bin; name the "
        "dtype of a file without a header with --token-dtype, such as uint16",
    ),
    "an empty file": (
        lambda p: read_shard(write_plain(p / "a.bin", [])),
        "shard must begin with 20240520, 1, or 20240801, 7, got [] in {p}/a.bin; name the dtype "
        "of a file without a header with --token-dtype, such as uint16",
    ),
    "no ids": (
        lambda p: read_shard(write_plain(p / "a.bin", []), "u16"),
        "a file of uint16 must have a multiple of 2 bytes, got 0 in {p}/a.bin; check "
        "--token-dtype, or whether the file is whole",
    ),
    "odd size": (
        lambda p: read_shard(write_plain(p / "a.bin", [1, 2, 3], "u1"), "u16"),
        "a file of uint16 must have a multiple of 2 bytes, got 3 in {p}/a.bin; check "
        "--token-dtype, or whether the file is whole",
    ),
    "header and dtype": (
        lambda p: read_shard(write_shard(p / "a.bin", [1]), "u16"),
        "token_dtype is for files without a header, got u16 for {p}/a.bin, whose header says "
        "uint16; leave it out",
    ),
    "an array called .bin": (
        lambda p: (np.save(p / "a.npy", IDS), read_shard((p / "a.npy").rename(p / "a.bin"), "u16")),
        "a file of uint16 must hold ids alone, got a NumPy array (.npy) in {p}/a.bin; give an "
        "array the suffix .npy, and decompress other files",
    ),
    "compressed": (
        lambda p: (
            (p / "a.bin").write_bytes(lzma.compress(IDS.astype("<u2").tobytes() * 9)),
            read_shard(p / "a.bin", "u16"),
        ),
        "a file of uint16 must hold ids alone, got xz in {p}/a.bin; give an array the suffix .npy, "
        "and decompress other files",
    ),
    "halves": (
        lambda p: read_shard(write_plain(p / "a.bin", IDS, "<u4"), "u16"),
        "ids of uint16 must not be the halves of wider ones, got at most 0 at every second place "
        "of {p}/a.bin; check --token-dtype",
    ),
    "more in the header than in the file": (
        lambda p: read_shard(write_shard(p / "a.bin", [1], 20240801, 7, "<u4", n=2)),
        "shard of 2 tokens must have 1032 bytes, got 1028 in {p}/a.bin; it is cut short or damaged",
    ),
    "a dtype for an array": (
        lambda p: (np.save(p / "a.npy", IDS), open_data([str(p / "a.npy")], token_dtype="u16")),
        "token_dtype is for files without a header, got u16 for {p}/a.npy, which holds its dtype; "
        "leave it out",
    ),
    "bytes after an array": (
        lambda p: (
            np.save(p / "a.npy", IDS),
            (p / "a.npy").write_bytes((p / "a.npy").read_bytes() + b"1234"),
            open_integers(p / "a.npy", "tokens"),
        ),
        "tokens must end with the array, got 4 bytes after it in {p}/a.npy; save one array with "
        "numpy.save",
    ),
    "a pickle": (
        lambda p: open_integers(p / "token_bytes.pt", "token bytes"),
        "token bytes must not be a pickle, which can run code, got {p}/token_bytes.pt; convert it "
        "where you trust it: numpy.save('FILE.npy', torch.load(path, weights_only=True).numpy())",
    ),
    "missing bytes of tokens": (
        lambda p: open_data([write_shard(p / "a.bin", [1])], token_bytes=str(p / "none.bin")),
        "shard must be a file, got {p}/none.bin; check the path",
    ),
    "a document's end beyond V": (
        lambda p: open_data([write_shard(p / "a.bin", [1])], document_end=9, vocab_size=9),
        "document_end must be a token in [0, 9), got 9; leave it out if no token ends a document",
    ),
    "a document's end in text": (
        lambda p: ((p / "a.txt").write_text("x"), open_data([str(p / "a.txt")], document_end=1)),
        "document_end goes with token files, got it with {p}/a.txt; leave it out",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused(tmp_path, name):
    make, text = CASES[name]
    with pytest.raises(ValueError) as error:
        make(tmp_path)
    assert str(error.value) == text.format(p=tmp_path)


# ---------------------------------------------------------------------------- where documents end


def documents_of(path, **options):
    rows = []
    for piece in open_data([path], **options):
        if piece.begins:
            rows.append((piece.tokens.tolist(), piece.opening))
        else:
            rows[-1][0].extend(piece.tokens.tolist())
    return rows


def test_a_document_may_end_with_a_token(tmp_path):
    BOS, END, NOTHING = Opening.BOS, Opening.END, Opening.NOTHING
    path = write_shard(tmp_path / "a.bin", [5, 6, 9, 7, 9, 8])
    assert documents_of(path, document_end=9) == [([5, 6, 9], END), ([7, 9], END), ([8], END)]
    assert documents_of(path, document_end=9, bos=9) == documents_of(path, document_end=9)
    assert documents_of(path) == [([5, 6, 9, 7, 9, 8], NOTHING)]
    assert documents_of(path, bos=9) == [([5, 6], NOTHING), ([7], BOS), ([8], BOS)]
    path = write_shard(tmp_path / "b.bin", [1, 5, 9, 1, 6, 9])
    assert documents_of(path, document_end=9, bos=1) == [([5, 9], BOS), ([6, 9], BOS)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_documents_that_end_with_a_token_are_the_stream(tmp_path_factory, tokens):
    path = write_shard(tmp_path_factory.mktemp("e") / "a.bin", tokens)
    documents = documents_of(path, document_end=0)
    assert [t for tokens, _ in documents for t in tokens] == tokens
    assert len(documents) == tokens.count(0) + (tokens[-1] != 0)


# ---------------------------------------------------------------------------- bytes of each id


def test_bytes_of_each_id_are_a_table(tmp_path):
    path = write_shard(tmp_path / "a.bin", [1, 5, 3, 1, 5])
    np.save(tmp_path / "table.npy", [9, 0, 9, 30, 9, 50])
    options = {"bos": 1, "vocab_size": 6, "token_bytes": str(tmp_path / "table.npy")}
    rows = [(d.tokens.tolist(), d.token_bytes.tolist()) for d in open_data([path], **options)]
    assert rows == [([5, 3], [50, 30]), ([5], [50])]
    again = write_plain(tmp_path / "b.bin", [1, 3])
    table = write_plain(tmp_path / "t.bin", [9, 0, 9, 30, 9, 50])
    options |= {"token_dtype": "u16", "token_bytes": table}
    rows = [d.token_bytes.tolist() for d in open_data([again], **options)]
    assert rows == [[30]]


def test_numbers_that_may_be_of_tokens_or_of_ids_are_refused(tmp_path):
    path = write_shard(tmp_path / "a.bin", [1, 2, 0])
    side = write_shard(tmp_path / "s.bin", [0, 7, 8])
    options = {"vocab_size": 3, "token_bytes": side}
    with pytest.raises(ValueError) as error:
        open_data([path], **options)
    assert str(error.value) == (
        "token bytes must be of each token or of each id, got 3 numbers for 3 tokens of a "
        "vocabulary of 3; pass --token-bytes-per token or id"
    )
    for per, expected in (("token", [0, 7, 8]), ("id", [7, 8, 0])):
        (document,) = open_data([path], **options, token_bytes_per=per)
        assert document.token_bytes.tolist() == expected
    with pytest.raises(ValueError) as error:
        open_data([path], vocab_size=4, token_bytes=side, token_bytes_per="id")
    assert str(error.value) == (
        f"token bytes must be as many as the 4 ids of the vocabulary, got 3 in {side}; write 0 for "
        "special tokens and unused ids"
    )


def test_the_first_token_of_a_stream_may_have_bytes(tmp_path):
    path = write_shard(tmp_path / "a.bin", [1, 5, 1, 6])
    side = write_shard(tmp_path / "s.bin", [4, 2, 0, 3])
    documents = list(open_data([path], bos=1, token_bytes=side))
    assert [d.tokens.tolist() for d in documents] == [[1, 5], [6]]
    assert documents[0].opening is Opening.NOTHING
    side = write_shard(tmp_path / "s.bin", [4, 2, 1, 3])
    with pytest.raises(
        ValueError, match="token bytes must be 0 where a document begins, got 1 at 2"
    ):
        list(open_data([path], bos=1, token_bytes=side))
