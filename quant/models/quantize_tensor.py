"""Quantize one tensor of a model, and report what was lost."""

import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from quant.base.config import Config, QuantizedTensor
from quant.base.matrix import as_matrix
from quant.calibration.calibration import Calibration
from quant.models.plan import NO_INPUTS, Job, without_hessian
from quant.models.recipe import KEEP
from quant.models.report import TensorReport, relative_mse
from quant.models.sequential import SequentialCalibration
from quant.numerics.parts import PartHessian
from quant.quantizers.gptq import GptqTensor
from quant.quantizers.quantize import label, quantize_matrix
from quant.types import Matrix

if TYPE_CHECKING:
    from torch import Tensor


class Done(NamedTuple):
    """A tensor, quantized, kept or rounded; its dequantized values; and what was lost."""

    tensor: Any
    values: "Tensor"
    report: TensorReport


def done_of(tensor: QuantizedTensor, report: TensorReport) -> Done:
    """A tensor that was quantized before, with its dequantized values."""
    return Done(tensor, tensor.layout.restore(tensor.matrix()), report)


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
    del target, hessian  # their memory is needed below
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
