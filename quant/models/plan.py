"""How each tensor of a model is to be quantized, and in which order."""

from typing import TYPE_CHECKING, Any, NamedTuple

from quant.base.config import Config
from quant.calibration.calibrate import Calibration
from quant.models.parameters import aliases_of, roles_of, state_of, transposed_names
from quant.models.recipe import KEEP, Recipe
from quant.quantizers.gptq import GptqConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

BUFFER = "buffer"


class Job(NamedTuple):
    """One tensor of the model's state, and how it is to be quantized.

    Attributes
    ----------
    name : str
    weight : tensor
    role : str
        As in `quant.models.parameters`, or "buffer".
    config : Config, "keep" or "float16"
    is_transposed : bool
        Whether the weight is stored (in, out).
    step : int >= 0
        Jobs run in the order of their steps; those of one step in the order of the state.
    input_group : tuple of str
        Weights with the same inputs, if the weight is to be calibrated on the inputs that the
        weights quantized before it produce; else empty.
    """

    name: str
    weight: "Tensor"
    role: str
    config: Config | str
    is_transposed: bool
    step: int = 0
    input_group: tuple[str, ...] = ()


def plan(model: "nn.Module", recipe: Recipe) -> tuple[list[Job], dict[str, str]]:
    """(a job for each tensor of the state, tied tensors once; first names of tied tensors)."""
    roles, transposed = roles_of(model), transposed_names(model)
    state = state_of(model)
    aliases = aliases_of(state)
    jobs = []
    for name, weight in state.items():
        if name in aliases:
            continue
        role = roles.get(name, BUFFER)
        is_quantized = role != BUFFER and weight.is_floating_point()
        config = recipe.config_for(name, role) if is_quantized else KEEP
        jobs.append(Job(name, weight, role, config, name in transposed))
    return jobs, aliases


def with_calibration(job: Job, calibration: Calibration, is_sequential: bool) -> Job:
    """The job with its step, input group and orientation, as calibration recorded them.

    GPTQ of an embedding that has no Hessian becomes rounding on the same grid.

    Raises
    ------
    ValueError
        If any other weight needs a Hessian and has none.
    """
    config = job.config
    if job.name in calibration:
        job = job._replace(is_transposed=calibration.is_transposed(job.name))
        if not is_sequential:
            return job._replace(step=step_of(job.name, calibration.passes))
        step = step_of(job.name, calibration.input_groups)
        if step == 0 or job.role == "embedding":  # looked up first, also if tied to the head
            return job
        is_compensated = isinstance(config, Config) and config.needs_hessian
        group = calibration.input_groups[step - 1] if is_compensated else ()
        return job._replace(step=step, input_group=group)
    if isinstance(config, Config):
        config = without_gptq(config) if job.role == "embedding" else config
        if config.needs_hessian:
            calibration.check_reached(job.name)
    return job._replace(config=config)


def step_of(name: str, groups: tuple[tuple[str, ...], ...]) -> int:
    """Index, from 1, of the group that contains the name; 0 if none does."""
    return next((i for i, group in enumerate(groups, start=1) if name in group), 0)


def without_gptq(config: Config) -> Config:
    """The configuration of the grid that GPTQ rounds to; any other configuration unchanged."""
    inner: Any = config.inner if isinstance(config, GptqConfig) else config
    return inner  # type: ignore[no-any-return]
