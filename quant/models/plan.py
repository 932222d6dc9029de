"""How each tensor of a model is to be quantized, and in which order."""

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from quant.base.config import Config
from quant.base.matrix import DTYPES, ROWS_FIRST, Axes
from quant.calibration.calibration import Calibration
from quant.io.records import RAW_DTYPES
from quant.models.parameters import aliases_of, axes_of, roles_of, state_of
from quant.models.recipe import EVERYTHING, KEEP, Recipe
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.scalar import ScalarConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

BUFFER = "buffer"
UNSEEN = "rounded to nearest: calibration saw no matrix product with it"
NO_INPUTS = "rounded to nearest: all its inputs were 0, or it had none"
SIDES = "rounded to nearest: it is multiplied along different axes"
PLAIN_DTYPE = "kept: it is {}, which quantizers do not take"


class Job(NamedTuple):
    """One tensor of the model's state, and how it is to be quantized.

    Attributes
    ----------
    name : str
    names : tuple of str
        All names of a tied tensor.
    weight : tensor
    role : str
        As in `quant.models.parameters`, or "buffer".
    config : Config, "keep" or "float16"
    axes : Axes
        Which axes of the weight are rows.
    step : int >= 0
        Jobs run in the order of their steps; those of one step in the order of the state.
    input_group : tuple of str
        Weights with the same inputs, if the weight is to be calibrated on the inputs that the
        weights quantized before it produce; else empty.
    is_uncalibrated : bool
        Whether the recipe's quantizer needs a Hessian that there is not.
    notes : tuple of str
        Deviations from what the recipe says.
    """

    name: str
    names: tuple[str, ...]
    weight: "Tensor"
    role: str
    config: Config | str
    axes: Axes = ROWS_FIRST
    step: int = 0
    input_group: tuple[str, ...] = ()
    is_uncalibrated: bool = False
    notes: tuple[str, ...] = ()

    @property
    def needs_hessian(self) -> bool:
        """Whether the quantizer needs a Hessian."""
        return isinstance(self.config, Config) and self.config.needs_hessian


def plan(
    model: "nn.Module",
    recipe: Recipe,
    calibration: Calibration | None = None,
    *,
    is_final: bool = True,
) -> tuple[list[Job], dict[str, str]]:
    """(a job for each tensor of the state, tied tensors once; first names of tied tensors).

    A plan that is not final comes before the calibration that tells the roles.

    Raises
    ------
    ValueError
        If a rule that names tensors takes none, or a tensor has a dtype that no file holds.
    """
    roles, axes = roles_of(model, calibration), axes_of(model)
    state = state_of(model)
    check_dtypes(state)
    aliases = aliases_of(state)
    jobs = []
    for name, weight in state.items():
        if name in aliases:
            continue
        names = (name, *(other for other, first in aliases.items() if first == name))
        role = roles.get(name, BUFFER)
        job = Job(name, names, weight, role, KEEP, axes.get(name, ROWS_FIRST))
        if role != BUFFER:
            dtype = str(weight.dtype).removeprefix("torch.")
            config = recipe.config_for(names, role)
            is_plain = dtype in DTYPES or config == KEEP
            job = job._replace(config=config if is_plain else KEEP)
            if not is_plain and (weight.is_floating_point() or weight.is_complex()):
                job = job._replace(notes=(PLAIN_DTYPE.format(dtype),))
        jobs.append(job)
    tensors = [(job.names, job.role) for job in jobs if job.role != BUFFER]
    check_rules(recipe, tensors, has_roles=is_final)
    return jobs, aliases


def needs_fisher(jobs: Iterable[Job]) -> bool:
    """Whether a job uses Fisher information: GPTQ of an embedding, whose rows are looked up."""
    return any(job.needs_hessian and job.role == "embedding" for job in jobs)


def check_dtypes(state: "dict[str, Tensor]") -> None:
    """Raise ValueError if a tensor has a dtype or a layout that no file holds."""
    for name, tensor in state.items():
        dtype, layout = (str(x).removeprefix("torch.") for x in (tensor.dtype, tensor.layout))
        if dtype not in RAW_DTYPES or layout != "strided" or tensor.is_quantized:
            raise ValueError(
                f"{name} must be a dense tensor of a plain dtype, got {dtype}, {layout}; "
                "dequantize or convert it first"
            )


