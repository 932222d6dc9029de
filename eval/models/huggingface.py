"""Hugging Face causal language models, from a folder or the Hub; safetensors only."""

from functools import partial
from pathlib import Path
from typing import Any

from eval.models.device import default_device, read_device, read_dtype
from eval.models.hf_config import check_limit, choose_context, find_limit, read_config
from eval.models.library_calls import forward_call, library_call
from eval.models.network_name import check_weights, name_network
from eval.models.size_limits import check_settings
from eval.models.weight_files import check_config, find_weights
from eval.models.weights import load_weights
from eval.models.wrap import WrappedModel, check_context, wrap_named
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.load_tokenizer import NONE, find_bos, has_tokenizer, load_tokenizer
from eval.tokenizers.side_car import SideCarTokenizer

# What is downloaded from the Hub.
FILES = ["*.json", "*.safetensors", "tokenizer.model", "merges.txt", "*.tiktoken", "*.py"]


def load_hf(
    spec: str,
    *,
    tokenizer: Any = None,
    context: int | None = None,
    device: str | int | None = None,
    dtype: str | None = None,
    download: bool = False,
    trust_remote_code: bool = False,
) -> WrappedModel:
    """A causal language model of Hugging Face, with the tokenizer beside it.

    Parameters
    ----------
    spec : str
        A folder with ``config.json`` and ``.safetensors`` files, or a name on the Hub.
    tokenizer : path or object, optional
        See `load_tokenizer`. That of the folder is then not opened. Default: that of the folder, if
        any.
    context : int, optional
        Tokens that the model reads at once. Default: the maximum in its config. More is allowed,
        with a warning, unless the model has a table of positions.
    device : str or int, optional
        See `read_device`. Default: ``cuda`` if available, else ``cpu``.
    dtype : str, optional
        See `read_dtype`. Default: that of the file on cuda, ``float32`` on the CPU.
    download : bool
        Allow a download from the Hub. Otherwise the model must be in the local cache.
    trust_remote_code : bool
        Let the model run its own code.

    Raises
    ------
    ValueError
        If the library is missing, the model is missing, damaged, incomplete, pickled or no causal
        language model, or an argument does not fit it.
    """
    folder = find_folder(spec, download)
    settings = check_config(folder)
    files = find_weights(folder)
    try:
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise ValueError(
            f"{spec} needs the library transformers, which is missing; pip install 'ngrammix[hf]'"
        ) from error
    device = default_device() if device is None else read_device(device)
    kind = choose_dtype(dtype, device)
    check_settings(settings, spec)
    config = read_config(folder, spec, trust_remote_code=trust_remote_code)
    if context is None:
        check_limit(find_limit(config), spec)  # before the weights are read
    else:
        context = check_context(context, spec)
    network = load_weights(
        str(folder),
        AutoModelForCausalLM,
        files,
        config=config,
        dtype=kind,
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        local_files_only=True,
    )
    network.config.use_cache = False  # windows do not share keys and values
    context = choose_context(context, network, spec)
    with library_call(spec):
        network = network.to(device)
    vocab_size = network.config.get_text_config().vocab_size
    name = name_network(network, Path(spec).name or Path(spec).resolve().name, settings)
    check_weights(network, name)
    return wrap_named(
        network,
        context=context,
        tokenizer=choose_tokenizer(tokenizer, folder, vocab_size),
        vocab_size=vocab_size,
        name=name,
        device=device,
        call_context=partial(forward_call, name),
    )


def find_folder(spec: str, download: bool) -> Path:
    """The folder of a model: that which is named, or that of the local cache."""
    return Path(spec) if Path(spec).is_dir() else find_in_hub(spec, download)


def find_in_hub(name: str, download: bool) -> Path:
    """Local folder of a model of the Hub, downloaded if allowed; ValueError if there is none."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"{name} needs the library transformers, which is missing; pip install 'ngrammix[hf]'"
        ) from error
    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        status, mend = "not in the local cache", "check the name, or pass --download"
        if download:
            status, mend = "cannot be downloaded", "check the name"
        raise ValueError(
            "a model must be demo, package.module:factory, a folder or a name on the Hub, got "
            f"{name!r}, which is no folder and {status}; {mend}"
        ) from error


def choose_dtype(dtype: str | None, device: str) -> Any:
    """The torch dtype of the weights, or "auto" for that of the file."""
    import torch

    if dtype is None:
        return torch.float32 if device == "cpu" else "auto"
    return read_dtype(dtype) or "auto"


def choose_tokenizer(tokenizer: Any, folder: Path, vocab_size: int) -> Tokenizer:
    """The named tokenizer, else that of the folder; without either, one for tokens alone."""
    if tokenizer == NONE or (tokenizer is None and not has_tokenizer(folder)):
        return SideCarTokenizer(vocab_size, find_bos(folder, vocab_size))
    return load_tokenizer(folder if tokenizer is None else tokenizer, vocab_size=vocab_size)
