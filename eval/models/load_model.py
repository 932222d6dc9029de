"""load_model: the demo, a Hugging Face model, or the model of a Python factory."""

import os
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from eval.fields import expand_home
from eval.models.base import Model
from eval.models.device import read_device, read_dtype
from eval.models.factory import call_factory
from eval.models.huggingface import find_folder, load_hf
from eval.models.quantized import quantized_path, with_weights
from eval.models.tensors import is_module
from eval.models.wrap import WrappedModel, wrap, wrap_named
from eval.tokenizers.huggingface import FastTokenizer
from eval.tokenizers.objects import OURS
from quant import QuantizedModel

# What to do with a file in the place of a model, by its suffix.
FACTORY = (
    "a pickle can run code and names no network: name package.module:factory, a function that "
    "returns the network with these weights"
)
MENDS = {
    ".gguf": "let transformers read it with gguf_file, save it with save_pretrained, and name that "
    "folder",
    ".safetensors": "name its folder, {folder}, with the config.json beside it",
    ".json": "name its folder, {folder}",
    ".py": "name a function of it, {stem}:factory, that returns the model",
    ".ngq": "name the model that was quantized, and this file with --quantized",
} | dict.fromkeys((".pt", ".pth", ".bin", ".ckpt", ".pkl", ".tar"), FACTORY)


def load_model(
    spec: str | os.PathLike[str],
    *,
    tokenizer: Any = None,
    context: int | None = None,
    device: str | int | None = None,
    dtype: str | None = None,
    download: bool = False,
    trust_remote_code: bool = False,
    quantized: str | os.PathLike[str] | None = None,
) -> Model:
    """Load a model.

    Parameters
    ----------
    spec : str
        ``demo``; a folder with ``config.json`` or a name on the Hub, see `load_hf`; or
        ``package.module:factory``, a function without parameters that returns a `Model`, a torch
        module or a callable, see `wrap`. Modules are searched in the current directory too, as by
        ``python -m``. ``~`` is the home directory.
    tokenizer : path or object, optional
        See `load_tokenizer`. The model's own is then not opened. Default: that of the model, if
        any.
    context : int, optional
        Tokens that the model reads at once. Default: its maximum.
    device, dtype : str, optional
        Of torch, see `read_device` and `read_dtype`: ``cuda``, ``gpu``, ``1``; ``bfloat16``,
        ``bf16``. Default: see `load_hf`; the model of a factory stays unchanged.
    download : bool
        Allow a download from the Hub.
    trust_remote_code : bool
        Let a model of the Hub run its own code.
    quantized : path, optional
        What ``ngrammix quantize`` has made of the model: a file or its folder. The model has the
        weights of the file, and the hash of the file in its name. One float tensor more than the
        model is in memory at once; of the demo and of a factory the model twice.

    Raises
    ------
    ValueError
        If the model does not exist, or an argument does not fit it.
    """
    spec = expand_home(os.fspath(spec))
    if quantized is not None:
        path = quantized_path(expand_home(os.fspath(quantized)))
        options: Any = {
            "tokenizer": tokenizer,
            "context": context,
            "device": device,
            "dtype": dtype,
        }
        options |= {"download": download, "trust_remote_code": trust_remote_code}
        weights = QuantizedModel.load(path)
        # Others may use the demo, and what a factory returns.
        in_place = is_hugging_face(spec)
        return with_weights(load_model(spec, **options), weights, path, in_place=in_place)
    if spec == "demo":
        if dtype is not None and str(read_dtype(dtype)) not in ("None", "torch.float32"):
            raise ValueError(f"dtype of the demo must be float32, got {dtype!r}; leave it out")
        # A new one if it is moved: the cached one is shared.
        demo = load_demo() if device is dtype is None else load_demo.__wrapped__()
        return adapt(demo, spec, tokenizer, context, device, dtype)
    if not is_hugging_face(spec):
        return adapt(call_factory(spec), spec, tokenizer, context, device, dtype)
    check_no_file(spec)
    return load_hf(
        spec,
        tokenizer=tokenizer,
        context=context,
        device=device,
        dtype=dtype,
        download=download,
        trust_remote_code=trust_remote_code,
    )


