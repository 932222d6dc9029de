"""Scenes: small runs that write files, to be played with a fault and then without one."""

import contextlib
import gzip
import io
import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TEXT = "it was the best of times, it was the worst of times; " * 4


@dataclass(frozen=True)
class Scene:
    """A run in a folder of its own.

    Attributes
    ----------
    prepare : callable
        (folder) -> None: what lies there before.
    play : callable
        (folder) -> None: the run; ValueError or OSError if it is refused.
    files : tuple of str
        What it writes: each file is old, new or missing after a fault.
    checkpoints : tuple of str
        Files that a later run goes on with; what they hold shows when it does.
    """

    prepare: Callable[[Path], None]
    play: Callable[[Path], None]
    files: tuple[str, ...]
    checkpoints: tuple[str, ...] = ()


class RefusedError(ValueError):
    """What a command has said when it ended with exit status 2."""


def command(*words: object) -> None:
    """Run ``ngrammix`` with these words in this process."""
    from eval.cli import main

    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main([str(word) for word in words])
    if status:
        said = [line for line in errors.getvalue().splitlines() if "error: " in line]
        if status != 2 or len(said) != 1 or not said[0].startswith("ngrammix: error: "):
            raise AssertionError(f"status {status}: {errors.getvalue()}")
        raise RefusedError(said[0])


def prepare_text(folder: Path) -> None:
    """A text to score."""
    (folder / "text.txt").write_text(TEXT)


def score(folder: Path) -> None:
    """Score the text with a toy model and two experts, with checkpoints."""
    command(
        "score", "--data", folder / "text.txt", "--model", "tests.toy:ToyModel", "--order", 3,
        "--out", folder / "out", "--tokens", "--checkpoint", folder / "kept",
        "--checkpoint-every", 80, "--memory-limit", "8MiB", "--mixer", "gate+guard",
    )  # fmt: skip


def prepare_scored(folder: Path) -> None:
    """The results of another run in the folder of the results."""
    prepare_text(folder)
    command(
        "score", "--data", folder / "text.txt", "--model", "none", "--order", 2,
        "--out", folder / "out", "--tokens",
    )  # fmt: skip


def score_again(folder: Path) -> None:
    """Replace these results."""
    command(
        "score", "--data", folder / "text.txt", "--model", "none", "--order", 3,
        "--out", folder / "out", "--tokens", "--overwrite",
    )  # fmt: skip


def quantize(folder: Path) -> None:
    """Quantize a tiny network into a file."""
    command(
        "quantize", "--model", "tests.faults.scenes:tiny_network", "--context", 16,
        "--recipe", "int6", "--codec", "zstd", "--out", folder / "out", "--overwrite",
    )  # fmt: skip


def quantize_gptq(folder: Path) -> None:
    """Quantize a tiny network by GPTQ, with a checkpoint."""
    command(
        "quantize", "--model", "tests.faults.scenes:tiny_network", "--tokenizer", "bytes",
        "--bos", 256, "--context", 16, "--recipe", "gptq-int4", "--calibrate", folder / "text.txt",
        "--calibration-tokens", 64, "--codec", "zstd", "--out", folder / "out",
        "--checkpoint", folder / "kept",
    )  # fmt: skip


