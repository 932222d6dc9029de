"""Raw text: bytes as they are, cut by content alone, where tokenizers see no cut."""

import io
import json
import os
import sys
import threading
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from eval.data.cuts import PIECE, cut, pieces, rules
from eval.data.document import Document
from eval.data.file_data import FileData
from eval.data.text import read_documents, row_documents

WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
TEXTS = st.text(st.sampled_from("aaaab/é☃𝄞" + WHITE + "\n\n\n   "), max_size=60).map(str.encode)
BYTES = st.one_of(TEXTS, st.binary(max_size=60))
LIMITS = st.integers(4, 12)

# The pre-tokenizers of GPT-2, of cl100k (Llama 3, Qwen) and of o200k.
CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPLITTERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "cl100k": pre_tokenizers.Split(Regex(CL100K), "isolated"),
    "o200k": pre_tokenizers.Split(Regex(O200K), "isolated"),
}


def plain_cut(text, start, limit):
    """The rule of `cut` read aloud, on characters: slow, and for text that is UTF-8 only."""
    raw = text.encode()
    if len(raw) - start <= limit:
        return len(raw)
    here = len(raw[:start].decode())
    ends = [i for i in range(here + 1, len(text)) if len(text[here:i].encode()) <= limit]

    def is_lone(i, white):  # the character at i stands alone between two that are none
        return text[i] == white and (i == 0 or text[i - 1] not in WHITE) and (
            i + 1 == len(text) or text[i + 1] not in WHITE + "/"
        )  # fmt: skip

    lines = [i for i in ends if is_lone(i - 1, "\n")]
    words = [i for i in ends if is_lone(i, " ")]
    return len(text[: (lines or words or ends)[-1]].encode())


@pytest.mark.parametrize(
    ("raw", "end"),
    [
        (b"aaa\nbb", 4),  # after the line break
        (b"aaaa\nb", 4),  # which would be one byte too long
        (b"a\nb c", 2),  # a line break before a space
        (b"a bbbb", 1),  # before the space
        (b"aaaa bb", 4),
        (b" aaaaa", 4),  # no piece is empty
        (b"a\n\nb c", 4),  # white space is never cut where there is a choice
        (b"a\n/bb", 4),
        ("a𝄞bb".encode(), 4 - 3),  # no character is cut
        (b"a\x80\x80\x80\x80\x80", 4),  # unless the bytes are no UTF-8
        (b"aaaa", 4),
    ],
)
def test_where_a_piece_of_four_bytes_ends(raw, end):
    assert cut(raw, 0, 4) == end


@settings(max_examples=300)
@given(TEXTS, LIMITS)
def test_cuts_are_where_the_rule_says(raw, limit):
    start = 0
    while start < len(raw):
        end = cut(raw, start, limit)
        assert end == plain_cut(raw.decode(), start, limit)
        start = end


@example(b"aaa \naaaaaa", 4, [1])  # the line break is not alone, though its space has gone before
@given(BYTES, LIMITS, st.lists(st.integers(1, 20), min_size=1))
def test_pieces_are_the_whole_however_it_is_read(raw, limit, reads):
    blocks, start = [], 0
    while start < len(raw):
        size = reads[len(blocks) % len(reads)]
        blocks.append(raw[start : start + size])
        start += size
    parts = list(pieces(blocks, limit))
    assert b"".join(parts) == raw
    assert parts == list(pieces([raw], limit))
    assert all(len(piece) <= limit for piece in parts)
    assert all(parts) == bool(raw)


@given(BYTES, LIMITS)
def test_no_character_is_cut_where_there_are_any(raw, limit):
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return
    for piece in pieces([raw], limit):
        piece.decode("utf-8")


@pytest.mark.parametrize("name", SPLITTERS)
@given(st.text(st.sampled_from("ab1./é \n\t\r\u3000"), min_size=40, max_size=200))
def test_pre_tokenizers_see_no_cut_at_lone_white_space(name, text):
    split = SPLITTERS[name].pre_tokenize_str
    raw, start, joined = text.encode(), 0, []
    while start < len(raw):
        if len(raw) - start > 40 and not any(rule.match(raw, start) for rule in rules(40)):
            return  # no lone white space in 40 bytes: a word was cut
        end = cut(raw, start, 40)
        joined += split(raw[start:end].decode())
        start = end
    assert [word for word, _ in joined] == [word for word, _ in split(text)]


