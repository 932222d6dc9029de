"""The recipes of --recipe, with the rules of --keep and --rule before theirs."""

from collections.abc import Iterator

from eval.config import QuantizeConfig
from quant.models.recipe import KEEP, Recipe, Rule
from quant.models.recipe_file import find_recipe


def recipes_of(config: QuantizeConfig) -> list[Recipe]:
    """The recipes of a configuration; ValueError if one or a rule is wrong, or a name comes twice.

    --keep comes before --rule: what is to be kept is kept.
    """
    uses = dict(overrides_of(config))
    if len(uses) < len(config.keep) + len(config.rule):
        names = [names for names, _ in overrides_of(config)]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(
            f"--keep and --rule must have a pattern once, got {twice!r} twice; leave one out"
        )
    recipes = [find_recipe(recipe).override(uses) for recipe in config.recipe]
    files = [recipe.name.casefold() for recipe in recipes]  # as file systems may compare them
    for i, recipe in enumerate(recipes):
        if files[i] in files[:i]:
            raise ValueError(
                f"recipes must have different names, got {recipe.name} twice; files are called "
                "after them"
            )
    return recipes


def overrides_of(config: QuantizeConfig) -> Iterator[tuple[str, str]]:
    """(pattern, what to use) of each value of --keep and --rule; ValueError if one is wrong."""
    for pattern in config.keep:
        yield checked(pattern, KEEP, f"--keep {pattern}")
    for text in config.rule:
        names, equals, use = text.rpartition("=")
        if not equals:
            raise ValueError(
                f"--rule must be PATTERN=QUANTIZER, such as lm_head=int8, got {text!r}; correct it"
            )
        yield checked(names.strip(), use.strip(), f"--rule {text}")


def checked(names: str, use: str, option: str) -> tuple[str, str]:
    """The pattern and what to use; ValueError, which names the option, if they are wrong."""
    try:
        Rule(names=names, use=use)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error
    return names, use
