"""Quantize a model in one call."""

import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import fsum
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from quant.base.config import Config
from quant.base.matrix import as_matrix
from quant.calibration.calibrate import Calibration, calibrate
from quant.models.plan import BUFFER, Job, plan, with_calibration
from quant.models.quantized_model import QuantizedModel
from quant.models.recipe import KEEP, Recipe, find_recipe
from quant.models.report import TensorReport, relative_mse
from quant.models.sequential import SequentialCalibration, compensated_target
from quant.quantizers.gptq import GptqTensor
from quant.quantizers.quantize import label, quantize_matrix
from quant.types import Float64, Matrix

if TYPE_CHECKING:
    from torch import Tensor, nn


def quantize_model(
    model: "nn.Module",
    recipe: Recipe | str | Mapping[str, Any],
    calibration: Calibration | Iterable[Any] | None = None,
    *,
    memory_limit: int | str | None = None,
    progress: bool = False,
) -> QuantizedModel:
    """Quantize the tensors of a model as a recipe says; the model itself is left as it was.

    Tied weights are quantized once; buffers are kept unchanged. Without Fisher information, an
    embedding that is not tied to a head has no Hessian, and GPTQ of it rounds to nearest.

    Parameters
    ----------
    model : torch.nn.Module
    recipe : Recipe, str or dict
        A name of `quant.RECIPES`, or what `Recipe.from_json` takes.
    calibration : Calibration, or batches as `calibrate` takes them, optional
        Needed for GPTQ. With any quantizer, the report then has errors too. Batches are
        calibrated with Fisher information.
    memory_limit : int or str, optional
        As in `calibrate`; only together with batches.
    progress : bool
        Whether to show a bar on stderr, if it is a terminal.

    Raises
    ------
    ValueError
        If the recipe is unknown, a weight is not finite, or a weight that needs a Hessian has
        none.
    """
    recipe = find_recipe(recipe)
    jobs, aliases = plan(model, recipe)
    hessian_names = [
        job.name for job in jobs if isinstance(job.config, Config) and job.config.needs_hessian
    ]
    if hessian_names and calibration is None:
        raise ValueError(
            f"recipe {recipe.name} needs a calibration for {hessian_names[0]}, got none; pass "
            "batches, such as those of self_generate"
        )
    if memory_limit is not None and (calibration is None or isinstance(calibration, Calibration)):
        raise ValueError(
            f"memory_limit needs batches to calibrate with, got {memory_limit} without batches; "
            "pass it to calibrate"
        )
    if calibration is not None and not isinstance(calibration, Calibration):
        if recipe.sequential and iter(calibration) is calibration:
            calibration = list(calibration)
        calibration = calibrate(
            model, calibration, fisher=True, memory_limit=memory_limit, progress=progress
        )
    sequential = None
    if calibration is not None:
        jobs = [with_calibration(job, calibration, recipe.sequential) for job in jobs]
        if recipe.sequential and hessian_names:
            sequential = SequentialCalibration(model, calibration)
    tensors: dict[str, Any] = {}
    reports: dict[str, TensorReport] = {}
    in_order = sorted(jobs, key=lambda job: job.step)
    for job in tqdm(in_order, "quantize", unit=" tensors", disable=None if progress else True):
        try:
            tensor, values, report = quantize_tensor(job, calibration, sequential)
        except ValueError as error:
            raise ValueError(f"{job.name}: {error}") from error
        tensors[job.name], reports[job.name] = tensor, report
        if sequential is not None and job.role != BUFFER:
            sequential.commit(job.name, values)
    if sequential is not None and sequential.note:
        name = next(job.name for job in in_order if job.input_group)
        notes = (*reports[name].notes, sequential.note)
        reports[name] = replace(reports[name], notes=notes)
    total = fsum(report.error or 0.0 for report in reports.values())
    return QuantizedModel(
        tensors={job.name: tensors[job.name] for job in jobs},
        aliases=aliases,
        report=tuple(with_error_share(reports[job.name], total) for job in jobs),
    )


def quantize_tensor(
    job: Job, calibration: Calibration | None, sequential: SequentialCalibration | None
) -> "tuple[Any, Tensor, TensorReport]":
    """Quantize one tensor.

    Returns
    -------
    tensor : QuantizedTensor, or torch tensor if it is kept or rounded to float16
    values : torch tensor
        The dequantized values.
    report : TensorReport
    """
    start = time.perf_counter()
    weight = job.weight.detach()
    report = TensorReport(
        name=job.name,
        role=job.role,
        shape=tuple(weight.shape),
        quantizer=label(job.config) if isinstance(job.config, Config) else job.config,
        bits_per_weight=8.0 * weight.element_size(),
    )
    if job.config == KEEP:
        return weight.cpu().clone(), weight, report
    if isinstance(job.config, Config):
        matrix, layout = as_matrix(weight, transposed=job.is_transposed)
        hessian: Any
        if sequential is not None and job.input_group:
            hessian, cross = sequential.inputs_of(job.input_group)
            target = compensated_target(matrix, hessian, cross)
        else:
            hessian, target = cost_of(job, calibration), matrix
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            q = quantize_matrix(target, layout, job.config, hessian)
        for warning in caught:
            warnings.warn(f"{job.name}: {warning.message}", warning.category, stacklevel=3)
        decoded = q.matrix()
        report = replace(
            with_errors(report, calibration, matrix, decoded),
            bits_per_weight=q.bits_per_weight,
            clipped=q.config.clipped(matrix, q.arrays),
            damp=q.report.damp if isinstance(q, GptqTensor) else None,
            notes=tuple(str(warning.message) for warning in caught),
        )
        values = layout.restore(decoded)
        return q, values, replace(report, seconds=time.perf_counter() - start)
    half = weight.half().cpu()
    if not half.isfinite().all():
        raise ValueError("weights must be finite as float16, got an overflow; use another rule")
    report = replace(report, bits_per_weight=16.0)
    if job.role != "vector":
        matrix, rounded = (
            as_matrix(tensor, transposed=job.is_transposed)[0] for tensor in (weight, half)
        )
        report = with_errors(report, calibration, matrix, rounded)
    else:
        exact, rounded = (tensor.cpu().double().numpy() for tensor in (weight, half))
        report = replace(report, relative_mse=relative_mse(exact, rounded))
    return half, half, replace(report, seconds=time.perf_counter() - start)


def cost_of(job: Job, calibration: Calibration | None) -> Float64 | None:
    """`Calibration.cost` of the weight (in, in), or None if calibration did not reach it."""
    if calibration is None or job.name not in calibration:
        return None
    return calibration.cost(job.name)


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
