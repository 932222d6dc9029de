"""Model, tokenizer and data as a configuration names them."""

from copy import copy

from eval.config import RunConfig
from eval.data import Data, open_data
from eval.models import Model, load_model
from eval.tokenizers import ByteTokenizer, Tokenizer, load_tokenizer

NO_MODEL = "none"


def load_model_of(config: RunConfig) -> Model | None:
    """The model, or None for the cache alone; ValueError if there is none such."""
    if config.model == NO_MODEL:
        for name in ("stride", "context", "device", "dtype"):
            if getattr(config, name) is not None:
                raise ValueError(f"--{name} is for a model, got --model none; leave it out")
        return None
    return load_model(
        config.model,
        device=config.device,
        context=config.context,
        dtype=config.dtype,
        download=config.download,
        trust_remote_code=config.trust_remote_code,
    )


def tokenizer_of(config: RunConfig, model: Model | None) -> Tokenizer:
    """The tokenizer that is named, or the model's, or raw bytes; ValueError if it does not fit."""
    if config.tokenizer is not None:
        vocab_size = None if model is None else model.vocab_size
        return load_tokenizer(config.tokenizer, vocab_size=vocab_size, bos=config.bos)
    if model is None:
        return ByteTokenizer(config.bos)
    if config.bos is None:
        return model.tokenizer
    if config.bos >= model.vocab_size:
        raise ValueError(
            f"--bos must be below the model's {model.vocab_size} tokens, got {config.bos}; "
            "it is the id of a token"
        )
    tokenizer = copy(model.tokenizer)
    tokenizer.bos = config.bos
    return tokenizer


def load_data(config: RunConfig, tokenizer: Tokenizer) -> Data:
    """The data; ValueError if they are missing or not what they should be."""
    if not config.data:
        raise ValueError("--data must name at least one file or data set, got none; name one")
    return open_data(
        config.data,
        column=config.column,
        split=config.split,
        bos=tokenizer.bos,
        vocab_size=tokenizer.vocab_size,
        token_bytes=config.token_bytes,
        skip_empty=config.skip_empty,
        download=config.download,
    )
