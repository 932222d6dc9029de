"""Recipes: which quantizer each tensor of a model gets, chosen by name or given as data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from quant.base.config import Config, check_bool, check_choice, find_kind, kind_names, short
from quant.models.named_quantizers import QUANTIZERS, SEQUENTIAL
from quant.models.parameters import ROLES

KEEP, HALF = "keep", "float16"
EVERYTHING = "*"  # pattern of all names
MAX_PATTERN = 1000  # characters
MAX_RULES = 10_000
MAX_NAME = 200  # bytes: a file is called after its recipe
MAX_DEPTH = 4  # of configurations within configurations


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How to quantize the tensors of some names and roles.

    Attributes
    ----------
    use : Config, or str
        The quantizer; or its name, such as "int8", see `quant.RECIPES`. "keep" keeps the tensor
        unchanged, "float16" rounds it to float16.
    names : str
        Pattern of names, as in `fnmatch`: ``*.mlp.*``. A pattern that matches a module takes all
        tensors in it. A tied tensor answers to all its names.
    role : "any", "every", or one of `quant.models.parameters.ROLES`
        Role that a tensor must have. "any" is any role but "vector"; an "elementwise" tensor only
        if the last part of `names` spells it, as ``*.A_log`` does and ``*.mixer.*`` does not.
        "every" is truly every role, for "keep" and "float16" only.
    """

    use: Config | str
    names: str = EVERYTHING
    role: str = "any"

    def __post_init__(self) -> None:
        check_choice(self.role, "role", ("any", "every", *ROLES))
        is_pattern = type(self.names) is str and self.names.isprintable()
        if not is_pattern or not 0 < len(self.names) <= MAX_PATTERN:
            raise ValueError(
                f"names must be a pattern of 1..{MAX_PATTERN} printable characters, got "
                f"{short(self.names)}; * matches all names"
            )
        object.__setattr__(self, "use", self.use if self.use in KEPT else quantizer_of(self.use))
        if isinstance(self.use, Config) and self.role in ("vector", "every"):
            raise ValueError(
                f"use must be keep or float16 for the role {self.role}, got {self.use}; only "
                "matrices are quantized"
            )

    @property
    def needs_hessian(self) -> bool:
        """Whether the quantizer needs a Hessian."""
        return isinstance(self.use, Config) and self.use.needs_hessian

    def matches(self, names: tuple[str, ...], role: str) -> bool:
        """Whether the rule applies to a tensor of these names and this role."""
        if not self.has_name(names):
            return False
        if self.role != "any":
            return self.role in ("every", role)
        last = self.names.rpartition(".")[2]
        is_spelled = any(letter.isalnum() for letter in last) and self.spells(names)
        return role != "vector" and (role != "elementwise" or is_spelled)

    def has_name(self, names: tuple[str, ...]) -> bool:
        """Whether the pattern matches one of the names of a tensor, or a module that holds it."""
        module = f"{self.names}.*"
        return self.spells(names) or any(fnmatchcase(name, module) for name in names)

    def spells(self, names: tuple[str, ...]) -> bool:
        """Whether the pattern matches one of the names of a tensor."""
        return any(fnmatchcase(name, self.names) for name in names)

    def to_json(self) -> dict[str, Any]:
        """Dict for JSON."""
        use = self.use.to_json() if isinstance(self.use, Config) else self.use
        return {"names": self.names, "role": self.role, "use": use}


