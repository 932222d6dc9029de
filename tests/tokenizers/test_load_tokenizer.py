"""Tokenizers: every byte of the text has its token, or there is an error that says why not."""

import builtins
import json
import lzma
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from eval.data.document import Document
from eval.demo.model import TOKENIZER_PATH
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.files import model_type
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer
from eval.tokenizers.sentencepiece import SentencePieceTokenizer
from eval.tokenizers.side_car import SideCarTokenizer

TEXTS = st.text(min_size=1, max_size=40)


def letters(**spec):
    """A tokenizer.json whose tokens are single letters: blank, a, b, f, i, A, o, line end."""
    vocab = {token: i for i, token in enumerate(["▁", "a", "b", "f", "i", "A", "o", "\n"])}
    return {
        "version": "1.0", "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never",
                          "split": False},
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"},
        "model": {"type": "BPE", "vocab": vocab, "merges": []},
    } | spec  # fmt: skip


def write(path, spec):
    path.write_text(spec if isinstance(spec, str) else json.dumps(spec))
    return path


# ---------------------------------------------------------------------------- laws


@given(st.binary(min_size=1, max_size=40))
def test_any_bytes_are_their_own_tokens(raw):
    tokens, n_bytes = ByteTokenizer().encode(Document("x", raw))
    assert tokens.tolist() == list(raw)
    assert n_bytes.tolist() == [1] * len(raw)
    assert ByteTokenizer().decode_bytes(tokens) == raw


@settings(max_examples=40)
@given(TEXTS, st.booleans(), st.sampled_from(["first", "always", "never", "prepend"]))
def test_a_marked_blank_is_counted_as_often_as_it_is_in_the_text(text, begins, scheme):
    vocab = {f"<0x{byte:02X}>": byte for byte in range(256)} | {"▁": 256, "a": 257, "▁a": 258}
    spec = letters(model={"type": "BPE", "vocab": vocab, "merges": [["▁", "a"]],
                          "byte_fallback": True})  # fmt: skip
    spec["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
        ],
    }  # fmt: skip
    if scheme == "prepend":
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        prepend = {"type": "Prepend", "prepend": "▁"}
        spec |= {"normalizer": {"type": "Sequence", "normalizers": [prepend, replace]}}
        spec["pre_tokenizer"] = None
    else:
        spec["pre_tokenizer"]["prepend_scheme"] = scheme
    library = Tokenizer.from_str(json.dumps(spec))
    tokenizer = FastTokenizer(library, name="x")
    text = text.replace("▁", "")
    raw = text.encode()
    tokens, n_bytes = tokenizer.encode(Document("x", raw, begins=begins))
    assert n_bytes.sum() == len(raw)
    assert (n_bytes >= 0).all()
    decoded = tokenizer.decode_bytes(tokens)
    assert decoded[len(decoded) - len(raw) :] == raw
    if begins and text and not text.startswith(" "):
        assert tokens.tolist() == library.encode(text, add_special_tokens=False).ids
    if len(tokens):  # what was encoded is counted alike where only its tokens are known
        again, counted = tokenizer.encode(Document("x", tokens=tokens, begins=begins))
        np.testing.assert_array_equal(again, tokens)
        np.testing.assert_array_equal(counted, n_bytes)


@settings(max_examples=40)
@given(TEXTS, st.booleans())
def test_byte_level_tokens_encode_any_text(text, begins):
    tokenizer = FastTokenizer(TOKENIZER_PATH, bos=0)
    tokens, n_bytes = tokenizer.encode(Document("x", text.encode(), begins=begins))
    library = Tokenizer.from_file(str(TOKENIZER_PATH))
    assert tokens.tolist() == library.encode(text).ids
    assert tokenizer.decode_bytes(tokens) == text.encode()
    assert n_bytes.tolist() == [
        len(tokenizer.decode_bytes(tokens[i : i + 1])) for i in range(len(tokens))
    ]
    np.testing.assert_array_equal(tokenizer.encode(Document("x", tokens=tokens))[1], n_bytes)


