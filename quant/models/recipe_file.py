"""Recipes in files that people write: TOML, or JSON."""

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ngrammix.atomic import replaced, target_of
from ngrammix.reading import read_table
from quant.base.config import Config, short
from quant.models.named_quantizers import QUANTIZERS
from quant.models.named_recipes import RECIPES
from quant.models.recipe import EVERYTHING, Recipe, Rule, hint

SUFFIXES = (".toml", ".json")


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """The recipe of a TOML file, or of a file ``.json``, that holds what `Recipe.from_json` takes.

    Raises
    ------
    ValueError
        If the file is missing, larger than 1 MiB or not TOML or JSON, a key is missing or unknown,
        or a value is invalid. The text has the file and the number of the rule.
    """
    path = Path(path)
    values = read_table(path, "a recipe", is_json=path.suffix.lower() == ".json")
    try:
        return Recipe.from_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_recipe(path: str | os.PathLike[str], recipe: Recipe) -> None:
    """Save a recipe as TOML, or as JSON if the path ends in ``.json``; `load_recipe` reads it.

    The TOML leaves out what is a default, and names quantizers that have a name.
    """
    path = Path(path)
    is_json = path.suffix.lower() == ".json"
    text = json.dumps(recipe.to_json(), indent=2) + "\n" if is_json else to_toml(recipe)
    with replaced(target_of(path), "a recipe") as file:
        file.write(text.encode())


def to_toml(recipe: Recipe) -> str:
    """The text of a recipe in TOML."""
    lines = [f"name = {toml(recipe.name)}", f"sequential = {toml(recipe.sequential)}"]
    lines += [] if recipe.rules else ["rules = []"]
    for key, rules in (("overrides", recipe.overrides), ("rules", recipe.rules)):
        for rule in rules:
            lines += ["", f"[[{key}]]", *rule_lines(rule)]
    return "\n".join([*lines, ""])


def rule_lines(rule: Rule) -> list[str]:
    """The lines of a rule: the keys that are not defaults."""
    values = {"names": rule.names, "role": rule.role}
    defaults = {"names": EVERYTHING, "role": "any"}
    lines = [f"{key} = {toml(v)}" for key, v in values.items() if v != defaults[key]]
    names = (name for name, use in QUANTIZERS.items() if use == rule.use)
    return [*lines, f"use = {toml(next(names, rule.use))}"]


def toml(value: Any) -> str:
    """A value in TOML: text, a number, a truth value, a list, or a configuration as a table."""
    if isinstance(value, Config):
        pairs = [f"kind = {toml(value.kind)}"]
        for field in fields(value):
            setting = getattr(value, field.name)
            if field.default is MISSING or setting != field.default:
                pairs.append(f"{field.name} = {toml(setting)}")
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def find_recipe(recipe: "Recipe | str | os.PathLike[str] | Mapping[str, Any]") -> Recipe:
    """The recipe itself, of a name in `RECIPES`, of a file, or of a dict.

    ValueError if it is none.
    """
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.from_json(recipe)
    if isinstance(recipe, str) and recipe in RECIPES:
        return RECIPES[recipe]
    if is_file(recipe):
        return load_recipe(recipe)
    raise ValueError(
        f"recipe must be one of {', '.join(RECIPES)}, a file .toml or .json, or a dict of rules, "
        f"got {short(recipe)}; {hint(recipe, RECIPES)}"
    )


def is_file(recipe: object) -> bool:
    """Whether a recipe is given as a file: by a suffix, or since there is a file of that name."""
    if isinstance(recipe, os.PathLike):
        return True
    if not isinstance(recipe, str):
        return False
    # pathlib's question raises if the name is too long.
    return recipe.lower().endswith(SUFFIXES) or os.path.isfile(recipe)  # noqa: PTH113
