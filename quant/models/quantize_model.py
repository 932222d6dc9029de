"""Quantize a model in one call."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import fsum
from typing import TYPE_CHECKING, Any

from quant.base.config import Config, QuantizedTensor
from quant.base.screen import progress_bar
from quant.calibration.calibrate import check_model
from quant.calibration.calibration import Calibration
from quant.models.calibrate_for_recipes import calibrate_for_recipes
from quant.models.checkpoint import Checkpoint
from quant.models.half_if_smaller import half_if_smaller
from quant.models.identity import conditions_of
from quant.models.plan import BUFFER, Job, needs_fisher, plan, with_calibration
from quant.models.quantize_tensor import Done, done_of, quantize_tensor
from quant.models.quantized_model import QuantizedModel
from quant.models.recipe import KEEP, Recipe
from quant.models.recipe_file import find_recipe
from quant.models.report import TensorReport
from quant.models.sequential import SequentialCalibration

if TYPE_CHECKING:
    from torch import nn


def quantize_model(
    model: "nn.Module",
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    calibration: Calibration | Iterable[Any] | None = None,
    *,
    memory_limit: int | str | None = None,
    strict: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> QuantizedModel:
    """Quantize the tensors of a model as a recipe says; the model itself is left as it was.

    Tied weights are quantized once; buffers are kept unchanged. A weight that needs a Hessian, and
    that calibration did not reach, is rounded to nearest on the same grid; the report notes it.
    Without Fisher information, so is an embedding that is not tied to a head.

    Parameters
    ----------
    model : torch.nn.Module
    recipe : Recipe, str, path or dict
        A name of `quant.RECIPES`, a file as `load_recipe` reads it, or what `Recipe.from_json`
        takes.
    calibration : Calibration, or batches as `calibrate` takes them, optional
        Needed for GPTQ. With any quantizer, the report then has errors too. Batches are
        calibrated with Fisher information if the recipe uses it, for GPTQ of an embedding.
    memory_limit : int or str, optional
        As in `calibrate`, and half of the model by default; only together with batches. A
        sequential recipe needs the Hessians of a single input group, which are not counted.
    strict : bool
        Whether a weight that needs a Hessian and has none is an error; and all else that the
        report would note.
    checkpoint : path, optional
        Folder that finished weights are stored in. A run that was killed goes on by it, after
        calibration, and ends with the same bits. The folder stays; one process may use it.
    progress : bool
        Whether to show a bar on stderr, if it is a terminal.

    Raises
    ------
    ValueError
        If the recipe is unknown, one of its rules names no tensor, a weight is not finite or not in
        memory, there is no calibration for a recipe that needs one, or the checkpoint belongs to
        another run, is damaged or cannot be written.
    """
    recipe = find_recipe(recipe)
    check_model(model)
    known: Calibration | None = None
    batches: list[Any] | None = None
    if isinstance(calibration, Calibration):
        known, batches = calibration, calibration.batches
    elif calibration is not None:
        from quant.calibration.batches import as_list

        batches = as_list(calibration)  # read once
    has_batches = known is None and batches is not None
    jobs, aliases = plan(model, recipe, known, is_final=not has_batches)
    hessian_names = [job.name for job in jobs if job.needs_hessian]
    if hessian_names and calibration is None:
        raise ValueError(
            f"recipe {recipe.name} needs a calibration for {hessian_names[0]}, got none; pass "
            "batches, such as those of self_generate"
        )
    if memory_limit is not None and not has_batches:
        raise ValueError(
            f"memory_limit needs batches to calibrate with, got {memory_limit} without batches; "
            "pass it to calibrate"
        )
    sequential = None
    uses_fisher = needs_fisher(jobs)
    store = None
    if checkpoint is not None:
        settings = {"fisher": uses_fisher} if known is None else known.settings
        store = Checkpoint(checkpoint, conditions_of(model, recipe, batches, settings))
    if batches is not None:
        if known is None:
            known = calibrate_for_recipes(
                model, batches, [recipe], memory_limit=memory_limit, progress=progress
            )
            jobs, _ = plan(model, recipe, known)
        jobs = [with_calibration(job, known, recipe.sequential) for job in jobs]
    jobs = [half_if_smaller(job, recipe) for job in jobs]
    targets = [job.name for job in jobs if job.input_group]
    if known is not None and targets:
        sequential = SequentialCalibration(model, known, targets)
    if strict:
        check_calibrated(jobs)
        about = [note for note in (known.no_fisher, known.note) if note] if known else []
        check_notes([("the model", about), *((job.name, job.notes) for job in jobs)])
    reports: dict[str, TensorReport] = {}
    tensors: dict[str, Any] = {}
    in_order = sorted(jobs, key=lambda job: job.step)
    for job, done in quantize_all(in_order, known, sequential, store, progress):
        if strict:
            check_notes([(job.name, done.report.notes)])
        tensors[job.name], reports[job.name] = done.tensor, done.report
    notes = (
        "" if known is None else known.no_fisher,
        "" if known is None else known.note,
        "" if sequential is None else sequential.note,
    )
    for note in filter(None, notes):  # beside the first tensor that it is about
        name = next((job.name for job in in_order if job.input_group), in_order[0].name)
        reports[name] = replace(reports[name], notes=(*reports[name].notes, note))
    total = fsum(report.error or 0.0 for report in reports.values())
    return QuantizedModel(
        tensors={job.name: tensors[job.name] for job in jobs},
        aliases=aliases,
        report=tuple(with_error_share(reports[job.name], total) for job in jobs),
    )


def check_checkpoint(
    folder: str | os.PathLike[str],
    model: "nn.Module",
    recipe: Recipe,
    batches: list[Any] | None,
    *,
    fisher: bool,
    seed: int,
) -> None:
    """Raise ValueError if a checkpoint belongs to another run than one with this calibration."""
    settings = {"fisher": fisher, "seed": seed, "names": None}
    Checkpoint(folder, conditions_of(model, recipe, batches, settings))


def quantize_all(
    jobs: list[Job],
    calibration: Calibration | None,
    sequential: SequentialCalibration | None,
    store: Checkpoint | None,
    progress: bool,
) -> Iterator[tuple[Job, Done]]:
    """Each job with its tensor, in order; quantized, or as the checkpoint has it."""
    finished = {job.name for job in jobs if store is not None and store.has(job)}
    work = {job.name: job.weight.numel() for job in jobs if isinstance(job.config, Config)}
    by_inputs = {job.name for job in jobs if job.needs_hessian and job.input_group}
    with progress_bar(
        is_shown=progress, total=sum(work.values()), desc="quantize", unit=" weights",
        unit_scale=True, smoothing=0, initial=sum(work[name] for name in finished),
    ) as bar:  # fmt: skip
        for job in jobs:
            bar.set_postfix_str(job.name)
            if store is not None and job.name in finished:
                if sequential is not None and job.name in by_inputs:
                    is_whole = not (by_inputs & {*job.input_group}) - finished
                    sequential.reach(job.input_group, is_whole=is_whole)
                done = done_of(*store.load(job))
            else:
                try:
                    done = quantize_tensor(job, calibration, sequential)
                except ValueError as error:
                    raise ValueError(f"{job.name}: {error}") from error
                if store is not None and isinstance(done.tensor, QuantizedTensor):
                    store.save(job, done.tensor, done.report)
                bar.update(work.get(job.name, 0))
            if sequential is not None and job.config == KEEP and job.role != BUFFER:
                sequential.keep(job.name)
            elif sequential is not None and job.role != BUFFER:
                sequential.commit(job.name, done.tensor, done.values)
            yield job, done


def check_calibrated(jobs: Iterable[Job]) -> None:
    """Raise ValueError if a weight that needs a Hessian has none."""
    names = [job.name for job in jobs if job.is_uncalibrated]
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        raise ValueError(
            f"strict needs a Hessian for each weight whose quantizer uses one, got none for "
            f"{names[0]}{more}; calibrate with batches that use it, or give it another rule in the "
            "recipe"
        )


def check_notes(noted: Iterable[tuple[str, Sequence[str]]]) -> None:
    """Raise ValueError if there is a note on one of the names."""
    for name, notes in noted:
        if notes:
            raise ValueError(
                f"strict needs each tensor quantized as the recipe says, got a note on {name}: "
                f"{notes[0]}; give it another rule in the recipe, or leave strict out"
            )


def with_error_share(report: TensorReport, total: float) -> TensorReport:
    """The report with its share of the total error, if it has an error and the total is not 0."""
    if report.error is None or not total:
        return report
    return replace(report, share=report.error / total)
