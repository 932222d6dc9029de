"""``ngrammix quantize``: quantize a model's weights into one compressed file."""

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.commands.exports import check_export_format, check_levels_of, write_export
from eval.commands.from_config import (
    check_data,
    load_data,
    load_model_of,
    tokenizer_of,
)
from eval.commands.recipes import recipes_of
from eval.config import QuantizeConfig, ScoreConfig, make_config
from eval.data.base import Data
from eval.data.file_data import NoTableError
from eval.files.lock import hold
from eval.files.results import check_results, part_of, put_in_place, write_report
from eval.models.base import Model
from eval.models.causality import check_causality
from eval.models.export import check_export
from eval.models.numerics import numerics_of
from eval.models.quantized import QUANTIZED, network_of
from eval.out_of_memory import is_out_of_memory
from eval.scoring.checked import checked
from eval.scoring.dataloader import BatchStream
from eval.scoring.windows import make_window_shape
from eval.terminal import show
from eval.tokenizers.base import Tokenizer
from eval.types import Tokens
from ngrammix.auditing.environment import versions
from quant import Calibration, QuantizedModel, quantize_model, self_generate
from quant.models.calibrate_for_recipes import calibrate_for_recipes, use_fisher
from quant.models.checkpoint import has_checkpoint
from quant.models.quantize_model import check_checkpoint
from quant.models.recipe import Recipe

REPORT = "quantize.json"


def run(arguments: argparse.Namespace) -> None:
    """Quantize, write the file under --out, and print the report of each tensor."""
    config = make_config(QuantizeConfig, vars(arguments), arguments.config)
    if len(config.recipe) != 1:
        raise ValueError(
            f"--recipe must be one recipe, got {', '.join(config.recipe) or 'none'}; "
            "ngrammix pipeline takes several"
        )
    if config.out is None:
        raise ValueError("--out must name a folder for the file, got none; name one")
    if config.calibrate:
        check_data(replace(config, data=config.calibrate))
    check_export_format(config)
    (recipe,), out = recipes_of(config), Path(config.out)
    checkpoint, export = (
        None if name is None else Path(name) for name in (config.checkpoint, config.export)
    )
    files = (REPORT, QUANTIZED)
    with hold(out=out, checkpoint=checkpoint, export=export):
        # A run that goes on may find parts of its own results there.
        may_replace = config.overwrite or has_checkpoint(checkpoint)
        check_results(out, files, overwrite=may_replace)
        check_export(export, overwrite=may_replace)
        model, tokenizer = load_model_and_tokenizer(config)
        check_levels_of(config, model, recipe)
        calibration, calibrated = calibrate_for(config, model, tokenizer, [recipe], [checkpoint])
        quantized = quantize_by(config, model, recipe, calibration, checkpoint)
        part = part_of(out / QUANTIZED)
        try:
            quantized.save(part, codec=config.codec, progress=True)
            size = part.stat().st_size
        except (ValueError, OSError):
            show(quantized.table())  # the file is lost, but not what is known of it
            raise
        result = {
            "model": model.name,
            **describe_recipe(recipe),
            "file_bytes": size,
            "bits_per_weight": quantized.bits_per_weight,
            "file_bits_per_weight": 8 * size / quantized.n_weights,
            "uncalibrated": sum(report.is_uncalibrated for report in quantized.report),
            "tensors": [asdict(report) for report in quantized.report],
            **numerics_of(model),
            **calibrated,
            "calibration_batch": config.calibration_batch,
            "seed": config.seed,
            "codec": config.codec,
            "versions": versions(),
        }
        text = json.dumps(result, indent=2) + "\n"
        table = f"{quantized.table()}\n\n{out / QUANTIZED}: {size:,} bytes\n"
        try:
            show(text if arguments.json else table)
        finally:
            put_in_place(out, files, (QUANTIZED,))
            write_report(out / REPORT, text)
        if export is not None:
            write_export(config, model, quantized, export)


def quantize_by(
    config: QuantizeConfig,
    model: Model,
    recipe: Recipe,
    calibration: Calibration | None,
    checkpoint: Path | None,
) -> QuantizedModel:
    """The model quantized by a recipe, as the options say."""
    return quantize_model(
        network_of(model),
        recipe,
        calibration,
        strict=config.strict,
        checkpoint=checkpoint,
        progress=True,
    )


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """All that the recipe says, for the files that report it."""
    values = recipe.to_json()
    return {"recipe": values.pop("name"), **values}


def load_model_and_tokenizer(config: QuantizeConfig) -> tuple[Model, Tokenizer]:
    """The model and its tokenizer; ValueError for --model none."""
    model = load_model_of(config)
    if model is None:
        raise ValueError("--model must name a model to quantize, got none; name one")
    return model, tokenizer_of(config, model)


