"""Subject: what codes the tokens, in the encoder and again in the decoder."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import ArrayLike

from eval.auditing.steppers import CacheStepper, ModelStepper
from eval.auditing.token_stream import Layout, TokenStream, first_tokens_of, one_document
from eval.config import MIXER_NONE, ScoreConfig
from eval.models.base import Model
from eval.models.behaviour import name_of
from eval.models.numerics import numerics_of
from eval.scoring.windows import make_window_shape
from eval.tokenizers.bos import BOS_NONE
from eval.tokenizers.choose import choose_tokenizer
from eval.types import Tokens
from ngrammix.auditing.environment import environment
from ngrammix.auditing.stepwise import Stepper
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.checks import MAX_VOCAB_SIZE, as_bytes
from ngrammix.mixer import Mixer


@dataclass(frozen=True, eq=False)
class Subject:
    """A scorer that can be made anew, and what tells it from others.

    Attributes
    ----------
    name : str
        For the report.
    vocab_size : int or None
        V; None: it shows in the first distribution.
    settings : mapping
        Model and options: a decoder with others is refused.
    surroundings : mapping
        Versions, hardware and threads: others can round otherwise, and then nothing is decoded.
    make : callable
        (layout, tokens known to the scorer) -> Stepper; the decoder's know only what is decoded.
    stream : callable
        (tokens or None, data or None, most tokens) -> TokenStream.
    """

    name: str
    vocab_size: int | None
    settings: Mapping[str, Any]
    surroundings: Mapping[str, Any]
    make: Callable[[Layout, Tokens], Stepper]
    stream: Callable[[ArrayLike | None, Any, int], TokenStream]


def subject_of_model(
    model: Model | None, config: ScoreConfig, tokenizer: Any, vocab_size: int | None
) -> Subject:
    """The scorer of `score`: model and cache, the model alone, or without a model the cache alone.

    ValueError if model, tokenizer and options do not fit.
    """
    tokenizer = choose_tokenizer(model, tokenizer, config.bos)
    if (
        model is not None and tokenizer.bos is None
    ):  # then the first token of a document is context only
        config = replace(config, bos=BOS_NONE)
    shape = make_window_shape(config, model, tokenizer)
    size = tokenizer.vocab_size if model is None else model.vocab_size
    if model is None and vocab_size is not None:
        size = vocab_size
    is_mixed = config.mixer != MIXER_NONE
    has_cache = model is None or is_mixed
    options: dict[str, Any] = {
        "vocab_size": size,
        "order": config.order,
        "memory_limit": None if config.memory_limit is None else as_bytes(config.memory_limit),
    }

    def make(layout: Layout, known: Tokens) -> Stepper:
        if model is None:
            return CacheStepper(NgramCache(**options), layout)
        mixer = None
        if is_mixed:
            mixer = Mixer(
                **options,
                experts=config.mixer,
                allow_probabilities=config.allow_probabilities,
                check_overlaps=False,  # its windows score each token once
            )
        return ModelStepper(
            model, mixer, layout, config, context=shape.context, stride=shape.stride
        )

    def stream(tokens: ArrayLike | None, data: Any, n_tokens: int) -> TokenStream:
        if tokens is None:
            return first_tokens_of(data, tokenizer, config, shape, n_tokens)
        bos = None if config.bos == BOS_NONE and model is not None else tokenizer.bos or 0
        return one_document(tokens, size, bos).head(n_tokens)

    settings = {
        "model": None if model is None else model.name,
        "mixer": config.mixer if model is not None else MIXER_NONE,
        "context": None if model is None else shape.context,
        "stride": None if model is None else shape.stride,
        "allow_probabilities": config.allow_probabilities,
    } | (options if has_cache else {"vocab_size": size})
    what = [] if model is None else [model.name]
    what += ["n-gram cache"] if has_cache else []
    numerics = {name: value for name, value in numerics_of(model).items() if value is not None}
    surroundings = environment() | numerics
    return Subject(" + ".join(what), size, settings, surroundings, make, stream)


def subject_of_stepper(factory: Callable[..., Stepper], name: str | None) -> Subject:
    """Anybody's scorer of one token at a time, by a function that makes a new one.

    A factory with a parameter gets the tokens (N,) int64, as a scorer of a whole stream does: in
    the decoder 0 stands at every place that is not decoded yet.
    """
    label = name or name_of(factory)
    takes_tokens = n_parameters(factory) > 0

    def make(layout: Layout, known: Tokens) -> Stepper:
        return factory(known) if takes_tokens else factory()

    def stream(tokens: ArrayLike | None, data: Any, n_tokens: int) -> TokenStream:
        if tokens is None:
            raise ValueError(
                "a stepper needs the tokens that it codes, got none; pass tokens, not data"
            )
        return one_document(tokens, MAX_VOCAB_SIZE, 0).head(n_tokens)

    return Subject(label, None, {"stepper": label}, environment(), make, stream)


def n_parameters(function: Callable[..., Any]) -> int:
    """Positional parameters of a callable that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a builtin
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)
