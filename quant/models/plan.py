"""What is to become of each tensor of a model, and in which order."""

from typing import TYPE_CHECKING, Any, NamedTuple

from quant.base.config import Config
from quant.calibration.calibrate import Calibration
from quant.models.parameters import aliases_of, roles_of, state_of, transposed_names
from quant.models.recipe import KEEP, Recipe
from quant.quantizers.gptq_config import GptqConfig
from quant.quantizers.quantize import needs_hessian

if TYPE_CHECKING:
    from torch import Tensor, nn

BUFFER = "buffer"


class Job(NamedTuple):
    """A tensor of the state, and what is to become of it.

    `place` is when its turn comes; `flow` are the weights that take in what it does, if it waits
    for those before to be quantized.
    """

    name: str
    weight: "Tensor"
    role: str
    use: Config | str
    is_transposed: bool
    place: int = 0
    flow: tuple[str, ...] = ()


def plan(model: "nn.Module", recipe: Recipe) -> list[Job]:
    """A job for each tensor of the state, in its order, tied ones once."""
    roles, transposed = roles_of(model), transposed_names(model)
    state = state_of(model)
    aliases = aliases_of(state)
    jobs = []
    for name, weight in state.items():
        if name in aliases:
            continue
        role = roles.get(name, BUFFER)
        is_quantized = role != BUFFER and weight.is_floating_point()
        use = recipe.use(name, role) if is_quantized else KEEP
        jobs.append(Job(name, weight, role, use, name in transposed))
    return jobs


def aimed(job: Job, calibration: Calibration, is_sequential: bool) -> Job:
    """The job, as calibration found the weight to be used.

    ValueError if it needs a Hessian and has none, but for GPTQ of an embedding.
    """
    use = job.use
    if job.name in calibration:
        job = job._replace(is_transposed=calibration.is_transposed(job.name))
        if not is_sequential:
            return job._replace(place=place_in(calibration.groups, job.name))
        place = place_in(calibration.flows, job.name)
        if place == 0 or job.role == "embedding":  # comes first, also if it is the head as well
            return job
        waits = isinstance(use, Config) and needs_hessian(use)
        return job._replace(place=place, flow=calibration.flows[place - 1] if waits else ())
    if isinstance(use, Config):
        use = without_gptq(use) if job.role == "embedding" else use
        if needs_hessian(use):
            calibration.check(job.name)
    return job._replace(use=use)


def place_in(groups: tuple[tuple[str, ...], ...], name: str) -> int:
    """Which group has the name, counted from 1; 0 if none."""
    return next((i for i, group in enumerate(groups, start=1) if name in group), 0)


def without_gptq(use: Config) -> Config:
    """The configuration whose grid GPTQ would use, or as it is."""
    inner: Any = use.inner if isinstance(use, GptqConfig) else use
    return inner  # type: ignore[no-any-return]
