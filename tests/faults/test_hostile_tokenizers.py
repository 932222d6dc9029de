"""Files of tokenizers, damaged or hostile: each is read, or refused in one line."""

import base64
import io
import json
import shutil

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from tests.faults.model_mutants import protobuf_mutants, text_mutants, tokenizer_mutants
from tests.faults.mutants import byte_mutants, chosen
from tests.faults.watchdog import Watchdog
from tests.models.tiny import save_tokenizer

LETTERS = [*map(chr, range(97, 123)), ","]
BYTES = [f"<0x{i:02X}>" for i in range(256)]


def byte_level(folder):
    save_tokenizer(folder)


def byte_fallback(folder):
    """BPE that puts a mark before a text, as Llama 2 does."""
    tokens = ["<unk>", "<s>", *BYTES, "\u2581", *LETTERS, "th", "the"]
    vocab = {token: i for i, token in enumerate(tokens)}
    merges = [("t", "h"), ("th", "e")]
    model = models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(["<unk>", "<s>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def unigram(folder):
    pieces = [(token, -2.0) for token in ["<unk>", *BYTES, "\u2581", *LETTERS, "\u2581the"]]
    tokenizer = Tokenizer(models.Unigram(pieces, 0, byte_fallback=True))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))


def pair(folder):
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate(letters)} | {"th": 256, "<|endoftext|>": 257}
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "config.json").write_text('{"model_type": "gpt2", "bos_token_id": 257}')
    (folder / "added_tokens.json").write_text('{"<x>": 258}')
    (folder / "special_tokens_map.json").write_text('{"bos_token": {"content": "<x>"}}')
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<y>", "added_tokens_decoder": {"259": {"content": "<y>"}}})
    )


def ranks(folder):
    tokens = [*(bytes([i]) for i in range(256)), b"th", b"the"]
    lines = [base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(tokens)]
    (folder / "x.tiktoken").write_bytes(b"".join(lines))
    (folder / "config.json").write_text('{"model_type": "llama"}')


def sentencepiece(folder):
    library = pytest.importorskip("sentencepiece")
    content = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat, and the dog sat on the cat"] * 20),
        model_writer=content, vocab_size=300, hard_vocab_limit=False, byte_fallback=True,
        normalization_rule_name="identity", minloglevel=3,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(content.getvalue())


N, SEED = chosen(0)  # of each file; 0: 100, or 20 of small ones
MUTANTS = {
    "tokenizer.json": tokenizer_mutants, "merges.txt": byte_mutants, "x.tiktoken": byte_mutants,
    "tokenizer.model": protobuf_mutants,
}  # fmt: skip


@pytest.fixture(scope="module", params=["read_tokenizer", "read_ids"])
def dog(request):
    with Watchdog(f"tests.faults.readers:{request.param}") as dog:
        yield dog


@pytest.mark.parametrize("make", [byte_level, byte_fallback, unigram, pair, ranks, sentencepiece])
def test_a_mutant_is_read_or_refused_in_one_line(dog, tmp_path, make):
    folder, wrong = tmp_path / "files", []
    folder.mkdir()
    make(folder)
    shutil.copytree(folder, tmp_path / "whole")
    for path in sorted(folder.iterdir()):
        mutants = MUTANTS.get(path.name, text_mutants)
        n = 20 if path.name.endswith(("config.json", "map.json")) else 100
        seed = f"{SEED} {make.__name__} {path.name}"
        for mutant in mutants(path.read_bytes(), seed, N or n):
            path.write_bytes(mutant)
            if not (outcome := dog.read(folder)).is_right:
                wrong.append((path.name, mutant[:2000], outcome))
        shutil.copy(tmp_path / "whole" / path.name, path)
        assert dog.read(folder).is_right
    assert not wrong
