"""Checkpoints of `quantize_model`: a run that was killed ends with the bits of one that was not."""

import json
import os
import shutil
import signal
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch
from torch import nn

from quant import GptqConfig, Recipe, Rule, ScalarConfig, calibrate, quantize_model
from quant.models import checkpoint as checkpoints
from quant.models.checkpoint import CONDITIONS, read_state, write_state
from quant.models.identity import hash_of
from quant.models.named_recipes import make_recipe

GPTQ = GptqConfig(inner=ScalarConfig(bits=3, clip="mse"))
SEQUENTIAL = make_recipe("sequential", GPTQ, ScalarConfig(), sequential=True)


class Block(nn.Module):
    """Two weights with the same inputs, and one behind them; some blocks use a weight twice."""

    def __init__(self, n, *, is_twice):
        super().__init__()
        self.left, self.right, self.out = (nn.Linear(n, n) for _ in range(3))
        self.is_twice = is_twice

    def forward(self, x):
        y = self.left(x).tanh() * self.right(x)
        if self.is_twice:
            y = y + self.left(x).tanh()
        return x + self.out(y)


class Twice(Block):
    """A block that uses its first weights again, on their own outputs."""

    def forward(self, x):
        return super().forward(super().forward(x))


class Network(nn.Module):
    """Blocks between an embedding and a head; with `is_bound`, blocks cannot run alone."""

    def __init__(self, kind=Block, n_blocks=3, *, is_bound=False, n=8):
        super().__init__()
        self.embed = nn.Embedding(17, n)
        self.blocks = nn.ModuleList(kind(n, is_twice=i == 1) for i in range(n_blocks))
        self.head = nn.Linear(n, 17, bias=False)
        self.is_bound = is_bound

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x + self.blocks[0].left.weight[0] if self.is_bound else x)
        return self.head(x)


