"""What a file says of each tensor, beside the arrays that it is made of."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import Config, check_choice, check_int
from quant.base.matrix import DTYPES, Layout
from quant.base.tensor import QuantizedTensor
from quant.io.packing import DTYPES as CODE_DTYPES
from quant.io.packing import check_codes, pack, unpack

Array = NDArray[Any]
Arrays = dict[str, Array]

NUMPY = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64",
)  # fmt: skip
PLAIN = (*NUMPY, "bfloat16")
MOST_DIMENSIONS = 32
DECODED = 4  # bytes of a weight: float32


@dataclass(frozen=True, kw_only=True)
class Plain:
    """An array, or a tensor of torch, that is stored as it is.

    Attributes
    ----------
    dtype : str
        One of `PLAIN`; bfloat16, which numpy lacks, is stored as uint16.
    is_torch : bool
    """

    dtype: str
    is_torch: bool

    n_bytes = 0  # beyond those that are stored

    def __post_init__(self) -> None:
        check_bool(self.is_torch, "is_torch")
        check_choice(self.dtype, "dtype", PLAIN if self.is_torch else NUMPY)

    @property
    def parts(self) -> list[str]:
        """What it is stored as; the one array has its name."""
        return [""]

    def to_json(self) -> dict[str, Any]:
        """Object for JSON."""
        return asdict(self)

    def restore(self, arrays: Mapping[str, Array]) -> Any:
        """The array or tensor; ValueError if it is of another dtype."""
        array = arrays[""]
        check_choice(array.dtype.name, "stored dtype", (stored_dtype(self.dtype),))
        check_bits(array)
        if not self.is_torch:
            return array
        import torch

        return torch.from_numpy(array).view(getattr(torch, self.dtype))


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized tensor.

    Attributes
    ----------
    config, layout, code_bits
        As in the tensor.
    dtype, shape
        Of the codes, as in the tensor.
    is_packed : bool
        Whether codes are stored without gaps, or else a byte each.
    arrays : tuple of str
        Names of the side arrays, in order.
    """

    config: Config
    layout: Layout
    code_bits: int
    dtype: str
    shape: tuple[int, ...]
    is_packed: bool
    arrays: tuple[str, ...]

    def __post_init__(self) -> None:
        check_layout(self.layout)
        check_int(self.code_bits, "code_bits", 1, 8)
        check_choice(self.dtype, "dtype of codes", CODE_DTYPES)
        check_shape(self.shape, "shape of codes")
        check_bool(self.is_packed, "is_packed")
        names = self.arrays
        is_named = all(type(name) is str and name not in ("", "codes") for name in names)
        if not is_named or len(set(names)) != len(names):
            raise ValueError(
                f"side arrays must have names of their own, got {', '.join(map(repr, names))}; "
                "codes is that of the codes"
            )

    @property
    def n_bytes(self) -> int:
        """Bytes that it takes beyond those that are stored: codes, and weights as float32."""
        n_codes = prod(self.shape) if self.is_packed else 0
        return n_codes + DECODED * prod(self.layout.shape)

    @property
    def parts(self) -> list[str]:
        """Arrays that it is stored as."""
        return ["codes", *self.arrays]

    def to_json(self) -> dict[str, Any]:
        """Object for JSON."""
        return asdict(self) | {"config": self.config.to_json()}

    def restore(self, arrays: Mapping[str, Array]) -> QuantizedTensor:
        """The tensor; ValueError unless it can be decoded."""
        codes = arrays["codes"]
        if self.is_packed:
            n_codes = prod(self.shape)
            codes = unpack(codes, self.code_bits, n_codes, self.dtype).reshape(self.shape)
        if codes.dtype != self.dtype or codes.shape != self.shape:
            raise ValueError(
                f"codes must be {self.dtype} of shape {self.shape}, got {codes.dtype} of shape "
                f"{codes.shape}"
            )
        tensor = QuantizedTensor(
            codes=codes,
            code_bits=self.code_bits,
            arrays={name: arrays[name] for name in self.arrays},
            layout=self.layout,
            config=self.config,
        )
        check(tensor)
        return tensor


def describe(tensor: Any, *, is_packed: bool) -> tuple[Plain | Quantized, Arrays]:
    """(what it is, the arrays that it is stored as); ValueError if it could not be restored."""
    if isinstance(tensor, QuantizedTensor):
        codes = tensor.codes
        quantized = Quantized(
            config=tensor.config,
            layout=tensor.layout,
            code_bits=tensor.code_bits,
            dtype=codes.dtype.name,
            shape=codes.shape,
            is_packed=is_packed,
            arrays=tuple(tensor.arrays),
        )
        check(tensor)
        stored = pack(codes, tensor.code_bits) if is_packed else codes
        return quantized, {"codes": stored} | dict(tensor.arrays)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        held = tensor.detach().cpu()
        plain = Plain(dtype=str(held.dtype).removeprefix("torch."), is_torch=True)
        held = held.contiguous().view(getattr(torch, stored_dtype(plain.dtype)))
        return plain, {"": held.numpy()}
    if isinstance(tensor, np.ndarray):
        return Plain(dtype=tensor.dtype.name, is_torch=False), {"": tensor}
    raise ValueError(
        f"a tensor must be a QuantizedTensor, or an array or a tensor of torch, got "
        f"{type(tensor).__name__}; convert it, or leave it out"
    )


def from_json(values: Mapping[str, Any]) -> Plain | Quantized:
    """What `to_json` gave; an error of any kind if it is anything else."""
    if "config" not in values:
        return Plain(**values)
    layout = dict(values["layout"])
    made: dict[str, Any] = {
        "config": Config.from_json(values["config"]),
        "layout": Layout(**layout | {"shape": tuple(layout["shape"])}),
        "shape": tuple(values["shape"]),
        "arrays": tuple(values["arrays"]),
    }
    return Quantized(**dict(values) | made)


def check(tensor: QuantizedTensor) -> None:
    """Raise ValueError unless it can be decoded, as its configuration sees it."""
    check_codes(tensor.codes, tensor.code_bits)
    for name, array in tensor.arrays.items():
        check_choice(array.dtype.name, f"dtype of {name}", NUMPY)
        check_bits(array)
    tensor.config.check(tensor.codes, tensor.arrays, tensor.layout.matrix_shape)


def check_layout(layout: Layout) -> None:
    """Raise ValueError unless a weight can have this layout."""
    check_shape(layout.shape, "shape")
    check_bool(layout.is_torch, "is_torch")
    check_bool(layout.is_transposed, "is_transposed")
    check_choice(layout.dtype, "dtype", DTYPES if layout.is_torch else DTYPES[:1] + DTYPES[2:])
    n = len(layout.shape)
    if n < 2 or (layout.is_transposed and n != 2):
        raise ValueError(f"shape must be that of a matrix, got {layout.shape}")


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless these are dimensions >= 1."""
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"{name} must have at most {MOST_DIMENSIONS} dimensions, got {len(shape)}")
    for n in shape:
        check_int(n, name, 1, sys.maxsize)


def check_bool(value: object, name: str) -> None:
    """Raise ValueError unless the value is a bool."""
    if type(value) is not bool:
        raise ValueError(f"{name} must be true or false, got {value!r}; correct it")


def check_bits(array: Array) -> None:
    """Raise ValueError if bools are neither 0 nor 1, which numpy takes for granted."""
    if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("bools must be 0 or 1, got other bytes; make them anew")


def stored_dtype(dtype: str) -> str:
    """Dtype of numpy that stores one of `PLAIN`, bit by bit."""
    return "uint16" if dtype == "bfloat16" else dtype
