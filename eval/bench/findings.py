"""``ngrammix bench findings``: what each quantizer costs, in bits per byte and in bytes.

The file of every quantizer is written with each codec, with codes of a byte each and packed. Its
loss is compared with two curves at the same bytes: rounding to nearest and GPTQ, both with scales
by standard deviations.
"""

import argparse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from math import exp, fsum, log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OF_FINDINGS, OPTIONS
from eval.bench.rounds import progress
from eval.commands.from_config import load_data
from eval.commands.quantize import calibrate_for, load_model_and_tokenizer
from eval.config import QuantizeConfig, make_config
from eval.data.base import Data
from eval.data.document import Document, Documents
from eval.models.quantized import network_of, with_weights
from eval.scoring.result import Result
from eval.scoring.score import score
from eval.tokenizers.base import Tokenizer
from quant import QuantizedModel, QuantizedTensor, quantize_model
from quant.base.config import Config
from quant.io.codecs import CODECS
from quant.models.loading import dequantized
from quant.models.named_quantizers import (
    INT4,
    INT4_GROUP,
    INT6,
    INT8,
    NF4,
    PRODUCT4,
    sequential_gptq,
)
from quant.models.named_recipes import make_recipe
from quant.models.parameters import state_of
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.quantize import label
from quant.quantizers.residual import ResidualConfig
from quant.quantizers.scalar import ScalarConfig

