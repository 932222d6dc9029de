"""Recipes: which quantizer each tensor of a model gets, chosen by name or given as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from quant.base.config import Config, check_choice, find_kind, kind_names
from quant.models.parameters import ROLES
from quant.quantizers.gptq import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.residual import ResidualConfig
from quant.quantizers.scalar import ScalarConfig

KEEP, HALF = "keep", "float16"
EVERYTHING = "*"  # pattern of all names


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How to quantize the tensors of some names and roles.

    Attributes
    ----------
    use : Config, "keep" or "float16"
        The quantizer; or keep the tensor unchanged; or round it to float16.
    names : str
        Pattern that a name of the tensor must match, as in `fnmatch`: ``*.mlp.*``. A tied tensor
        answers to all its names.
    role : "any", or one of `quant.models.parameters.ROLES`
        Role that a tensor must have. "any" is any role but "vector"; an "elementwise" tensor only
        if the last part of `names` spells it, as ``*.A_log`` does and ``*.mixer.*`` does not.
    """

    use: Config | str
    names: str = EVERYTHING
    role: str = "any"

    def __post_init__(self) -> None:
        check_choice(self.role, "role", ("any", *ROLES))
        if type(self.names) is not str:
            raise ValueError(f"names must be a pattern, got {self.names!r}; * matches all names")
        if not isinstance(self.use, Config):
            check_choice(self.use, "use", (KEEP, HALF))
        elif self.role == "vector":
            raise ValueError(
                f"use must be keep or float16 for vectors, got {self.use}; only matrices are "
                "quantized"
            )

    def matches(self, names: tuple[str, ...], role: str) -> bool:
        """Whether the rule applies to a tensor of these names and this role."""
        has_role = role == self.role
        if self.role == "any":
            last = self.names.rpartition(".")[2]
            is_spelled = any(letter.isalnum() for letter in last)
            has_role = role != "vector" and (role != "elementwise" or is_spelled)
        return has_role and self.has_name(names)

    def has_name(self, names: tuple[str, ...]) -> bool:
        """Whether one of the names of a tensor is that of the rule."""
        return any(fnmatchcase(name, self.names) for name in names)

    def to_json(self) -> dict[str, Any]:
        """Dict for JSON."""
        use = self.use.to_json() if isinstance(self.use, Config) else self.use
        return {"names": self.names, "role": self.role, "use": use}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Rules for the tensors of a model; the first rule that matches a tensor applies.

    A tensor that no rule matches is kept unchanged.

    Attributes
    ----------
    name : str
    rules : tuple of Rule
    sequential : bool
        Whether weights that need a Hessian are quantized in the order of use, each calibrated on
        the activations of the partly quantized model, so that a weight compensates the errors of
        the weights before it (``true_sequential`` elsewhere). It takes further passes over the
        calibration batches; see `quant.models.sequential`.
    """

    name: str
    rules: tuple[Rule, ...]
    sequential: bool = False

    def __post_init__(self) -> None:
        if type(self.sequential) is not bool:
            raise ValueError(
                f"sequential must be True or False, got {self.sequential!r}; correct it"
            )

    def rule_for(self, names: tuple[str, ...], role: str) -> Rule | None:
        """The first rule that matches a parameter of these names, or None."""
        return next((rule for rule in self.rules if rule.matches(names, role)), None)

    def config_for(self, names: tuple[str, ...], role: str) -> Config | str:
        """`Rule.use` of the first rule that matches a parameter, or "keep"."""
        rule = self.rule_for(names, role)
        return KEEP if rule is None else rule.use

    def to_json(self) -> dict[str, Any]:
        """Dict for JSON."""
        rules = [rule.to_json() for rule in self.rules]
        return {"name": self.name, "sequential": self.sequential, "rules": rules}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """Recipe of a dict that was read from JSON or TOML.

        ``{"name": ..., "rules": [{"names": "*.mlp.*", "role": "matrix", "use": {"kind": "scalar",
        "bits": 6}}, ...]}``. sequential, names, role, and the fields of a configuration have
        defaults.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a value is invalid.
        """
        check_keys(values, "a recipe", {"name", "rules"}, {"name", "rules", "sequential"})
        if not isinstance(values["rules"], Sequence) or isinstance(values["rules"], str):
            raise ValueError(f"rules must be a list, got {values['rules']!r}; correct it")
        rules = []
        for rule in values["rules"]:
            check_keys(rule, "a rule", {"use"}, {"names", "role", "use"})
            use = rule["use"]
            use = config_from_json(use) if isinstance(use, Mapping) else use
            rules.append(Rule(**dict(rule) | {"use": use}))
        return cls(
            name=str(values["name"]),
            rules=tuple(rules),
            sequential=values.get("sequential", False),
        )


def config_from_json(values: Mapping[str, Any]) -> Config:
    """Configuration of a dict with its ``kind``; missing fields have their defaults."""
    cls = find_kind(values.get("kind"))
    if cls is None:
        raise ValueError(
            f"kind must be one of {kind_names()}, got {values.get('kind')!r}; correct it"
        )
    names = {field.name for field in fields(cls)}
    check_keys(values, f"a {cls.kind} configuration", {"kind"}, {"kind", *names})
    return cls(**{name: parse_nested(value) for name, value in values.items() if name != "kind"})


def parse_nested(value: Any) -> Any:
    """The value, with a configuration in the place of each dict, also in a list."""
    if isinstance(value, list | tuple):
        return tuple(map(parse_nested, value))
    return config_from_json(value) if isinstance(value, Mapping) else value


def check_keys(values: Any, what: str, required: set[str], allowed: set[str]) -> None:
    """Raise ValueError unless `values` is a dict with all required and only allowed keys."""
    is_dict = isinstance(values, Mapping)
    keys = set(values) if is_dict else set()
    if not is_dict or not required <= keys <= allowed:
        got = ", ".join(sorted(map(str, keys))) if is_dict else repr(values)
        raise ValueError(
            f"{what} must have {', '.join(sorted(required))}, and may have only "
            f"{', '.join(sorted(allowed))}, got {got}; correct it"
        )


def make_recipe(
    name: str, use: Config, embedding: Config | None = None, *, sequential: bool = False
) -> Recipe:
    """Recipe of one configuration for matrices, and optionally another for embeddings and heads."""
    others = () if embedding is None else (
        Rule(role="embedding", use=embedding), Rule(role="head", use=embedding)
    )  # fmt: skip
    return Recipe(name=name, rules=(*others, Rule(use=use)), sequential=sequential)


# The recipes int6 and gptq-int6 clip at 12.85 root mean squares of a row (SDClip); all others
# cover the largest weight of a row, or the range of the least squared error.
INT8, INT6 = ScalarConfig(bits=8), ScalarConfig(clip="sd:12.85")
INT4 = ScalarConfig(bits=4, clip="mse")
INT4_GROUP = ScalarConfig(bits=4, per="group", group_size=32, clip="mse", scale_dtype="float16")
NF4 = LloydMaxConfig(table="nf4", group_size=64, scale_dtype="float16")
PRODUCT4 = ProductConfig(dim=4)


def sequential_gptq(inner: ScalarConfig) -> GptqConfig:
    """GPTQ for sequential calibration, with passes of coordinate descent after the solver.

    The damping is the largest in common use: activations of a partly quantized model deserve less
    trust.
    """
    return GptqConfig(inner=inner, damp=0.1, n_passes=4)


def sequential_recipe(
    name: str, inner: ScalarConfig, embedding: ScalarConfig | None = None
) -> Recipe:
    """Sequential recipe of `sequential_gptq` on the given grids."""
    other = None if embedding is None else sequential_gptq(embedding)
    return make_recipe(name, sequential_gptq(inner), other, sequential=True)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        make_recipe("int8", INT8),
        make_recipe("int6", INT6),
        make_recipe("int4", INT4),
        make_recipe("int4-group", INT4_GROUP),
        sequential_recipe("gptq-int8", INT8),
        sequential_recipe("gptq-int6", INT6),
        sequential_recipe("gptq-int6+int8-embed", INT6, ScalarConfig(bits=8, clip="sd:20")),
        sequential_recipe("gptq-int4", INT4),
        sequential_recipe("gptq-int4-group", INT4_GROUP),
        make_recipe("lloyd-4bit", LloydMaxConfig()),
        make_recipe("nf4", NF4),
        make_recipe("residual", ResidualConfig(stages=(PRODUCT4, PRODUCT4))),
        make_recipe("pq", ProductConfig(dim=2)),
    )
}


def find_recipe(recipe: "Recipe | str | Mapping[str, Any]") -> Recipe:
    """The recipe itself, of a name in `RECIPES`, or of a dict; ValueError if it is none."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.from_json(recipe)
    named = RECIPES.get(recipe) if isinstance(recipe, str) else None
    if named is None:
        raise ValueError(
            f"recipe must be one of {', '.join(RECIPES)}, or a dict of rules, got {recipe!r}; "
            "correct it"
        )
    return named
