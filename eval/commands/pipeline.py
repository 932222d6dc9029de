"""``ngrammix pipeline``: bytes and bits per byte of a model before and after quantization."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from eval.commands.from_config import check_data, load_data
from eval.commands.quantize import (
    calibrate_for,
    describe_recipe,
    load_model_and_tokenizer,
    quantize_by,
)
from eval.commands.recipes import recipes_of
from eval.config import QuantizeConfig, make_config
from eval.files.lock import hold
from eval.files.results import check_results, part_of, put_in_place, write_report
from eval.models.base import Model
from eval.models.quantized import network_of, with_weights
from eval.scoring.conditions import CONDITIONS
from eval.scoring.result import Result
from eval.scoring.score import score
from eval.tables import align
from eval.terminal import show
from eval.tokenizers.base import Tokenizer
from quant import QuantizedModel, TensorReport
from quant.models.checkpoint import has_checkpoint

REPORT = "pipeline.json"
AS_IT_IS = "as it is"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures of a model, as it is or quantized, on the same text.

    Attributes
    ----------
    recipe : str
        Name of the recipe, or "as it is".
    file_bytes : int
        Size of the compressed file; for the model as it is, of its weights in memory.
    bits_per_weight : float
        Bits of `file_bytes` per weight.
    bpb_model, bpb : float
        Bits per byte of the model alone, and of the model with the cache.
    bpb_increase_model, bpb_increase : float
        Increase of the two over the model as it is.
    recovered : float or None
        Share of `bpb_increase_model` that the cache recovers; None where it is not positive.
    error : float or None
        Sum of `TensorReport.error` over all tensors.
    uncalibrated : int
        Tensors that were rounded to nearest because calibration did not reach them.
    notes : tuple of str
        Notes on the tensors, each after the name of its tensor.
    model : str
        Name of the model, with the hash of its weights.
    signature : str
        That of the score.
    """

    recipe: str
    file_bytes: int
    bits_per_weight: float
    bpb_model: float
    bpb: float
    bpb_increase_model: float = 0.0
    bpb_increase: float = 0.0
    recovered: float | None = None
    error: float | None = None
    uncalibrated: int = 0
    notes: tuple[str, ...] = ()
    model: str = ""
    signature: str = ""


def run(arguments: argparse.Namespace) -> None:
    """Score the model and each quantization of it, and print the differences."""
    options = {name: value for name, value in vars(arguments).items() if name != "out"}
    config = make_config(QuantizeConfig, options, arguments.config)
    recipes = recipes_of(config)
    check_data(config, *config.calibrate)
    names = [f"{recipe.name}.ngq" for recipe in recipes]
    kept = None if config.checkpoint is None else Path(config.checkpoint)
    checkpoints = [None if kept is None else kept / recipe.name for recipe in recipes]
    overwrite = config.overwrite or any(map(has_checkpoint, checkpoints))
    with hold(out=arguments.out, checkpoint=kept), folder_of(arguments.out) as folder:
        check_results(arguments.out, (REPORT, *names), overwrite=overwrite)
        model, tokenizer = load_model_and_tokenizer(config)
        calibration, calibrated = calibrate_for(config, model, tokenizer, recipes, checkpoints)
        before = evaluate(model, tokenizer, config)
        state = network_of(model).state_dict().values()
        weights = {weight.data_ptr(): weight for weight in state}.values()  # tied weights once
        n_bytes = sum(weight.nbytes for weight in weights)
        n_weights = sum(weight.numel() for weight in weights)
        rows = [make_row(AS_IT_IS, n_bytes, 8 * n_bytes / n_weights, before, None)]
        try:
            for recipe, name, checkpoint in zip(recipes, names, checkpoints, strict=True):
                path = part_of(folder / name)
                quantized = quantize_by(config, model, recipe, calibration, checkpoint)
                quantized.save(path, codec=config.codec, progress=True)
                size = path.stat().st_size
                changed = with_weights(model, QuantizedModel.load(path), path)
                after = evaluate(changed, tokenizer, config)
                rows.append(
                    make_row(
                        recipe.name, size, 8 * size / quantized.n_weights, after, before,
                        quantized.report,
                    )
                )  # fmt: skip
        except (ValueError, OSError):
            show(table(rows, before))  # what is scored is not lost
            raise
        conditions = {name: getattr(before, name) for name in CONDITIONS} | calibrated | {
            "recipes": [describe_recipe(recipe) for recipe in recipes],
            "calibration_batch": config.calibration_batch,
            "seed": config.seed,
            "codec": config.codec,
        }  # fmt: skip
        result = {
            "rows": [asdict(row) for row in rows],
            "signature": before.signature,
            "conditions": conditions,
            "versions": before.versions,
        }
        text = json.dumps(result, indent=2) + "\n"
        try:
            show(text if arguments.json else table(rows, before))
        finally:
            if arguments.out:
                put_in_place(folder, (REPORT, *names), names)
                write_report(folder / REPORT, text)


