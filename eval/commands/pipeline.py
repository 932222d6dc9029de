"""``ngrammix pipeline``: quantize, then evaluate: bytes and bits per byte, before and after."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from eval.commands.from_config import load_data, network_of, with_weights
from eval.commands.quantize import calibration_of, load
from eval.config import QuantizeConfig, add_options, make_config
from eval.models.base import Model
from eval.scoring.result import Result
from eval.scoring.score import score
from eval.tables import align, make_folder
from eval.tokenizers.base import Tokenizer
from quant import QuantizedModel, quantize_model
from quant.models.recipe import find_recipe

AS_IT_IS = "as it is"
NOT_SHARED = ("quantized", "out", "checkpoint", "checkpoint_every", "log")  # of ``score``


@dataclass(frozen=True, kw_only=True)
class Row:
    """A model, as it is or quantized, on the same text.

    Attributes
    ----------
    recipe : str
        "as it is", or how it was quantized.
    file_bytes : int
        Of the weights: what the module holds, or the compressed file.
    bits_per_weight : float
        Of the file.
    bpb_model, bpb : float
        Bits per byte of the model alone, and with the cache.
    loss_model, loss : float
        What quantization added to the two.
    won_back : float or None
        The share of the loss of the model alone that the cache made up for.
    error : float or None
        Fisher-Hessian error of all tensors.
    model : str
        Name, with the hash of the weights.
    """

    recipe: str
    file_bytes: int
    bits_per_weight: float
    bpb_model: float
    bpb: float
    loss_model: float = 0.0
    loss: float = 0.0
    won_back: float | None = None
    error: float | None = None
    model: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--config", metavar="FILE", help="TOML file of these options")
    names = [name for name in QuantizeConfig.__dataclass_fields__ if name not in NOT_SHARED]
    add_options(parser, QuantizeConfig, names)


def run(arguments: argparse.Namespace, bar: dict[str, object]) -> None:
    """Score the model, each quantization of it, and print how they differ."""
    options = {name: value for name, value in vars(arguments).items() if name != "out"}
    config = make_config(QuantizeConfig, options, arguments.config)
    recipes = [find_recipe(name) for name in config.recipe]
    make_folder(arguments.out)
    model, tokenizer = load(config)
    calibration = calibration_of(config, model, tokenizer, recipes)
    before = evaluate(model, tokenizer, config, bar)
    # Tied weights are held once.
    held = {weight.data_ptr(): weight for weight in network_of(model).state_dict().values()}
    n_bytes = sum(weight.nbytes for weight in held.values())
    n_weights = sum(weight.numel() for weight in held.values())
    rows = [make_row(AS_IT_IS, n_bytes, 8 * n_bytes / n_weights, before, None)]
    with folder_of(arguments.out) as folder:
        for recipe in recipes:
            path = folder / f"{recipe.name}.ngq"
            quantized = quantize_model(network_of(model), recipe, calibration)
            size = quantized.save(path, codec=config.codec)
            errors = [report.error for report in quantized.report if report.error is not None]
            changed = with_weights(model, QuantizedModel.load(path), path)
            after = evaluate(changed, tokenizer, config, bar)
            rows.append(
                make_row(
                    recipe.name, size, 8 * size / quantized.n_weights, after, before,
                    sum(errors) if errors else None,
                )
            )  # fmt: skip
    result = {"rows": [asdict(row) for row in rows], "signature": before.signature}
    result |= {"versions": before.versions}
    text = json.dumps(result, indent=2) + "\n"
    if arguments.out:
        (arguments.out / "pipeline.json").write_text(text, encoding="utf-8")
    print(text if arguments.json else table(rows, before), end="")  # noqa: T201


@contextmanager
def folder_of(out: Path | None) -> Iterator[Path]:
    """Where the files of the weights go: --out, or nowhere that lasts."""
    if out is not None:
        yield out
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def evaluate(
    model: Model, tokenizer: Tokenizer, config: QuantizeConfig, bar: dict[str, object]
) -> Result:
    """The score of a model, with a new cache."""
    with tqdm(**bar) as shown:
        return score(model, load_data(config, tokenizer), config, tokenizer=tokenizer, bar=shown)


def make_row(
    recipe: str, size: int, rate: float, after: Result, before: Result | None,
    error: float | None = None,
) -> Row:  # fmt: skip
    """The figures of one evaluation, and what they are worse by than those before."""
    if after.bpb_model is None or after.bpb is None:
        raise ValueError(
            f"a text needs bytes to divide by, got {after.bytes} in {after.data}; name other data"
        )
    found = {
        "recipe": recipe, "file_bytes": size, "bits_per_weight": rate, "error": error,
        "bpb_model": after.bpb_model, "bpb": after.bpb, "model": after.model,
    }  # fmt: skip
    if before is not None and before.bpb_model is not None and before.bpb is not None:
        lost, left = after.bpb_model - before.bpb_model, after.bpb - before.bpb
        found |= {
            "loss_model": lost,
            "loss": left,
            "won_back": 1 - left / lost if lost > 0 else None,
        }
    return Row(**found)  # type: ignore[arg-type]


def table(rows: list[Row], before: Result) -> str:
    """A line a row, and the signature of the model as it is."""
    cells = [("", "bytes", "bits", "error", "BPB", "lost", "+ cache", "lost", "won back")]
    for row in rows:
        cells.append(
            (
                row.recipe,
                f"{row.file_bytes:,}",
                f"{row.bits_per_weight:.2f}",
                "" if row.error is None else f"{row.error:.3g}",
                f"{row.bpb_model:.4f}",
                f"{row.loss_model:+.4f}" if row.recipe != AS_IT_IS else "",
                f"{row.bpb:.4f}",
                f"{row.loss:+.4f}" if row.recipe != AS_IT_IS else "",
                "" if row.won_back is None else f"{row.won_back:.0%}",
            )
        )  # fmt: skip
    lines = align(cells)
    lines += ["", "won back: share of the loss in BPB that the cache makes up for"]
    return "\n".join([*lines, f"{before.signature} = {before.bpb:.4f}", ""])