def test_truncation_padding_and_dropout_are_off(tmp_path):
    spec = letters(truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
                               "stride": 0},
                   padding={"strategy": {"Fixed": 9}, "direction": "Right", "pad_id": 0,
                            "pad_to_multiple_of": None, "pad_type_id": 0, "pad_token": "▁"},
                   )  # fmt: skip
    spec["model"] = {
        "type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]], "dropout": 0.9,
    }  # fmt: skip
    tokenizer = FastTokenizer(write(tmp_path / "t.json", spec))
    for _ in range(5):
        assert tokenizer.encode(Document("x", b"ababab"))[0].tolist() == [2, 2, 2]


def test_text_that_looks_like_a_special_token_is_text(shared):
    tokenizer = load_tokenizer(shared("models/llama-sp1024-1m4"))
    tokens, n_bytes = tokenizer.encode(Document("x", b"</s>"))
    assert 2 not in tokens
    assert n_bytes.sum() == 4
    tokens, n_bytes = tokenizer.encode(Document("x", tokens=np.array([2, 354])))
    assert n_bytes.tolist() == [0, 2]  # the blank after a boundary is none of the text


def test_an_empty_text_has_no_tokens(shared):
    for tokenizer in (ByteTokenizer(), load_tokenizer(shared("models/llama-sp1024-1m4"))):
        tokens, n_bytes = tokenizer.encode(Document("x", b""))
        assert (len(tokens), len(n_bytes)) == (0, 0)


def test_bytes_of_a_side_car_are_taken():
    document = Document("x", tokens=np.array([5, 255, 3]), token_bytes=np.array([7, 0, 2]))
    for tokenizer in (SideCarTokenizer(300), ByteTokenizer(299), FastTokenizer(TOKENIZER_PATH)):
        tokens, n_bytes = tokenizer.encode(document)
        assert (tokens.tolist(), n_bytes.tolist()) == ([5, 255, 3], [7, 0, 2])
    assert SideCarTokenizer(300).decode_bytes(np.array([5])) == b""


def test_a_beginning_that_is_no_byte_has_no_bytes():
    tokenizer = ByteTokenizer(256)
    assert (tokenizer.vocab_size, tokenizer.bos) == (257, 256)
    assert tokenizer.encode(Document("x", tokens=np.array([256, 65])))[1].tolist() == [0, 1]
    assert tokenizer.decode_bytes(np.array([256, 65])) == b"A"


# ---------------------------------------------------------------- golden: Parameter Golf


def shard(path):
    return np.fromfile(path, "<u2", offset=1024).astype(np.int64)


def split(tokens):
    documents = [d[d != 1] for d in np.split(tokens, np.flatnonzero(tokens == 1))]
    return [document for document in documents if len(document)]


