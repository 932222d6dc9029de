"""Tokenizers and token files by the command line, with right values of a plain loop."""

import base64
import json
import math
import shutil

import numpy as np
import pytest

from eval.cli import main

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers

TEXT = "the cat sat on the mat, and the cat sat on the mat again. " * 2
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 16, "max_position_embeddings": 64, "bos_token_id": 0,
         "eos_token_id": 0}  # fmt: skip


def save_tokenizer(folder, added=()):
    """Bytes as tokens 1..256, after <s>; the added tokens come last."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {"<s>": 0} | {letter: i for i, letter in enumerate(letters, start=1)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    for token in added:
        tokenizer.add_tokens([AddedToken(token, normalized=False)])
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<s>"}')
    return tokenizer


def save_llama(folder, vocab_size=257):
    import torch

    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=vocab_size, **SIZES)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def plain_bpb(folder, tokens, n_bytes, bos, context=64, stride=32):
    """Bits per byte of the model alone, in float64: windows of `context`, steps of `stride`."""
    import torch

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    stream, done, nats = [bos, *tokens], 0, 0.0
    while done < len(tokens):
        stop = min(done + (stride if done else context), len(tokens))
        start = max(0, stop - context)
        with torch.no_grad():
            logits = model(torch.tensor([stream[start:stop]])).logits[0]
        logprobs = torch.log_softmax(logits.double(), -1)
        nats -= sum(logprobs[i - start, stream[i + 1]].item() for i in range(done, stop))
        done = stop
    return nats / math.log(2) / n_bytes


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def run(capsys):
    def call(*arguments, status=0):
        assert main(["score", *map(str, arguments), "--json"]) == status
        printed = capsys.readouterr()
        if status:
            return printed.err.splitlines()[-1].removeprefix("ngrammix: error: ")
        return json.loads(printed.out)

    return call


def test_a_named_tokenizer_takes_the_place_of_one_that_cannot_be_opened(inside, run):
    save_llama(inside / "m")
    (inside / "m" / "tokenizer.model").write_bytes(b"IQ== 0\nbroken")
    tokenizer = save_tokenizer(inside / "good")
    result = run("--model", "m", "--tokenizer", "good/tokenizer.json", "--data", "t.txt")
    expected = plain_bpb("m", tokenizer.encode(TEXT).ids, len(TEXT), 0)
    assert result["bpb_model"] == pytest.approx(expected, abs=1e-5)
    assert result["bytes"] == len(TEXT)
    error = run("--model", "m", "--data", "t.txt", status=2)
    assert error.startswith("a line of ranks must be a base64 token and its rank, got b'broken'")


def test_ids_whose_bytes_are_given_need_no_tokenizer(inside, run):
    save_llama(inside / "m")
    (inside / "m" / "tokenizer.model").write_bytes(b"no tokenizer")
    ids = np.random.default_rng(0).integers(1, 257, 90)
    np.save("ids.npy", ids)
    np.save("sizes.npy", np.full(90, 2))
    result = run("--model", "m", "--data", "ids.npy", "--token-bytes", "sizes.npy", "--bos", "none")
    assert (result["tokens"], result["bytes"], result["tokenizer"]) == (89, 178, "none")
    expected = plain_bpb("m", ids[1:].tolist(), 178, int(ids[0]))
    assert result["bpb_model"] == pytest.approx(expected, abs=1e-5)
    assert (result["tokens_context_only"], result["bytes_context_only"]) == (1, 2)
    np.save("table.npy", np.arange(257) % 3)
    result = run("--model", "m", "--data", "ids.npy", "--token-bytes", "table.npy", "--bos", "none")
    assert result["bytes"] == (ids[1:] % 3).sum()
    assert result["bpb_model"] == pytest.approx(expected * 178 / result["bytes"], abs=1e-5)


def test_an_added_token_beyond_the_model_is_an_error_where_one_is_made(inside, run):
    save_llama(inside / "m")
    save_tokenizer(inside / "m", ["<image>"])
    result = run("--model", "m", "--data", "t.txt")
    assert (result["tokens"], result["bytes"]) == (len(TEXT), len(TEXT))
    (inside / "i.txt").write_text("see <image> here")
    assert run("--model", "m", "--data", "i.txt", status=2) == (
        "tokens must be below the 257 of the model, got 257 for b'<image>' in i.txt; remove this "
        "text, or take the tokenizer that the model was trained with"
    )
    other = save_tokenizer(inside / "other")
    other.add_tokens(["x" * 9])
    save_llama(inside / "small", vocab_size=200)
    save_tokenizer(inside / "small")
    assert run("--model", "small", "--data", "t.txt", status=2).startswith(
        "tokenizer must have at most the 200 tokens of the model, got 257 in small-"
    )


def test_llama_3_has_a_tiktoken_file(inside, run):
    save_llama(inside / "m")
    ranks = b"".join(base64.b64encode(bytes([i])) + b" %d\n" % i for i in range(256))
    (inside / "m" / "tokenizer.model").write_bytes(ranks)
    config = json.loads((inside / "m" / "config.json").read_text())
    (inside / "m" / "config.json").write_text(json.dumps(config | {"bos_token_id": 256}))
    result = run("--model", "m", "--data", "t.txt")
    expected = plain_bpb("m", list(TEXT.encode()), len(TEXT), 256)
    assert result["bpb_model"] == pytest.approx(expected, abs=1e-5)
    assert result["bos"] == 256


def test_gpt2_has_a_vocabulary_and_merges(inside, run, shared):
    config = transformers.GPT2Config(n_positions=64, n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained("g")
    shutil.copy(shared("data/tokenizers/gpt2_vocab.json"), "g/vocab.json")
    shutil.copy(shared("data/tokenizers/gpt2_merges.txt"), "g/merges.txt")
    (inside / "h.txt").write_text("Hello world")
    expected = plain_bpb("g", [15496, 995], 11, 50256)
    for options in ((), ("--bos", "<|endoftext|>"), ("--tokenizer", "g/vocab.json")):
        result = run("--model", "g", "--data", "h.txt", *options)
        assert result["bpb_model"] == pytest.approx(expected, abs=1e-5)
        assert result["bos"] == 50256


def test_u2581_is_named(inside, run, shared):
    (inside / "s.jsonl").write_text('{"text": "a document"}\n{"text": "load \u2581\u2582 ok"}\n')
    model = shared("models/llama-sp1024-1m4")
    assert run("--model", model, "--data", "s.jsonl", status=2) == (
        "text must not hold the character U+2581 for this tokenizer, which writes a space so, got "
        "one at byte 5 of s.jsonl:2; leave the document out (--on-bad-row skip), or take a "
        "byte-level tokenizer"
    )
    result = run("--model", model, "--data", "s.jsonl", "--on-bad-row", "skip")
    assert (result["bytes"], result["rows_skipped"]) == (10, 1)


def test_ids_need_the_model_and_the_tokenizer_that_they_are_for(inside, run, shared):
    path = shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin")
    head = np.fromfile(path, "<u2", offset=1024, count=3000)
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, len(head)
    (inside / "val.bin").write_bytes(header.tobytes() + head.tobytes())
    (inside / "plain.bin").write_bytes(head.tobytes())
    assert run("--data", "val.bin", status=2) == (
        "token ids need the model that is scored to be named, got none for val.bin; name it with "
        "--model: no text says which tokenizer made them"
    )
    assert run("--model", "none", "--data", "val.bin", status=2) == (
        "token ids need the tokenizer that made them, got none for val.bin; name it with "
        "--tokenizer (bytes: the ids are byte values)"
    )
    assert run("--model", "demo", "--data", "val.bin", status=2).startswith(
        "tokens must be those of the tokenizer tokenizers-20748416, but it encodes the text of the "
    )
    result = run("--model", "demo", "--data", "val.bin", "--no-token-check")
    assert "|token-check:off|" in result["signature"]
    model = shared("models/llama-sp1024-1m4")
    options = ("--model", model, "--windows", "stream", "--stride", 256)
    named = run(*options, "--data", "val.bin")
    plain = run(*options, "--data", "plain.bin", "--token-dtype", "u16")
    assert named["bits"] == plain["bits"]
    assert named["data_sha256"] == plain["data_sha256"]
    assert plain["data"] == "plain.bin as u16"
    assert named["tokens_context_only"] == 1  # the shard begins in the middle of a document
    assert named["tokens"] == 2999
    error = run(*options, "--data", "plain.bin", status=2)
    assert error.endswith(
        "name the dtype of a file without a header with --token-dtype, such as uint16"
    )


def test_a_missing_tokenizer_is_called_that(inside, run):
    save_llama(inside / "m")
    text = "text needs a tokenizer, got none for t.txt; name one with --tokenizer"
    assert run("--model", "m", "--data", "t.txt", status=2) == text
    (inside / "m" / "tokenizer.pkl").write_bytes(b"x")
    assert run("--model", "m", "--data", "t.txt", status=2).startswith(
        "tokenizer must not be a pickle, which can run code, got m/tokenizer.pkl; load it yourself"
    )
    config = json.loads((inside / "m" / "config.json").read_text())
    (inside / "m" / "config.json").write_text(
        json.dumps(config | {"bos_token_id": None, "eos_token_id": None})
    )
    save_tokenizer(inside / "m")
    (inside / "m" / "tokenizer_config.json").unlink()
    assert "has no BOS token; give its id with --bos, or pass --bos none" in run(
        "--model", "m", "--data", "t.txt", status=2
    )


def test_options_that_do_not_fit_are_refused(inside, run):
    assert run("--data", "t.txt", "--bos", "<s>", "--model", "none", status=2) == (
        "bos must be an id or a token of bytes, got '<s>'; pass the id of the token"
    )
    assert run("--data", "t.txt", "--model", "none", "--document-end", "1", status=2) == (
        "document_end goes with token files, got it with t.txt; leave it out"
    )
