"""The model, tokenizer and data of a configuration."""

import hashlib
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.config import MODEL_NONE, RunConfig
from eval.data.base import Data
from eval.data.open_data import open_data
from eval.models.base import Model
from eval.models.load_model import load_model
from eval.notes import note_if_slow
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer
from quant import QuantizedModel

QUANTIZED = "model.ngq"  # the file that ``ngrammix quantize`` writes


def load_model_of(config: RunConfig) -> Model | None:
    """The model, or None for the cache alone; ValueError if it does not exist."""
    if config.model == MODEL_NONE:
        for name in ("stride", "context", "device", "dtype", "quantized"):
            if getattr(config, name) is not None:
                raise ValueError(f"--{name} needs a model, got --model none; leave it out")
        return None
    with note_if_slow(f"loading {config.model}"):
        model = load_model(
            config.model,
            device=config.device,
            context=config.context,
            dtype=config.dtype,
            download=config.download,
            trust_remote_code=config.trust_remote_code,
        )
        return load_quantized(config, model)


def tokenizer_of(config: RunConfig, model: Model | None) -> Tokenizer:
    """The named tokenizer, else that of the model, else raw bytes; ValueError on a mismatch."""
    if config.tokenizer is not None:
        vocab_size = None if model is None else model.vocab_size
        return load_tokenizer(config.tokenizer, vocab_size=vocab_size, bos=config.bos)
    if model is None:
        return ByteTokenizer(config.bos)
    if config.bos is None:
        return model.tokenizer
    if config.bos >= model.vocab_size:
        raise ValueError(
            f"--bos must be below the {model.vocab_size} tokens of the model, got {config.bos}; "
            "pass the id of a token"
        )
    tokenizer = copy(model.tokenizer)
    tokenizer.bos = config.bos
    return tokenizer


def load_data(config: RunConfig, tokenizer: Tokenizer) -> Data:
    """The data set; ValueError if it is missing or in the wrong format."""
    if not config.data:
        raise ValueError("--data must name at least one file or data set, got none; name one")
    return open_data(
        config.data,
        format=config.format,
        column=config.column,
        split=config.split,
        bos=tokenizer.bos,
        vocab_size=tokenizer.vocab_size,
        token_bytes=config.token_bytes,
        skip_empty=config.skip_empty,
        on_bad_row=config.on_bad_row,
        download=config.download,
    )


def load_quantized(config: RunConfig, model: Model) -> Model:
    """The model with the weights of ``--quantized``, or unchanged without the option."""
    if config.quantized is None:
        return model
    folder = Path(config.quantized)
    path = folder / QUANTIZED if folder.is_dir() else folder
    return with_weights(model, QuantizedModel.load(path), path)


def network_of(model: Model) -> Any:
    """The torch module of a model; ValueError if there is none."""
    import torch

    network = getattr(model, "network", None)
    if not isinstance(network, torch.nn.Module):
        raise ValueError(
            f"weights need a torch module, got none in {model.name}; let the factory return the "
            "module"
        )
    return network


def with_weights(model: Model, quantized: QuantizedModel, path: Path) -> Model:
    """A copy of the model with dequantized weights; its name has the hash of their file."""
    network = deepcopy(network_of(model))
    quantized.load_into(network)
    wrapped: Any = model  # a WrappedModel, since it has a network
    name = f"{model.name}+quantized-{hash_file(path)}"
    quantized_model: Model = replace(wrapped, network=network, name=name)
    return quantized_model


def hash_file(path: Path) -> str:
    """8 hex digits of the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]