def tiny_network() -> Any:
    """A torch module over bytes."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(257, 8), torch.nn.Linear(8, 257))


@cache
def learned(n: int) -> dict[str, Any]:
    """A cache, a mixer and tensors, from `n` tokens."""
    from ngrammix import Mixer, NgramCache
    from quant.quantizers.scalar import ScalarConfig

    tokens = np.arange(n) * np.arange(n) % 5
    ngrams = NgramCache(vocab_size=5, order=3)
    ngrams.learn(tokens)
    mixer = Mixer(vocab_size=5, order=2, experts="gate+guard", memory_limit="4MiB")
    mixer.score(np.zeros((n, 5)), tokens)
    weight = np.outer(np.arange(1, 9), np.arange(1, n)).astype(np.float32)
    return {"cache": ngrams, "mixer": mixer, "quant": {"w": ScalarConfig().encode(weight)}}


def saver(kind: str, n: int) -> Callable[[Path], None]:
    """What saves an object of `learned`; a library call, so OSError is no right answer."""

    def save(folder: Path) -> None:
        from quant import save as save_tensors

        one = learned(n)[kind]
        if kind == "quant":
            save_tensors(folder / "file", one, codec="zstd")
        else:
            one.save(folder / "file")

    return save


def loader(kind: str) -> Callable[[Path], None]:
    """What loads what a saver has written."""

    def load(folder: Path) -> None:
        from ngrammix import Mixer, NgramCache
        from quant import load as load_tensors

        readers: dict[str, Callable[[Path], Any]] = {
            "cache": NgramCache.load,
            "mixer": Mixer.load,
            "quant": load_tensors,
        }
        readers[kind](folder / "file")

    return load


def prepare_inputs(folder: Path) -> None:
    """Data, tokens and a tokenizer in several kinds of files, and options."""
    from eval.tokenizers.byte_level import byte_letters

    rows = b"".join(json.dumps({"text": text}).encode() + b"\n" for text in (TEXT, "two"))
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(rows))
    (folder / "b.csv").write_text("text\none\n")
    np.save(folder / "c.npy", np.arange(200))
    (folder / "d.bin").write_bytes(np.arange(200, dtype="<u2").tobytes())
    (folder / "f.toml").write_text("order = 3\n")
    (folder / "vocab.json").write_text(json.dumps(byte_letters()))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def read_inputs(folder: Path) -> None:
    """Read all of them."""
    from eval import load_tokenizer, open_data
    from eval.config import RunConfig, make_config

    list(open_data([str(folder / "a.jsonl.gz"), str(folder / "b.csv")]))
    list(open_data(str(folder / "c.npy"), vocab_size=300))
    list(open_data(str(folder / "d.bin"), vocab_size=300, token_dtype="uint16"))
    make_config(RunConfig, {}, str(folder / "f.toml"))
    load_tokenizer(folder / "vocab.json", pre_tokenizer="gpt2")


RESULTS = ("out/result.json", "out/documents.csv", "out/tokens.csv")
SCENES = {
    "score": Scene(prepare_text, score, RESULTS, ("kept/checkpoint.ngrammix",)),
    "score-again": Scene(prepare_scored, score_again, RESULTS),
    "quantize": Scene(lambda folder: None, quantize, ("out/model.ngq", "out/quantize.json")),
    "quantize-gptq": Scene(prepare_text, quantize_gptq, ("out/model.ngq", "out/quantize.json")),
} | {
    f"save-{kind}": Scene(saver(kind, 30), saver(kind, 40), ("file",))
    for kind in ("cache", "mixer", "quant")
}
SCENES |= {
    f"load-{kind}": Scene(saver(kind, 30), loader(kind), ()) for kind in ("cache", "mixer", "quant")
}
SCENES["read"] = Scene(prepare_inputs, read_inputs, ())


def contents(folder: Path, names: tuple[str, ...]) -> dict[str, bytes | None]:
    """The files by name, without what differs between two equal runs; None for a missing one."""
    return {name: content_of(folder / name) for name in names}


def content_of(path: Path) -> bytes | None:
    """What a file says; of a result, all but the times."""
    if not path.exists():
        return None
    content = path.read_bytes()
    if path.suffix != ".json":
        return content
    try:
        values = json.loads(content, object_pairs_hook=timeless)
    except ValueError:
        return content
    return json.dumps(values).encode()


def timeless(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without the times in it."""
    return {key: value for key, value in pairs if "second" not in key}


def fresh(scene: Scene, folder: Path) -> Path:
    """The folder, emptied and prepared."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scene.prepare(folder)
    return folder
