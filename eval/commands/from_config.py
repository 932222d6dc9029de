"""The model, tokenizer and data of a configuration."""

from typing import Any

from eval.config import DEMO, MODEL_NONE, RunConfig
from eval.data.base import Data
from eval.data.open_data import has_tokens, open_data, refuse_missing
from eval.data.sources import list_sources
from eval.models.base import Model
from eval.models.load_model import is_hugging_face, load_model
from eval.notes import note_if_slow
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.bos import token_id, with_bos
from eval.tokenizers.load_tokenizer import NONE, load_tokenizer
from eval.tokenizers.side_car import SideCarTokenizer


def load_model_of(config: RunConfig) -> Model | None:
    """The model, or None for the cache alone; ValueError if it does not exist."""
    spec = DEMO if config.model is None else config.model
    if spec == MODEL_NONE:
        for name in ("stride", "context", "device", "dtype", "quantized"):
            if getattr(config, name) is not None:
                raise ValueError(f"--{name} needs a model, got --model none; leave it out")
        return None
    with note_if_slow(f"loading {spec}"):
        return load_model(
            spec,
            tokenizer=tokenizer_source(config, spec),
            device=config.device,
            context=config.context,
            dtype=config.dtype,
            download=config.download,
            trust_remote_code=config.trust_remote_code,
            quantized=config.quantized,
        )


def tokenizer_source(config: RunConfig, spec: str) -> Any:
    """What `load_model` takes as the tokenizer; None: the model's own."""
    if config.pre_tokenizer is not None:
        return load_tokenizer(config.tokenizer or spec, pre_tokenizer=config.pre_tokenizer)
    if config.tokenizer is None and config.token_bytes is not None and is_hugging_face(spec):
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
