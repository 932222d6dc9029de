"""Hugging Face causal language models, from a folder or the Hub; safetensors only."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.models.wrap import WrappedModel, check_context, wrap
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.files import read_json_object
from eval.tokenizers.load_tokenizer import load_tokenizer

FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.py"]  # downloaded from the Hub
LIMITS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


def load_hf(
    spec: str,
    *,
    tokenizer: str | None = None,
    context: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    download: bool = False,
    trust_remote_code: bool = False,
) -> WrappedModel:
    """A causal language model of Hugging Face, with the tokenizer beside it.

    Parameters
    ----------
    spec : str
        A folder with ``config.json`` and ``.safetensors`` files, or a name on the Hub.
    tokenizer : str, optional
        See `load_tokenizer`. Default: that of the folder, if any.
    context : int, optional
        Tokens that the model reads at once. Default: the maximum in its config.
    device : str, optional
        Default: ``cuda`` if available, else ``cpu``.
    dtype : str, optional
        Such as ``bfloat16``. Default: that of the file on cuda, ``float32`` on the CPU.
    download : bool
        Allow a download from the Hub. Otherwise the model must be in the local cache.
    trust_remote_code : bool
        Let the model run its own code.

    Raises
    ------
    ValueError
        If the library is missing, the model is missing, damaged or pickled, or an argument does not
        fit it.
    """
    folder = Path(spec) if Path(spec).is_dir() else find_in_hub(spec, download)
    weights = check_folder(folder)
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError as error:
        raise ValueError(
            f"{spec} needs the library transformers, which is missing; pip install 'ngrammix[hf]'"
        ) from error
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = check_dtype(dtype, device)
    try:
        config = AutoConfig.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
        context = choose_context(config, context, spec)
        with quiet(logging):
            network = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                local_files_only=True,
            )
    except (OSError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"a model must be a causal language model of Hugging Face, got {spec}, which "
            f"transformers cannot load: {first_line(error)}"
        ) from error
    config.use_cache = False  # windows do not share keys and values
    vocab_size = config.get_text_config().vocab_size
    module: Any = network  # the stubs of transformers lack this form of `to`
    return wrap(
        module.to(device),
        context=context,
        tokenizer=choose_tokenizer(tokenizer, folder, vocab_size),
        vocab_size=vocab_size,
        name=f"{spec.rstrip('/').rpartition('/')[2]}-{hash_files(weights)}",
        device=device,
    )


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """Switch off the progress bars of transformers, which appear without a terminal too."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


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


def check_folder(folder: Path) -> list[Path]:
    """The weight files, sorted; ValueError if config.json or .safetensors are missing."""
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"the folder of a model must hold config.json, got none in {folder}; "
            "save the model with save_pretrained"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        others = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
        raise ValueError(
            f"weights must be .safetensors, got {', '.join(others) or 'none'} in {folder}; "
            "pickles can run code: save the model with save_pretrained(safe_serialization=True)"
        )
    read_json_object(folder / "config.json")
    return weights


def check_dtype(dtype: str | None, device: str) -> Any:
    """The torch dtype of this name, or "auto" for that of the file."""
    import torch

    if dtype is None:
        return torch.float32 if device == "cpu" else "auto"
    value = getattr(torch, dtype, None)
    if dtype != "auto" and not (isinstance(value, torch.dtype) and value.is_floating_point):
        raise ValueError(
            f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}; leave it out for "
            "the default"
        )
    return "auto" if dtype == "auto" else value


def choose_context(config: Any, context: int | None, spec: str) -> int:
    """`context`, or by default the limit of the model; ValueError if it exceeds the limit."""
    config = config.get_text_config()
    limits = [getattr(config, name, None) for name in LIMITS]
    limit = next((n for n in limits if isinstance(n, int) and n > 0), None)
    if context is None:
        if limit is None:
            raise ValueError(
                f"context must be given, got none: {spec} has no limit; pass one with --context"
            )
        return limit
    context = check_context(context, spec)
    if limit is not None and context > limit:
        raise ValueError(
            f"context must be at most the {limit} that {spec} allows, got {context}; "
            "pass a smaller one"
        )
    return context


def choose_tokenizer(tokenizer: str | None, folder: Path, vocab_size: int) -> Tokenizer | None:
    """The named tokenizer, else that of the folder, else None."""
    if tokenizer is None and not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")
    ):
        return None
    return load_tokenizer(tokenizer or folder, vocab_size=vocab_size)


def hash_files(paths: list[Path]) -> str:
    """8 hex digits of the SHA-256 of the concatenated files."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while data := file.read(1 << 20):
                digest.update(data)
    return digest.hexdigest()[:8]


def first_line(error: BaseException) -> str:
    """The first line of the text of an error, or its type if the text is empty."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
