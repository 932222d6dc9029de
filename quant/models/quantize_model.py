"""Quantize a model in one call."""

import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import fsum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quant.base.config import Config
from quant.base.matrix import as_matrix
from quant.base.screen import progress_bar
from quant.calibration.calibrate import Calibration, calibrate, check_model
from quant.models.plan import BUFFER, NO_INPUTS, Job, plan, with_calibration, without_hessian
from quant.models.quantized_model import QuantizedModel
from quant.models.recipe import KEEP, Recipe
from quant.models.recipe_file import find_recipe
from quant.models.report import TensorReport, relative_mse
from quant.models.sequential import SequentialCalibration
from quant.numerics.parts import PartHessian
from quant.quantizers.gptq import GptqTensor
from quant.quantizers.quantize import label, quantize_matrix
from quant.types import Matrix

if TYPE_CHECKING:
    from torch import Tensor, nn


def quantize_model(
    model: "nn.Module",
    recipe: Recipe | str | os.PathLike[str] | Mapping[str, Any],
    calibration: Calibration | Iterable[Any] | None = None,
    *,
    memory_limit: int | str | None = None,
    strict: bool = False,
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
        As in `calibrate`; only together with batches.
    strict : bool
        Whether a weight that needs a Hessian and has none is an error; and all else that the
        report would note.
    progress : bool
        Whether to show a bar on stderr, if it is a terminal.

    Raises
    ------
    ValueError
        If the recipe is unknown, one of its rules names no tensor, a weight is not finite or not in
        memory, or there is no calibration for a recipe that needs one.
    """
    recipe = find_recipe(recipe)
    check_model(model)
    known = calibration if isinstance(calibration, Calibration) else None
    has_batches = calibration is not None and known is None
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
    sequential, no_fisher = None, ""
    if calibration is not None:
        if not isinstance(calibration, Calibration):
            uses_fisher = any(job.needs_hessian and job.role == "embedding" for job in jobs)
            calibration, no_fisher = calibrate_if_possible(
                model, calibration, uses_fisher, memory_limit, progress
            )
            jobs, _ = plan(model, recipe, calibration)
        jobs = [with_calibration(job, calibration, recipe.sequential) for job in jobs]
        if recipe.sequential and any(job.input_group for job in jobs):
            sequential = SequentialCalibration(model, calibration)
    if strict:
        check_calibrated(jobs)
        about = [note for note in (no_fisher, calibration.note if calibration else "") if note]
        check_notes([("the model", about), *((job.name, job.notes) for job in jobs)])
    reports: dict[str, TensorReport] = {}
    tensors: dict[str, Any] = {}
    in_order = sorted(jobs, key=lambda job: job.step)
    for job in progress_bar(in_order, is_shown=progress, desc="quantize", unit=" tensors"):
        try:
            done = quantize_tensor(job, calibration, sequential)
        except ValueError as error:
            raise ValueError(f"{job.name}: {error}") from error
        if strict:
            check_notes([(job.name, done.report.notes)])
        tensors[job.name], reports[job.name] = done.tensor, done.report
        if sequential is not None and job.role != BUFFER:
            sequential.commit(job.name, done.values)
    notes = (
        no_fisher,
        "" if calibration is None else calibration.note,
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


def calibrate_if_possible(
    model: "nn.Module",
    batches: Iterable[Any],
    uses_fisher: bool,
    memory_limit: int | str | None,
    progress: bool,
) -> tuple[Calibration, str]:
    """(calibration, why it has no Fisher information although it was asked for; or empty)."""
    from quant.calibration.batches import as_list
    from quant.calibration.model_call import FisherError

    batches, reason = as_list(batches), ""
    options: dict[str, Any] = {"memory_limit": memory_limit, "progress": progress}
    if uses_fisher:
        try:
            return calibrate(model, batches, fisher=True, **options), ""
        except FisherError as error:
            reason = f"no Fisher information: {error}"
    return calibrate(model, batches, **options), reason


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


class Done(NamedTuple):
    """A tensor, quantized, kept or rounded; its dequantized values; and what was lost."""

    tensor: Any
    values: "Tensor"
    report: TensorReport


def quantize_tensor(
    job: Job, calibration: Calibration | None, sequential: SequentialCalibration | None
) -> Done:
    """Quantize one tensor."""
    start = time.perf_counter()
    weight = job.weight.detach()
    report = TensorReport(
        name=job.name,
        role=job.role,
        shape=tuple(weight.shape),
        quantizer=label(job.config) if isinstance(job.config, Config) else job.config,
        bits_per_weight=8.0 * weight.element_size(),
        is_uncalibrated=job.is_uncalibrated,
        notes=job.notes,
    )
    if job.config == KEEP:
        return Done(weight.cpu().clone(), weight, report)
    if isinstance(job.config, Config):
        return quantize_matrix_of(job, job.config, report, calibration, sequential)
    half = weight.half().cpu()
    if not half.isfinite().all():
        raise ValueError("weights must be finite as float16, got an overflow; use another rule")
    report = replace(report, bits_per_weight=16.0)
    if job.role != "vector":
        matrix, rounded = (as_matrix(tensor, axes=job.axes)[0] for tensor in (weight, half))
        report = with_errors(report, calibration, matrix, rounded)
    else:
        exact, rounded = (tensor.cpu().double().numpy() for tensor in (weight, half))
        report = replace(report, relative_mse=relative_mse(exact, rounded))
    return Done(half, half, replace(report, seconds=time.perf_counter() - start))


def quantize_matrix_of(
    job: Job,
    config: Config,
    report: TensorReport,
    calibration: Calibration | None,
    sequential: SequentialCalibration | None,
) -> Done:
    """Quantize a tensor by a configuration; the report is that of the tensor as it was."""
    start = time.perf_counter()
    matrix, layout = as_matrix(job.weight.detach(), axes=job.axes)
    target, hessian, notes = matrix, None, job.notes
    if config.needs_hessian:
        if sequential is not None and job.input_group:
            target, hessian, more = sequential.target(job.name, job.input_group, matrix)
            notes = (*notes, *more)
        else:
            hessian = cost_of(job, calibration)
        n_dead = len(matrix) - n_live(hessian, len(matrix))
        if n_dead == len(matrix):
            target, config = matrix, without_hessian(config)
            notes = (*notes, NO_INPUTS)
            report = replace(report, quantizer=label(config), is_uncalibrated=True)
        elif n_dead:
            notes = (*notes, f"{n_dead} of {len(matrix)} rows have no inputs: rounded to nearest")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        q = quantize_matrix(target, layout, config, hessian)
    for warning in caught:
        warnings.warn(f"{job.name}: {warning.message}", warning.category, stacklevel=4)
    decoded = q.matrix()
    report = replace(
        with_errors(report, calibration, matrix, decoded),
        bits_per_weight=q.bits_per_weight,
        clipped=q.config.clipped(matrix, q.arrays),
        damp=q.report.damp if isinstance(q, GptqTensor) else None,
        notes=(*notes, *(str(warning.message) for warning in caught)),
        seconds=time.perf_counter() - start,
    )
    return Done(q, layout.restore(decoded), report)


def cost_of(job: Job, calibration: Calibration | None) -> Any:
    """`Calibration.cost` of the weight, or None if calibration did not reach it."""
    if calibration is None or job.name not in calibration:
        return None
    return calibration.cost(job.name)


def n_live(hessian: Any, n_rows: int) -> int:
    """Number of rows that have a Hessian other than 0."""
    if isinstance(hessian, PartHessian):
        return sum(len(part.rows) for part in hessian.parts if np.diagonal(part.matrix).any())
    return n_rows if hessian is not None and np.diagonal(hessian).any() else 0


def with_errors(
    report: TensorReport,
    calibration: Calibration | None,
    matrix: Matrix,
    decoded: Matrix,
) -> TensorReport:
    """The report with the errors of the decoded matrix (R, C)."""
    error = None
    if calibration is not None and report.name in calibration:
        error = calibration.error(report.name, matrix.astype(np.float64) - decoded)
    return replace(report, relative_mse=relative_mse(matrix, decoded), error=error)


def with_error_share(report: TensorReport, total: float) -> TensorReport:
    """The report with its share of the total error, if it has an error and the total is not 0."""
    if report.error is None or not total:
        return report
    return replace(report, share=report.error / total)
