"""The config of a Hugging Face model: is it a causal language model, and how far does it read."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.models.library_calls import library_call

LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


def read_config(folder: Path, spec: str, *, trust_remote_code: bool) -> Any:
    """The config of a folder; ValueError unless it is that of a causal language model."""
    from transformers import AutoConfig

    with library_call(spec):
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    if config.is_encoder_decoder:
        raise ValueError(
            f"a model must be a causal language model, got {config.model_type} in {spec}, an "
            "encoder with a decoder; name a decoder-only model"
        )
    has_own_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if not (trust_remote_code and has_own_code):
        check_class(config, spec)
    return config


def check_class(config: Any, spec: str) -> None:
    """Raise ValueError unless transformers has a causal language model of this model_type.

    Its class must also be the one that the config names, if it names one of them.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(
            f"a model must be a causal language model, got {config.model_type} in {spec}, which "
            "transformers has no causal language model of; name a decoder-only model"
        )
    own = names_of([MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]])
    named = set(config.architectures or ()) & names_of(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    if named and not named & own:
        raise ValueError(
            f"model_type and architectures must agree, got {config.model_type} and "
            f"{', '.join(sorted(named))} in {spec}; correct config.json"
        )


def names_of(classes: Iterable[Any]) -> set[str]:
    """The names of classes, each given as a class, its name, or a tuple of them."""
    flat = (c for entry in classes for c in (entry if isinstance(entry, tuple) else (entry,)))
    return {c if isinstance(c, str) else c.__name__ for c in flat}


def find_limit(config: Any) -> int | None:
    """The most tokens that the config allows, if it says so."""
    config = config.get_text_config()
    limits = (getattr(config, name, None) for name in LIMITS)
    return next((n for n in limits if type(n) is int and n > 0), None)


def choose_context(context: int | None, network: Any, spec: str) -> int:
    """`context`, an integer >= 1; by default the most tokens that the network allows.

    More are allowed, with a warning, unless the network has a table with a row for each position:
    rotary positions, ALiBi and recurrence have none.

    Raises
    ------
    ValueError
        If there is neither a context nor a limit, or the context is beyond the table.
    """
    config = network.config.get_text_config()
    limit, table = find_limit(config), None
    if limit is not None:
        limit, table = count_positions(network, limit)
    if context is None:
        return check_limit(limit, spec)
    if limit is None or context <= limit:
        return context
    if table is not None:
        raise ValueError(
            f"context must be at most the {limit} that {spec} allows, got {context}: {table} has a "
            "row for each position; pass a smaller one"
        )
    warnings.warn(
        f"context {context} is beyond the {limit} that {spec} was made for; its figures may be "
        "worse for that",
        stacklevel=3,
    )
    if hasattr(config, "max_seq_len"):
        config.max_seq_len = context  # MPT makes its ALiBi for so many positions
    return context


def check_limit(limit: int | None, spec: str) -> int:
    """Return the limit as the default of the context, or raise ValueError if there is none."""
    if limit is None:
        raise ValueError(
            f"context must be given, got none: {spec} has no limit; pass one with --context"
        )
    return limit


def count_positions(network: Any, limit: int) -> tuple[int, str | None]:
    """The positions that the network can read, and the name of the table that has their rows.

    The `limit` of the config, and None, if there is no such table.
    """
    for path, module in network.named_modules():
        # Parameters, buffers, and tensors that are neither.
        tensors = {**module._parameters, **module._buffers, **vars(module)}
        for name, tensor in tensors.items():
            full_name = f"{path}.{name}"
            end = ".".join(full_name.split(".")[-2:])
            is_table = getattr(tensor, "ndim", 0) == 2 and tensor.is_floating_point()
            # Some tables begin with rows for padding.
            if (
                is_table
                and any(part in end for part in ("pos", "wpe"))
                and any(limit <= size <= limit + 3 for size in tensor.shape)
            ):
                padding = getattr(module, "padding_idx", None)
                # RoBERTa counts its positions from the row after that of padding.
                n_rows = limit if padding is None else tensor.shape[0] - padding - 1
                return min(limit, n_rows), full_name
    return limit, None
