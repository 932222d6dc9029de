"""Config, the base class of all quantizers, and QuantizedTensor, the result of one."""

import operator
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib import import_module
from math import prod
from reprlib import Repr
from typing import Any, ClassVar

from quant.base.matrix import Layout, as_matrix
from quant.types import Array, Matrix

# The module of each kind of quantizer: imported when a file or a recipe names the kind.
MODULES = {
    "gptq": "quant.quantizers.gptq",
    "lloyd-max": "quant.quantizers.lloyd_max",
    "product": "quant.quantizers.product",
    "residual": "quant.quantizers.residual",
    "scalar": "quant.quantizers.scalar",
}


SHORT = Repr()
SHORT.maxstring = SHORT.maxother = 200


@dataclass(frozen=True, kw_only=True)
class Config:
    """A quantizer: its settings, and the methods that fit, encode and decode with them.

    Settings are frozen, are printed in full, and are equal after a round trip through JSON. There
    is one subclass for each kind of quantizer (``class ScalarConfig(Config, kind="scalar")``). It
    checks its settings in ``__post_init__`` and defines `fit_matrix`, `encode_matrix`, `decode` and
    `check`.
    """

    kinds: ClassVar[dict[str, type["Config"]]] = {}
    kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        if kind:  # else an abstract class
            cls.kind = kind
            Config.kinds[kind] = cls

    @property
    def needs_hessian(self) -> bool:
        """Whether `encode` needs a Hessian."""
        return False

    def fit(
        self,
        weight: Any,
        hessian: Any = None,
        *,
        column_weights: Any = None,
        transposed: bool = False,
    ) -> Any:
        """Fit the levels or codebooks to a weight, to be used by `encode` as ``fitted``.

        Parameters and errors are those of `encode`.
        """
        matrix, _ = as_matrix(weight, transposed=transposed)
        return self.fit_matrix(matrix, hessian, column_weights=column_weights)

    def encode(
        self,
        weight: Any,
        hessian: Any = None,
        *,
        column_weights: Any = None,
        fitted: Any = None,
        transposed: bool = False,
    ) -> "QuantizedTensor":
        """Quantize a weight.

        Parameters
        ----------
        weight : as `quant.base.matrix.as_matrix` takes it
        hessian : Hessian, or (C, C) float, numpy or torch, optional
            Mean of x xᵀ over calibration rows x; a constant factor changes no code.
        column_weights : (C,) float >= 0, optional
            Weight of the squared error of each column, as the diagonal of a Hessian.
        fitted : optional
            Levels or codebooks to use, from `fit`; fitted to this weight if absent.
        transposed : bool
            Whether the weight is stored (in, out).

        Raises
        ------
        ValueError
            If the weight is not a finite matrix; if the quantizer needs the Hessian or the column
            weights and they are absent or invalid, or cannot use them and they are given; or if
            ``fitted`` belongs to other settings or another shape.
        """
        matrix, layout = as_matrix(weight, transposed=transposed)
        if fitted is not None:
            return self.encode_matrix(
                matrix, layout, hessian, column_weights=column_weights, fitted=fitted
            )
        return encode_or_widen(self, matrix, layout, hessian, column_weights=column_weights)

    def fit_matrix(self, matrix: Matrix, hessian: Any = None, *, column_weights: Any = None) -> Any:
        """Fit to a matrix (R, C) float32, finite; see `fit`."""
        raise NotImplementedError

    def encode_matrix(
        self,
        matrix: Matrix,
        layout: Layout,
        hessian: Any = None,
        *,
        column_weights: Any = None,
        fitted: Any = None,
    ) -> "QuantizedTensor":
        """Quantize a matrix (R, C) float32, finite, of a weight of this layout; see `encode`."""
        raise NotImplementedError

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """Decode to a matrix (R, C) float32."""
        raise NotImplementedError

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` accepts these arrays, which come from a file."""
        raise NotImplementedError

    def widened(self) -> Any:
        """Return the configuration with float32 scales, if it has scales."""
        has_scales = any(field.name == "scale_dtype" for field in fields(self))
        if not has_scales:
            return self
        return replace(self, scale_dtype="float32")  # type: ignore[call-arg]

    def clipped(self, matrix: Matrix, arrays: Mapping[str, Array]) -> float:
        """Return the share of a matrix (R, C) that lies beyond the levels of these arrays."""
        return 0.0

    def to_json(self) -> dict[str, Any]:
        """Return an object for JSON: ``kind`` and all settings."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """Return the configuration that `to_json` described.

        Raises
        ------
        ValueError
            If the kind is unknown, or the settings are not exactly those of the kind.
        """
        subclass = find_kind(values.get("kind"))
        if subclass is None:
            raise ValueError(
                f"kind must be one of {kind_names()}, got {values.get('kind')!r}; "
                "read it with the ngrammix that wrote it"
            )
        names = {field.name for field in fields(subclass)}
        settings = {name: value for name, value in values.items() if name != "kind"}
        if settings.keys() != names:
            raise ValueError(
                f"a {subclass.kind} configuration has {', '.join(sorted(names))}, got "
                f"{', '.join(sorted(settings))}; read it with the ngrammix that wrote it"
            )
        return subclass(**settings)

    def check_ints(self, **bounds: tuple[int, int]) -> None:
        """Make the named settings ints; ValueError unless each is an integer within its bounds."""
        for name, (least, most) in bounds.items():
            object.__setattr__(self, name, check_int(getattr(self, name), name, least, most))

    def refuse(self, **inputs: Any) -> None:
        """Raise ValueError if an input is given; the quantizer does not use it."""
        for name, value in inputs.items():
            if value is not None:
                raise ValueError(f"a {self.kind} quantizer does not use {name}; leave it out")


def find_kind(kind: object) -> type[Config] | None:
    """The class of a kind of quantizer, or None if there is none."""
    if str(kind) in MODULES:
        import_module(MODULES[str(kind)])
    return Config.kinds.get(str(kind))


def kind_names() -> str:
    """The kinds of quantizers, for an error text."""
    return ", ".join(sorted({*MODULES, *Config.kinds}))


@dataclass(frozen=True, eq=False, kw_only=True)
class QuantizedTensor:
    """A quantized weight.

    Attributes
    ----------
    codes : int8 or uint8
        One code for each weight or group of weights, in the shape that the quantizer defines.
    code_bits : int in 1..8
        Bits of a packed code.
    arrays : dict of arrays
        Scales, codebooks and other arrays that decoding needs, by name.
    layout : Layout
        Shape, dtype and library of the weight.
    config : Config
        The quantizer.
    """

    codes: Array
    code_bits: int
    arrays: Mapping[str, Array]
    layout: Layout
    config: Config

    @property
    def n_weights(self) -> int:
        """Number of weights."""
        return prod(self.layout.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed codes and of all arrays, before compression."""
        packed = (self.codes.size * self.code_bits + 7) // 8
        return packed + sum(array.nbytes for array in self.arrays.values())

    @property
    def bits_per_weight(self) -> float:
        """Bits of the packed codes and of all arrays, divided by the number of weights."""
        return 8 * self.nbytes / self.n_weights

    def matrix(self) -> Matrix:
        """Decode to a matrix (R, C) float32."""
        return self.config.decode(self.codes, self.arrays, self.layout.matrix_shape)

    def dequantize(self) -> Any:
        """Decode to the shape, dtype and library of the weight; torch tensors are on the CPU."""
        return self.layout.restore(self.matrix())

    def __repr__(self) -> str:
        return (
            f"QuantizedTensor(shape={self.layout.shape}, {self.bits_per_weight:.3f} bits a weight, "
            f"{self.config})"
        )


class ScaleRangeError(ValueError):
    """A scale is too large or too small for the dtype of stored scales."""


class ScaleWarning(UserWarning):
    """Scales did not fit their dtype; float32 was used."""


def encode_or_widen(
    config: Config, matrix: Matrix, layout: Layout, hessian: Any = None, **inputs: Any
) -> QuantizedTensor:
    """Quantize a matrix; where its scales do not fit their dtype, with float32 scales.

    A `ScaleWarning` says so.
    """
    try:
        return config.encode_matrix(matrix, layout, hessian, **inputs)
    except ScaleRangeError as error:
        wide: Config = config.widened()
        if wide == config:
            raise
        reason = str(error).partition(";")[0]
        warnings.warn(f"{reason}; float32 was used", ScaleWarning, stacklevel=3)
        return wide.encode_matrix(matrix, layout, hessian, **inputs)


def short(value: object) -> str:
    """The beginning of a value for an error text: it may be long or nested."""
    return SHORT.repr(value)


def check_choice(value: object, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of the choices."""
    if value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(choices)}, got {short(value)}; correct it"
        )


def check_int(value: Any, name: str, least: int, most: int) -> int:
    """Return `value` as an int; ValueError unless it is an integer of any type in least..most."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if least <= number <= most and not isinstance(value, bool):
        return number
    raise ValueError(
        f"{name} must be an integer in {least}..{most}, got {short(value)}; correct it"
    )


def check_bool(value: object, name: str) -> None:
    """Raise ValueError unless `value` is True or False."""
    if type(value) is not bool:
        raise ValueError(f"{name} must be True or False, got {short(value)}; correct it")
