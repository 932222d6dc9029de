"""Subjects: what codes the tokens, in the encoder and again in the decoder."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from numpy.typing import ArrayLike

from eval.auditing.codec.steppers import CacheStepper, ModelStepper
from eval.auditing.codec.token_stream import Layout, TokenStream, first_tokens_of, one_document
from eval.auditing.codec.whole_run import charge_of_cache, charge_of_model
from eval.config import MIXER_NONE, ScoreConfig
from eval.models.base import Model
from eval.models.behaviour import name_of
from eval.models.numerics import numerics_of
from eval.scoring.windows import make_window_shape
from eval.tokenizers.bos import BOS_NONE
from eval.tokenizers.choose import choose_tokenizer
from eval.tokenizers.default_order import order_for
from eval.types import Floats, Tokens
from ngrammix.auditing.environment import environment
from ngrammix.auditing.stepwise import Stepper
from ngrammix.cache.ngram_cache import NgramCache
from ngrammix.checks import MAX_VOCAB_SIZE, as_bytes
from ngrammix.mixer import Mixer


class Subject(Protocol):
    """A scorer that can be made anew, and what tells it from others.

    Attributes
    ----------
    name : str
        For the report.
    settings : mapping
        Model and options: a decoder with others is refused.
    surroundings : mapping
        Versions, hardware and threads: others can round otherwise, and then nothing is decoded.
    """

    name: str
    settings: Mapping[str, Any]
    surroundings: Mapping[str, Any]

    def make(self, layout: Layout, known: Tokens) -> Stepper:
        """A new scorer; of all tokens (N,) it may know those in `known`."""

    def stream(self, tokens: ArrayLike | None, data: Any, n_tokens: int) -> TokenStream:
        """The tokens to code, `n_tokens` at most, from an array or from data."""

    def charge(self, stream: TokenStream, n_tokens: int) -> Floats | None:
        """Nats (n_tokens,) of the first tokens in a pass over all; None if there is none."""


class ScoreSubject:
    """The scorer of `score`: model and cache, the model alone, or without a model the cache alone.

    ValueError if model, tokenizer and options do not fit.
    """

    def __init__(
        self, model: Model | None, config: ScoreConfig, tokenizer: Any, vocab_size: int | None
    ) -> None:
        tokenizer = choose_tokenizer(model, tokenizer, config.bos)
        if model is not None and tokenizer.bos is None:  # a document begins with context only
            config = replace(config, bos=BOS_NONE)
        self._model, self._config, self._tokenizer = model, config, tokenizer
        self._shape = make_window_shape(config, model, tokenizer)
        self._is_mixed = model is not None and config.mixer != MIXER_NONE
        if model is not None:
            vocab_size = model.vocab_size
        elif vocab_size is None:
            vocab_size = tokenizer.vocab_size
        self._options: dict[str, Any] = {
            "vocab_size": vocab_size,
            "order": order_for(config.order, tokenizer if model is None else None),
            "memory_limit": None if config.memory_limit is None else as_bytes(config.memory_limit),
        }
        has_cache = model is None or self._is_mixed
        parts = [] if model is None else [model.name]
        self.name = " + ".join([*parts, "n-gram cache"] if has_cache else parts)
        self.settings: Mapping[str, Any] = {
            "model": None if model is None else model.name,
            "mixer": config.mixer if self._is_mixed else MIXER_NONE,
            "context": None if model is None else self._shape.context,
            "stride": None if model is None else self._shape.stride,
            "allow_probabilities": config.allow_probabilities,
        } | (self._options if has_cache else {"vocab_size": vocab_size})
        numerics = {key: value for key, value in numerics_of(model).items() if value is not None}
        self.surroundings: Mapping[str, Any] = environment() | numerics

    def make(self, layout: Layout, known: Tokens) -> Stepper:
        """See `Subject`; it knows none of the tokens."""
        if self._model is None:
            return CacheStepper(NgramCache(**self._options), layout)
        return ModelStepper(
            self._model,
            self._mixer(),
            layout,
            self._shape,
            allow_probabilities=self._config.allow_probabilities,
        )

    def stream(self, tokens: ArrayLike | None, data: Any, n_tokens: int) -> TokenStream:
        """See `Subject`."""
        if tokens is None:
            return first_tokens_of(data, self._tokenizer, self._config, self._shape, n_tokens)
        has_none = self._model is not None and self._config.bos == BOS_NONE
        bos = None if has_none else self._tokenizer.bos or 0
        return one_document(tokens, self._options["vocab_size"], bos).head(n_tokens)

    def charge(self, stream: TokenStream, n_tokens: int) -> Floats:
        """See `Subject`."""
        if self._model is None:
            return charge_of_cache(NgramCache(**self._options), stream, n_tokens)
        return charge_of_model(
            self._model,
            self._mixer(),
            stream,
            n_tokens,
            self._shape,
            allow_probabilities=self._config.allow_probabilities,
        )

    def _mixer(self) -> Mixer | None:
        """A new mixer; None for the model alone."""
        if not self._is_mixed:
            return None
        return Mixer(
            **self._options,
            experts=self._config.mixer,
            allow_probabilities=self._config.allow_probabilities,
            check_overlaps=False,  # its windows score each token once
        )


class StepperSubject:
    """Anybody's scorer of one token at a time, by a function that makes a new one.

    A function with a parameter gets the tokens (N,) int64, as a scorer of a whole stream does: in
    the decoder 0 stands at every place that is not decoded yet.
    """

    def __init__(self, factory: Callable[..., Stepper], name: str | None) -> None:
        self._factory = factory
        self._takes_tokens = n_parameters(factory) > 0
        self.name = name or name_of(factory)
        self.settings: Mapping[str, Any] = {"stepper": self.name}
        self.surroundings: Mapping[str, Any] = environment()

    def make(self, layout: Layout, known: Tokens) -> Stepper:
        """See `Subject`."""
        return self._factory(known) if self._takes_tokens else self._factory()

    def stream(self, tokens: ArrayLike | None, data: Any, n_tokens: int) -> TokenStream:
        """See `Subject`."""
        if tokens is None:
            raise ValueError(
                "a stepper needs the tokens that it codes, got none; pass tokens, not data"
            )
        return one_document(tokens, MAX_VOCAB_SIZE, 0).head(n_tokens)

    def charge(self, stream: TokenStream, n_tokens: int) -> None:
        """See `Subject`: there is no such pass."""


def n_parameters(function: Callable[..., Any]) -> int:
    """Positional parameters of a callable that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a builtin
        return 0
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)