def verified(shared):
    lines = shared("data/fineweb/verify_docs.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line)["text"] for line in lines if line]


def sizes(tokenizer, documents):
    return [int(tokenizer.encode(Document("x", tokens=d))[1].sum()) for d in documents]


@pytest.fixture
def pieces(shared):
    return {
        size: SentencePieceTokenizer(shared(f"data/tokenizers/fineweb_{size}_bpe.model"))
        for size in (1024, 4096, 8192)
    }


@pytest.fixture
def head(shared):
    path = shared("data/fineweb/fineweb_val_head_sp1024_1040297tok.u16.xz")
    return np.frombuffer(lzma.decompress(path.read_bytes()), "<u2").astype(np.int64)


def test_the_first_validation_documents_have_their_published_bytes(shared, pieces, head):
    n_bytes = sizes(pieces[1024], split(head))
    assert [sum(n_bytes[:n]) for n in (1, 10, 100)] == [1_339, 22_919, 291_960]
    assert sum(n_bytes) == 2_504_867
    assert 0.408 < len(head) / sum(n_bytes) < 0.416  # published: 0.408 to 0.412 for the whole
    other = split(shard(shared("data/fineweb/fineweb_val_head_sp4096_131073tok.bin")))
    assert sizes(pieces[4096], other)[:-1] == n_bytes[: len(other) - 1]  # the last is cut short


def test_bytes_do_not_depend_on_the_tokenizer(shared, pieces):
    one, two = (
        split(shard(shared(f"data/fineweb/fineweb_train_head_sp{size}_1048576tok.bin")))
        for size in (1024, 4096)
    )
    n = min(len(one), len(two)) - 1
    assert n == 970
    n_bytes = sizes(pieces[1024], one[:n])
    assert n_bytes == sizes(pieces[4096], two[:n])
    assert sum(n_bytes) == 2_553_663
    for a, b in zip(one[:100], two[:100], strict=True):
        assert pieces[1024].decode_bytes(a).strip() == pieces[4096].decode_bytes(b).strip()


def test_a_stream_is_counted_alike_however_it_is_cut(shared, pieces):
    tail = shard(shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin"))
    tokenizers = [pieces[1024], load_tokenizer(shared("models/llama-sp1024-1m4"))]
    for tokenizer in tokenizers:
        for step in (len(tail), 99_991):
            cut = np.split(tail, range(step, len(tail), step))
            documents = [Document("x", tokens=c, begins=not i) for i, c in enumerate(cut)]
            assert sum(int(tokenizer.encode(d)[1].sum()) for d in documents) == 4_939_886
    # A piece may end with the token that begins a document: the next blank does not count.
    for first, expected in ((1, 2), (354, 3)):
        pieces[1024].encode(Document("x", tokens=np.array([354, first])))
        later = Document("x", tokens=np.array([354]), begins=False)
        assert pieces[1024].encode(later)[1].tolist() == [expected]


def test_the_published_mistakes_have_their_published_size(pieces, head):
    table = pieces[1024].table
    n_bytes = table.count(head, after_boundary=True)
    twice = n_bytes + table.space[head]  # 1.16713 on all of it, in tokens of another vocabulary
    assert twice.sum() / n_bytes.sum() == pytest.approx(1.16655, abs=1e-5)
    is_byte = (head >= 4) & (head < 260)  # undecodable alone: U+FFFD, three bytes
    assert (n_bytes + 2 * is_byte).sum() / n_bytes.sum() == pytest.approx(1.00263, abs=1e-5)


def test_pieces_of_a_text_are_encoded_like_the_whole(shared, pieces):
    documents = [" ".join(text.split()) for text in verified(shared)]
    for tokenizer in pieces.values():
        plain = [
            text for text in documents if tokenizer._first.normalize(text) == text.replace(" ", "▁")
        ]
        assert len(plain) > 10
        for text in plain[:10]:
            raw, cut = text.encode(), text.encode().rindex(b" ")
            tokens, n_bytes = tokenizer.encode(Document("x", raw))
            assert tokens.tolist() == tokenizer._first.encode(text)
            assert n_bytes.sum() == len(raw)
            decoded = [
                tokenizer.decode_bytes(tokenizer.encode(Document("x", part, begins=not i))[0])
                for i, part in enumerate((raw[:cut], raw[cut:]))
            ]
            assert b"".join(decoded).removeprefix(b" ") == raw


def test_verified_documents_are_encoded_by_the_models_own_tokenizer(shared):
    tokenizer = load_tokenizer(shared("models/llama-sp1024-1m4"), vocab_size=1024)
    assert (tokenizer.bos, tokenizer.vocab_size) == (1, 1024)
    assert tokenizer.name == "llama-sp1024-1m4-91f34fbd"
    for text in verified(shared):
        raw = text.encode()
        assert tokenizer.encode(Document("x", raw))[1].sum() == len(raw)


# ---------------------------------------------------------------------------- loading


def test_a_folder_says_what_begins_a_document(tmp_path):
    write(tmp_path / "tokenizer.json", letters())
    assert load_tokenizer(tmp_path).bos is None
    write(tmp_path / "config.json", {"eos_token_id": [4, 5]})
    assert load_tokenizer(tmp_path).bos == 4
    write(tmp_path / "config.json", {"eos_token_id": 4, "bos_token_id": 3})
    assert load_tokenizer(tmp_path).bos == 3
    write(tmp_path / "tokenizer_config.json", {"bos_token": {"content": "b"}})
    assert load_tokenizer(tmp_path / "tokenizer.json").bos == 2
    assert load_tokenizer(tmp_path, bos=0).bos == 0


def test_a_sentencepiece_model_says_what_begins_a_document(shared):
    path = shared("models/llama-sp1024-1m4/tokenizer.model")
    tokenizer = load_tokenizer(str(path), vocab_size=1024)
    assert (tokenizer.bos, tokenizer.name) == (1, "llama-sp1024-1m4-4f5e8adb")
    assert load_tokenizer(path, bos=2).bos == 2


NOT_RAW = (
    "tokens must decode to the raw bytes, got {}; take a tokenizer that loses nothing, or "
    "score the raw bytes with --model none"
)
LOWER = {"type": "Lowercase"}
STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}
UNKNOWN = {"type": "BPE", "vocab": {"a": 0, "?": 1, "▁": 2}, "merges": [], "unk_token": "?"}


@pytest.mark.parametrize(
    ("spec", "raw", "text"),
    [
        ({"normalizer": LOWER}, b"aA",
         NOT_RAW.format("2 for 2 in x, b'a' for b'A' at byte 1 (upper case becomes lower case)")),
        ({"normalizer": {"type": "NFKC"}}, "aﬁ".encode(),
         NOT_RAW.format("3 for 4 in x, b'fi' for b'\\xef\\xac\\x81' at byte 1 (Unicode "
                        "normalisation such as NFKC)")),
        ({"normalizer": STRIP}, b"a b\n",
         NOT_RAW.format("3 for 4 in x, b'' for b'\\n' at byte 3 (white space is dropped, merged or "
                      "replaced)")),
        ({"pre_tokenizer": {"type": "WhitespaceSplit"}}, b"a b",
         NOT_RAW.format("2 for 3 in x, b'b' for b' b' at byte 1 (bytes are lost)")),
        ({}, b"axb", NOT_RAW.format("2 for 3 in x, b'b' for b'xb' at byte 1 (bytes are lost)")),
        ({"model": UNKNOWN}, b"aa xaa",
         "every token must have known bytes, got the unknown token 1 at position 3 of x, at "
         "b'xaa'; take a tokenizer that can encode every byte"),
        ({}, b"ab\xff",
         "text must be UTF-8 for this model, got byte 0xff at 2 in x (invalid start byte); convert "
         "the file, or score its raw bytes with --model none"),
    ],
)  # fmt: skip
def test_tokenizers_that_lose_bytes(tmp_path, spec, raw, text):
    tokenizer = FastTokenizer(write(tmp_path / "t.json", letters(**spec)))
    with pytest.raises(ValueError) as error:
        tokenizer.encode(Document("x", raw))
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("raw", "begins", "text"),
    [
        (b"one  two", True, "7 for 8 in x, b'two' for b' two' at byte 4 (white space is dropped, "
                            "merged or replaced)"),
        (b"one   two", False, "7 for 9 in a later piece of x, b'two' for b'  two' at byte 4 (white "
                              "space is dropped, merged or replaced)"),
        (b"one\ntwo", True, "7 for 7 in x, b' two' for b'\\ntwo' at byte 3 (white space is "
                            "dropped, merged or replaced)"),
        (b" one", True, "3 for 4 in x, b'one' for b' one' at byte 0 (the space before the text is "
                        "counted twice, or lost)"),
        ("a ½".encode(), True, "7 for 4 in x, b'1\\xe2\\x81\\x842' for b'\\xc2\\xbd' at byte 2 "
                               "(Unicode normalisation such as NFKC)"),
    ],
)  # fmt: skip
def test_text_that_sentencepiece_normalises(pieces, raw, begins, text):
    with pytest.raises(ValueError) as error:
        pieces[1024].encode(Document("x", raw, begins=begins))
    assert str(error.value) == NOT_RAW.format(text)