@contextmanager
def folder_of(out: Path | None) -> Iterator[Path]:
    """Folder of the quantized files: --out, or a temporary folder that is deleted on exit."""
    if out is not None:
        yield out
        return
    with TemporaryDirectory() as folder:
        yield Path(folder)


def evaluate(model: Model, tokenizer: Tokenizer, config: QuantizeConfig) -> Result:
    """Score a model with a new cache."""
    return score(model, load_data(config, tokenizer), config, tokenizer=tokenizer, progress=True)


def make_row(
    recipe: str, size: int, rate: float, after: Result, before: Result | None,
    reports: tuple[TensorReport, ...] = (),
) -> Row:  # fmt: skip
    """Row of one evaluation, with its increases over the model as it is (`before`)."""
    if after.bpb_model is None or after.bpb is None:
        raise ValueError(
            f"data must have at least one byte, got {after.bytes} in {after.data}; name other data"
        )
    errors = [report.error for report in reports if report.error is not None]
    fields = {
        "recipe": recipe, "file_bytes": size, "bits_per_weight": rate,
        "error": sum(errors) if errors else None,
        "uncalibrated": sum(report.is_uncalibrated for report in reports),
        "notes": tuple(f"{report.name}: {note}" for report in reports for note in report.notes),
        "bpb_model": after.bpb_model, "bpb": after.bpb, "model": after.model,
        "signature": after.signature,
    }  # fmt: skip
    if before is not None and before.bpb_model is not None and before.bpb is not None:
        alone, mixed = after.bpb_model - before.bpb_model, after.bpb - before.bpb
        fields |= {
            "bpb_increase_model": alone,
            "bpb_increase": mixed,
            "recovered": 1 - mixed / alone if alone > 0 else None,
        }
    return Row(**fields)  # type: ignore[arg-type]


def table(rows: list[Row], before: Result) -> str:
    """Table of the rows, and the signature of the model as it is."""
    cells = [("", "bytes", "bits", "error", "BPB", "increase", "+ cache", "increase", "recovered")]
    for row in rows:
        cells.append(
            (
                row.recipe,
                f"{row.file_bytes:,}",
                f"{row.bits_per_weight:.2f}",
                "" if row.error is None else f"{row.error:.3g}",
                f"{row.bpb_model:.4f}",
                f"{row.bpb_increase_model:+.4f}" if row.recipe != AS_IT_IS else "",
                f"{row.bpb:.4f}",
                f"{row.bpb_increase:+.4f}" if row.recipe != AS_IT_IS else "",
                "" if row.recovered is None else f"{row.recovered:.0%}",
            )
        )  # fmt: skip
    lines = align(cells)
    lines += ["", "recovered: share of the increase in BPB that the cache recovers"]
    lines += [
        f"{row.recipe}: {row.uncalibrated} tensors were not calibrated, and rounded to nearest"
        for row in rows
        if row.uncalibrated
    ]
    return "\n".join([*lines, f"{before.signature} = {before.bpb:.4f}", ""])