def check_rules(
    recipe: Recipe, tensors: list[tuple[tuple[str, ...], str]], *, has_roles: bool
) -> None:
    """Raise ValueError if a rule that names tensors takes none of them.

    tensors: (names, role) of each parameter. Without roles, only names are looked at.
    """
    base = replace(recipe, overrides=())  # whose rules overrides may leave without a tensor
    used = {id(each.rule_for(*tensor)) for each in (recipe, base) for tensor in tensors}
    every = [name for names, _ in tensors for name in names]
    for rule in (*recipe.overrides, *recipe.rules):
        if rule.names == EVERYTHING or id(rule) in used:
            continue
        matching = [(names, role) for names, role in tensors if rule.has_name(names)]
        taken = [each for each in matching if rule.matches(*each)]
        if not matching:
            got = f"no parameter has that name; {nearest(rule.names, every)}"
        elif not has_roles:
            continue
        elif not taken:
            got = f"{matching[0][0][0]} has the role {matching[0][1]}; give the rule that role"
        else:
            first = (recipe if rule in recipe.overrides else base).rule_for(*taken[0])
            before = EVERYTHING if first is None else first.names
            got = (
                f"the rule {before!r} before it takes {taken[0][0][0]}; put it before that one, or "
                "leave one out"
            )
        raise ValueError(f"a rule must take a tensor, got {rule.names!r}, which takes none: {got}")


def nearest(pattern: str, names: list[str]) -> str:
    """The end of an error: a pattern that is near and takes some of the names."""
    near = get_close_matches(pattern.strip("*"), parts_of_names(names), 1, 0.0)
    if not near:
        return "the model has no parameters"
    is_start = any(f"{name}.".startswith(f"{near[0]}.") for name in names)
    return f"did you mean {near[0] if is_start else f'*.{near[0]}'}?"


def parts_of_names(names: Iterable[str]) -> list[str]:
    """All names, and their parts between dots and up to them."""
    parts: dict[str, None] = {}
    for name in names:
        words = name.split(".")
        for start in range(len(words)):
            for stop in range(len(words), start, -1):
                parts.setdefault(".".join(words[start:stop]))
    return list(parts)


def with_calibration(job: Job, calibration: Calibration, is_sequential: bool) -> Job:
    """The job with its step, input group and axes, as calibration recorded them.

    GPTQ of a weight that has no Hessian becomes rounding on the same grid; noted, except for an
    embedding that rows are looked up in.
    """
    if job.name in calibration:
        job = job._replace(axes=calibration.axes(job.name))
        if not is_sequential:
            return job._replace(step=step_of(job.name, calibration.passes))
        step = step_of(job.name, calibration.input_groups)
        if step == 0 or job.role == "embedding":  # looked up first, also if tied to the head
            return job
        group = calibration.input_groups[step - 1] if job.needs_hessian else ()
        return job._replace(step=step, input_group=group)
    if not job.needs_hessian:
        return job
    assert isinstance(job.config, Config)
    job = job._replace(config=without_hessian(job.config))
    if job.role == "embedding" and job.name in calibration.looked_up:
        return job
    note = SIDES if job.name in calibration.two_sided else UNSEEN
    return job._replace(notes=(*job.notes, note), is_uncalibrated=True)


def step_of(name: str, groups: tuple[tuple[str, ...], ...]) -> int:
    """Index, from 1, of the group that contains the name; 0 if none does."""
    return next((i for i, group in enumerate(groups, start=1) if name in group), 0)


def without_hessian(config: Config) -> Config:
    """The configuration of the grid that GPTQ rounds to, fitted without a Hessian."""
    inner: Any = config.inner if isinstance(config, GptqConfig) else config
    if isinstance(inner, ScalarConfig) and inner.needs_hessian:
        inner = replace(inner, clip="mse")
    return inner  # type: ignore[no-any-return]
