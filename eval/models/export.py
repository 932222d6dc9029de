"""Export: the weights of a quantized model, dequantized, in files that other libraries read."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eval.files.results import PART, part_of, put_in_place
from eval.models.compressed_tensors import PackedWeights, pack_weights
from eval.models.library_calls import quiet
from eval.notes import note
from eval.quantizer_options import COMPRESSED_TENSORS, DEQUANTIZED, EXPORT_FORMATS
from ngrammix.atomic import WriteError, write_errors
from quant import QuantizedModel
from quant.base.config import check_choice
from quant.models.loading import fitted

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
SHARD = "5GB"  # of a folder of Hugging Face, at most
# What is taken over from the folder of the model as it is.
BESIDE = (
    "generation_config.json", "tokenizer*.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "vocab.txt", "*.model", "*.tiktoken", "chat_template*",
)  # fmt: skip
SHOWN = 3  # names in a note
UNFINISHED = ".export-"
CODE = "*.py"  # of a model that brings its own
EXPORTED = (CONFIG, "model*.safetensors", "model.safetensors.index.json", *BESIDE)


def check_export(folder: Path | None, *, overwrite: bool) -> None:
    """Raise ValueError if the folder of an export holds files, unless they may be replaced."""
    if folder is None or overwrite or not folder.is_dir():
        return
    found = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if found:
        raise ValueError(
            f"an export must have an empty folder, got {', '.join(found[:3])} in {folder}; choose "
            "another folder, or replace an earlier export with --overwrite"
        )


def export_model(
    quantized: QuantizedModel,
    network: Any,
    source: Path,
    folder: Path,
    export_format: str = DEQUANTIZED,
) -> None:
    """Write a folder of Hugging Face with the weights of a quantized model; the network gets them.

    Parameters
    ----------
    quantized : QuantizedModel
    network : PreTrainedModel
        The model that was quantized, in the dtype that is written.
    source, folder : Path
        As of `export_network`.
    export_format : "dequantized" or "compressed-tensors"
        Of weights, as numbers or as `eval.models.compressed_tensors` packs them.

    Raises
    ------
    ValueError
        If the layout or the dtype cannot hold a weight, the network has other tensors, or a file
        cannot be written.
    """
    check_choice(export_format, "export_format", EXPORT_FORMATS)
    packed = None
    if export_format == COMPRESSED_TENSORS:
        packed = pack_weights(network, quantized)
    quantized.load_into(network)
    export_network(network, source, folder, packed)
    if packed is not None and packed.dequantized:
        names = packed.dequantized
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        note(
            "compressed-tensors packs weights of nn.Linear that are not tied; written dequantized, "
            f"of {len(names)}: {shown}"
        )


def export_network(
    network: Any, source: Path, folder: Path, packed: PackedWeights | None = None
) -> None:
    """Write a folder of Hugging Face that ``from_pretrained`` loads.

    Parameters
    ----------
    network : PreTrainedModel
        With the weights that are written, in its dtype.
    source : Path
        Folder of the model as it is: its config but for the dtype, tokenizer and code are copied.
    folder : Path
        An existing folder. Files of an earlier export are replaced once all new ones are written.
    packed : PackedWeights, optional
        What is written in the place of weights of the network.

    Raises
    ------
    ValueError
        If a file cannot be written.
    """

    def write(part: Path) -> None:
        with quiet():
            state = None if packed is None else packed.state(network)
            network.save_pretrained(part, max_shard_size=SHARD, state_dict=state)
        config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)
        config["dtype"] = str(network.dtype).removeprefix("torch.")
        if packed is not None and packed.config is not None:
            config["quantization_config"] = packed.config
        text = json.dumps(config, indent=2) + "\n"
        (part / CONFIG).write_text(text, encoding="utf-8")
        patterns = (*BESIDE, CODE) if config.get("auto_map") else BESIDE
        for path in files_like(source, patterns):
            shutil.copyfile(path, part / path.name)

    write_folder(folder, write)


def export_tensors(quantized: QuantizedModel, folder: Path, dtype: Any = None) -> None:
    """Write ``model.safetensors``: the dequantized tensors by their names in the state dict.

    Tied tensors are written once; the metadata maps their further names to the first one, as
    ``safetensors.torch.load_model`` takes them.

    Parameters
    ----------
    quantized : QuantizedModel
    folder : Path
        As of `export_network`.
    dtype : torch.dtype, optional
        Of floating-point tensors. Default: that which each had when it was quantized.

    Raises
    ------
    ValueError
        If a weight is infinite in the dtype, or the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = quantized.dequantize()
    if dtype is not None:
        tensors = {
            name: fitted(name, tensor, dtype) if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}

    def write(part: Path) -> None:
        try:
            save_file(tensors, part / WEIGHTS, {"format": "pt", **quantized.aliases})
        except SafetensorError as error:
            raise WriteError(f"weights must be written to {folder}, got {error}") from error

    write_folder(folder, write)


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside the final names, and then its files take their names."""
    remove_unfinished(folder)
    with (
        write_errors(folder, "exports"),
        TemporaryDirectory(prefix=UNFINISHED, dir=folder) as part,
    ):
        write(Path(part))
        names = sorted(path.name for path in Path(part).iterdir())
        for name in names:
            with (Path(part) / name).open("rb+") as file:
                os.fsync(file.fileno())
            (Path(part) / name).replace(part_of(folder / name))
    old = {path.name for path in files_like(folder, EXPORTED)}
    put_in_place(folder, sorted(old | set(names)), names)


def remove_unfinished(folder: Path) -> None:
    """Remove what exports that were killed have left."""
    with write_errors(folder, "exports"):
        for path in folder.glob(f"{UNFINISHED}*"):
            shutil.rmtree(path)
        for path in files_like(folder, tuple(pattern + PART for pattern in EXPORTED)):
            path.unlink()


def files_like(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """The files of a folder, by name, that one of the patterns matches."""
    for path in sorted(folder.iterdir()):
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in patterns):
            yield path
