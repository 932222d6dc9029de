"""Hugging Face causal language models: from a folder, or by name; safetensors only."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.models.wrap import WrappedModel, check_context, wrap
from eval.tokenizers.base import Tokenizer
from eval.tokenizers.files import read_json_object
from eval.tokenizers.load_tokenizer import load_tokenizer

FILES = ["*.json", "*.safetensors", "tokenizer.model", "*.py"]  # of a model on the Hub
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
        A folder with ``config.json`` and ``.safetensors``, or a name on the Hub.
    tokenizer : str, optional
        What `load_tokenizer` takes. Default: that of the folder, if any.
    context : int, optional
        The most tokens at once. Default: what its config says.
    device : str, optional
        Default: ``cuda`` where there is one, else ``cpu``.
    dtype : str, optional
        Such as ``bfloat16``. Default: the weights' own on cuda, ``float32`` on the CPU.
    download : bool
        Whether a name may be fetched from the Hub; it must be in the local cache otherwise.
    trust_remote_code : bool
        Whether code that comes with the model may run.

    Raises
    ------
    ValueError
        If the library is missing, the model is missing, damaged or kept as pickles, or an argument
        does not fit it.
    """
    folder = Path(spec) if Path(spec).is_dir() else fetch(spec, download)
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
    config.use_cache = False  # nobody goes on from the keys and values of a window
    vocab_size = config.get_text_config().vocab_size
    moved: Any = network
    return wrap(
        moved.to(device),
        context=context,
        tokenizer=choose_tokenizer(tokenizer, folder, vocab_size),
        vocab_size=vocab_size,
        name=f"{spec.rstrip('/').rpartition('/')[2]}-{hash_files(weights)}",
        device=device,
    )


@contextmanager
def quiet(logging: Any) -> Iterator[None]:
    """No bars of transformers: they come even where nobody watches."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def fetch(name: str, download: bool) -> Path:
    """Folder of a model of the Hub in the local cache; ValueError if it is not, or cannot be."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"{name} needs the library transformers, which is missing; pip install 'ngrammix[hf]'"
        ) from error
    try:
        return Path(snapshot_download(name, local_files_only=not download, allow_patterns=FILES))
    except (OSError, ValueError) as error:
        how = "check the name" if download else "check the name, or permit it with --download"
        raise ValueError(
            "a model must be demo, package.module:factory, a folder or a name on the Hub, got "
            f"{name!r}, which is no folder and {'cannot be had' if download else 'not at hand'}; "
            f"{how}"
        ) from error


def check_folder(folder: Path) -> list[Path]:
    """The files of weights, sorted; ValueError unless there are a config and safetensors."""
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"a model's folder must hold config.json, got none in {folder}; "
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
    """The dtype of torch that `dtype` names, or "auto" for the weights' own."""
    import torch

    if dtype is None:
        return torch.float32 if device == "cpu" else "auto"
    found = getattr(torch, dtype, None)
    if dtype != "auto" and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(
            f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}; leave it out for "
            "the default"
        )
    return "auto" if dtype == "auto" else found


def choose_context(config: Any, context: int | None, spec: str) -> int:
    """The context to read with: `context`, or the model's limit; ValueError if it is beyond."""
    config = config.get_text_config()
    limits = [getattr(config, name, None) for name in LIMITS]
    limit = next((n for n in limits if isinstance(n, int) and n > 0), None)
    if context is None:
        if limit is None:
            raise ValueError(
                f"context must be given, got none: {spec} has no limit; name one with --context"
            )
        return limit
    context = check_context(context, spec)
    if limit is not None and context > limit:
        raise ValueError(
            f"context must be at most the {limit} that {spec} allows, got {context}; "
            "take a shorter one"
        )
    return context


def choose_tokenizer(tokenizer: str | None, folder: Path, vocab_size: int) -> Tokenizer | None:
    """The tokenizer named, else the folder's, else None."""
    if tokenizer is None and not any(
        (folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")
    ):
        return None
    return load_tokenizer(tokenizer or folder, vocab_size=vocab_size)


def hash_files(paths: list[Path]) -> str:
    """8 hex digits of the SHA-256 of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:8]


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
