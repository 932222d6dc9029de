"""Hugging Face models: a real Llama from its folder, its known score, and every refusal."""

import builtins
import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from eval.data.document import Document
from eval.models.load_model import load_model
from eval.tokenizers.byte_checks import bits_per_byte
from eval.tokenizers.load_tokenizer import load_tokenizer
from eval.tokenizers.side_car import SideCarTokenizer

pytest.importorskip("transformers")


@pytest.fixture
def folder(shared):
    return shared("models/llama-sp1024-1m4")


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the model that a test may damage."""
    for path in folder.iterdir():
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def test_a_folder_is_a_model(folder):
    model = load_model(str(folder))
    assert model.name == "llama-sp1024-1m4-8d76f01a"
    assert (model.vocab_size, model.context) == (1024, 1024)
    assert (model.tokenizer.name, model.tokenizer.bos) == ("llama-sp1024-1m4-91f34fbd", 1)
    assert not model.network.training
    assert load_model(f"{folder}/", context=256).context == 256
    half = load_model(folder, dtype="bf16", device="cpu")
    assert half.logits(np.array([[1, 2]])).dtype == torch.bfloat16
    assert half.name != model.name  # other figures


def test_logits_see_neither_what_they_predict_nor_what_stands_behind(folder, rng):
    model = load_model(str(folder), device="cpu")
    tokens = rng.integers(4, 1024, (3, 40))
    alone = model.logits(tokens).numpy()
    changed = tokens.copy()
    changed[:, 21:] = rng.integers(4, 1024, (3, 19))
    np.testing.assert_allclose(model.logits(changed)[:, :21].numpy(), alone[:, :21], atol=1e-5)
    assert not np.allclose(model.logits(changed)[:, 21].numpy(), alone[:, 21], atol=1e-2)
    for pad in (0, 1, 700):
        padded = np.concatenate([tokens, np.full((3, 24), pad)], axis=1)
        np.testing.assert_allclose(model.logits(padded)[:, :40].numpy(), alone, atol=1e-5)


def score(model, tokenizer, tokens):
    """Nats a token and bits a byte, windows of 256 without overlap, the first of each unscored."""
    nats = 0.0
    for start in range(0, len(tokens), 4096):
        rows = tokens[start : start + 4096].reshape(-1, 256)
        logits = model.logits(rows)[:, :-1].double().flatten(0, 1)
        targets = torch.from_numpy(rows[:, 1:].ravel())
        nats += F.cross_entropy(logits, targets, reduction="sum").item()
    _, n_bytes = tokenizer.encode(Document("tail", tokens=tokens))
    scored = n_bytes.reshape(-1, 256)[:, 1:]
    return nats / scored.size, bits_per_byte(nats, int(scored.sum()))


@pytest.mark.parametrize(
    ("n", "nats", "bpb"),
    [
        (10_240, 3.2921, 1.8614),
        # As published with the model: 2.204 bits a byte, 3.44 nats a token.
        pytest.param(102_400, 3.4419, 2.2040, marks=pytest.mark.slow),
    ],
)
def test_the_known_score_on_the_validation_tail(folder, shared, n, nats, bpb):
    path = shared("data/fineweb/fineweb_val_tail_sp1024_2021846tok.bin")
    tokens = np.fromfile(path, "<u2", offset=1024, count=n).astype(np.int64)
    model = load_model(str(folder), context=256, tokenizer=str(folder / "tokenizer.model"))
    scores = score(model, model.tokenizer, tokens)
    assert scores == pytest.approx((nats, bpb), abs=1e-4)
    assert scores == score(model, load_tokenizer(folder), tokens)


def test_a_folder_without_tokenizer_scores_tokens(copy):
    (copy / "tokenizer.json").unlink()
    assert load_model(str(copy)).tokenizer.name.endswith("-4f5e8adb")  # tokenizer.model
    (copy / "tokenizer.model").unlink()
    tokenizer = load_model(str(copy)).tokenizer
    assert isinstance(tokenizer, SideCarTokenizer)
    assert tokenizer.vocab_size == 1024


def remove(name):
    return lambda folder: (folder / name).unlink()


def pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_limit(folder):
    config = {"model_type": "mamba", "vocab_size": 1024, "hidden_size": 8, "num_hidden_layers": 1}
    (folder / "config.json").write_text(json.dumps(config))


def damage(name, content):
    return lambda folder: (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("spoil", "options", "text"),
    [
        (remove("config.json"), {},
         "the folder of a model must hold config.json, got none in {p}; save the model with "
         "save_pretrained"),
        (pickles, {},
         "weights must be .safetensors, got pytorch_model.bin in {p}; pickles can run code: save "
         "the model with save_pretrained(safe_serialization=True)"),
        (remove("model.safetensors"), {},
         "weights must be .safetensors, got none in {p}; pickles can run code: save the model with "
         "save_pretrained(safe_serialization=True)"),
        (damage("config.json", "[1]"), {},
         "{p}/config.json must hold a JSON object, got no object; download it again"),
        (without_limit, {},
         "context must be given, got none: {p} has no limit; pass one with --context"),
        (None, {"context": 0},
         "context must be an integer >= 1, got 0 for {p}; pass the tokens that the model reads at "
         "once (--context)"),
        (None, {"dtype": "int8"},
         "dtype must be auto, float32, bfloat16, float16 or float64, got 'int8'; leave it out for "
         "the default"),
        (None, {"tokenizer": "{p}/none.json"},
         "tokenizer must be a file, got {p}/none.json; check the path"),
    ],
)  # fmt: skip
def test_refused_folders(copy, spoil, options, text):
    if spoil:
        spoil(copy)
    if "tokenizer" in options:
        options = {"tokenizer": options["tokenizer"].format(p=copy)}
    with pytest.raises(ValueError) as error:
        load_model(str(copy), **options)
    assert str(error.value) == text.format(p=copy)


def test_damaged_weights_are_refused(copy):
    (copy / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError) as error:
        load_model(str(copy))
    assert str(error.value).startswith(
        f"weights must be a safetensors file, got {copy}/model.safetensors, which cannot be read: "
    )


def test_a_tokenizer_beyond_the_models_vocabulary_is_refused(folder, shared):
    path = shared("data/tokenizers/fineweb_4096_bpe.model")
    with pytest.raises(ValueError) as error:
        load_model(str(folder), tokenizer=str(path))
    assert str(error.value) == (
        "tokenizer must have at most the 1024 tokens of the model, got 4096 in "
        "fineweb_4096_bpe-85bf00b6; name the tokenizer that the model was trained with"
    )


@pytest.mark.parametrize("name", ["no-such/model", "../no/such/folder"])
def test_names_are_looked_for_in_the_cache_alone(name, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError) as error:
        load_model(name)
    assert str(error.value) == (
        "a model must be demo, package.module:factory, a folder or a name on the Hub, got "
        f"{name!r}, which is no folder and not in the local cache; check the name, or pass "
        f"--download"
    )


@pytest.mark.parametrize("missing", ["transformers", "huggingface_hub"])
def test_a_missing_library_names_the_extra(folder, monkeypatch, missing):
    import_module = builtins.__import__

    def import_(name, *rest):
        if name == missing:
            raise ImportError(name)
        return import_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", import_)
    spec = str(folder) if missing == "transformers" else "no-such/model"
    with pytest.raises(ValueError) as error:
        load_model(spec)
    assert str(error.value) == (
        f"{spec} needs the library transformers, which is missing; pip install 'ngrammix[hf]'"
    )
