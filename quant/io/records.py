"""Records: what a file states about each tensor, beside the arrays that it is stored as."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np

from quant.base.config import Config, QuantizedTensor, check_bool, check_choice, check_int
from quant.base.matrix import DTYPES, MATRIX, Layout
from quant.io.packing import DTYPES as CODE_DTYPES
from quant.io.packing import check_fits, pack, unpack
from quant.types import Array

Arrays = dict[str, Array]

NUMPY_DTYPES = (
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16",
    "float32", "float64",
)  # fmt: skip
# Dtypes of torch that numpy or a safetensors file lacks, and the one that holds their bits.
STORED_AS = {
    "bfloat16": "uint16",
    "complex64": "float32",  # real and imaginary parts along a further axis
    "complex128": "float64",
    "float8_e4m3fn": "uint8",
    "float8_e4m3fnuz": "uint8",
    "float8_e5m2": "uint8",
    "float8_e5m2fnuz": "uint8",
    "float8_e8m0fnu": "uint8",
}
RAW_DTYPES = (*NUMPY_DTYPES, *STORED_AS)
MAX_DIMENSIONS = 32
FLOAT32_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class RawRecord:
    """Record of an array or torch tensor that is stored unchanged.

    Attributes
    ----------
    dtype : str
        One of `RAW_DTYPES`. What numpy lacks is stored as its bits; see `STORED_AS`.
    is_torch : bool
        Whether it is a torch tensor.
    """

    dtype: str
    is_torch: bool

    n_extra_bytes = 0  # bytes in memory beside the stored arrays

    def __post_init__(self) -> None:
        check_bool(self.is_torch, "is_torch")
        check_choice(self.dtype, "dtype", RAW_DTYPES if self.is_torch else NUMPY_DTYPES)

    @property
    def array_names(self) -> list[str]:
        """Names of the stored arrays: one, with the name of the tensor."""
        return [""]

    def to_json(self) -> dict[str, Any]:
        """Dict for JSON."""
        return asdict(self)

    def to_tensor(self, arrays: Mapping[str, Array]) -> Any:
        """Array or tensor of the stored array; ValueError if that has another dtype."""
        array = arrays[""]
        check_choice(array.dtype.name, "stored dtype", (stored_dtype(self.dtype),))
        check_bool_array(array)
        if not self.is_torch:
            return array
        import torch

        tensor = torch.from_numpy(array)
        if not self.dtype.startswith("complex"):
            return tensor.view(getattr(torch, self.dtype))
        if array.shape[-1:] != (2,):
            raise ValueError(f"complex numbers must have 2 parts, got shape {array.shape}")
        return torch.view_as_complex(tensor)


@dataclass(frozen=True, kw_only=True)
class QuantizedRecord:
    """Record of a quantized tensor.

    Attributes
    ----------
    config, layout, code_bits
        As in `QuantizedTensor`.
    dtype, shape
        Dtype and shape of the codes.
    is_packed : bool
        Whether codes are stored without gaps; else one byte each.
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
                "names of side arrays must be different strings other than 'codes', got "
                f"{', '.join(map(repr, names))}; rename them"
            )

    @property
    def n_extra_bytes(self) -> int:
        """Bytes in memory beside the stored arrays: unpacked codes, and weights as float32."""
        n_codes = prod(self.shape) if self.is_packed else 0
        return n_codes + FLOAT32_BYTES * prod(self.layout.shape)

    @property
    def array_names(self) -> list[str]:
        """Names of the stored arrays."""
        return ["codes", *self.arrays]

    def to_json(self) -> dict[str, Any]:
        """Dict for JSON."""
        return asdict(self) | {"config": self.config.to_json(), "layout": self.layout.to_json()}

    def to_tensor(self, arrays: Mapping[str, Array]) -> QuantizedTensor:
        """Quantized tensor of the stored arrays; ValueError unless it can be decoded."""
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
        check_decodable(tensor)
        return tensor


def to_record(tensor: Any, *, is_packed: bool) -> tuple[RawRecord | QuantizedRecord, Arrays]:
    """(record of a tensor, arrays to store); ValueError if it could not be loaded again."""
    if isinstance(tensor, QuantizedTensor):
        codes = tensor.codes
        record = QuantizedRecord(
            config=tensor.config,
            layout=tensor.layout,
            code_bits=tensor.code_bits,
            dtype=codes.dtype.name,
            shape=codes.shape,
            is_packed=is_packed,
            arrays=tuple(tensor.arrays),
        )
        check_decodable(tensor)
        stored = pack(codes, tensor.code_bits) if is_packed else codes
        return record, {"codes": stored} | dict(tensor.arrays)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(tensor, torch.Tensor):
        values = tensor.detach().cpu()
        raw = RawRecord(dtype=str(values.dtype).removeprefix("torch."), is_torch=True)
        if values.is_complex():
            values = torch.view_as_real(values.resolve_conj())
        values = values.resolve_neg().contiguous().view(getattr(torch, stored_dtype(raw.dtype)))
        return raw, {"": values.numpy()}
    if isinstance(tensor, np.ndarray):
        return RawRecord(dtype=tensor.dtype.name, is_torch=False), {"": tensor}
    raise ValueError(
        "a tensor must be a QuantizedTensor, a numpy array or a torch tensor, got "
        f"{type(tensor).__name__}; convert it, or leave it out"
    )


def record_from_json(values: Mapping[str, Any]) -> RawRecord | QuantizedRecord:
    """Record of what `to_json` returned; an error of any kind if it is anything else."""
    if "config" not in values:
        return RawRecord(**values)
    parsed: dict[str, Any] = {
        "config": Config.from_json(values["config"]),
        "layout": Layout.from_json(values["layout"]),
        "shape": tuple(values["shape"]),
        "arrays": tuple(values["arrays"]),
    }
    return QuantizedRecord(**dict(values) | parsed)


def check_decodable(tensor: QuantizedTensor) -> None:
    """Raise ValueError unless the configuration of the tensor can decode it."""
    check_fits(tensor.codes, tensor.code_bits)
    for name, array in tensor.arrays.items():
        check_choice(array.dtype.name, f"dtype of {name}", NUMPY_DTYPES)
        check_bool_array(array)
    tensor.config.check(tensor.codes, tensor.arrays, tensor.layout.matrix_shape)


def check_layout(layout: Layout) -> None:
    """Raise ValueError unless a weight can have this layout."""
    check_shape(layout.shape, "shape")
    check_bool(layout.is_torch, "is_torch")
    check_int(layout.axes.n_groups, "n_groups", 1, sys.maxsize)
    for axis in layout.axes.rows:
        check_int(axis, "axis", 0, MAX_DIMENSIONS)
    check_choice(layout.dtype, "dtype", DTYPES if layout.is_torch else DTYPES[:1] + DTYPES[2:])
    if len(layout.shape) < MATRIX or not layout.axes.fits(layout.shape):
        raise ValueError(f"shape must be that of a matrix, got {layout.shape}")


def check_shape(shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless the shape has at most 32 dimensions, all >= 1."""
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{name} must have at most {MAX_DIMENSIONS} dimensions, got {len(shape)}")
    for n in shape:
        check_int(n, name, 1, sys.maxsize)


def check_bool_array(array: Array) -> None:
    """Raise ValueError if a bool array has bytes other than 0 and 1, which numpy does not check."""
    if array.dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("bools must be bytes of 0 or 1, got other bytes; make the array again")


def stored_dtype(dtype: str) -> str:
    """Numpy dtype that stores the bits of one of `RAW_DTYPES`."""
    return STORED_AS.get(dtype, dtype)
