"""Tokenizers of ranks, and of a vocabulary with merges: the tokens of a plain loop, exact bytes."""

import base64
import json
import math
import shutil
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from eval.data.document import Document
from eval.tokenizers.byte_level import BYTE_OF, LETTER_OF, PATTERNS
from eval.tokenizers.load_tokenizer import load_tokenizer
from eval.tokenizers.tiktoken_ranks import spec_of_ranks

regex = pytest.importorskip("regex")  # of transformers

LETTERS = "aeht '\n\r/12\u0661\u0662SL\u00e9\u597d"
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(LETTERS)),
    min_size=1,
    max_size=60,
)
SAMPLE = (
    "It's 1234567 o'clock: THEY'LL say\tso.\r\n\r\n  def f(x):\n    return x/2 # été 你好 😀!!\n\n"
)


def merged(word, ranks):
    """Tokens of one word: the neighbours with the lowest rank are merged, while there are any."""
    if word in ranks:
        return [ranks[word]]
    parts = [word[i : i + 1] for i in range(len(word))]
    while True:
        pairs = [ranks.get(a + b, math.inf) for a, b in pairwise(parts)]
        if not pairs or min(pairs) == math.inf:
            return [ranks[part] for part in parts]
        i = pairs.index(min(pairs))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def by_ranks(text, ranks, pattern):
    """Token ids of a text, by the published algorithm in its plainest form."""
    return [i for word in regex.findall(pattern, text) for i in merged(word.encode(), ranks)]


def gpt2_ranks(shared):
    vocab = json.loads(shared("data/tokenizers/gpt2_vocab.json").read_text(encoding="utf-8"))
    return {
        bytes(BYTE_OF[letter] for letter in token): i
        for token, i in vocab.items()
        if token != "<|endoftext|>"
    }


