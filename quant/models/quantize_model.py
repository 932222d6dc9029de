"""A model, quantized in one call."""

import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from math import fsum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from quant.base.config import Config
from quant.base.matrix import as_matrix
from quant.calibration.calibrate import Calibration, calibrate
from quant.models.parameters import aliases_of, state_of
from quant.models.plan import BUFFER, Job, aimed, plan
from quant.models.quantized_model import QuantizedModel
from quant.models.recipe import KEEP, Recipe, find_recipe
from quant.models.report import TensorReport, relative_mse
from quant.models.sequential import Twin, aimed_at
from quant.quantizers.gptq import GptqTensor
from quant.quantizers.quantize import label, needs_hessian, quantize

if TYPE_CHECKING:
    from torch import nn

Float64 = NDArray[np.float64]


def quantize_model(
    model: "nn.Module",
    recipe: Recipe | str | Mapping[str, Any],
    calibration: Calibration | Iterable[Any] | None = None,
    *,
    memory_limit: int | None = None,
    progress: bool = True,
) -> QuantizedModel:
    """The model's state, quantized as the recipe says; the model itself is as it was.

    Parameters
    ----------
    model : module of torch
    recipe : Recipe, str or data
        A name of `quant.models.recipe.RECIPES`, or what `Recipe.from_json` takes. Tied weights are
        quantized once, buffers not at all. Without Fisher information, an embedding that is no
        head has no Hessian either: GPTQ of it is rounding to nearest.
    calibration : Calibration, or what `calibrate` takes as batches, optional
        GPTQ needs one; the report says more with one. With batches come Fisher information too.
    memory_limit : int, optional
        As in `calibrate`, for batches.
    progress : bool
        Whether a bar is shown, on stderr, if it is a terminal.

    Raises
    ------
    ValueError
        If the recipe is unknown, a weight is not finite, or there is no calibration, or none that
        reached it, for one that needs a Hessian.
    """
    recipe = find_recipe(recipe)
    jobs = plan(model, recipe)
    needy = [job.name for job in jobs if isinstance(job.use, Config) and needs_hessian(job.use)]
    if needy and calibration is None:
        raise ValueError(
            f"recipe {recipe.name} needs a calibration for {needy[0]}, got none; give it batches, "
            "such as self_generate makes"
        )
    is_done = calibration is None or isinstance(calibration, Calibration)
    if is_done and memory_limit is not None:
        raise ValueError(
            f"memory_limit goes with batches, got {memory_limit} without; give it to calibrate"
        )
    if calibration is not None and not isinstance(calibration, Calibration):
        if recipe.sequential and iter(calibration) is calibration:
            calibration = list(calibration)
        calibration = calibrate(
            model, calibration, fisher=True, memory_limit=memory_limit, progress=progress
        )
    twin = None
    if calibration is not None:
        jobs = [aimed(job, calibration, recipe.sequential) for job in jobs]
        twin = Twin(model, calibration) if recipe.sequential and needy else None
    tensors: dict[str, Any] = {}
    reports: dict[str, TensorReport] = {}
    in_order = sorted(jobs, key=lambda job: job.place)
    for job in tqdm(in_order, "quantize", unit=" tensors", disable=None if progress else True):
        try:
            tensors[job.name], reports[job.name] = do(job, calibration, twin)
        except ValueError as error:
            raise ValueError(f"{job.name}: {error}") from error
        if twin is not None and job.role != BUFFER:
            twin.take(job.name, tensors[job.name])
    whole = fsum(report.error or 0.0 for report in reports.values())
    return QuantizedModel(
        tensors={job.name: tensors[job.name] for job in jobs},
        aliases=aliases_of(state_of(model)),
        report=tuple(with_share(reports[job.name], whole) for job in jobs),
    )


def do(job: Job, calibration: Calibration | None, twin: Twin | None) -> tuple[Any, TensorReport]:
    """(what the tensor becomes, how it fared)."""
    start = time.perf_counter()
    weight = job.weight.detach()
    report = TensorReport(
        name=job.name,
        role=job.role,
        shape=tuple(weight.shape),
        quantizer=label(job.use) if isinstance(job.use, Config) else job.use,
        bits_per_weight=8.0 * weight.element_size(),
    )
    if job.use == KEEP:
        return weight.cpu().clone(), report
    if isinstance(job.use, Config):
        hessian: Any = cost_of(job, calibration)
        layout, asked = None, weight
        if twin is not None and job.flow:
            matrix, layout = as_matrix(weight, transposed=job.is_transposed)
            hessian, cross = twin.meet(job.flow)
            asked = replace(layout, dtype="float32").restore(aimed_at(matrix, hessian, cross))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            q = quantize(asked, job.use, hessian, transposed=job.is_transposed)
        q = replace(q, layout=layout or q.layout)
        for warning in caught:
            warnings.warn(f"{job.name}: {warning.message}", warning.category, stacklevel=3)
        damp = q.report.damp if isinstance(q, GptqTensor) else None
        notes = tuple(str(warning.message) for warning in caught)
        report = replace(report, bits_per_weight=q.bits_per_weight, damp=damp, notes=notes)
        report = judged(report, job, calibration, q.matrix())
        return q, replace(report, seconds=time.perf_counter() - start)
    half = weight.half().cpu()
    if not half.isfinite().all():
        raise ValueError("weights must be finite as float16, got otherwise; use another rule")
    report = replace(report, bits_per_weight=16.0)
    if job.role != "vector":
        decoded, _ = as_matrix(half, transposed=job.is_transposed)
        report = judged(report, job, calibration, decoded)
    else:
        exact, kept = (its.cpu().double().numpy() for its in (weight, half))
        report = replace(report, relative_mse=relative_mse(exact, kept))
    return half, replace(report, seconds=time.perf_counter() - start)


def cost_of(job: Job, calibration: Calibration | None) -> Float64 | None:
    """What takes the place of the weight's Hessian, None where there is none."""
    if calibration is None or job.name not in calibration:
        return None
    return calibration.cost(job.name)


def judged(
    report: TensorReport,
    job: Job,
    calibration: Calibration | None,
    decoded: NDArray[np.float32],
) -> TensorReport:
    """The report with the errors of what was decoded, (R, C)."""
    matrix, _ = as_matrix(job.weight, transposed=job.is_transposed)
    error = None
    if calibration is not None and job.name in calibration:
        error = calibration.error(job.name, matrix.astype(np.float64) - decoded)
    return replace(report, relative_mse=relative_mse(matrix, decoded), error=error)


def with_share(report: TensorReport, whole: float) -> TensorReport:
    """The report with its share of the whole error, if it has an error and there is one."""
    if report.error is None or not whole:
        return report
    return replace(report, share=report.error / whole)