NETWORKS = {
    "blocks": Network,
    "weights used twice": lambda: Network(Twice),
    "blocks bound to each other": lambda: Network(is_bound=True),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def batches():
    return [torch.randint(0, 17, (4, 12)) for _ in range(2)]


class StoppedError(Exception):
    """The run was stopped, in the place of a kill."""


def stop_after(monkeypatch, n):
    """Stop the next runs once they have stored n weights."""
    save, count = checkpoints.Checkpoint.save, 0

    def counted(*arguments):
        nonlocal count
        if count == n:
            raise StoppedError
        save(*arguments)
        count += 1

    monkeypatch.setattr(checkpoints.Checkpoint, "save", counted)


def content(quantized, folder):
    quantized.save(folder / "file.ngq", codec="zstd")
    return (folder / "file.ngq").read_bytes()


def figures(quantized):
    return [replace(report, seconds=0.0) for report in quantized.report]


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_run_stopped_after_any_weight_ends_with_the_same_bits(
    kind, batches, tmp_path, monkeypatch
):
    model = NETWORKS[kind]()
    calibration = calibrate(model, batches)
    whole = quantize_model(model, SEQUENTIAL, calibration)
    expected = content(whole, tmp_path)
    n_weights = sum(report.quantizer != "keep" for report in whole.report)
    assert n_weights == 11
    for n in range(n_weights):
        folder = tmp_path / f"kept {n}"
        with monkeypatch.context() as patch:
            stop_after(patch, n)
            with pytest.raises(StoppedError):
                quantize_model(model, SEQUENTIAL, calibration, checkpoint=folder)
        assert len(list(folder.iterdir())) == n + 1
        resumed = quantize_model(model, SEQUENTIAL, calibration, checkpoint=folder)
        assert content(resumed, tmp_path) == expected
        assert figures(resumed) == figures(whole)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_weight_that_was_deleted_is_quantized_again(kind, batches, tmp_path):
    model, folder = NETWORKS[kind](), tmp_path / "kept"
    whole = content(quantize_model(model, SEQUENTIAL, batches, checkpoint=folder), tmp_path)
    paths = sorted(folder.glob("weight-*"))
    for path in paths:
        before = path.read_bytes()
        path.unlink()
        assert content(quantize_model(model, SEQUENTIAL, batches, checkpoint=folder), tmp_path) == (
            whole
        )
        assert len(path.read_bytes()) == pytest.approx(len(before), abs=64)  # another time is in it


def test_stopped_again_and_again(batches, tmp_path, monkeypatch):
    model, n_stops = Network(), 0
    whole = content(quantize_model(model, "gptq-int4", batches), tmp_path)
    while True:
        with monkeypatch.context() as patch:
            stop_after(patch, 1)
            try:
                done = quantize_model(model, "gptq-int4", batches, checkpoint=tmp_path / "kept")
            except StoppedError:
                n_stops += 1
                continue
        break
    assert n_stops == 10
    assert content(done, tmp_path) == whole


@pytest.mark.parametrize("recipe", ["int8", "nf4", "residual", "gptq-int6+int8-embed"])
def test_finished_weights_are_not_quantized_again(recipe, batches, tmp_path, monkeypatch):
    model = Network()
    whole = quantize_model(model, recipe, batches, checkpoint=tmp_path / "kept")

    def fail(*arguments):
        raise AssertionError

    monkeypatch.setattr("quant.models.quantize_tensor.quantize_matrix", fail)
    again = quantize_model(model, recipe, batches, checkpoint=tmp_path / "kept")
    assert again.report == whole.report
    assert content(again, tmp_path) == content(whole, tmp_path)


def killed_at(n, folder):
    """Quantize into the folder; the process is killed at its n-th rename of a file."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Network()
    batches = [torch.randint(0, 17, (4, 12)) for _ in range(2)]
    rename, count = os.rename, 0

    def counted(source, target, **options):
        nonlocal count
        count += 1
        if count == (n + 1) // 2 and n % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target, **options)
        if count == n // 2 and not n % 2:
            os.kill(os.getpid(), signal.SIGKILL)

    os.rename = os.replace = counted
    quantize_model(model, SEQUENTIAL, batches, checkpoint=folder / "kept").save(
        folder / "file.ngq", codec="zstd"
    )


@pytest.mark.slow
def test_kill_9_at_20_points_leaves_what_a_run_goes_on_with(tmp_path):
    context = get_context("fork")

    def run(n, folder):
        folder.mkdir(exist_ok=True)
        process = context.Process(target=killed_at, args=(n, folder))
        process.start()
        process.join()
        return process.exitcode

    assert run(0, tmp_path / "whole") == 0
    expected = (tmp_path / "whole" / "file.ngq").read_bytes()
    for n in range(1, 21):  # before and after each of ten renames
        folder = tmp_path / str(n)
        assert run(n, folder) == -signal.SIGKILL
        assert not (folder / "file.ngq").exists()
        assert run(0, folder) == 0
        assert (folder / "file.ngq").read_bytes() == expected


def changed_runs(model, batches):
    other = Network()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other.head.weight[0, 0] += 1e-6
    keep = replace(SEQUENTIAL, rules=(Rule(names="head.*", use="keep"), *SEQUENTIAL.rules))
    moved = [batches[0].clone(), batches[1].clone()]
    moved[1][0, 0] = (moved[1][0, 0] + 1) % 17
    return {
        "model": (other, SEQUENTIAL, batches),
        "recipe": (model, replace(SEQUENTIAL, name="other"), batches),
        "rules of the recipe": (model, keep, batches),
        "calibration batches": (model, SEQUENTIAL, moved),
        "Fisher information": (model, SEQUENTIAL, calibrate(model, batches, fisher=True)),
        "names of calibrate": (
            model, SEQUENTIAL, calibrate(model, batches, names=["head.weight"]),
        ),
    }  # fmt: skip


def test_a_checkpoint_of_another_run_is_refused(batches, tmp_path):
    model, folder = Network(), tmp_path / "kept"
    quantize_model(model, SEQUENTIAL, batches, checkpoint=folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for name, arguments in changed_runs(model, batches).items():
        with pytest.raises(ValueError, match=f"go on with the {name} it began with, got .* where"):
            quantize_model(*arguments, checkpoint=folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "value", "mend"),
    [
        ("versions", "torch 1.0", "install the same versions"),
        ("threads", 77, "set OMP_NUM_THREADS=77"),
        ("hardware", "abacus", "use the same kind of machine"),
        ("seed", 5, "pass the same seed"),
        ("format", 0, "go on with the ngrammix that wrote it"),
        ("what no run has", 1, "pass the same what no run has"),
    ],
)
def test_what_changed_is_named_with_its_mend(name, value, mend, batches, tmp_path):
    model = Network()
    quantize_model(model, "int8", batches, checkpoint=tmp_path)
    state, _ = read_state(tmp_path / CONDITIONS, 1 << 20, "")
    write_state(tmp_path / CONDITIONS, state | {name: value}, {})
    with pytest.raises(ValueError, match=f"the {name} it began with") as caught:
        quantize_model(model, "int8", batches, checkpoint=tmp_path)
    assert str(caught.value).endswith(
        f"where the checkpoint in {tmp_path} has {value}; {mend}, or delete the checkpoint"
    )


def test_a_seed_is_a_condition_where_it_moves_something(batches, tmp_path):
    model = Network()
    kept = [calibrate(model, batches, fisher=True, seed=seed) for seed in (0, 1)]
    quantize_model(model, SEQUENTIAL, kept[0], checkpoint=tmp_path)
    with pytest.raises(ValueError, match="the seed it began with, got 1 where"):
        quantize_model(model, SEQUENTIAL, kept[1], checkpoint=tmp_path)
    plain = [calibrate(model, batches, seed=seed) for seed in (0, 1)]
    quantize_model(model, SEQUENTIAL, plain[0], checkpoint=tmp_path / "b")
    quantize_model(model, SEQUENTIAL, plain[1], checkpoint=tmp_path / "b")


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "longer", "folder"])
def test_a_damaged_file_is_refused_by_name(damage, batches, tmp_path):
    model, recipe = Network(n_blocks=1), SEQUENTIAL
    quantize_model(model, recipe, batches, checkpoint=tmp_path / "whole")
    for name in sorted(path.name for path in (tmp_path / "whole").iterdir()):
        folder = tmp_path / f"{name} {damage}"
        shutil.copytree(tmp_path / "whole", folder)
        path = folder / name
        blob = bytearray(path.read_bytes())
        if damage == "flip":
            blob[len(blob) // 2] ^= 1
        elif damage == "cut":
            blob = blob[:-1]
        elif damage == "empty":
            blob = bytearray()
        elif damage == "longer":
            blob += b"\0"
        path.unlink()
        if damage == "folder":
            path.mkdir()
        else:
            path.write_bytes(blob)
        with pytest.raises(ValueError, match="a checkpoint must be as it was saved") as caught:
            quantize_model(model, recipe, batches, checkpoint=folder)
        end = "that file, so that its weight is quantized again"
        end = "the checkpoint" if name == CONDITIONS else end
        assert f"got a damaged {path} (" in str(caught.value)
        assert str(caught.value).endswith(f"; delete {end}")
        assert "\n" not in str(caught.value)


def test_files_of_other_weights_and_runs_are_refused(batches, tmp_path):
    model, folder = Network(n_blocks=1), tmp_path / "a"
    quantize_model(model, SEQUENTIAL, batches, checkpoint=folder)
    quantize_model(model, "gptq-int4", batches, checkpoint=tmp_path / "b")
    first, second, *_ = sorted(path.name for path in folder.glob("weight-*"))
    whole = (folder / first).read_bytes()
    for other in (folder / second, tmp_path / "b" / first):
        (folder / first).write_bytes(other.read_bytes())
        with pytest.raises(ValueError, match=r"another weight than .* of this run\); delete that"):
            quantize_model(model, SEQUENTIAL, batches, checkpoint=folder)
    (folder / first).write_bytes(whole)
    state, tensors = read_state(folder / first, 1 << 20, "")
    hostile = [{}, {"report": 5}, {"report": state["report"] | {"extra": 1}},
               {"report": {}}, {"report": state["report"] | {"name": 4}}]  # fmt: skip
    for values in hostile:
        write_state(folder / first, {"conditions": state["conditions"], **values}, tensors)
        with pytest.raises(ValueError, match=r"got a damaged .*; delete that file"):
            quantize_model(model, SEQUENTIAL, batches, checkpoint=folder)


def test_a_folder_that_cannot_be_written_is_said_at_the_start(batches, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise AssertionError

    monkeypatch.setattr("quant.models.quantize_model.calibrate_for_recipes", fail)
    (tmp_path / "file").write_text("")
    for path, text in (
        (tmp_path / "file", "checkpoint must be a folder, got .*file, a file; choose another name"),
        (
            tmp_path / "file" / "x",
            "checkpoint must be a folder that can be written to, got .*: Not",
        ),
    ):
        with pytest.raises(ValueError, match=text):
            quantize_model(Network(), SEQUENTIAL, batches, checkpoint=path)
    if os.geteuid() == 0:  # has all rights
        return
    (tmp_path / "closed").mkdir(mode=0o555)
    with pytest.raises(ValueError, match="get the right to write there"):
        quantize_model(Network(), SEQUENTIAL, batches, checkpoint=tmp_path / "closed")


def test_hashes_tell_batches_apart():
    ids = np.arange(6).reshape(2, 3)
    values = [
        ids, ids.T, ids.reshape(3, 2), ids.astype(np.int32), ids.tolist(), tuple(map(tuple, ids)),
        torch.from_numpy(ids), torch.from_numpy(ids).to(torch.int32), {"input_ids": ids},
        {"ids": ids}, [ids], [ids, ids], (ids,), [[ids]], None, True, 1, 1.0, "1", b"1", [], [None],
        torch.zeros(2, dtype=torch.bfloat16), torch.zeros((), dtype=torch.bool), np.float32(1),
    ]  # fmt: skip
    assert len({hash_of(value) for value in values}) == len(values)
    assert hash_of(torch.from_numpy(ids).T) == hash_of(torch.from_numpy(ids.T.copy()))
    assert hash_of({"a": object()}) == hash_of({"a": object()})


def test_the_conditions_are_json(batches, tmp_path):
    quantize_model(Network(), SEQUENTIAL, batches, checkpoint=tmp_path)
    state, tensors = read_state(tmp_path / CONDITIONS, 1 << 20, "")
    assert not tensors
    assert json.loads(json.dumps(state)) == state
    assert state["recipe"] == "sequential"


def test_a_recipe_of_other_rules_and_kept_weights(batches, tmp_path):
    rules = (Rule(names="blocks.0.*", use="keep"), Rule(names="head.*", use="float16"),
             *SEQUENTIAL.rules)  # fmt: skip
    recipe = Recipe(name="mixed", rules=rules, sequential=True)
    model = Network()
    first = quantize_model(model, recipe, batches, checkpoint=tmp_path / "kept")
    again = quantize_model(model, recipe, batches, checkpoint=tmp_path / "kept")
    assert content(first, tmp_path) == content(again, tmp_path)
    assert figures(first) == figures(again)
    assert len(list((tmp_path / "kept").iterdir())) == 1 + 1 + 6
