"""How many tokens a model reads: its limit, and beyond it where no table of positions ends."""

import numpy as np
import pytest
import torch

from eval.models.hf_config import choose_context
from eval.models.load_model import load_model
from tests.models.tiny import save_llama, save_tokenizer

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 257}
SHORT = {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 257, "n_positions": 40}


def network_of(kind, **config):
    config_class = getattr(transformers, f"{kind}Config")
    return transformers.AutoModelForCausalLM.from_config(config_class(**config)).eval()


BEYOND = [
    ("Llama", SIZES | {"max_position_embeddings": 40, "intermediate_size": 16}),
    ("GPTNeoX", SIZES | {"max_position_embeddings": 40, "intermediate_size": 16}),
    ("Mpt", {"d_model": 16, "n_layers": 1, "n_heads": 2, "vocab_size": 257, "max_seq_len": 40}),
]
TABLES = [
    ("GPT2", SHORT, 40, "transformer.wpe.weight"),
    ("CTRL", SHORT | {"dff": 16}, 40, "transformer.pos_encoding"),
    ("OPT", SIZES | {"max_position_embeddings": 40, "ffn_dim": 16, "word_embed_proj_dim": 16}, 40,
     "model.decoder.embed_positions.weight"),
    ("Bert", SIZES | {"max_position_embeddings": 40, "is_decoder": True}, 40,
     "bert.embeddings.position_embeddings.weight"),
    ("Roberta", SIZES | {"max_position_embeddings": 42, "is_decoder": True, "pad_token_id": 1}, 40,
     "roberta.embeddings.position_embeddings.weight"),
    ("Data2VecText", SIZES | {"max_position_embeddings": 42, "is_decoder": True,
                              "pad_token_id": 1}, 40,
     "data2vec_text.embeddings.position_embeddings.weight"),
]  # fmt: skip


def length_of(network, n):
    with torch.no_grad():
        return network(torch.full((1, n), 5)).logits.shape[1]


@pytest.mark.parametrize(("kind", "config"), BEYOND)
def test_models_without_a_table_read_further(kind, config):
    network = network_of(kind, **config)
    assert choose_context(None, network, "m") == 40
    assert choose_context(40, network, "m") == 40
    with pytest.warns(UserWarning, match="beyond") as caught:
        assert choose_context(90, network, "m") == 90
    assert str(caught[0].message) == (
        "context 90 is beyond the 40 that m was made for; its figures may be worse for that"
    )
    assert length_of(network, 90) == 90


@pytest.mark.parametrize(("kind", "config", "limit", "table"), TABLES)
def test_models_with_a_table_do_not(kind, config, limit, table):
    network = network_of(kind, **config)
    assert choose_context(None, network, "m") == limit
    assert length_of(network, limit) == limit
    with pytest.raises((IndexError, RuntimeError)):
        length_of(network, limit + 1)
    with pytest.raises(ValueError) as error:
        choose_context(limit + 1, network, "m")
    assert str(error.value) == (
        f"context must be at most the {limit} that m allows, got {limit + 1}: {table} has a row "
        "for each position; pass a smaller one"
    )


def test_the_context_of_a_folder_may_be_larger(tmp_path):
    network = save_llama(tmp_path)
    tokens = np.arange(1, 101)[None]
    with pytest.warns(UserWarning, match="context 100 is beyond the 64"):
        model = load_model(tmp_path, context=100, device="cpu")
    with torch.no_grad():
        right = network.eval()(torch.from_numpy(tokens)).logits
    np.testing.assert_allclose(model.logits(tokens).numpy(), right.numpy(), atol=1e-5)


def test_a_folder_with_a_table_refuses(tmp_path):
    network_of("GPT2", **SHORT).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(ValueError, match=r"^context must be at most the 40 that .* allows, got 41"):
        load_model(tmp_path, context=41)
    assert load_model(tmp_path).context == 40