@pytest.mark.parametrize(
    "name", ["books/darwin.txt", "code/linux-kernel.txt", "logs/Linux_2k.log",
             "wikitext2/wikitext-2-tokens.test.txt"]
)  # fmt: skip
def test_the_tokens_of_real_text_are_those_of_the_whole(shared, name):
    vocab = json.loads(shared("data/tokenizers/gpt2_vocab.json").read_text(encoding="utf-8"))
    merges = shared("data/tokenizers/gpt2_merges.txt").read_text(encoding="utf-8").split("\n")
    model = models.BPE(vocab, [tuple(line.split()) for line in merges[1:] if line])
    raw = shared(f"data/{name}").read_bytes()[:150_000].decode("utf-8", "ignore").encode()
    parts = list(pieces([raw]))
    assert len(parts) >= 9
    for splitter in SPLITTERS.values():
        tokenizer = Tokenizer(model)
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        is_gpt2 = splitter is SPLITTERS["gpt2"]
        tokenizer.pre_tokenizer = (
            splitter if is_gpt2 else pre_tokenizers.Sequence([splitter, byte_level])
        )
        joined = [one for piece in parts for one in tokenizer.encode(piece.decode()).ids]
        assert joined == tokenizer.encode(raw.decode()).ids


def test_a_row_is_one_document_in_pieces():
    raw = b"word " * 10_000
    documents = list(row_documents("t.jsonl:7", raw, 99))
    assert b"".join(d.raw for d in documents) == raw
    assert [d.begins for d in documents] == [True, False, False, False]
    assert {(d.name, d.offset) for d in documents} == {("t.jsonl:7", 99)}
    assert [d.raw for d in row_documents("empty", b"", 0)] == [b""]


def test_a_file_comes_byte_for_byte(tmp_path):
    raw = b"\xef\xbb\xbfa\r\nb\n\n\x00\xff \r" * 10_000
    path = tmp_path / "x"
    path.write_bytes(raw)
    file = FileData(str(path), option="bytes")
    for _ in range(2):  # from the beginning each time
        documents = list(file)
        assert b"".join(d.raw for d in documents) == raw
        assert [d.begins for d in documents] == [True] + [False] * (len(documents) - 1)
        offsets = [d.offset for d in documents]
        assert offsets == sorted(offsets)
        assert (offsets[-1], file.size) == (len(raw), len(raw))


def test_pieces_are_read_in_constant_memory(tmp_path):
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 200_000_000)
    tracemalloc.start()
    total = sum(len(document.raw) for document in FileData(str(path), option="bytes"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 200_000_000
    assert peak < 4_000_000


def test_standard_input_is_read_once(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\r\nb")))
    pipe = FileData("-")
    assert (pipe.name, pipe.size) == ("standard input", None)
    assert [(d.name, d.raw) for d in pipe] == [("standard input", b"a\r\nb")]
    with pytest.raises(ValueError) as error:
        list(pipe)
    assert str(error.value) == (
        "a pipe can be read once, got a second iteration over standard input; save it to a file"
    )


def test_a_named_pipe_is_read_once(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    raw = b"line\n" * 20_000
    writer = threading.Thread(target=path.write_bytes, args=[raw])
    writer.start()
    pipe = FileData(str(path))
    assert pipe.size is None
    assert b"".join(d.raw for d in pipe) == raw
    writer.join()
    with pytest.raises(ValueError, match=f"got a second iteration over {path}; save"):
        list(pipe)


def test_whole_files_come_as_they_are(tmp_path):
    raw = b"a\r\nb\n\n\x00\xff \xef\xbb\xbf" * PIECE
    (tmp_path / "x").write_bytes(raw)
    (document,) = read_documents([tmp_path / "x"])
    assert isinstance(document, Document)
    assert (document.name, document.raw, document.begins) == (str(tmp_path / "x"), raw, True)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda p: None, "text must be a file, got {p}, which is missing; check the path"),
        (lambda p: p.mkdir(), "text must be a file, got {p}, which is a folder; check the path"),
        (lambda p: p.touch(), "text must hold at least one byte, got the empty file {p}"),
    ],
)
def test_refused_texts(tmp_path, make, text):
    path = tmp_path / "text"
    make(path)
    with pytest.raises(ValueError) as error:
        read_documents([path])
    assert str(error.value) == text.format(p=path)