KEPT = (KEEP, HALF)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Rules for the tensors of a model; the first rule that matches a tensor applies.

    A tensor that no rule matches is kept unchanged.

    Attributes
    ----------
    name : str
        At most 200 bytes, without ``/``: files are called after it.
    rules : tuple of Rule
    sequential : bool
        Whether weights that need a Hessian are quantized in the order of use, each calibrated on
        the activations of the partly quantized model, so that a weight compensates the errors of
        the weights before it (``true_sequential`` elsewhere). It takes further passes over the
        calibration batches; see `quant.models.sequential`.
    overrides : tuple of Rule
        Rules before all others, from `override`. They may leave other rules without a tensor.
    """

    name: str
    rules: tuple[Rule, ...]
    sequential: bool = False
    overrides: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        check_bool(self.sequential, "sequential")
        check_name(self.name)
        if len(self.rules) + len(self.overrides) > MAX_RULES:
            raise ValueError(
                f"a recipe must have at most {MAX_RULES} rules, got "
                f"{len(self.rules) + len(self.overrides)}; use patterns"
            )

    @property
    def needs_hessian(self) -> bool:
        """Whether a quantizer of a rule needs a Hessian."""
        return any(rule.needs_hessian for rule in (*self.overrides, *self.rules))

    def override(self, uses: Mapping[str, Config | str]) -> "Recipe":
        """The recipe with other quantizers for some names.

        Parameters
        ----------
        uses : dict of Config or str
            What `Rule.use` takes, by the pattern of `Rule.names`; an earlier one comes first.
            "keep" and "float16" apply to tensors of every role. The name of a quantizer that is
            made for sequential calibration makes the recipe sequential, unless the recipe has a
            quantizer that needs a Hessian already.

        Raises
        ------
        ValueError
            If a quantizer is unknown, or a pattern is not a text.

        Examples
        --------
        >>> import quant
        >>> recipe = quant.RECIPES["int6"].override({"lm_head": "int8", "*norm*": "keep"})
        >>> [rule.names for rule in recipe.overrides]
        ['lm_head', '*norm*']
        """
        rules = [
            Rule(names=names, use=use, role="every" if use in KEPT else "any")
            for names, use in uses.items()
        ]
        is_sequential = not self.needs_hessian and any(map(is_sequential_name, uses.values()))
        return replace(
            self,
            overrides=(*rules, *self.overrides),
            sequential=self.sequential or is_sequential,
        )

    def rule_for(self, names: tuple[str, ...], role: str) -> Rule | None:
        """The first rule that matches a parameter of these names, or None."""
        rules = (*self.overrides, *self.rules)
        return next((rule for rule in rules if rule.matches(names, role)), None)

    def config_for(self, names: tuple[str, ...], role: str) -> Config | str:
        """`Rule.use` of the first rule that matches a parameter, or "keep"."""
        rule = self.rule_for(names, role)
        return KEEP if rule is None else rule.use

    def to_json(self) -> dict[str, Any]:
        """Dict for JSON."""
        rules, overrides = ([r.to_json() for r in part] for part in (self.rules, self.overrides))
        values = {"name": self.name, "sequential": self.sequential, "rules": rules}
        return values | ({"overrides": overrides} if overrides else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Recipe":
        """Recipe of a dict that was read from JSON or TOML.

        ``{"name": ..., "rules": [{"names": "lm_head", "use": "int8"}, {"use": {"kind": "scalar",
        "bits": 6}}, ...]}``. names, role, and the fields of a configuration have defaults.
        sequential, left out, is true if a rule uses a quantizer by the name of a sequential recipe.

        Raises
        ------
        ValueError
            If a key is missing or unknown, or a value is invalid. The text has the number of the
            rule.
        """
        check_keys(values, "a recipe", {"name", "rules"}, {"sequential", "overrides"})
        rules, is_named = read_rules(values["rules"], "rule")
        overrides, _ = read_rules(values.get("overrides", ()), "override")
        sequential = values.get("sequential", is_named)
        return cls(name=values["name"], rules=rules, sequential=sequential, overrides=overrides)


def check_name(name: object) -> None:
    """Raise ValueError unless the name of a recipe can be part of the name of a file."""
    is_name = isinstance(name, str) and name.isprintable() and not set(name) & {"/", "\\"}
    if not is_name or not 0 < len(str(name).encode()) <= MAX_NAME or str(name).startswith("."):
        raise ValueError(
            f"the name of a recipe must be a text of 1..{MAX_NAME} bytes without / that does not "
            f"begin with a dot, got {short(name)}; files are called after it"
        )


def is_sequential_name(use: object) -> bool:
    """Whether `Rule.use` is the name of a quantizer of a sequential recipe."""
    return isinstance(use, str) and use in SEQUENTIAL


def quantizer_of(use: object) -> Config:
    """The configuration itself, or that of a name in `QUANTIZERS`; ValueError if it is neither."""
    if isinstance(use, Config):
        return use
    if isinstance(use, str) and use in QUANTIZERS:
        return QUANTIZERS[use]
    raise ValueError(
        f"use must be one of {', '.join((*KEPT, *QUANTIZERS))}, or the settings of a quantizer, "
        f"got {short(use)}; {hint(use, (*KEPT, *QUANTIZERS))}"
    )


def read_rules(values: object, what: str) -> tuple[tuple[Rule, ...], bool]:
    """(rules of a list of dicts, whether one uses a quantizer by the name of a sequential one)."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ValueError(f"{what}s must be a list, got {short(values)}; correct it")
    rules, is_named = [], False
    for i, value in enumerate(values, start=1):
        try:
            check_keys(value, "a rule", {"use"}, {"names", "role"})
            use = value["use"]
            is_named |= is_sequential_name(use)
            use = config_from_json(use) if isinstance(use, Mapping) else use
            rules.append(Rule(**dict(value) | {"use": use}))
        except ValueError as error:
            raise ValueError(f"{what} {i}: {error}") from error
    return tuple(rules), is_named


def config_from_json(values: Mapping[str, Any], depth: int = 1) -> Config:
    """Configuration of a dict with its ``kind``; missing fields have their defaults."""
    if depth > MAX_DEPTH:
        raise ValueError(
            f"quantizers must be at most {MAX_DEPTH} deep in each other, got more; correct it"
        )
    kind = values.get("kind")
    cls = find_kind(kind)
    if cls is None:
        kinds = kind_names().split(", ")
        raise ValueError(
            f"kind must be one of {kind_names()}, got {short(kind)}; {hint(kind, kinds)}"
        )
    names = {field.name for field in fields(cls)}
    check_keys(values, f"a {cls.kind} configuration", {"kind"}, names)
    return cls(
        **{name: parse_nested(value, depth) for name, value in values.items() if name != "kind"}
    )


def parse_nested(value: Any, depth: int) -> Any:
    """The value, with a configuration in the place of each dict, also in a list."""
    if isinstance(value, list | tuple):
        return tuple(
            config_from_json(each, depth + 1) if isinstance(each, Mapping) else each
            for each in value
        )
    return config_from_json(value, depth + 1) if isinstance(value, Mapping) else value


def check_keys(values: Any, what: str, required: set[str], optional: set[str]) -> None:
    """Raise ValueError unless `values` is a dict with all required keys and no unknown one."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{what} must be a table with keys, got {short(values)}; correct it")
    allowed = sorted(required | optional)
    for key in values:
        if key not in allowed:
            raise ValueError(
                f"{what} may have only {', '.join(allowed)}, got {short(key)}; {hint(key, allowed)}"
            )
    if missing := sorted(required - set(values)):
        got = ", ".join(map(str, values)) or "nothing"
        raise ValueError(f"{what} must have {missing[0]}, got {got}; add it")


def hint(word: object, names: Iterable[str]) -> str:
    """The end of an error: the name that was meant, if one is near."""
    near = get_close_matches(str(word)[:MAX_NAME], list(names), 1)
    return f"did you mean {near[0]}?" if near else "correct it"
