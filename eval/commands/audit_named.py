"""What the jobs of an audit share: functions that options name, and further options."""

from collections.abc import Callable, Mapping
from typing import Any

from eval.config import RunConfig, make_config
from eval.models.named import Role, find_named

Task = Callable[[], dict[str, Any]]  # what a job does once all is loaded; returns its outcome
ROLES = {
    "scorer": Role(
        "a scorer", "a scorer", "function", "name a function from ids (n,) to nats (n,)"
    ),
    "probs": Role(
        "probs", "probs", "function", "name a function from a prefix to probabilities (V,)"
    ),
    "stepper": Role(
        "a stepper", "a stepper", "factory",
        "name a function that returns a scorer with probs() and commit(token)",
    ),
}  # fmt: skip
SEARCH = {"seed": "seed", "budget": "budget_seconds", "positions": "n_positions"}


def function_of(job: Mapping[str, Any], name: str) -> Callable[..., Any] | None:
    """The function of --scorer, --probs or --stepper; None if it is left out."""
    return find_named(job[name], ROLES[name]) if name in job else None


def search(job: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Options of the search, as arguments of an audit; all of them, or the named ones."""
    return {SEARCH[key]: job[key] for key in names or SEARCH if key in job}


def config_of(job: Mapping[str, Any]) -> RunConfig:
    """The options of ``score`` that a job has; its own have other meanings for some names."""
    own = ("tokens", "format", "out", "overwrite", "log", "limit")
    return make_config(RunConfig, {k: v for k, v in job.items() if k not in own})
