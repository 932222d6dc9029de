"""Configurations: frozen, printed in full, and the same again out of JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Config:
    """How a tensor was quantized, and so how it is decoded; one subclass a quantizer.

    A subclass names itself (``class ScalarConfig(Config, kind="scalar")``), checks its fields in
    ``__post_init__``, and decodes.
    """

    kinds: ClassVar[dict[str, type["Config"]]] = {}
    kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.kind = kind
        Config.kinds[kind] = cls

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32 that codes and side arrays stand for."""
        raise NotImplementedError

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` can take these: they come out of a file."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Flat object for JSON: the fields, and ``kind``."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """What `to_json` gave; ValueError if it is no configuration of a known kind."""
        known = cls.kinds.get(str(values.get("kind")))
        if known is None:
            raise ValueError(
                f"kind must be one of {', '.join(sorted(cls.kinds))}, got {values.get('kind')!r}; "
                "read it with the ngrammix that wrote it"
            )
        names = {its.name for its in fields(known)}
        given = {name: value for name, value in values.items() if name != "kind"}
        if given.keys() != names:
            raise ValueError(
                f"a {known.kind} configuration has {', '.join(sorted(names))}, got "
                f"{', '.join(sorted(given))}; read it with the ngrammix that wrote it"
            )
        return known(**given)


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}; correct it")


def check_int(value: object, name: str, least: int, most: int) -> None:
    """Raise ValueError unless `value` is an int in least..most."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be an integer in {least}..{most}, got {value!r}; correct it")