def calibrate_for(
    config: QuantizeConfig,
    model: Model,
    tokenizer: Tokenizer,
    recipes: Sequence[Recipe],
    checkpoints: Sequence[Path | None] = (),
    memory_limit: str | None = None,
) -> tuple[Calibration | None, dict[str, Any]]:
    """(calibration for the recipes, what it was made with, for the files that report it).

    No calibration if no recipe needs one and --calibrate names no data. The checkpoint of each
    recipe, if any, must be one of this run. The memory limit is that of `calibrate`, and half of
    the model by default.
    """
    network = network_of(model)

    def check(batches: list[Any] | None, *, fisher: bool) -> None:
        for recipe, folder in zip(recipes, checkpoints, strict=False):
            if folder is not None:
                check_checkpoint(folder, network, recipe, batches, fisher=fisher, seed=config.seed)

    if not config.calibrate and not any(recipe.needs_hessian for recipe in recipes):
        check(None, fisher=False)
        return None, describe_calibration(None, [], tokenizer)
    batches: list[Any]
    if config.calibrate:
        batches = read_batches(config, model, tokenizer)
    else:
        context = min(model.context, config.context or model.context)
        if config.causality_check:
            check_causality(model, context=context, vocab_size=tokenizer.vocab_size)
        batches = self_generate(
            network,
            config.calibration_tokens,
            context=context,
            bos=bos_of(tokenizer),
            seed=config.seed,
            batch=config.calibration_batch,
        )
    source = ", ".join(config.calibrate) or "text generated by the model"
    described = describe_calibration(source, batches, tokenizer)
    check(batches, fisher=use_fisher(network, recipes))
    try:
        calibration = calibrate_for_recipes(
            network, batches, recipes, seed=config.seed, memory_limit=memory_limit, progress=True
        )
        return calibration, described
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        n_tokens = max(batch.shape[0] * batch.shape[1] for batch in batches)
        raise ValueError(
            f"a calibration batch must fit in memory, got up to {n_tokens:,} tokens in one, with "
            f"{model.vocab_size:,} logits each and their gradients; pass a smaller "
            "--calibration-batch, --context, --logits-memory or --calibration-tokens"
        ) from error


def describe_calibration(
    source: str | None, batches: Sequence[Any], tokenizer: Tokenizer
) -> dict[str, Any]:
    """Source, number and hash of the tokens of the calibration, and the tokenizer that made them.

    The hash is that of the batches (B, T): the shape and the ids of each, as little-endian int64.
    """
    digest = hashlib.sha256()
    for batch in batches:
        for values in (batch.shape, batch):
            digest.update(np.ascontiguousarray(values, "<i8").data)
    return {
        "calibration": source,
        "calibration_sha256": digest.hexdigest() if batches else None,
        "calibration_tokens": sum(batch.shape[0] * batch.shape[1] for batch in batches),
        "tokenizer": tokenizer.name,
        "bos": tokenizer.bos,
    }


def load_calibration(config: QuantizeConfig, tokenizer: Tokenizer) -> Data:
    """The calibration data; a column of --data does not matter if it has no tables."""
    config, has_data = replace(config, data=config.calibrate), bool(config.data)
    try:
        return load_data(config, tokenizer)
    except NoTableError:
        if not has_data:
            raise
        return load_data(replace(config, column=None), tokenizer)


def read_batches(config: QuantizeConfig, model: Model, tokenizer: Tokenizer) -> list[Tokens]:
    """Batches (B, T) of windows of the calibration data as one stream, without padding.

    ValueError if the model sees the future.
    """
    data = load_calibration(config, tokenizer)
    reader = ScoreConfig(
        windows="stream", context=config.context, stride=config.context or model.context,
        limit=config.calibration_tokens, batch=config.calibration_batch,
        logits_memory=config.logits_memory, bos=config.bos, causality_check=config.causality_check,
    )  # fmt: skip
    # All positions of a batch have logits, since all of them have labels.
    shape = replace(make_window_shape(reader, model, tokenizer), keeps_rows=False)
    stream = BatchStream(data, tokenizer, reader, shape)
    batches: list[Tokens] = []
    for batch in checked(iter(stream), model, tokenizer, reader, shape):
        if batch.is_scored.all():
            batches.append(batch.inputs)
        else:  # windows of different lengths: cut each row after its last scored token
            ends = batch.inputs.shape[1] - np.argmax(batch.is_scored[:, ::-1], axis=1)
            batches += [row[None, :end] for row, end in zip(batch.inputs, ends, strict=True)]
    return batches


def bos_of(tokenizer: Tokenizer) -> int:
    """Id of the BOS token; ValueError if the tokenizer has none."""
    if tokenizer.bos is None:
        raise ValueError(
            "calibration text that the model generates must begin with a BOS token, got none from "
            f"{tokenizer.name}; give its id with --bos, or data with --calibrate"
        )
    return tokenizer.bos
