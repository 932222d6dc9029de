"""Token ids and tokenizers: every pair that belongs together passes, every other is refused."""

import lzma

import numpy as np
import pytest

from eval.data.document import Document
from eval.demo.model import TOKENIZER_PATH
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer
from eval.tokenizers.origin import OriginCheck, check_encoded

FILES = {
    "sp1024": "data/tokenizers/fineweb_1024_bpe.model",
    "sp4096": "data/tokenizers/fineweb_4096_bpe.model",
    "sp8192": "data/tokenizers/fineweb_8192_bpe.model",
    "llama": "models/llama-sp1024-1m4/tokenizer.json",
    "gpt2": "data/tokenizers/gpt2_vocab.json",
}
TEXTS = ("books/tinyshakespeare.txt", "code/linux-kernel.txt", "logs/Spark_2k.log",
         "logs/HDFS_2k.log", "chinese/hongloumeng.txt")  # fmt: skip
SAME = {("sp1024", "llama"), ("llama", "llama")}  # one vocabulary, in two formats


@pytest.fixture(scope="module")
def tokenizers():
    from tests.conftest import shared_file

    named = {name: load_tokenizer(shared_file(path)) for name, path in FILES.items()}
    return named | {"demo": load_tokenizer(TOKENIZER_PATH)}


def ids_of(tokenizer, raw):
    """Ids of a text, of which SentencePiece sees what it keeps."""
    text = raw.decode("utf-8", "ignore")
    if hasattr(tokenizer, "_first"):
        text = tokenizer._first.normalize(" ".join(text.split())).replace("▁", " ").strip()
    return tokenizer.encode(Document("x", text.encode()))[0]


def look(tokenizer, tokens, size=2048, **options):
    check = OriginCheck(tokenizer, **options)
    for start in range(0, len(tokens), size):
        check.check(Document(f"x:{start}", tokens=tokens[start : start + size]))


@pytest.mark.parametrize("text", TEXTS)
def test_every_pair_of_tokenizers(shared, tokenizers, text):
    raw = shared(f"data/{text}").read_bytes()[:60_000]
    for maker, of_maker in tokenizers.items():
        tokens = ids_of(of_maker, raw)
        for reader, tokenizer in tokenizers.items():
            if maker == reader or (maker, reader) in SAME:
                look(tokenizer, tokens)
                continue
            # Two SentencePiece vocabularies have the same byte tokens: where a text has no others,
            # the one reads right what the other wrote.
            if text.startswith("chinese") and {maker[:2], reader[:2]} <= {"sp", "ll"}:
                continue
            with pytest.raises(ValueError, match=r"tokens (must be those of|of .* must be in)"):
                look(tokenizer, tokens)


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("fineweb_train_head_sp1024_1048576tok.bin", "sp1024"),
        ("fineweb_val_tail_sp1024_2021846tok.bin", "sp1024"),
        ("fineweb_train_head_sp4096_1048576tok.bin", "sp4096"),
        ("fineweb_val_head_sp4096_131073tok.bin", "sp4096"),
        ("fineweb_val_head_sp1024_1040297tok.u16.xz", "sp1024"),
    ],
)
def test_published_shards_are_those_of_their_tokenizer(shared, tokenizers, name, maker):
    content = shared(f"data/fineweb/{name}").read_bytes()
    content = lzma.decompress(content) if name.endswith("xz") else content[1024:]
    tokens = np.frombuffer(content, "<u2").astype(np.int64)
    rng = np.random.default_rng(0)
    for reader, tokenizer in tokenizers.items():
        is_right = reader == maker or (maker, reader) in SAME
        for start in rng.integers(0, len(tokens) - 20_000, 3):
            part = tokens[start : start + 20_000]
            if is_right:
                look(tokenizer, part)
                look(tokenizer, part, size=64)  # cut where it comes
            else:
                with pytest.raises(ValueError, match="tokens"):
                    look(tokenizer, part)


def test_odd_texts_of_the_right_tokenizer_pass(tokenizers, rng):
    tokenizer = tokenizers["gpt2"]
    noise = rng.integers(0, 256, 20_000, np.uint8).tobytes().decode("latin-1")
    code = "\t\tif (x) {\n\n\n        return '\\0';   \r\n\t}\n" * 200
    for text in (noise, code, "\0" * 5000, "é" * 3000, "<|endoftext|>" * 300, "a"):
        look(tokenizer, tokenizer.encode(Document("x", text.encode()))[0])
    ends = np.insert(tokenizer.encode(Document("x", code.encode()))[0], [5, 900], 50256)
    look(tokenizer, ends)


def test_the_error_shows_the_evidence(shared, tokenizers):
    path = shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin")
    tokens = np.fromfile(path, "<u2", offset=1024, count=500).astype(np.int64)
    with pytest.raises(ValueError) as error:
        look(tokenizers["demo"], tokens)
    name = tokenizers["demo"].name
    assert str(error.value).startswith(
        f"tokens must be those of the tokenizer {name}, but it encodes the text of the first 500 to"
    )
    assert str(error.value).endswith(
        "name the tokenizer that made them with --tokenizer, or give the bytes of each token with "
        "--token-bytes"
    )
    look(tokenizers["demo"], tokens, is_on=False)
    look(ByteTokenizer(), np.arange(200))
    check = OriginCheck(tokenizers["demo"])
    check.check(Document("x", tokens=tokens, token_bytes=np.ones(500, np.int64)))
    check.check(Document("x", b"text"))
    check.check(Document("x", tokens=tokens, begins=False))


class Mine:
    """A tokenizer that a user has written."""

    name, vocab_size, bos = "mine", 256, None


@pytest.mark.parametrize(
    ("tokens", "n_bytes", "text"),
    [
        ([97, 98], [1, 2],
         "token bytes must sum to the raw bytes, got 3 for 2 in x; the tokenizer does not "
         "encode this text losslessly"),
        ([97, 98], [2],
         "token bytes must be one count >= 0 for each of (2,) tokens, got shape (1,) for x; "
         "correct the tokenizer mine"),
        ([97, 98], [3, -1],
         "token bytes must be one count >= 0 for each of (2,) tokens, got shape (2,) for x; "
         "correct the tokenizer mine"),
        ([97, 256], [1, 1], "tokens of x must be in [0, 256), got 256 at position 1; raise "
                            "vocab_size or check the tokenizer"),
    ],
)  # fmt: skip
def test_what_a_users_tokenizer_returns_is_checked(tokens, n_bytes, text):
    with pytest.raises(ValueError) as error:
        check_encoded(np.array(tokens), np.array(n_bytes), Mine(), Document("x", b"ab"))
    assert str(error.value) == text
