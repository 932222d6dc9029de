"""The model, tokenizer and data of a configuration."""

import hashlib
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.config import DEMO, MODEL_NONE, RunConfig
from eval.data.base import Data
from eval.data.open_data import has_tokens, open_data, refuse_missing
from eval.data.sources import list_sources
from eval.models.base import Model
from eval.models.load_model import load_model
from eval.notes import note_if_slow
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.bos import token_id, with_bos
from eval.tokenizers.load_tokenizer import NONE, load_tokenizer
from eval.tokenizers.side_car import SideCarTokenizer
from quant import QuantizedModel

QUANTIZED = "model.ngq"  # the file that ``ngrammix quantize`` writes


def load_model_of(config: RunConfig) -> Model | None:
    """The model, or None for the cache alone; ValueError if it does not exist."""
    spec = DEMO if config.model is None else config.model
    if spec == MODEL_NONE:
        for name in ("stride", "context", "device", "dtype", "quantized"):
            if getattr(config, name) is not None:
                raise ValueError(f"--{name} needs a model, got --model none; leave it out")
        return None
    with note_if_slow(f"loading {spec}"):
        model = load_model(
            spec,
            tokenizer=tokenizer_source(config, spec),
            device=config.device,
            context=config.context,
            dtype=config.dtype,
            download=config.download,
            trust_remote_code=config.trust_remote_code,
        )
        return load_quantized(config, model)


def tokenizer_source(config: RunConfig, spec: str) -> Any:
    """What `load_model` takes as the tokenizer; None: the model's own."""
    if config.pre_tokenizer is not None:
        return load_tokenizer(config.tokenizer or spec, pre_tokenizer=config.pre_tokenizer)
    is_saved = spec != DEMO and (":" not in spec or Path(spec).exists())
    if config.tokenizer is None and config.token_bytes is not None and is_saved:
        return NONE  # ids whose bytes are given need no tokenizer: it is not opened
    return config.tokenizer


def tokenizer_of(config: RunConfig, model: Model | None) -> Tokenizer:
    """The tokenizer of the model, or without a model the named one, else raw bytes."""
    if model is not None:
        return with_bos(model.tokenizer, config.bos)
    source = "bytes" if config.tokenizer is None else config.tokenizer
    return with_bos(load_tokenizer(source, pre_tokenizer=config.pre_tokenizer), config.bos)


def check_data(config: RunConfig, *further: str) -> None:
    """Raise ValueError if no data is named, or some are missing: before a model is loaded."""
    if not config.data:
        raise ValueError("--data must name at least one file or data set, got none; name one")
    for source in list_sources([*config.data, *further]):
        refuse_missing(source, download=config.download)


def load_data(config: RunConfig, tokenizer: Tokenizer) -> Data:
    """The data set; ValueError if it is missing or in the wrong format."""
    end = config.document_end
    data = open_data(
        config.data,
        format=config.format,
        column=config.column,
        split=config.split,
        bos=tokenizer.bos,
        vocab_size=tokenizer.vocab_size,
        token_dtype=config.token_dtype,
        document_end=None if end is None else token_id(tokenizer, end, "document_end"),
        token_bytes=config.token_bytes,
        token_bytes_per=config.token_bytes_per,
        skip_empty=config.skip_empty,
        on_bad_row=config.on_bad_row,
        download=config.download,
    )
    if has_tokens(list_sources(config.data), config.format, config.token_dtype):
        check_named(config)
    elif isinstance(tokenizer, SideCarTokenizer):
        raise ValueError(
            f"text needs a tokenizer, got none for {config.data[0]}; name one with --tokenizer"
        )
    return data


def check_named(config: RunConfig) -> None:
    """Raise ValueError unless the model, or the tokenizer, of token ids is named."""
    if config.model is None:
        raise ValueError(
            f"token ids need the model that is scored to be named, got none for {config.data[0]}; "
            "name it with --model: no text says which tokenizer made them"
        )
    if config.model == MODEL_NONE and config.tokenizer is None:
        raise ValueError(
            f"token ids need the tokenizer that made them, got none for {config.data[0]}; name it "
            "with --tokenizer (bytes: the ids are byte values)"
        )


def load_quantized(config: RunConfig, model: Model) -> Model:
    """The model with the weights of ``--quantized``, or unchanged without the option."""
    if config.quantized is None:
        return model
    path = quantized_path(Path(config.quantized))
    return with_weights(model, QuantizedModel.load(path), path)


def quantized_path(path: Path) -> Path:
    """The quantized file itself, if a folder that ``ngrammix quantize`` made is named."""
    return path / QUANTIZED if path.is_dir() else path


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