@pytest.mark.parametrize(
    ("tokens", "begins", "text"),
    [
        ([5, 1024], True, "tokens of x must be in [0, 1024), got 1024 at position 1; raise "
                          "vocab_size or check the tokenizer"),
        ([500, 3], True, "every token must have known bytes, got the unknown token 3 at position 1 "
                         "of x; take a tokenizer that can encode every byte"),
        ([354], False, "the pieces of a document must be encoded in order, got a later piece of x "
                       "first; "
                       "encode the document from its beginning"),
    ],
)  # fmt: skip
def test_tokens_that_sentencepiece_cannot_account_for(pieces, tokens, begins, text):
    with pytest.raises(ValueError) as error:
        pieces[1024].encode(Document("x", tokens=np.array(tokens), begins=begins))
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("tokenizer", "document", "text"),
    [
        (SideCarTokenizer(9), Document("x", b"a"),
         "text needs a tokenizer, got none for x; name one with --tokenizer"),
        (SideCarTokenizer(9), Document("x", tokens=np.array([1])),
         "the bytes of the tokens must be known, got none for x; name a tokenizer with "
         "--tokenizer, or a side-car file with --token-bytes"),
        (SideCarTokenizer(9), Document("x", tokens=np.array([9]), token_bytes=np.array([1])),
         "tokens of x must be in [0, 9), got 9 at position 0; raise vocab_size or check the "
         "tokenizer"),
        (SideCarTokenizer(9), Document("x", tokens=np.array([1]), token_bytes=np.array([1, 2])),
         "token bytes must be 1 counts >= 0, one per token, got shape (2,) for x; pass the number "
         "of raw bytes of each token"),
        (ByteTokenizer(), Document("x", tokens=np.array([256])),
         "tokens of x must be in [0, 256), got 256 at position 0; raise vocab_size or check the "
         "tokenizer"),
    ],
)  # fmt: skip
def test_documents_whose_bytes_nobody_knows(tokenizer, document, text):
    with pytest.raises(ValueError) as error:
        tokenizer.encode(document)
    assert str(error.value) == text


