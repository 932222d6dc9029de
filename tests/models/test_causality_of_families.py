"""The probe on real architectures: no causal family is accused, every bidirectional one is."""

import json

import pytest
import torch

from eval.bench.peers import tiny_models
from eval.cli import main
from eval.models.causality import find_leak
from eval.models.wrap import wrap

pytest.importorskip("transformers")

CAUSAL = [
    "bert", "bigbird_pegasus", "biogpt", "bitnet", "bloom", "camembert", "codegen", "cohere",
    "cohere2", "ctrl", "electra", "exaone4", "falcon", "falcon_mamba", "gemma", "gemma2",
    "gemma3_text", "glm", "gpt2", "gpt_bigcode", "gpt_neox", "gpt_oss", "gptj", "granite",
    "granitemoe", "helium", "jamba", "jetmoe", "lfm2", "llama", "mamba", "mistral", "mixtral",
    "modernbert-decoder", "mpt", "nemotron", "olmo", "olmo2", "olmoe", "opt", "persimmon", "phi",
    "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "recurrent_gemma",
    "roberta", "rwkv", "smollm3", "stablelm", "starcoder2", "xglm", "xlm-roberta",
]  # fmt: skip
QUICK = ("gpt2", "llama", "mixtral", "mamba", "bert", "gemma3_text")
CHEATS = [
    ("bert", {"is_decoder": False}),
    ("roberta", {"is_decoder": False}),
    ("xlm-roberta", {"is_decoder": False}),
    ("electra", {"is_decoder": False}),
    ("gemma3_text", {"use_bidirectional_attention": True}),
    ("llama", {"is_causal": False}),
    ("qwen3", {"is_causal": False}),
    ("xlm", {}),
    ("xlnet", {}),
]


def probe(family, dtype=torch.float32, batch=8, **fields):
    network = tiny_models.build(family, **fields)
    if network is None:
        pytest.skip(f"this release of transformers builds no tiny {family}")
    model = wrap(
        network.to(dtype), context=100, tokenizer=None, vocab_size=tiny_models.VOCAB, name=family
    )
    text = torch.randint(3, tiny_models.VOCAB, (100,), generator=torch.Generator().manual_seed(0))
    return find_leak(
        model.logits, text.numpy(), vocab_size=tiny_models.VOCAB, longest=100, batch=batch
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "family",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CAUSAL],
)
def test_a_causal_family_is_not_accused(family, dtype):
    assert probe(family, dtype) is None
    if family in QUICK:
        assert probe(family, dtype, batch=1) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("family", "fields"), CHEATS)
def test_a_bidirectional_family_is_found(family, fields, dtype):
    for batch in (8, 1):
        assert probe(family, dtype, batch, **fields).kind == "future"


def test_a_folder_without_is_decoder_is_refused(tmp_path, capsys):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={"<s>": 0} | {c: i for i, c in enumerate(letters, 1)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    data = tmp_path / "t.txt"
    data.write_bytes(b"It was the best of times, it was the worst of times. " * 30)
    for is_decoder, status in ((True, 0), (False, 2)):
        network = tiny_models.build("bert", vocab_size=257, is_decoder=is_decoder)
        network.save_pretrained(tmp_path / "bert")
        tokenizer.save(str(tmp_path / "bert" / "tokenizer.json"))
        (tmp_path / "bert" / "tokenizer_config.json").write_text(
            json.dumps({"bos_token": "<s>", "eos_token": "<s>"})
        )
        arguments = ["score", "--model", str(tmp_path / "bert"), "--data", str(data)]
        assert main([*arguments, "--limit", "400", "--context", "64"]) == status
    assert "a model must predict each token from the tokens before it, got bert-" in (
        capsys.readouterr().err
    )
