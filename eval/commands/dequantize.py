"""``ngrammix dequantize``: the weights of a quantized file, as other libraries read them."""

import argparse
from typing import Any

from eval.files.lock import hold
from eval.models.device import read_dtype
from eval.models.export import check_export, export_model, export_tensors
from eval.models.load_model import folder_of, load_model
from eval.models.quantized import network_of, quantized_path
from eval.notes import note_if_slow
from eval.quantizer_options import DEQUANTIZED
from eval.terminal import show
from eval.tokenizers.load_tokenizer import NONE
from quant import QuantizedModel


def run(arguments: argparse.Namespace) -> None:
    """Write a folder of Hugging Face, or without ``--model`` the tensors alone."""
    path, out, spec = quantized_path(arguments.file), arguments.out, arguments.model
    names = ("download", "trust_remote_code")
    options: Any = {name: getattr(arguments, name, False) for name in names}
    dtype = None if arguments.dtype is None else read_dtype(arguments.dtype)
    source = None if spec is None else folder_of(spec, download=options["download"])
    if spec is not None and source is None:
        raise ValueError(
            f"--model must be a folder of Hugging Face or a name on the Hub, got {spec}; leave it "
            "out to write the tensors alone"
        )
    if source is None and arguments.export_format != DEQUANTIZED:
        raise ValueError(
            f"--export-format {arguments.export_format} needs a model of Hugging Face, got none; "
            "name it with --model"
        )
    with hold(out=out):
        check_export(out, overwrite=getattr(arguments, "overwrite", False))
        with note_if_slow(f"reading {path}"):
            quantized = QuantizedModel.load(path)
        if source is None:
            export_tensors(quantized, out, dtype)
        else:
            network = network_of(
                load_model(
                    spec, tokenizer=NONE, context=1, device="cpu", dtype=arguments.dtype, **options
                )
            )
            export_model(quantized, network, source, out, arguments.export_format)
    show(f"{out}: {quantized.n_weights:,} weights of {path}\n")
