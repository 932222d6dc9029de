"""``bench read``: the same text and tokens whatever the format, and peers that do their work."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.bench import read, read_files
from eval.cli import main
from eval.data.open_data import open_data
from eval.scoring.tokenized import encode
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer

TEXT = ("def f(x):\n    return x + 1  # Größe\r\n\n" * 300).encode()
LLAMA = "models/llama-sp1024-1m4/tokenizer.json"
PIECES = "data/tokenizers/fineweb_1024_bpe.model"


@pytest.fixture(scope="module")
def tokenizers():
    return read_files.load_timed_tokenizers([])


def raw_of(path, **options):
    """The bytes of all documents of a file."""
    return b"".join(document.raw for document in open_data([str(path)], **options))


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_every_format_holds_the_text(tmp_path_factory, text):
    folder, raw = tmp_path_factory.mktemp("texts"), text.encode() * 40
    files = read_files.write_texts(raw, folder)
    assert {path.name for path in files.values()} == {f"text{s}" for s in read_files.READERS}
    for path in files.values():
        assert raw_of(path) == raw


def test_rows_are_no_longer_than_a_page(tmp_path):
    files = read_files.write_texts(TEXT, tmp_path)
    rows = [document.raw for document in open_data([str(files[".parquet"])]) if document.begins]
    assert len(rows) > 2
    assert max(map(len, rows)) <= read_files.ROW


def test_a_shard_holds_the_tokens_of_the_rows(tmp_path, tokenizers):
    rows = read_files.write_texts(TEXT, tmp_path)[".jsonl"]
    for timed in tokenizers:
        tokenizer = timed.tokenizer
        (shard,) = read_files.write_shard(rows, tokenizer, tmp_path).values()
        options = {"bos": tokenizer.bos, "vocab_size": tokenizer.vocab_size}
        found = list(open_data([str(shard)], **options))
        expected = list(encode(open_data([str(rows)]), tokenizer))
        assert [d.tokens.tolist() for d in found] == [e.tokens.tolist() for e in expected]
        assert b"".join(tokenizer.decode_bytes(d.tokens) for d in found) == TEXT


def test_there_is_no_shard_where_the_tokenizer_does_not_fit(tmp_path):
    rows = read_files.write_texts(TEXT, tmp_path)[".jsonl"]
    assert read_files.write_shard(rows, ByteTokenizer(), tmp_path) == {}
    assert read_files.write_shard(rows, ByteTokenizer(65_536), tmp_path) == {}
    assert read_files.write_shard(rows, ByteTokenizer(65_535), tmp_path)


def test_a_tokenizer_that_drops_blanks_of_rows_reads_the_text_alone(shared, tmp_path, capsys):
    pytest.importorskip("sentencepiece")
    path = tmp_path / "a.txt"
    path.write_bytes(b"some words on one line " * 200 + b"end")  # cut before a blank
    arguments = ["bench", "read", "--data", str(path), "--runs", "1"]
    assert main([*arguments, "--tokenizer", str(shared(PIECES)), "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "read.json").read_text(encoding="utf-8"))
    name = load_tokenizer(shared(PIECES)).name
    why = (
        "tokens must decode to the raw bytes, got 509 for 510 in text.jsonl:2, b'some words o' for "
        "b' some words ' at byte 0 (the space before the text is counted twice, or lost); take a "
        "tokenizer that loses nothing, or score the raw bytes with --model none"
    )
    assert result["left_out"] == {name: why}
    assert " ".join(why.split()) in " ".join(shown.split())
    assert [case["format"] for case in result["cases"] if case["tokenizer"] == name] == [".txt"]


def test_every_way_goes_over_all_of_the_text(tmp_path, tokenizers):
    for timed in tokenizers:
        files = read_files.write_texts(TEXT, tmp_path)
        files |= read_files.write_shard(files[".jsonl"], timed.tokenizer, tmp_path)
        for suffix, path in files.items():
            ways = read.make_ways(path, suffix, timed, len(TEXT))
            found = {name: way() for name, way in ways.items()}
            n_documents = len(list(open_data([str(path)], bos=timed.tokenizer.bos)))
            assert found.pop("documents") == n_documents
            if suffix == ".txt":  # the reader of datasets drops line breaks
                n_lines = len(TEXT.splitlines())
                assert found["tokens"] - 2 * n_lines <= found.pop("datasets") < found["tokens"]
            assert len(set(found.values())) == 1
            assert set(ways) == set(read.WAYS) - (
                {"library", "datasets"} if suffix == ".bin" else set()
            )


@pytest.mark.parametrize("name", [LLAMA, PIECES])
def test_the_library_alone_makes_the_same_ids(shared, name):
    if name == PIECES:
        pytest.importorskip("sentencepiece")
    timed = read_files.load_timed_tokenizer(str(shared(name)))
    assert timed.name == load_tokenizer(shared(name)).name
    text = "plain words, and a few more"
    (ids,) = timed.alone([text])
    assert len(ids) < len(text)
    assert timed.tokenizer.decode_bytes(np.array(ids)).lstrip() == text.encode()


def test_a_tokenizer_of_raw_bytes_may_be_named():
    timed = read_files.load_timed_tokenizer("bytes")
    (ids,) = timed.alone(["é"])
    assert (timed.name, ids.tolist()) == ("bytes", [0xC3, 0xA9])


def test_a_lost_byte_is_a_bug(tmp_path, tokenizers):
    path = read_files.write_texts(TEXT, tmp_path)[".txt"]
    ways = read.make_ways(path, ".txt", tokenizers[0], len(TEXT) + 1)
    with pytest.raises(RuntimeError) as raised:
        ways["batches"]()
    assert str(raised.value) == (
        f"batches must hold all {len(TEXT) + 1} bytes of the text, got {len(TEXT)}; "
        "this is a bug of ngrammix: please report it with the text"
    )


def test_the_embedded_text_is_the_default():
    document = read.load_text(None)
    assert document.name == "the Python language reference"
    assert len(document.raw) > 400_000


def test_a_tokenizer_that_loses_bytes_is_refused_first(shared, tmp_path, capsys):
    pytest.importorskip("sentencepiece")
    path = tmp_path / "a.txt"
    path.write_bytes(b"two  blanks")
    arguments = ["bench", "read", "--data", str(path), "--tokenizer", str(shared(PIECES))]
    assert main(arguments) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: tokens must decode to the raw bytes, got 10 for 11 in a.txt, b'blanks' "
        "for b' blanks' at byte 4 (white space is dropped, merged or replaced); take a tokenizer "
        "that loses nothing, or score the raw bytes with --model none\n"
    )


def test_what_cannot_be_measured_is_refused(tmp_path, capsys):
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab\xff")
    for arguments, text in (
        (
            ["--data", str(path)],
            f"text must be UTF-8, as in JSON, got byte 0xff at 2 in {path} (invalid start byte); "
            "convert the file",
        ),
        (
            ["--data", str(tmp_path / "b")],
            f"text must be a file, got {tmp_path / 'b'}, which is missing; check the path",
        ),
        (["--runs", "0"], "--runs must be >= 1, got 0; leave it out for the default"),
        (
            ["--tokenizer", "no.such"],
            "tokenizer must be bytes, a .json, a .model, a .tiktoken or a folder, got no.such; "
            "check the path",
        ),
    ):
        assert main(["bench", "read", *arguments]) == 2
        assert capsys.readouterr().err == f"ngrammix: error: {text}\n"
