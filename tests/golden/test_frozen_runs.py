"""Frozen files of runs: today's code goes on with the checkpoint, and writes the same results.

A checkpoint is bound to the machine and the versions that wrote it. The test puts those of the
frozen one in the place of its own; without that, it is refused by name.

``python -m tests.golden.test_frozen_runs`` writes the files anew, which only a new format needs; no
test ever does.
"""

import csv
import hashlib
import io
import json
import lzma
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import pytest
import torch

from eval import ScoreConfig, compare, score
from eval.data.document import Document, Documents
from eval.scoring.conditions import CONDITIONS
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from ngrammix import snapshot
from quant import QuantizedModel, quantize_model
from quant.models.recipe_file import find_recipe

FOLDER = Path(__file__).with_name("frozen")
CHECKPOINT = "checkpoint.ngrammix"
FILES = ("result.json", "documents.csv", "tokens.csv")
MACHINE = ("versions", "hardware", "torch_threads", "torch_settings")
TIMES = ("seconds", "tokens_per_second")
CONFIG = ScoreConfig(order=4, stride=8, batch=2)
MODEL = FOLDER / "quantized-model.ngq"


class IntegerModel:
    """Bytes as tokens; logits of integer arithmetic alone."""

    name, vocab_size, context = "integers", 257, 16
    tokenizer = ByteTokenizer(256)

    def logits(self, tokens):
        return ((tokens[..., None] + 3) * (np.arange(257) + 1) * 31 % 64 / 16).astype(np.float32)


def documents():
    texts = [b"the cat sat on the mat, " * 9, b"=1+1 and the dog sat on the cat", b"\xff\x00\n\r\t"]
    return Documents([Document(f"text {i}", text) for i, text in enumerate(texts)])


def network():
    """A torch module with a tied head, whose weights are of integer arithmetic."""
    part = torch.nn.Sequential(torch.nn.Embedding(24, 16), torch.nn.Linear(16, 24, bias=False))
    weight = (torch.arange(24 * 16) ** 2 * 7 % 101 - 50).reshape(24, 16) / 64
    part[0].weight.data[:] = weight
    part[1].weight = part[0].weight
    part.append(torch.nn.LayerNorm(24))
    return part


class StopError(Exception):
    """Ends a run."""


def stop(position, figures):
    if position >= 150:
        raise StopError


def run(folder, **options):
    return score(
        IntegerModel(), documents(), CONFIG, out=folder, write_tokens=True, write_report=True,
        checkpoint=folder / "checkpoint", checkpoint_every=50, **options,
    )  # fmt: skip


def compared():
    return compare(IntegerModel(), documents(), ["ngrammix", "entropy"], CONFIG)