HF_FILE = "tokenizer must be a Hugging Face tokenizer.json, got {p}"
SAVE = "check that its file is complete, or save it with PreTrainedTokenizerFast.save_pretrained"


@pytest.mark.parametrize(
    ("name", "content", "options", "text"),
    [
        ("t.json", None, {}, "tokenizer must be a file, got {p}; check the path"),
        ("t.txt", "x", {}, "tokenizer must be bytes, a .json, a .model, a .tiktoken or a folder, "
                           "got {p}; check the path"),
        ("t.json", '{"model', {},
         HF_FILE + " (EOF while parsing a string at line 1 column 7); " + SAVE),
        ("t.json", "[]", {}, HF_FILE + " (invalid type: sequence, expected struct Tokenizer at "
                                       "line 1 column 2); " + SAVE),
        ("t.json", "{}", {}, HF_FILE + " (Model missing. at line 1 column 2); " + SAVE),
        ("t.json", letters(version="7"), {},
         HF_FILE + " (Unknown tokenizer version '7' at line 1 column 15); " + SAVE),
        ("t.json", letters(), {"vocab_size": 7},
         "tokenizer must have at most the 7 tokens of the model, got 8 in t-8718d644; name the "
         "tokenizer that the model was trained with"),
        ("t.json", letters(), {"bos": 8},
         "bos must be in [0, 8), got 8 for the tokenizer t-8718d644; pass the id of the token "
         "that begins a document"),
        ("t.json", letters(model={"type": "BPE", "vocab": {"a": 1 << 24}, "merges": []}), {},
         "tokenizer must have ids in [0, 1048576), got 16777216 in {p}; download it again"),
        ("t.json", letters(normalizer={"type": "Precompiled"}), {},  # a panic of the library
         HF_FILE + ' (Precompiled: Error("missing field `precompiled_charsmap`", line: 1, column: '
         "22)); " + SAVE),
    ],
)  # fmt: skip
def test_refused_tokenizers(tmp_path, name, content, options, text):
    path = tmp_path / name
    if content is not None:
        write(path, content)
    with pytest.raises(ValueError) as error:
        load_tokenizer(path, **options)
    assert str(error.value) == text.format(p=path)


@pytest.mark.parametrize("content", [b"", b"no model", b"\n\x04\n\x02\xff\xff" * 3])
def test_a_file_that_is_no_sentencepiece_model(tmp_path, content):
    (tmp_path / "t.model").write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path / "t.model")
    rule = re.escape(f"tokenizer must be a SentencePiece model, got {tmp_path / 't.model'} (")
    assert re.fullmatch(rule + r".+\); check that it is complete", str(error.value))


@pytest.mark.parametrize(
    ("part", "plural", "n", "content", "got"),
    [
        ("normalizer", "normalizers", 7, "aa", "more than 64 times and 7 steps in the normalizer"),
        ("normalizer", "normalizers", 1, "a" * 10**6,
         "more than 64 times and 1 steps in the normalizer"),
        ("decoder", "decoders", 60, "aa", "more than 64 times and 60 steps in the decoder"),
        ("decoder", "decoders", 257, "a", "1 times and 257 steps in the decoder"),
    ],
)  # fmt: skip
def test_texts_that_would_grow_without_bound(tmp_path, part, plural, n, content, got):
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": content}
    path = tmp_path / "t.json"
    write(path, letters(**{part: {"type": "Sequence", plural: [step] * n}}))
    with pytest.raises(ValueError) as error:
        load_tokenizer(path)
    assert str(error.value) == (
        f"a text must become at most 64 times as long, by at most 256 steps, got {got} of {path}; "
        "download it again"
    )


