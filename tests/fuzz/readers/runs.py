"""Readers of runs: options, TOML files, checkpoints, the CSV files that a resumed run finds."""

import contextlib
import io
import json
import random
from functools import cache
from pathlib import Path

from tests.fuzz.reader import (
    CUT,
    Reader,
    json_reader,
    mutate_bytes,
    signed_snapshot,
    unsigned_snapshot,
    write,
)
from tests.fuzz.verdict import WrongError

SAME = b'"conditions of the run"'
TEXTS = [b"It was the best of times, ", b"it was the worst of times.", "\u4f60\u597d".encode()]


def read_toml(data: bytes, folder: Path) -> None:
    """The options of a TOML file."""
    from eval.config import RunConfig, make_config

    make_config(RunConfig, {}, str(write(folder, data, ".toml")))


def read_words(data: bytes, folder: Path) -> None:
    """The words of a command line, one a line; argparse itself may refuse them."""
    from eval.config import QuantizeConfig, RunConfig, make_config

    words = data.decode("utf-8", "surrogateescape").split("\n")
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            arguments = command_parser().parse_args(words)
        except SystemExit as end:
            if end.code not in (0, 2):
                raise WrongError(f"exit status {end.code}") from end
            return
    kinds = {"score": RunConfig, "quantize": QuantizeConfig, "pipeline": QuantizeConfig}
    if arguments.command in kinds:
        make_config(kinds[arguments.command], vars(arguments))


@cache
def command_parser() -> object:
    """The parser of the command line."""
    from eval.commands.parser import parser

    return parser()


def read_checkpoint(data: bytes, folder: Path) -> None:
    """A checkpoint with right digests: a run goes on with it, or refuses it.

    The conditions `SAME` stand for those of the run, which differ from machine to machine.
    """
    checkpoint, files = whole_run()
    restore(folder, files)
    head, cut, rest = data.partition(CUT)
    head = head.replace(SAME, own_conditions(), 1)
    (folder / "fuzzed").mkdir(exist_ok=True)
    (folder / "fuzzed" / checkpoint).write_bytes(signed_snapshot(head + cut + rest))
    run(folder)


@cache
def own_conditions() -> bytes:
    """The conditions of the whole run, as JSON."""
    checkpoint, files = whole_run()
    head = unsigned_snapshot(files[f"fuzzed/{checkpoint}"]).partition(CUT)[0]
    return json.dumps(json.loads(head)["values"]["conditions"]).encode()


def read_written(data: bytes, folder: Path) -> None:
    """The files of a run that is resumed; it ends with the files of the whole run.

    The first byte of an input says which file it is.
    """
    _, files = whole_run()
    names = sorted(name for name in files if name.startswith("out/"))
    name = names[data[0] % len(names)] if data else names[0]
    restore(folder, files)
    (folder / name).write_bytes(data[1:])
    run(folder)
    if any((folder / one).read_bytes() != files[one] for one in names if one.endswith(".csv")):
        raise WrongError("other files than those of the whole run")


def mutate_written(data: bytes, rng: random.Random) -> bytes:
    """A file of a run, damaged; the first byte stays."""
    return data[:1] + mutate_bytes(data[1:], rng)


def run(folder: Path) -> None:
    """Score the texts with the cache alone."""
    from eval import Documents, score

    score(
        None, Documents(TEXTS), out=folder / "out", write_tokens=True,
        checkpoint=folder / "fuzzed", checkpoint_every=20,
    )  # fmt: skip


@cache
def whole_run() -> tuple[str, dict[str, bytes]]:
    """(name of the checkpoint, all files of a whole run by name), made once."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(folder)
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
    (checkpoint,) = (name for name in files if name.endswith(".ngrammix"))
    return Path(checkpoint).name, files


def restore(folder: Path, files: dict[str, bytes]) -> None:
    """Write the files of a whole run into the folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


READERS = {
    "toml": Reader(read_toml),
    "command-line": Reader(read_words, named=None),
    "checkpoint": json_reader(read_checkpoint),
    "results-folder": Reader(read_written, mutate_written, named=None),
}