def files_in(folder):
    """The files of a run by their names within the folder, without locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "lock" not in path.name)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def quantized_figures(path):
    """Names, and the SHA-256 of the weights, of the module with the weights of a file."""
    whole = network()
    QuantizedModel.load(path).load_into(whole)
    return {
        name: hashlib.sha256(value.numpy().astype("<f4").tobytes()).hexdigest()
        for name, value in whole.state_dict().items()
    }


def without_machine(values):
    skipped = (*TIMES, *MACHINE, "signature")
    return {name: value for name, value in values.items() if not name.startswith(skipped)}


def like(values):
    """Values to compare with: floats to 9 digits."""
    return {
        name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        for name, value in values.items()
    }


def cells(content):
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def frozen(name):
    """The files of one of the frozen folders."""
    packed = json.loads(lzma.decompress((FOLDER / f"{name}.xz").read_bytes()))
    return {path: bytes.fromhex(content) for path, content in packed.items()}


@pytest.fixture
def interrupted(tmp_path):
    """The folder of the frozen run that was interrupted."""
    for name, content in frozen("interrupted").items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def check_files(folder):
    """Every file of a run is that of the frozen one; the last digits may be those of a machine."""
    expected = frozen("finished")
    result = json.loads((folder / "result.json").read_bytes())
    first = json.loads(expected["result.json"])
    assert list(result) == list(first)
    assert without_machine(result) == like(without_machine(first))
    for name in ("documents.csv", "tokens.csv"):
        rows, others = cells((folder / name).read_bytes()), cells(expected[name])
        assert len(rows) == len(others)
        for row, other in zip(rows, others, strict=True):
            assert len(row) == len(other)
            for cell, wanted in zip(row, other, strict=True):
                assert cell == wanted or float(cell) == pytest.approx(float(wanted), abs=2e-6)


def test_a_frozen_checkpoint_goes_on_to_the_same_files(interrupted, monkeypatch):
    values, _ = snapshot.read(interrupted / "checkpoint" / CHECKPOINT)
    assert 0 < values["state"]["position"] < 250
    asked = []
    monkeypatch.setattr(
        "eval.scoring.score.run_conditions", lambda *parts: asked.append(1) or values["conditions"]
    )
    run(interrupted)
    assert asked
    check_files(interrupted)


def test_on_another_machine_it_is_refused_by_name(interrupted, monkeypatch):
    monkeypatch.setattr("eval.scoring.conditions.versions", lambda: "ngrammix 99")
    with pytest.raises(ValueError) as error:
        run(interrupted)
    assert str(error.value).startswith(
        "a run must go on with the versions it began with, got 'ngrammix 99' where the checkpoint "
        f"in {interrupted / 'checkpoint'} has 'ngrammix 0.1.0, "
    )
    assert str(error.value).endswith("; install the same versions, or delete the checkpoint")


def test_a_new_run_writes_the_same_files(tmp_path):
    result = run(tmp_path)
    check_files(tmp_path)
    conditions = {name: getattr(result, name) for name in CONDITIONS}
    assert json.loads(json.dumps(conditions)) == conditions
    assert asdict(result).keys() == json.loads(frozen("finished")["result.json"]).keys()


def test_a_comparison_has_the_same_figures():
    flat, first = json.loads(compared().to_json()), json.loads(frozen("finished")["compare.json"])
    assert list(flat) == list(first)
    assert without_machine(flat) == like(without_machine(first))


def test_a_frozen_model_is_loaded_to_the_same_weights(tmp_path):
    expected = json.loads((FOLDER / "quantized-model.json").read_text())
    assert quantized_figures(MODEL) == expected
    loaded = QuantizedModel.load(MODEL)
    loaded.save(tmp_path / "again.ngq", codec="none")
    assert (tmp_path / "again.ngq").read_bytes() == MODEL.read_bytes()


def test_the_same_weights_are_quantized_to_the_same_file(tmp_path):
    quantize_model(network(), find_recipe("int6")).save(tmp_path / "a.ngq", codec="none")
    assert quantized_figures(tmp_path / "a.ngq") == quantized_figures(MODEL)


def pack(files):
    """Files as one compressed file."""
    return lzma.compress(json.dumps({k: v.hex() for k, v in sorted(files.items())}).encode())


def write_frozen():
    """Write all of the files anew."""
    with TemporaryDirectory() as name, patch("eval.scoring.progress.SECONDS", -1.0):
        folder = Path(name)
        try:
            run(folder, callbacks=[stop])
        except StopError:
            files = {
                path: content for path, content in files_in(folder).items() if "lock" not in path
            }
            (FOLDER / "interrupted.xz").write_bytes(pack(files))
        run(folder)
        finished = {path: (folder / path).read_bytes() for path in FILES}
        finished["compare.json"] = compared().to_json().encode()
        (FOLDER / "finished.xz").write_bytes(pack(finished))
    quantize_model(network(), find_recipe("int6")).save(MODEL, codec="none")
    figures = json.dumps(quantized_figures(MODEL), indent=2)
    (FOLDER / "quantized-model.json").write_text(figures + "\n")


if __name__ == "__main__":
    write_frozen()
