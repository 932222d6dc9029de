"""``ngrammix bench findings``: what each quantizer costs a model in bits per byte, and in bytes.

Every quantizer's file is written with each codec, codes a byte each and packed; its loss is held
against two curves, of rounding to nearest and of GPTQ with steps by standard deviations, at the
same bytes.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import fsum, log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm

from eval.bench.findings_figures import loss_at, spearman
from eval.bench.findings_table import table
from eval.bench.harness import deliver
from eval.commands.from_config import load_data, network_of, with_weights
from eval.commands.quantize import calibrate_for, load_model_and_tokenizer
from eval.config import QuantizeConfig, add_options, make_config
from eval.data.base import Data
from eval.data.document import Document, Documents
from eval.models.base import Model
from eval.scoring.result import Result
from eval.scoring.score import score
from eval.tables import make_folder
from eval.tokenizers.base import Tokenizer
from quant import Calibration, QuantizedModel, QuantizedTensor, quantize_model
from quant.base.config import Config
from quant.io.codecs import CODECS
from quant.models.parameters import state_of
from quant.models.quantized_model import dequantized
from quant.models.recipe import (
    INT4,
    INT4_GROUP,
    INT6,
    INT8,
    NF4,
    PRODUCT4,
    make_recipe,
    sequential_gptq,
)
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.quantize import label
from quant.quantizers.residual import ResidualConfig
from quant.quantizers.scalar import ScalarConfig

OPTIONS = (
    "model", "data", "tokenizer", "column", "split", "bos", "token_bytes", "skip_empty", "windows",
    "context", "stride", "batch", "limit", "device", "dtype", "download", "trust_remote_code",
    "calibrate", "calibration_tokens", "seed",
)  # fmt: skip

# As their recipes have it: weights in turn, and sweeps after the walk.
IN_TURN: dict[str, Config] = {
    "gptq int6 sd in turn": sequential_gptq(INT6),
    "gptq int4 in turn": sequential_gptq(INT4),
}
QUANTIZERS: dict[str, Config] = IN_TURN | {
    "int8": INT8,
    "int6": ScalarConfig(),
    "int6 sd": INT6,
    "gptq int6": GptqConfig(inner=ScalarConfig()),
    "gptq int6 sd": GptqConfig(inner=INT6),
    "int4": INT4,
    "int4 group": INT4_GROUP,
    "gptq int4": GptqConfig(inner=INT4),
    "gptq int4 group": GptqConfig(inner=INT4_GROUP),
    "lloyd 16": LloydMaxConfig(),
    "lloyd 64": LloydMaxConfig(k=64),
    "lloyd 256": LloydMaxConfig(k=256),
    "nf4": NF4,
    "pq": ProductConfig(dim=2),
    "residual": ResidualConfig(stages=(PRODUCT4, PRODUCT4)),
}
# From fine to coarse; at 8 bits, steps that 6 bits would clip.
CURVE = (
    ScalarConfig(bits=8, clip="sd:8"),
    ScalarConfig(bits=8, clip="sd:12.85"),
    ScalarConfig(clip="sd:8"),
    INT6,
    ScalarConfig(clip="sd:19.3"),
    ScalarConfig(clip="sd:25"),
)
CURVES: dict[str, Callable[[ScalarConfig], Config]] = {
    "rtn": lambda config: config,
    "gptq": lambda config: GptqConfig(inner=config),
}
FORMS = {"bytes": False, "packed": True}  # how codes are stored: whether packed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--quantizers",
        nargs="+",
        default=list(QUANTIZERS),
        choices=list(QUANTIZERS),
        metavar="NAME",
        help=f"which (default: all of {', '.join(QUANTIZERS)})",
    )
    add_options(parser, QuantizeConfig, OPTIONS)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    options = {name: value for name, value in vars(arguments).items() if name in OPTIONS}
    config = replace(make_config(QuantizeConfig, options), mixer="none")
    make_folder(arguments.out)
    result = measure(config, {name: QUANTIZERS[name] for name in arguments.quantizers})
    deliver(result, arguments, "findings.json", table)


def measure(config: QuantizeConfig, quantizers: dict[str, Config]) -> dict[str, Any]:
    """Figures of each quantizer, of the curves, and how errors and losses go together."""
    model, tokenizer = load_model_and_tokenizer(config)
    before = evaluate(model, tokenizer, config)
    bpb = bpb_of(before)
    curves = {way: [make(its) for its in CURVE] for way, make in CURVES.items()}
    wanted = list(quantizers.values()) + [its for points in curves.values() for its in points]
    calibration = calibrate_for(
        config, model, tokenizer, [make_recipe(label(its), its) for its in wanted]
    )
    found: dict[Config, dict[str, Any]] = {}
    for use in tqdm(dict.fromkeys(wanted), "quantizers", delay=2, disable=None):
        forms = FORMS if use in quantizers.values() else {"bytes": False}
        found[use] = measure_one(use, forms, model, tokenizer, config, calibration, before)
    points = {
        way: [{key: found[its][key] for key in ("quantizer", "best_bytes", "loss")} for its in uses]
        for way, uses in curves.items()
    }
    lines = {
        way: [(its["best_bytes"], its["loss"]) for its in curve] for way, curve in points.items()
    }
    rows = [
        {"name": name, **found[use], "loss_at_bytes": {
            way: loss_at(found[use]["best_bytes"], line) for way, line in lines.items()
        }}
        for name, use in quantizers.items()
    ]  # fmt: skip
    losses = [row["loss"] for row in rows]
    return {
        "bpb": bpb,
        "tokens": before.tokens,
        "bytes": before.bytes,
        "signature": before.signature,
        "calibration": list(config.calibrate) or "made up by the model",
        "calibration_tokens": config.calibration_tokens,
        "quantizers": rows,
        "curves": points,
        "rank_correlation": {
            key: spearman([row[key] for row in rows], losses) for key in ("relative_mse", "error")
        },
        "versions": before.versions,
    }


def measure_one(
    use: Config,
    forms: dict[str, bool],
    model: Model,
    tokenizer: Tokenizer,
    config: QuantizeConfig,
    calibration: Calibration | None,
    before: Result,
) -> dict[str, Any]:
    """Errors, loss, and bytes by form and codec, of a quantizer."""
    network = network_of(model)
    recipe = make_recipe(label(use), use, sequential=use in IN_TURN.values())
    quantized = quantize_model(network, recipe, calibration, progress=False)
    error = fsum(report.error or 0.0 for report in quantized.report)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "scored"
        quantized.save(path, codec="none")
        after = evaluate(with_weights(model, QuantizedModel.load(path), path), tokenizer, config)
        n_bytes = sizes_of(quantized, Path(folder), forms)
    stored, packed = n_bytes["bytes"], n_bytes.get("packed", {})
    return {
        "quantizer": label(use),
        "relative_mse": relative_mse(quantized, network),
        "error": error,
        # Half of the error is about nats a token.
        "loss_foretold": error / 2 / log(2) * before.tokens / before.bytes,
        "bpb": bpb_of(after),
        "loss": bpb_of(after) - bpb_of(before),
        "file_bytes": n_bytes,
        "best_bytes": min(size for sizes in n_bytes.values() for size in sizes.values()),
        "packing_percent": {codec: 100 * (packed[codec] / stored[codec] - 1) for codec in packed},
    }


def sizes_of(
    quantized: QuantizedModel, folder: Path, forms: dict[str, bool]
) -> dict[str, dict[str, int]]:
    """Bytes of the file by form and codec, of each codec that is installed.

    In threads, but not beside the model: torch waits for all of its own at every step, which
    takes many times as long on cores that are busy.
    """

    def size_of(form: str, codec: str) -> int:
        path = folder / f"{form}-{codec}"
        quantized.save(path, packed=forms[form], codec=codec)
        return path.stat().st_size

    codecs = [name for name, codec in CODECS.items() if codec.is_installed]
    with ThreadPoolExecutor() as pool:
        jobs = {
            form: {codec: pool.submit(size_of, form, codec) for codec in codecs} for form in forms
        }
        return {
            form: {codec: job.result() for codec, job in row.items()} for form, row in jobs.items()
        }


def evaluate(model: Model, tokenizer: Tokenizer, config: QuantizeConfig) -> Result:
    """The score of the model alone."""
    return score(model, data_of(config, tokenizer), config, tokenizer=tokenizer)


def bpb_of(result: Result) -> float:
    """Bits per byte of the model alone; ValueError if there is no byte."""
    if result.bpb_model is None:
        raise ValueError(
            f"there must be a byte to divide by, got {result.bytes} in {result.data}; name other "
            "data"
        )
    return result.bpb_model


def data_of(config: QuantizeConfig, tokenizer: Tokenizer) -> Data:
    """The data that are named, or the embedded text."""
    if config.data:
        return load_data(config, tokenizer)
    from eval.demo.reference_text import reference_text

    return Documents([Document("the Python language reference", reference_text())])


def relative_mse(quantized: QuantizedModel, network: Any) -> float:
    """Sum of squared errors in squares, of all weights that were quantized, together."""
    errors, squares, state = [], [], state_of(network)
    for name, tensor in quantized.tensors.items():
        if isinstance(tensor, QuantizedTensor):
            exact = state[name].detach().double().cpu()
            errors.append(float((exact - dequantized(tensor).double()).square().sum()))
            squares.append(float(exact.square().sum()))
    return fsum(errors) / fsum(squares) if any(errors) else 0.0