ALL = "1TiB"  # of Hessians: each of many recipes needs them
# As in the recipes: sequential calibration, and coordinate descent after GPTQ.
SEQUENTIAL: dict[str, Config] = {
    "gptq int6 sd sequential": sequential_gptq(INT6),
    "gptq int4 sequential": sequential_gptq(INT4),
}
QUANTIZERS: dict[str, Config] = SEQUENTIAL | {
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
# From fine to coarse; at 8 bits, scales that 6 bits would clip.
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


def measure(arguments: argparse.Namespace) -> Figures:
    """Figures of each quantizer and of the curves, and rank correlations of errors and losses."""
    options = {name: value for name, value in vars(arguments).items() if name in OF_FINDINGS}
    config = replace(make_config(QuantizeConfig, options), mixer="none")
    quantizers = {name: QUANTIZERS[name] for name in arguments.quantizers}
    model, tokenizer = load_model_and_tokenizer(config)
    network = network_of(model)
    before = score(model, data_of(config, tokenizer), config, tokenizer=tokenizer)
    curves = {way: [make(point) for point in CURVE] for way, make in CURVES.items()}
    uses = [*quantizers.values(), *curves["rtn"], *curves["gptq"]]
    recipes = {
        use: make_recipe(label(use), use, sequential=use in SEQUENTIAL.values()) for use in uses
    }
    calibration, _ = calibrate_for(
        config, model, tokenizer, list(recipes.values()), memory_limit=ALL
    )

    def measure_one(use: Config) -> Figures:
        """Errors, loss, and bytes by form and codec, of a quantizer."""
        quantized = quantize_model(network, recipes[use], calibration, progress=False)
        forms = FORMS if use in quantizers.values() else {"bytes": False}
        with TemporaryDirectory() as folder:
            path = Path(folder) / "scored"
            quantized.save(path, codec="none")
            changed = with_weights(model, QuantizedModel.load(path), path)
            after = score(changed, data_of(config, tokenizer), config, tokenizer=tokenizer)
            sizes = sizes_of(quantized, Path(folder), forms)
        error = fsum(report.error or 0.0 for report in quantized.report)
        stored, packed = sizes["bytes"], sizes.get("packed", {})
        return {
            "quantizer": label(use), "relative_mse": relative_mse(quantized, network),
            "error": error,
            # Half of the error is about the loss of a token, in nats.
            "loss_foretold": error / 2 / log(2) * before.tokens / before.bytes,
            "bpb": bpb_of(after), "loss": bpb_of(after) - bpb_of(before), "file_bytes": sizes,
            "best_bytes": min(min(by_codec.values()) for by_codec in sizes.values()),
            "packing_percent": {name: 100 * (packed[name] / stored[name] - 1) for name in packed},
        }  # fmt: skip

    bpb = bpb_of(before)
    figures = {use: measure_one(use) for use in progress(recipes, "quantizers")}
    points = {
        way: [{key: figures[use][key] for key in ("quantizer", "best_bytes", "loss")} for use in of]
        for way, of in curves.items()
    }
    rows = [{"name": name, **figures[use]} for name, use in quantizers.items()]
    for row in rows:
        row["loss_at_bytes"] = {
            way: loss_at(row["best_bytes"], [(p["best_bytes"], p["loss"]) for p in curve])
            for way, curve in points.items()
        }
    losses = [row["loss"] for row in rows]
    return {
        "bpb": bpb, "tokens": before.tokens, "bytes": before.bytes, "signature": before.signature,
        "calibration": list(config.calibrate) or "made up by the model",
        "calibration_tokens": config.calibration_tokens, "quantizers": rows, "curves": points,
        "rank_correlation": {
            key: spearman([row[key] for row in rows], losses) for key in ("relative_mse", "error")
        },
        "versions": before.versions,
    }  # fmt: skip


def sizes_of(
    quantized: QuantizedModel, folder: Path, forms: dict[str, bool]
) -> dict[str, dict[str, int]]:
    """Bytes of the file by form and codec, of each codec that is installed.

    The files are written in threads, but not while the model runs: torch waits for all its threads
    at every step, which takes many times as long on busy cores.
    """

    def size_of(packed: bool, codec: str) -> int:
        path = folder / f"{packed}-{codec}"
        quantized.save(path, packed=packed, codec=codec)
        return path.stat().st_size

    codecs = [name for name, codec in CODECS.items() if codec.is_installed]
    with ThreadPoolExecutor() as pool:
        jobs = {form: pool.map(partial(size_of, packed), codecs) for form, packed in forms.items()}
        return {form: dict(zip(codecs, sizes, strict=True)) for form, sizes in jobs.items()}


def bpb_of(result: Result) -> float:
    """Bits per byte of the model alone; ValueError if there is no byte."""
    if result.bpb_model is None:
        raise ValueError(
            f"there must be a byte to divide by, got {result.bytes} in {result.data}; name other "
            "data"
        )
    return result.bpb_model


def data_of(config: QuantizeConfig, tokenizer: Tokenizer) -> Data:
    """The data of ``--data``, or the embedded text."""
    if config.data:
        return load_data(config, tokenizer)
    from eval.demo.reference_text import reference_text

    return Documents([Document("the Python language reference", reference_text())])


def relative_mse(quantized: QuantizedModel, network: Any) -> float:
    """Squared errors of all quantized weights, relative to the sum of their squares."""
    errors, squares, state = [], [], state_of(network)
    for name, tensor in quantized.tensors.items():
        if isinstance(tensor, QuantizedTensor):
            exact = state[name].detach().double().cpu()
            errors.append(float((exact - dequantized(tensor).double()).square().sum()))
            squares.append(float(exact.square().sum()))
    return fsum(errors) / fsum(squares) if any(errors) else 0.0


def loss_at(n_bytes: int, curve: Iterable[tuple[int, float]]) -> float | None:
    """The loss of a curve of (bytes, loss) at a number of bytes.

    Its logarithm is linear between the points whose loss is above 0; None beyond the last of them.
    """
    points = sorted((size, log(loss)) for size, loss in curve if loss > 0)
    if not points or not points[0][0] <= n_bytes <= points[-1][0]:
        return None
    return exp(float(np.interp(n_bytes, *np.array(points).T)))


def spearman(x: ArrayLike, y: ArrayLike) -> float | None:
    """Rank correlation of (N,) and (N,); None if all values of either are equal."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    return float(np.corrcoef(mean_ranks(x), mean_ranks(y))[0, 1])


def mean_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Rank of each value, from 1; equal values share the mean of their ranks."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[groups]
    return ranks


BENCH = Bench(
    options=OPTIONS["findings"],
    measure=measure,
    report=(
        "{signature} = {bpb:.4f}",
        Table("quantizers", {
            "": "{name}", "MSE": "{relative_mse:.3e}", "error": "{error:.3e}",
            "foretold": "{loss_foretold:.5f}", "BPB": "{bpb:.5f}", "lost": "{loss:+.5f}",
            "best bytes": "{best_bytes:,}", "RTN curve": "{loss_at_bytes[rtn]:.5f}",
            "GPTQ curve": "{loss_at_bytes[gptq]:.5f}",
        }),
        "MSE and error: of all quantized weights; foretold: half of the error, in BPB; best bytes: "
        "the smallest file; curves: what RTN and GPTQ with scales by standard deviations lose at "
        "these bytes",
        "rank correlation with the loss in BPB: MSE {rank_correlation[relative_mse]:.3f}, error "
        "{rank_correlation[error]:.3f}",
        Table("quantizers", {
            "": "{name}", **{name: f"{{file_bytes[bytes][{name}]:,}}" for name in CODECS},
            **{f"packed {name}": f"{{packing_percent[{name}]:+.1f}} %" for name in CODECS},
        }),
        "bytes of the file, with codes of a byte each; then what packing them adds",
    ),
)  # fmt: skip
