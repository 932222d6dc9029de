"""Calibrate a model for recipes: what they use, in little memory."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from quant.calibration.calibrate import calibrate_sparingly
from quant.calibration.calibration import Calibration
from quant.models.plan import needs_fisher, plan
from quant.models.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn


def calibrate_for_recipes(
    model: "nn.Module",
    batches: list[Any],
    recipes: Iterable[Recipe],
    *,
    seed: int = 0,
    memory_limit: int | str | None = None,
    progress: bool = False,
) -> Calibration:
    """Calibration with Fisher information if a recipe uses it, and if the model allows it.

    Hessians that sequential calibration collects when their turn comes are postponed.

    Parameters
    ----------
    model, batches, seed, memory_limit, progress : as in `calibrate`
        The limit is half the model by default.
    recipes : iterable of Recipe
    """
    from quant.calibration.model_call import FisherError

    recipes = list(recipes)
    options: dict[str, Any] = {
        "postponed": postponed_by(model, recipes), "seed": seed, "memory_limit": memory_limit,
        "progress": progress,
    }  # fmt: skip
    if not use_fisher(model, recipes):
        return calibrate_sparingly(model, batches, **options)
    try:
        return calibrate_sparingly(model, batches, fisher=True, **options)
    except FisherError as error:
        calibration = calibrate_sparingly(model, batches, **options)
        calibration.settings["fisher"] = True  # as the next run will ask, too
        calibration.no_fisher = f"no Fisher information: {error}"
        return calibration


def use_fisher(model: "nn.Module", recipes: Iterable[Recipe]) -> bool:
    """Whether a recipe uses Fisher information."""
    return any(needs_fisher(plan(model, recipe, is_final=False)[0]) for recipe in recipes)


def postponed_by(model: "nn.Module", recipes: Iterable[Recipe]) -> set[str]:
    """Weights whose Hessians sequential recipes need, and no other recipe."""
    needed: dict[bool, set[str]] = {True: set(), False: set()}
    for recipe in recipes:
        jobs, _ = plan(model, recipe, is_final=False)
        names = (job.name for job in jobs if job.needs_hessian and job.role != "embedding")
        needed[recipe.sequential].update(names)
    return needed[True] - needed[False]