def test_a_panic_of_the_library_prints_nothing(tmp_path, capfd):
    with pytest.raises(ValueError, match="Precompiled"):
        load_tokenizer(write(tmp_path / "t.json", letters(normalizer={"type": "Precompiled"})))
    assert capfd.readouterr() == ("", "")


def test_an_error_of_the_library_while_it_encodes(tmp_path):
    split = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
    tokenizer = load_tokenizer(write(tmp_path / "t.json", letters(pre_tokenizer=split)))
    with pytest.raises(ValueError) as error:
        tokenizer.encode(Document("x", b"a" * 50 + b"b"))
    assert str(error.value) == (
        f"a text must be encoded, got an error of {tokenizer.name} (Onig: Regex search error: "
        "retry-limit-in-match over); " + SAVE
    )


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    """As for anybody but root."""
    write(tmp_path / "tokenizer.json", letters())
    opened, name = Path.open, None

    def refuse(path, *rest, **options):
        if path.name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *rest, **options)

    monkeypatch.setattr(Path, "open", refuse)
    write(tmp_path / "tokenizer_config.json", "{}")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        with pytest.raises(ValueError) as error:
            load_tokenizer(tmp_path)
        assert str(error.value) == (
            f"a file must be readable, got {tmp_path / name} (Permission denied); check its rights"
        )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[" * 100_000, "maximum recursion depth exceeded while decoding a JSON array from a "
                         "unicode string"),
        (b'{"x": "\\ud800"}', "'utf-8' codec can't encode character '\\ud800' in position 7: "
                              "surrogates not allowed"),
        (b'{"x": ' + b"9" * 5000 + b"}", "Exceeds the limit (4300 digits) for integer string "
         "conversion: value has 5000 digits; use sys.set_int_max_str_digits() to increase the "
         "limit"),
        (b'{"x": "\xff"}', "'utf-8' codec can't decode byte 0xff in position 7: invalid start "
                           "byte"),
    ],
)  # fmt: skip
def test_hostile_json(tmp_path, content, problem):
    write(tmp_path / "tokenizer.json", letters())
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path)
    assert str(error.value) == f"{path} must hold a JSON object, got {problem}; download it again"


def test_names_that_are_no_texts(tmp_path):
    write(tmp_path / "tokenizer.json", letters())
    write(tmp_path / "config.json", '{"bos_token_id": true, "model_type": ["gpt2"]}')
    assert load_tokenizer(tmp_path).bos is None
    with pytest.raises(ValueError) as error:
        model_type(tmp_path)
    assert str(error.value) == (
        f"model_type must be a text, got list in {tmp_path / 'config.json'}; correct it"
    )


def test_refused_folders_and_settings(tmp_path):
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path)
    assert str(error.value) == (
        "the folder must hold tokenizer.json, tokenizer.model or vocab.json, got none in "
        f"{tmp_path}; name the tokenizer's file with --tokenizer"
    )
    write(tmp_path / "tokenizer.json", letters())
    write(tmp_path / "config.json", "[]")
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / 'config.json'} must hold a JSON object, got no object; download it again"
    )
    with pytest.raises(ValueError) as error:
        ByteTokenizer(-1)
    assert str(error.value) == "bos must be >= 0, got -1; 256 is the first id that is not a byte"


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "t.json").open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path / "t.json")
    assert str(error.value) == (
        f"tokenizer must have at most 268435456 bytes, got 268435457 in {tmp_path / 't.json'}; "
        "check the path"
    )


def test_a_missing_sentencepiece_names_the_extra(tmp_path, monkeypatch):
    import_module = builtins.__import__

    def import_(name, *rest):
        if name == "sentencepiece":
            raise ImportError(name)
        return import_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", import_)
    path = write(tmp_path / "t.model", "x")
    with pytest.raises(ValueError) as error:
        load_tokenizer(path)
    assert str(error.value) == (
        f"{path} needs the library sentencepiece, which is missing; "
        "pip install 'ngrammix[sentencepiece]'"
    )