def small_ranks(n=400):
    """The ranks of a vocabulary that is learned from a sample: bytes, then merges by frequency."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    words = [word.encode() for word in regex.findall(PATTERNS["gpt2"], (SAMPLE + " the then ") * 3)]
    for word in words:
        for stop in range(2, min(6, len(word)) + 1):
            if len(ranks) < n and word[:stop] not in ranks:
                ranks[word[:stop]] = len(ranks)
    return ranks


def ranks_file(ranks):
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


def write_ranks(folder, ranks, config=None, name="tokenizer.model"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(ranks_file(ranks))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def pair(shared, folder, **config):
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(shared("data/tokenizers/gpt2_vocab.json"), folder / "vocab.json")
    shutil.copy(shared("data/tokenizers/gpt2_merges.txt"), folder / "merges.txt")
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def encoded(tokenizer, text):
    tokens, n_bytes = tokenizer.encode(Document("x", text.encode()))
    assert n_bytes.sum() == len(text.encode())
    assert tokenizer.decode_bytes(tokens) == text.encode()
    return tokens.tolist()


# ---------------------------------------------------------------------------- laws


@pytest.mark.parametrize("name", PATTERNS)
def test_ranks_encode_as_the_plain_loop_does(tmp_path, name):
    ranks = small_ranks()
    tokenizer = load_tokenizer(write_ranks(tmp_path, ranks), pre_tokenizer=name)

    @settings(max_examples=60)
    @given(TEXTS)
    def check(text):
        assert encoded(tokenizer, text) == by_ranks(text, ranks, PATTERNS[name])

    check()
    assert encoded(tokenizer, SAMPLE) == by_ranks(SAMPLE, ranks, PATTERNS[name])


def test_gpt2_has_the_tokens_of_the_plain_loop_from_ranks_and_from_merges(shared, tmp_path):
    ranks = gpt2_ranks(shared)
    one = load_tokenizer(pair(shared, tmp_path / "pair", model_type="gpt2", bos_token_id=50256))
    in_order = dict(sorted(ranks.items(), key=lambda item: item[1]))
    # This is a published file: it says how a text is split, and what begins a document.
    two = load_tokenizer(write_ranks(tmp_path / "ranks", in_order, name="r.tiktoken"))
    code = shared("data/code/linux-kernel.txt").read_text(encoding="utf-8")[:3000]
    for text in (SAMPLE, code):
        expected = by_ranks(text, ranks, PATTERNS["gpt2"])
        assert encoded(one, text) == encoded(two, text) == expected
    assert encoded(one, "Hello world") == [15496, 995]  # as published
    assert (one.bos, one.vocab_size) == (two.bos, two.vocab_size) == (50256, 50257)
    assert one.encode(Document("x", tokens=np.array([50256, 995])))[1].tolist() == [0, 6]
    assert 50256 not in encoded(one, "<|endoftext|>")


# ---------------------------------------------------------------------------- how text is split


def test_the_rule_that_splits_a_text_comes_from_the_model(shared, tmp_path):
    ranks = small_ranks()
    text = "AAA 12345 x"
    for model_type, name in (("llama", "llama3"), ("qwen", "qwen")):
        folder = write_ranks(tmp_path / model_type, ranks, {"model_type": model_type,
                                                            "bos_token_id": 400})  # fmt: skip
        tokenizer = load_tokenizer(folder)
        assert encoded(tokenizer, text) == by_ranks(text, ranks, PATTERNS[name])
        assert tokenizer.bos == 400
        other = load_tokenizer(folder, pre_tokenizer="gpt2")
        assert other.name != tokenizer.name  # the rule is part of what a score is named by
    merges = load_tokenizer(pair(shared, tmp_path / "q", model_type="qwen2", eos_token_id=50256))
    plain = load_tokenizer(shared("data/tokenizers/gpt2_vocab.json"))  # known by its vocabulary
    assert encoded(merges, "12") == [16, 17]
    assert encoded(plain, "12") == [1065]
    assert plain.bos is None


def test_added_tokens_stand_beside_the_merges(shared, tmp_path):
    folder = pair(shared, tmp_path / "g", model_type="gpt2")
    (folder / "added_tokens.json").write_text('{"<|im_start|>": 50257}')
    (folder / "special_tokens_map.json").write_text('{"bos_token": {"content": "<|im_start|>"}}')
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.bos, tokenizer.vocab_size) == (50257, 50258)
    plain = load_tokenizer(pair(shared, tmp_path / "other" / "g", model_type="gpt2"))
    assert plain.name != tokenizer.name  # another vocabulary, so another cache
    assert tokenizer.token_id("<|im_start|>") == 50257
    assert tokenizer.token_id("<none>") is None
    assert load_tokenizer(folder, vocab_size=50257).bos is None


def test_what_a_tokenizer_lacks_is_not_in_its_vocabulary(tmp_path):
    ranks = small_ranks()
    folder = write_ranks(tmp_path, ranks, {"model_type": "llama"})
    tokenizer = load_tokenizer(folder, vocab_size=401)
    assert tokenizer.vocab_size == 401  # special tokens beyond the model's are none of it
    with pytest.raises(ValueError, match="tokenizer must have at most the 300 tokens of the model"):
        load_tokenizer(folder, vocab_size=300)


UNKNOWN = (
    "the rule that splits a text into words must be known, got none for {p}{of}; name it with "
    "--pre-tokenizer (gpt2, cl100k, o200k, llama3, qwen), or save the tokenizer as tokenizer.json"
)


@pytest.mark.parametrize(
    ("files", "name", "options", "text"),
    [
        ({"t.model": ranks_file(small_ranks())}, "t.model", {}, UNKNOWN.format(p="{p}", of="")),
        ({"t.model": ranks_file(small_ranks()), "config.json": b'{"model_type": "kimi"}'},
         "t.model", {}, UNKNOWN.format(p="{p}", of=" of a model of type kimi")),
        ({"t.model": ranks_file(small_ranks())}, "t.model", {"pre_tokenizer": "x"},
         "pre_tokenizer must be one of gpt2, cl100k, o200k, llama3, qwen, got 'x'; leave it out if "
         "the tokenizer has a tokenizer.json"),
        ({"t.json": b'{"model": {}}'}, "t.json", {"pre_tokenizer": "gpt2"},
         "pre_tokenizer goes with a tiktoken file or a vocab.json, got {p}, which says itself how "
         "it splits a text; leave it out"),
        ({"t.model": b"IQ== 0\n" + b"A" * 5468 + b" 1\n"}, "t.model", {"pre_tokenizer": "gpt2"},
         f"a line of ranks must be a base64 token and its rank, got {b'A' * 40!r} in {{p}}:2; "
         "download the file again"),
        ({"t.model": b"IQ== 0\nIg== x\n"}, "t.model", {"pre_tokenizer": "gpt2"},
         "a line of ranks must be a base64 token and its rank, got b'Ig== x' in {p}:2; download "
         "the file again"),
        ({"t.model": b"IQ== 0\nIg== 1\n"}, "t.model", {"pre_tokenizer": "gpt2"},
         "ranks must hold each of the 256 bytes, got all but 254 in {p}; download the file again"),
        ({"t.model": ranks_file(small_ranks()) + b"IQ== 999\n"}, "t.model",
         {"pre_tokenizer": "gpt2"},
         "ranks must be unique, got 319 lines of 318 tokens and 318 ranks in {p}; download the "
         "file again"),
        ({"vocab.json": b'{"a": 0}'}, "vocab.json", {},
         "tokenizer must be a file, got {d}/merges.txt; check the path"),
        ({"vocab.json": b'{"a": -1}', "merges.txt": b""}, "vocab.json", {},
         "vocab.json must be an object of tokens with an id in [0, 16777216) each, got {p}; "
         "download it again"),
        ({"vocab.json": b'{"a": 16777216}', "merges.txt": b""}, "vocab.json", {},
         "vocab.json must be an object of tokens with an id in [0, 16777216) each, got {p}; "
         "download it again"),
        ({"vocab.json": b'{"a', "merges.txt": b""}, "vocab.json", {},
         "vocab.json must be JSON, got {p} (Unterminated string starting at: line 1 column 2 "
         "(char 1)); check that it is complete"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b"a b\n"}, "vocab.json", {},
         "a merge must be two tokens whose union is a token, got 'a b' in {d}/merges.txt:1; take "
         "the vocab.json and merges.txt of one tokenizer"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b"\xff"}, "vocab.json", {},
         "merges must be UTF-8, got {d}/merges.txt ('utf-8' codec can't decode byte 0xff in "
         "position 0: invalid start byte); download it again"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b""}, "vocab.json", {"pre_tokenizer": "gpt2"},
         "vocab.json must hold the letters of all 256 bytes, got all but 255 in {p}; take a "
         "tokenizer with byte-level BPE, as GPT-2 has"),
        ({"vocab.json": b'{"a": 0}', "merges.txt": b""}, "vocab.json", {},
         UNKNOWN.format(p="{p}", of="")),
        ({"tokenizer.pkl": b"x"}, "tokenizer.pkl", {},
         "tokenizer must not be a pickle, which can run code, got {p}; load it yourself where you "
         "trust it, and write eval.load_tokenizer(pickle.load(file)).save('tokenizer.json')"),
        ({"tokenizer.pkl": b"x"}, ".", {},
         "tokenizer must not be a pickle, which can run code, got {d}/tokenizer.pkl; load it "
         "yourself where you trust it, and write eval.load_tokenizer(pickle.load(file)).save("
         "'tokenizer.json')"),
        ({}, "none", {}, "tokenizer none needs a model, got none; name the tokenizer"),
    ],
)  # fmt: skip
def test_refused(tmp_path, files, name, options, text):
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    path = name if name == "none" else tmp_path / name
    with pytest.raises(ValueError) as error:
        load_tokenizer(path, **options)
    assert str(error.value) == text.format(p=path, d=tmp_path)


def test_tokens_that_end_words_are_not_byte_level(tmp_path):
    vocab = BYTE_OF | {"a</w>": 256, "ba</w>": 257}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("b a</w>\n")
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path, pre_tokenizer="gpt2")
    assert str(error.value) == (
        f"vocab.json must be of byte-level BPE, got tokens that end in </w> in "
        f"{tmp_path}/vocab.json, which lose the spaces of a text; take another tokenizer"
    )
    vocab = dict(list(vocab.items())[:256])
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "merges.txt").write_text("")
    (tmp_path / "added_tokens.json").write_text('{"<s>": 3}')
    with pytest.raises(ValueError) as error:
        load_tokenizer(tmp_path, pre_tokenizer="gpt2")
    assert str(error.value) == (
        f"added tokens must have ids of their own, got one that is taken beside "
        f"{tmp_path}/vocab.json; take the files of one tokenizer"
    )


# ---------------------------------------------------------------------------- objects


class Encoding:
    """What tiktoken.Encoding has, by the plain loop."""

    def __init__(self, ranks, pattern, special, name="mine"):
        self.name, self._pat_str = name, pattern
        self._mergeable_ranks, self._special_tokens = ranks, special

    def encode_ordinary(self, text):
        return by_ranks(text, self._mergeable_ranks, self._pat_str)


class Fast:
    """What a tokenizer of transformers has."""

    def __init__(self, backend, bos, eos):
        self.backend_tokenizer, self.bos_token_id, self.eos_token_id = backend, bos, eos


def test_an_encoding_of_tiktoken_is_a_tokenizer_and_a_file(tmp_path):
    ranks = small_ranks()
    # {1,2}+ is possessive in tiktoken; here it must not become a repetition.
    encoding = Encoding(ranks, PATTERNS["cl100k"].replace("{1,3}", "{1,2}+"), {"<|bos|>": 400})
    tokenizer = load_tokenizer(encoding)
    assert (tokenizer.bos, tokenizer.vocab_size) == (400, 401)
    assert tokenizer.name.startswith("mine-")
    assert encoded(tokenizer, SAMPLE) == encoding.encode_ordinary(SAMPLE)
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json", bos=400)
    assert encoded(again, SAMPLE) == encoding.encode_ordinary(SAMPLE)


def test_an_encoding_that_cannot_be_reproduced_is_refused():
    encoding = Encoding(small_ranks(), PATTERNS["gpt2"], {})
    encoding.encode_ordinary = lambda text: [0]
    with pytest.raises(ValueError) as error:
        load_tokenizer(encoding)
    assert str(error.value) == (
        "the tokens of an encoding must be reproduced, got others for mine; save it as a "
        "tokenizer.json with transformers"
    )


def test_objects_of_the_libraries_are_tokenizers(shared):
    ranks = small_ranks()
    library = Tokenizer.from_str(
        json.dumps(spec_of_ranks(ranks, PATTERNS["gpt2"], {"<s>": 400, "</s>": 401}))
    )
    expected = by_ranks(SAMPLE, ranks, PATTERNS["gpt2"])
    for source, bos in (
        (library, None),
        (Fast(library, 400, 401), 400),
        (Fast(library, None, 401), 401),
    ):
        tokenizer = load_tokenizer(source)
        assert tokenizer.bos == bos
        assert encoded(tokenizer, SAMPLE) == expected
        assert load_tokenizer(tokenizer) is tokenizer
    path = shared("data/tokenizers/fineweb_1024_bpe.model")
    pieces = load_tokenizer(path)
    again = load_tokenizer(pieces._first)
    assert encoded(again, "the cat") == encoded(pieces, "the cat")
    assert (again.bos, pieces.token_id("<s>"), pieces.token_id("no piece")) == (1, 1, None)
    with pytest.raises(ValueError) as error:
        load_tokenizer(object())
    assert str(error.value) == (
        "tokenizer must be a path, or an object of tokenizers, transformers, sentencepiece or "
        "tiktoken, got object, which has no encode, decode_bytes, vocab_size, name, bos; pass one "
        "of these"
    )


def test_letters_and_bytes_are_one_to_one():
    assert len(LETTER_OF) == 256
    assert all(BYTE_OF[LETTER_OF[byte]] == byte for byte in range(256))
