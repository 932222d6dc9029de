"""The result of a score, and its forms: table, signature line, JSON, CSV."""

import csv
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.bpb import bits, bits_per_byte
from eval.data import Document, sha256
from eval.score import Score, TokenRecords


@dataclass(frozen=True, kw_only=True)
class Result:
    """Every figure of a score and every condition that made it; the keys of ``result.json``.

    Keys of the model and of the mixture are None where the cache was scored alone. Seconds leave
    compilation out (`seconds_compile` has it).
    """

    bpb: float
    bpb_model: float | None
    bpb_cache: float
    bits: float
    bits_model: float | None
    bits_cache: float
    bits_saved: float | None
    regret_bits: float | None
    bound_bits: float | None
    bytes: int
    tokens: int
    documents: int
    data: str
    data_sha256: str
    model: str
    context: int | None
    stride: int | None
    order: int
    mixer: str | None
    memory_limit: int | None
    ngrams_forgotten: int
    seconds: float
    seconds_model: float | None
    seconds_mixer: float | None
    seconds_cache: float
    seconds_compile: float
    tokens_per_second: float
    signature: str
    versions: str

    def to_json(self) -> str:
        """JSON object, one flat level, keys in their fixed order."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def table(self) -> str:
        """Short table and the signature line."""
        rows: list[tuple[str, ...]] = [("", "BPB", "bits saved", "tokens/s", "seconds")]
        if self.bpb_model is not None and self.seconds_model and self.seconds_mixer:
            rows.append(self._row("model alone", self.bpb_model, 0, self.seconds_model))
        saved = None if self.bits_model is None else self.bits_model - self.bits_cache
        rows.append(self._row("cache alone", self.bpb_cache, saved, self.seconds_cache))
        if self.bpb_model is not None:
            rows.append(self._row("model + cache", self.bpb, self.bits_saved, self.seconds))
        lines = [*align(rows), ""]
        if self.regret_bits is not None:
            lines.append(
                f"regret {self.regret_bits:,.1f} bits against the model; it can never exceed "
                f"{self.bound_bits:g} (negative: bits saved)"
            )
        lines.append(f"compiling or loading the kernels took {self.seconds_compile:.1f} s more")
        lines.append(f"{self.signature} = {self.bpb:.4f}")
        return "\n".join(lines)

    def _row(self, name: str, bpb: float, saved: float | None, seconds: float) -> tuple[str, ...]:
        return (
            name,
            f"{bpb:.4f}",
            "" if saved is None else f"{saved:,.0f}",
            f"{self.tokens / max(seconds, 1e-9):,.0f}",
            f"{seconds:.2f}",
        )


def make_result(score: Score, documents: Sequence[Document]) -> Result:
    """Gather the figures of `score` and the conditions that made them."""
    n_bytes = sum(len(document.raw) for document in documents)
    records = score.records
    total_cache = float(records.nats_cache.sum())
    total_model = None if records.nats_model is None else float(records.nats_model.sum())
    total = total_cache if records.nats is None else float(records.nats.sum())
    seconds = (
        score.seconds_cache
        if score.seconds_model is None or score.seconds_mixer is None
        else score.seconds_model + score.seconds_mixer
    )
    digest = sha256(documents)
    conditions = {
        "data": digest[:16],
        "bytes": n_bytes,
        "tokens": len(records.token),
        "model": score.model,
        "context": score.context,
        "stride": score.stride,
        "order": score.order,
        "mixer": score.mixer or "none",
        "memory": score.memory_limit,
        "version": version("ngrammix"),
    }
    return Result(
        bpb=bits_per_byte(total, n_bytes),
        bpb_model=None if total_model is None else bits_per_byte(total_model, n_bytes),
        bpb_cache=bits_per_byte(total_cache, n_bytes),
        bits=bits(total),
        bits_model=None if total_model is None else bits(total_model),
        bits_cache=bits(total_cache),
        bits_saved=None if total_model is None else bits(total_model - total),
        regret_bits=score.regret_bits,
        bound_bits=score.bound_bits,
        bytes=n_bytes,
        tokens=len(records.token),
        documents=len(documents),
        data=", ".join(document.name for document in documents),
        data_sha256=digest,
        model=score.model,
        context=score.context,
        stride=score.stride,
        order=score.order,
        mixer=score.mixer,
        memory_limit=score.memory_limit,
        ngrams_forgotten=score.ngrams_forgotten,
        seconds=seconds,
        seconds_model=score.seconds_model,
        seconds_mixer=score.seconds_mixer,
        seconds_cache=score.seconds_cache,
        seconds_compile=score.seconds_compile,
        tokens_per_second=len(records.token) / max(seconds, 1e-9),
        signature=sign("BPB", conditions),
        versions=versions(),
    )


def align(rows: Sequence[tuple[str, ...]], n_left: int = 1) -> list[str]:
    """Lines of a table: `n_left` columns to the left, the others to the right, a rule below."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = [*[str.ljust] * n_left, *[str.rjust] * (len(widths) - n_left)]
    lines = [
        "  ".join(pad(cell, width) for pad, cell, width in zip(sides, row, widths, strict=True))
        for row in rows
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def sign(score: str, conditions: Mapping[str, Any]) -> str:
    """One line: the conditions that a figure must not be quoted without; None is left out."""
    given = [f"{key}:{value}" for key, value in conditions.items() if value is not None]
    return "|".join([score, *given])


def versions() -> str:
    """Versions of everything that can move a figure."""
    packages = ["ngrammix", "numpy", "numba", "torch", "tokenizers"]
    parts = [f"{package} {version(package)}" for package in packages]
    return ", ".join([*parts, f"python {platform.python_version()}"])


def make_folder(out: Path | None) -> None:
    """Make the folder that results go to, or raise ValueError if something else has its name."""
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {out}; choose another name")
    out.mkdir(parents=True, exist_ok=True)


def write_tokens(
    path: Path, records: TokenRecords, documents: Sequence[Document], bar: tqdm
) -> None:
    """Write one CSV row a token: where it stands, what it spells, what it cost in bits."""
    costs = {
        "bits_model": records.nats_model,
        "bits_cache": records.nats_cache,
        "bits": records.nats,
    }
    known = {name: nats for name, nats in costs.items() if nats is not None}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["position", "document", "byte", "bytes", "token", "text", "matched_order", *known]
        )
        start, current = 0, 0
        rows = zip(
            records.document.tolist(), records.n_bytes.tolist(), records.token.tolist(),
            records.matched_order.tolist(), *(nats.tolist() for nats in known.values()),
            strict=True,
        )  # fmt: skip
        for position, (document, n_bytes, token, matched, *nats) in enumerate(rows):
            if document != current:
                start, current = 0, document
            text = documents[document].raw[start : start + n_bytes]
            writer.writerow(
                [
                    position, document, start, n_bytes, token,
                    text.decode("utf-8", "backslashreplace"), matched,
                    *(f"{bits(cost):.6f}" for cost in nats),
                ]
            )  # fmt: skip
            start += n_bytes
            bar.update(1)
