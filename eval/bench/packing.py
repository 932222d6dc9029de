"""``ngrammix bench packing``: codes to bytes beside numpy, and what compression makes of either."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from eval.bench.harness import at_least_one, deliver
from eval.bench.scalar import Ways, speeds
from eval.tables import align, make_folder
from quant.io.codecs import CODECS
from quant.io.container import compress
from quant.io.packing import pack, unpack
from quant.quantizers.scalar import ScalarConfig

Codes = NDArray[Any]

BITS = 6
CLIPS = ("sd:12.85", "absmax")
STORED: dict[str, Callable[[Codes], bytes]] = {
    "bytes": lambda codes: codes.tobytes(),
    "packed": lambda codes: pack(codes, BITS).tobytes(),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this bench."""
    parser.add_argument(
        "--model",
        metavar="FILE",
        help="safetensors whose matrices are quantized and compressed (default: the demo model's)",
    )
    parser.add_argument(
        "--codes", type=int, default=4_000_000, metavar="N", help="packed (default: %(default)s)"
    )
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="default: %(default)s")


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the table or JSON, and write JSON under --out."""
    at_least_one(arguments, "codes", "runs")
    make_folder(arguments.out)
    name, matrices = load_matrices(arguments.model)
    result = {
        "codes": arguments.codes,
        "runs": arguments.runs,
        "speed": [speed(bits, arguments.codes, arguments.runs) for bits in range(1, 9)],
        "model": name,
        "matrices": len(matrices),
        "weights": sum(matrix.size for matrix in matrices),
        "bits": BITS,
        "compressed": measure(matrices),
    }
    deliver(result, arguments, "packing.json", table)


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


def speed(bits: int, n: int, runs: int) -> dict[str, Any]:
    """Codes of so many bits a second, packed and unpacked, by us and by numpy."""
    codes = np.random.default_rng(0).integers(0, 1 << bits, n, np.uint8)
    packed = pack(codes, bits)
    ways: Ways = {
        "pack": lambda: pack(codes, bits),
        "pack_numpy": lambda: pack_by_numpy(codes, bits),
        "unpack": lambda: unpack(packed, bits, n),
        "unpack_numpy": lambda: unpack_by_numpy(packed, bits, n),
    }
    found = speeds(ways, n, runs)
    return {"bits": bits} | {f"{way}_per_second": its for way, its in found.items()}


def pack_by_numpy(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """The same bytes as `pack`, by way of a byte for each bit."""
    each = (codes[:, None] >> np.arange(bits, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(each, bitorder="little")


def unpack_by_numpy(packed: NDArray[np.uint8], bits: int, n: int) -> NDArray[np.uint8]:
    """The same codes as `unpack`, by way of a byte for each bit."""
    each = np.unpackbits(packed, count=n * bits, bitorder="little").reshape(n, bits)
    codes: NDArray[np.uint8] = (each << np.arange(bits, dtype=np.uint8)).sum(1, dtype=np.uint8)
    return codes


def measure(matrices: Sequence[NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Bytes of all codes, by clip and codec: a byte each or packed, each tensor alone or all."""
    rows = []
    for clip in CLIPS:
        config = ScalarConfig(bits=BITS, clip=clip)
        codes = [config.encode(matrix).codes for matrix in matrices]
        names = [name for name, codec in CODECS.items() if codec.is_installed]
        for name in tqdm(names, desc=clip, delay=2, disable=None):
            row: dict[str, Any] = {"clip": clip, "codec": name}
            for stored, make in STORED.items():
                each = [make(its) for its in codes]
                row[f"{stored}_each"] = sum(len(compress(data, name)) for data in each)
                row[f"{stored}_together"] = len(compress(b"".join(each), name))
            rows.append(row)
        row = {"clip": clip, "codec": "entropy", "bytes_each": sum(map(entropy, codes))}
        rows.append(
            row | {"bytes_together": entropy(np.concatenate([its.ravel() for its in codes]))}
        )
    return rows


def entropy(codes: Codes) -> int:
    """Bytes that codes take if each is priced by how often it occurs, whatever is beside it."""
    _, counts = np.unique(codes, return_counts=True)
    return int(np.ceil(counts @ np.log2(counts.sum() / counts) / 8))


def table(result: dict[str, Any]) -> str:
    """Text of the result."""
    lines = [
        f"{result['codes']:,} codes, medians of {result['runs']}; million codes/s",
        "",
        *align(
            [("bits", "pack", "numpy", "unpack", "numpy")]
            + [
                (str(row["bits"]), *(f"{row[key] / 1e6:,.0f}" for key in row if key != "bits"))
                for row in result["speed"]
            ]
        ),
        "",
        f"{result['weights']:,} weights of {result['matrices']} matrices of {result['model']}, "
        f"{result['bits']} bits a weight, steps by row: bytes of the codes,",
        "a byte each or packed, each tensor by itself or all in one stream",
        "",
    ]
    columns = [f"{stored}_{grouped}" for stored in STORED for grouped in ("each", "together")]
    rows = [("clip", "codec", *(column.replace("_", ", ") for column in columns))]
    for row in result["compressed"]:
        cells = (f"{row[column]:,}" if column in row else "-" for column in columns)
        rows.append((row["clip"], row["codec"], *cells))
    return "\n".join([*lines, *align(rows, n_left=2)])
