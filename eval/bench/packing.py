"""``ngrammix bench packing``: codes to bytes beside numpy, and both sizes after compression."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.bench.harness import Bench, Figures, Table
from eval.bench.options import OPTIONS
from eval.bench.rounds import progress, race
from quant.io.codecs import CODECS
from quant.io.container import compress
from quant.io.packing import pack, unpack
from quant.quantizers.scalar import ScalarConfig

Codes = NDArray[Any]

BITS = 6
CLIPS = ("sd:12.85", "absmax")
FORMS: dict[str, Callable[[Codes], bytes]] = {
    "bytes": lambda codes: codes.tobytes(),
    "packed": lambda codes: pack(codes, BITS).tobytes(),
}


def measure(arguments: argparse.Namespace) -> Figures:
    """Speed of packing by width, and sizes of the codes of a model."""
    name, matrices = load_matrices(arguments.model)
    return {
        "speed": [speed(bits, arguments.codes, arguments.runs) for bits in range(1, 9)],
        "model": name,
        "matrices": len(matrices),
        "weights": sum(matrix.size for matrix in matrices),
        "bits": BITS,
        "compressed": measure_sizes(matrices),
    }


def load_matrices(path: str | None) -> tuple[str, list[NDArray[np.float32]]]:
    """(name, matrices in the order of their names) of a file, or of the demo model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path is None:
        from eval.demo.model import WEIGHTS_PATH

        path = str(WEIGHTS_PATH)
    elif not Path(path).is_file():
        raise ValueError(f"--model must be a file of safetensors, got {path}; check the path")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"--model must be a file of safetensors, got {path}: {error}; use another copy"
        ) from error
    matrices = [
        tensors[name].float().numpy() for name in sorted(tensors) if tensors[name].ndim == 2
    ]
    if not matrices:
        raise ValueError(f"--model must hold a matrix, got none in {path}; name another file")
    return Path(path).name, matrices


def speed(bits: int, n: int, runs: int) -> Figures:
    """Codes a second, packed and unpacked, by this package and by numpy."""
    codes = np.random.default_rng(0).integers(0, 1 << bits, n, np.uint8)
    packed = pack(codes, bits)
    ways: dict[str, Callable[[], object]] = {
        "pack": lambda: pack(codes, bits),
        "pack_numpy": lambda: pack_by_numpy(codes, bits),
        "unpack": lambda: unpack(packed, bits, n),
        "unpack_numpy": lambda: unpack_by_numpy(packed, bits, n),
    }
    rates = race(ways, runs, f"{bits} bits").rates(n)
    return {"bits": bits} | {f"{way}_per_second": rate for way, rate in rates.items()}


def pack_by_numpy(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The bytes that `pack` returns, by way of a byte for each bit."""
    each = (codes[:, None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(each, bitorder="little")


def unpack_by_numpy(packed: NDArray[np.uint8], bits: int, n: int) -> NDArray[np.uint8]:
    """The codes that `unpack` returns, by way of a byte for each bit."""
    each = np.unpackbits(packed, count=n * bits, bitorder="little").reshape(n, bits)
    codes: NDArray[np.uint8] = (each << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    return codes


def measure_sizes(matrices: Sequence[NDArray[np.float32]]) -> list[Figures]:
    """Bytes of all codes by clip and codec: a byte each or packed, by tensor or in one stream."""
    rows: list[Figures] = []
    for clip in CLIPS:
        config = ScalarConfig(bits=BITS, clip=clip)
        codes = [config.encode(matrix).codes for matrix in matrices]
        names = [name for name, codec in CODECS.items() if codec.is_installed]
        for name in progress(names, clip):
            row: Figures = {"clip": clip, "codec": name}
            for form, make in FORMS.items():
                each = [make(tensor) for tensor in codes]
                row[f"{form}_each"] = sum(len(compress(data, name)) for data in each)
                row[f"{form}_together"] = len(compress(b"".join(each), name))
            rows.append(row)
        together = np.concatenate([tensor.ravel() for tensor in codes])
        sizes = {"bytes_each": sum(map(entropy, codes)), "bytes_together": entropy(together)}
        rows.append({"clip": clip, "codec": "entropy", **sizes})
    return rows


def entropy(codes: Codes) -> int:
    """Bytes of the codes at the entropy of their frequencies, without context."""
    _, counts = np.unique(codes, return_counts=True)
    return int(np.ceil(counts @ np.log2(counts.sum() / counts) / 8))


BENCH = Bench(
    options=OPTIONS["packing"],
    measure=measure,
    report=(
        "Codes a second",
        Table("speed", {
            "bits": "{bits:d}", "pack": "{pack_per_second:,.0f}",
            "numpy": "{pack_numpy_per_second:,.0f}", "unpack": "{unpack_per_second:,.0f}",
            "with numpy": "{unpack_numpy_per_second:,.0f}",
        }),
        "Bytes of the codes of {weights:,} weights in {matrices} matrices, {bits} bits a weight, "
        "scales by row; a byte each or packed, each tensor by itself or all in one stream",
        Table("compressed", {
            "clip": "{clip}", "codec": "{codec}", "bytes, each": "{bytes_each:,}",
            "bytes, together": "{bytes_together:,}", "packed, each": "{packed_each:,}",
            "packed, together": "{packed_together:,}",
        }),
    ),
)  # fmt: skip
