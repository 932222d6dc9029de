"""Tiny random models of all families of causal models that transformers knows."""

import inspect
from collections.abc import Mapping
from typing import Any, cast

from eval.models.library_calls import library_call

VOCAB = 96
CONTEXT = 128
MAX_WEIGHTS = 3_000_000  # of a family whose configuration has parts beside the language model

# Fields under the names that the configurations give them.
SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "dim", "lru_width"), 32),
    **dict.fromkeys(
        (
            "intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size",
            "moe_intermediate_size", "shared_expert_intermediate_size",
            "shared_intermediate_size", "intermediate_size_mlp", "expert_ffn_hidden_size",
            "decoder_ffn_dim", "encoder_ffn_dim",
        ),
        48,
    ),
    **dict.fromkeys(
        (
            "num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers",
            "encoder_layers",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads",
            "encoder_attention_heads", "mamba_n_heads", "mamba_num_heads", "num_experts",
            "num_local_experts", "n_routed_experts", "moe_num_experts", "linear_num_value_heads",
        ),
        4,
    ),
    **dict.fromkeys(
        (
            "num_key_value_heads", "num_experts_per_tok", "num_experts_per_token", "moe_k",
            "moe_topk", "linear_num_key_heads", "index_n_heads",
        ),
        2,
    ),
    **dict.fromkeys(
        (
            "head_dim", "kv_channels", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim",
            "mamba_d_state", "ssm_state_size", "state_size", "linear_key_head_dim",
            "linear_value_head_dim", "index_topk",
        ),
        8,
    ),
    **dict.fromkeys(("n_group", "topk_group", "n_groups", "n_shared_experts"), 1),
    **dict.fromkeys(
        (
            "kv_lora_rank", "q_lora_rank", "mamba_d_head", "mamba_head_dim", "mamba_chunk_size",
            "chunk_size", "attention_window_size", "sliding_window", "sliding_window_size",
            "index_head_dim",
        ),
        16,
    ),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), CONTEXT),
    "vocab_size": VOCAB, "n_words": VOCAB, "rotary_dim": 4, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def families() -> list[str]:
    """Names of all families of causal models, sorted."""
    from transformers.models.auto import modeling_auto

    return sorted(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build(family: str, **fields: Any) -> Any:
    """A tiny random model of a family, causal where its configuration says so; or None.

    None: the sizes do not suit the configuration, or it has large parts of another kind.
    """
    try:
        with library_call(family):
            return build_tiny(family, fields)
    except ValueError:  # each family checks its sizes in ways of its own
        return None


def build_tiny(family: str, fields: Mapping[str, Any]) -> Any:
    """The model of `build`; any exception of the library if the sizes do not suit."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    kind, make = CONFIG_MAPPING[family], cast(Any, AutoModelForCausalLM)
    known = names_of(kind)
    sizes = {name: size for name, size in SIZES.items() if name in known}
    if "is_decoder" in known:
        sizes["is_decoder"] = True  # an encoder is causal then
    config = kind(**{**sizes, **fields})
    with torch.device("meta"):
        shell = make.from_config(config)
    if sum(weight.numel() for weight in shell.parameters()) > MAX_WEIGHTS:
        return None
    torch.manual_seed(0)
    model = make.from_config(config).eval()
    config.use_cache = False
    with torch.no_grad():
        logits = model(torch.arange(3, 15)[None]).logits
    return model if logits.shape == (1, 12, fields.get("vocab_size", VOCAB)) else None


def names_of(kind: type) -> set[str]:
    """Names of the fields of a configuration class."""
    names: set[str] = set()
    for part in kind.__mro__:
        names |= set(inspect.get_annotations(part))
        if "__init__" in vars(part):
            names |= set(inspect.signature(part.__init__).parameters)  # type: ignore[misc]
    return names
