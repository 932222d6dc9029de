"""Recipes: which quantizer each tensor of a model gets, by a name or as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

from quant.base.config import Config, check_choice
from quant.models.parameters import ROLES
from quant.quantizers.gptq_config import GptqConfig
from quant.quantizers.lloyd_max import LloydMaxConfig
from quant.quantizers.product import ProductConfig
from quant.quantizers.residual import ResidualConfig
from quant.quantizers.scalar import ScalarConfig

KEEP, HALF = "keep", "float16"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What becomes of the tensors that a rule is about.

    Attributes
    ----------
    use : Config, "keep" or "float16"
        How they are quantized; or as they are; or rounded to float16.
    names : str
        Pattern of their names, as of files: ``*.mlp.*``.
    role : "any", or one of `quant.models.parameters.ROLES`
        Any but a vector, or this one.
    """

    use: Config | str
    names: str = "*"
    role: str = "any"

    def __post_init__(self) -> None:
        check_choice(self.role, "role", ("any", *ROLES))
        if type(self.names) is not str:
            raise ValueError(f"names must be a pattern, got {self.names!r}; * is for all")
        if not isinstance(self.use, Config):
            check_choice(self.use, "use", (KEEP, HALF))
        elif self.role == "vector":
            raise ValueError(
                f"vectors must be kept or float16, got {self.use}; only matrices are quantized"
            )

    def takes(self, name: str, role: str) -> bool:
        """Whether the rule is about a tensor of this name and role."""
        is_its_role = role != "vector" if self.role == "any" else role == self.role
        return is_its_role and fnmatchcase(name, self.names)

    def to_json(self) -> dict[str, Any]:
        """Object for JSON."""
        use = self.use.to_json() if isinstance(self.use, Config) else self.use
        return {"names": self.names, "role": self.role, "use": use}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Rules, the first of which that takes a tensor applies; what none takes is kept as it is.

    Attributes
    ----------
    name : str
    rules : tuple of Rule
    sequential : bool
        Whether what needs a Hessian is quantized in the order of use, each weight for the inputs
        that it meets by then, so that it makes good the errors before it. A pass
        over the calibration for every input of the model's layers, twice.
    """

    name: str
    rules: tuple[Rule, ...]
    sequential: bool = False

    def __post_init__(self) -> None:
        if type(self.sequential) is not bool:
            raise ValueError(
                f"sequential must be True or False, got {self.sequential!r}; correct it"
            )

    def use(self, name: str, role: str) -> Config | str:
        """What becomes of a parameter of this name and role."""
        return next((rule.use for rule in self.rules if rule.takes(name, role)), KEEP)

    def to_json(self) -> dict[str, Any]:
        """Object for JSON."""
        rules = [rule.to_json() for rule in self.rules]
        return {"name": self.name, "sequential": self.sequential, "rules": rules}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """The recipe that JSON or TOML describes.

        ``{"name": ..., "rules": [{"names": "*.mlp.*", "role": "matrix", "use": {"kind": "scalar",
        "bits": 6}}, ...]}``; sequential, names, role, and the fields of a configuration have
        defaults. Raises ValueError if it is anything else.
        """
        check_keys(values, "a recipe", {"name", "rules"}, {"name", "rules", "sequential"})
        rules = values["rules"]
        if not isinstance(rules, Sequence) or isinstance(rules, str):
            raise ValueError(f"rules must be a list, got {rules!r}; correct it")
        made = []
        for rule in rules:
            check_keys(rule, "a rule", {"use"}, {"names", "role", "use"})
            use = rule["use"]
            made.append(Rule(**dict(rule) | {"use": make(use) if is_object(use) else use}))
        return cls(
            name=str(values["name"]),
            rules=tuple(made),
            sequential=values.get("sequential", False),
        )


def make(values: Mapping[str, Any]) -> Config:
    """The configuration that an object describes; fields that it lacks are as by default."""
    known = Config.kinds.get(str(values.get("kind")))
    if known is None:
        raise ValueError(
            f"kind must be one of {', '.join(sorted(Config.kinds))}, got {values.get('kind')!r}; "
            "correct it"
        )
    names = {its.name for its in fields(known)}
    check_keys(values, f"a {known.kind} configuration", {"kind"}, {"kind", *names})
    given = {name: nested(value) for name, value in values.items() if name != "kind"}
    return known(**given)


def nested(value: Any) -> Any:
    """A configuration in place of an object, in a list too."""
    if isinstance(value, list | tuple):
        return tuple(map(nested, value))
    return make(value) if is_object(value) else value


def is_object(value: Any) -> bool:
    """Whether it is an object of JSON, or a table of TOML."""
    return isinstance(value, Mapping)


def check_keys(values: Any, what: str, needed: set[str], allowed: set[str]) -> None:
    """Raise ValueError unless it is an object with keys `needed`, and others of `allowed`."""
    keys = set(values) if is_object(values) else set()
    if not is_object(values) or not needed <= keys <= allowed:
        got = ", ".join(sorted(map(str, keys))) if is_object(values) else repr(values)
        raise ValueError(
            f"{what} must have {', '.join(sorted(needed))}, and may have only "
            f"{', '.join(sorted(allowed))}, got {got}; correct it"
        )


def plain(
    name: str, use: Config, embedding: Config | None = None, *, sequential: bool = False
) -> Recipe:
    """A recipe: one configuration for matrices, another, if given, for embeddings and heads."""
    others = () if embedding is None else (
        Rule(role="embedding", use=embedding), Rule(role="head", use=embedding)
    )  # fmt: skip
    return Recipe(name=name, rules=(*others, Rule(use=use)), sequential=sequential)


INT8, INT6 = ScalarConfig(bits=8), ScalarConfig(clip="sd:12.85")
INT4 = ScalarConfig(bits=4, clip="mse")
INT4_GROUP = ScalarConfig(bits=4, per="group", group_size=32, clip="mse", scale_dtype="float16")
NF4 = LloydMaxConfig(table="nf4", group_size=64, scale_dtype="float16")
FOURS = ProductConfig(dim=4)


def gptq_of(inner: ScalarConfig) -> GptqConfig:
    """GPTQ for weights in turn, with sweeps after the walk.

    The damping is the largest in use: inputs that have moved are worth less trust.
    """
    return GptqConfig(inner=inner, damp=0.1, n_passes=4)


def in_turn(name: str, inner: ScalarConfig, embedding: ScalarConfig | None = None) -> Recipe:
    """GPTQ at its best: `gptq_of` each, weights in turn."""
    other = None if embedding is None else gptq_of(embedding)
    return plain(name, gptq_of(inner), other, sequential=True)


RECIPES = {
    recipe.name: recipe
    for recipe in (
        plain("int8", INT8),
        plain("int6", INT6),
        plain("int4", INT4),
        plain("int4-group", INT4_GROUP),
        in_turn("gptq-int8", INT8),
        in_turn("gptq-int6", INT6),
        in_turn("gptq-int6+int8-embed", INT6, ScalarConfig(bits=8, clip="sd:20")),
        in_turn("gptq-int4", INT4),
        in_turn("gptq-int4-group", INT4_GROUP),
        plain("lloyd-4bit", LloydMaxConfig()),
        plain("nf4", NF4),
        plain("residual", ResidualConfig(stages=(FOURS, FOURS))),
        plain("pq", ProductConfig(dim=2)),
    )
}


def find_recipe(recipe: "Recipe | str | Mapping[str, Any]") -> Recipe:
    """The recipe, or that of this name, or what the data describe; ValueError if it is none."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, Mapping):
        return Recipe.from_json(recipe)
    found = RECIPES.get(recipe) if isinstance(recipe, str) else None
    if found is None:
        raise ValueError(
            f"recipe must be one of {', '.join(RECIPES)}, or rules, got {recipe!r}; correct it"
        )
    return found
