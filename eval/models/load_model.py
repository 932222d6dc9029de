"""The models that can be scored: what turns tokens into logits, and how each kind is loaded."""

import importlib
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from eval.models.base import Model
from eval.models.huggingface import load_hf
from eval.models.wrap import WrappedModel, is_module, wrap
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.load_tokenizer import load_tokenizer


def load_model(
    spec: str,
    *,
    tokenizer: str | None = None,
    context: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    download: bool = False,
    trust_remote_code: bool = False,
) -> Model:
    """The model that `spec` names.

    Parameters
    ----------
    spec : str
        ``demo``; a folder with ``config.json``, or a name on the Hub, as in
        `load_hf`; or ``package.module:factory``, a function without parameters that
        returns a model, a module of torch or a callable as `wrap` takes it. The current directory
        is searched too, as by ``python -m``.
    tokenizer : str, optional
        What `load_tokenizer` takes. Default: the model's own; else none.
    context : int, optional
        The most tokens at once. Default: the model's own.
    device, dtype : str, optional
        Of torch. Default: see `load_hf`; what a factory makes stays as it is.
    download : bool
        Whether a name may be fetched from the Hub.
    trust_remote_code : bool
        Whether code that comes with a model of the Hub may run.

    Raises
    ------
    ValueError
        If there is no such model, or an argument does not fit it.
    """
    if spec == "demo":
        if dtype not in (None, "auto", "float32"):
            raise ValueError(f"dtype of the demo must be float32, got {dtype!r}; leave it out")
        # Another one where it moves: the one that is shared stays where it is.
        demo = load_demo() if device is dtype is None else load_demo.__wrapped__()
        return adapt(demo, spec, tokenizer, context, device, dtype)
    if ":" in spec and not Path(spec).is_dir():
        return adapt(make(spec), spec, tokenizer, context, device, dtype)
    return load_hf(
        spec,
        tokenizer=tokenizer,
        context=context,
        device=device,
        dtype=dtype,
        download=download,
        trust_remote_code=trust_remote_code,
    )


def make(spec: str) -> Any:
    """What ``package.module:factory`` returns; ValueError if there is no such function."""
    name, _, attribute = spec.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise ValueError(
            f"a model must be importable, got {spec!r}: {error}; "
            "check the name, and the directory that you are in"
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        what = f"has no {attribute!r}" if factory is None else f"is a {type(factory).__name__}"
        subject = name if factory is None else f"its {attribute}"
        raise ValueError(
            f"a model's factory must be a function, got {spec!r}: {subject} {what}; "
            "name a function that returns the model"
        )
    return factory()


def adapt(
    made: Any,
    spec: str,
    tokenizer: str | None,
    context: int | None,
    device: str | None,
    dtype: str | None,
) -> Model:
    """A model, module or callable as a model, with the options in the place of its attributes."""
    is_model = hasattr(made, "logits") and hasattr(made, "vocab_size")
    if is_model and (tokenizer, context, device, dtype) == (None, None, None, None):
        model: Model = made
        return model
    limit: int | None = getattr(made, "context", None)
    if context is None:
        context = limit
    if context is None:
        raise ValueError(
            f"context must be given, got none: {spec} has no attribute context; "
            "name the most tokens that it takes at once with --context"
        )
    if limit is not None and context > limit:
        raise ValueError(
            f"context must be at most the {limit} that {spec} allows, got {context}; "
            "take a shorter one"
        )
    network = made.network if isinstance(made, WrappedModel) else made
    if device is not None or dtype is not None:
        network = move(network, spec, device, dtype)
    return wrap(
        network.logits if is_model and network is made else network,
        context=context,
        tokenizer=load_tokenizer(tokenizer) if tokenizer else getattr(made, "tokenizer", None),
        vocab_size=getattr(made, "vocab_size", None),
        name=getattr(made, "name", None),
    )


def move(network: Any, spec: str, device: str | None, dtype: str | None) -> Any:
    """A module of torch where, and of the kind, that the user wants; ValueError if it is none."""
    import torch

    if not is_module(network):
        raise ValueError(
            f"device and dtype are for modules of torch, got {type(network).__name__} from {spec}; "
            "leave them out"
        )
    if dtype not in (None, "auto") and not isinstance(
        getattr(torch, dtype or "", None), torch.dtype
    ):
        raise ValueError(f"dtype must be one of torch's, got {dtype!r}; leave it out")
    kind = None if dtype in (None, "auto") else getattr(torch, dtype or "")
    return network.to(device=device, dtype=kind)


@cache
def load_demo() -> WrappedModel:
    """The embedded model; ValueError if its files are missing from the installation."""
    from tokenizers import Tokenizer as HubTokenizer

    from eval.demo.model import TOKENIZER_PATH, WEIGHTS_PATH, load_network

    for path in (TOKENIZER_PATH, WEIGHTS_PATH):
        if not path.is_file():
            raise ValueError(f"the demo needs {path.name}, which is missing; install ngrammix anew")
    name = f"demo-{sha256(WEIGHTS_PATH.read_bytes()).hexdigest()[:8]}"
    return wrap_demo(load_network(), HubTokenizer.from_file(str(TOKENIZER_PATH)), name)


def wrap_demo(network: Any, tokenizer: Any, name: str) -> WrappedModel:
    """The network of eval.demo.model and its byte-level BPE tokenizer as a model to score."""
    config = network.config
    return wrap(
        network,
        context=config.context,
        tokenizer=FastTokenizer(tokenizer, bos=config.bos),
        vocab_size=config.vocab_size,
        name=name,
    )