def folder_of(spec: str, *, download: bool = False) -> Path | None:
    """Folder of a model of Hugging Face, as `load_model` finds it; None for any other model."""
    spec = expand_home(spec)
    if not is_hugging_face(spec):
        return None
    check_no_file(spec)
    return find_folder(spec, download)


def is_hugging_face(spec: str) -> bool:
    """Whether a name is that of a folder or of the Hub, and not of the demo or a factory."""
    return spec != "demo" and (":" not in spec or Path(spec).exists())


def check_no_file(spec: str) -> None:
    """Raise ValueError if the name of a model is empty, or that of a file."""
    path = Path(spec)
    if not spec.strip():
        raise ValueError("a model must have a name, got an empty one; name a folder")
    if path.is_dir() or not path.exists():
        return
    mend = MENDS.get(path.suffix.lower(), "name a folder")
    raise ValueError(
        f"a model must be a folder of Hugging Face, got the file {spec}; "
        + mend.format(folder=path.parent, stem=path.stem)
    )


def adapt(
    model: Any,
    spec: str,
    tokenizer: Any,
    context: int | None,
    device: str | int | None,
    dtype: str | None,
) -> Model:
    """A `Model`, torch module or callable as a `Model`; the options override its attributes."""
    is_model = hasattr(model, "logits") and hasattr(model, "vocab_size")
    is_whole = is_model and None not in (getattr(model, name, None) for name in ("name", "context"))
    is_whole &= all(hasattr(getattr(model, "tokenizer", None), name) for name in OURS)
    if is_whole and (tokenizer, context, device, dtype) == (None, None, None, None):
        return model  # type: ignore[no-any-return]
    limit: int | None = getattr(model, "context", None)
    if context is None:
        context = limit
    if context is None:
        raise ValueError(
            f"context must be given, got none: {spec} has no attribute context; "
            "pass the tokens that it reads at once with --context"
        )
    if limit is not None and context > limit:
        raise ValueError(
            f"context must be at most the {limit} that {spec} allows, got {context}; "
            "pass a smaller one"
        )
    network = model.network if isinstance(model, WrappedModel) else model
    if device is not None or dtype is not None:
        network = move(network, spec, device, dtype)
    options: dict[str, Any] = {
        "context": context,
        "tokenizer": getattr(model, "tokenizer", None) if tokenizer is None else tokenizer,
        "vocab_size": getattr(model, "vocab_size", None),
    }
    name = getattr(model, "name", None)
    callee = network.logits if is_model and network is model else network
    if is_model and name is not None:  # its maker has named it
        return wrap_named(callee, name=name, **options)
    return wrap(callee, name=name, **options)


def move(network: Any, spec: str, device: str | int | None, dtype: str | None) -> Any:
    """Move a torch module to a device and dtype; ValueError if it is not a module."""
    if not is_module(network):
        raise ValueError(
            f"device and dtype need a torch module, got {type(network).__name__} from {spec}; "
            "leave them out"
        )
    return network.to(
        device=None if device is None else read_device(device),
        dtype=None if dtype is None else read_dtype(dtype),
    )


@cache
def load_demo() -> WrappedModel:
    """The embedded model; ValueError if its files are missing from the installation."""
    from tokenizers import Tokenizer as HubTokenizer

    from eval.demo.model import TOKENIZER_PATH, WEIGHTS_PATH, load_network

    for path in (TOKENIZER_PATH, WEIGHTS_PATH):
        if not path.is_file():
            raise ValueError(f"the demo needs {path.name}, which is missing; reinstall ngrammix")
    name = f"demo-{sha256(WEIGHTS_PATH.read_bytes()).hexdigest()[:8]}"
    return wrap_demo(load_network(), HubTokenizer.from_file(str(TOKENIZER_PATH)), name)


def wrap_demo(network: Any, tokenizer: Any, name: str) -> WrappedModel:
    """A network of eval.demo.model and its byte-level BPE tokenizer as a `Model`."""
    config = network.config
    return wrap_named(
        network,
        context=config.context,
        tokenizer=FastTokenizer(tokenizer, bos=config.bos),
        vocab_size=config.vocab_size,
        name=name,
    )
