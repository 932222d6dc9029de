"""One kind of callback for three trackers; modules that record their calls stand in for them."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from eval.plugins.loggers import make_callback, to_mlflow, to_tensorboard, to_wandb

PROGRESS = [
    (1000, {"eval/bpb": 1.5, "eval/bpb_model": 1.75}),
    (2000, {"eval/bpb": 1.25, "eval/bpb_model": 1.75, "eval/tokens_per_second": 8000.0}),
]


def tell(callback):
    for step, values in PROGRESS:
        callback(step, values)


class Run:
    """Takes what `wandb.Run.log` takes."""

    def __init__(self):
        self.calls = []

    def log(self, data, step=None, commit=None):
        self.calls.append((step, data))


class Writer:
    """Takes what torch's `SummaryWriter` takes."""

    def __init__(self, log_dir=None):
        self.log_dir, self.calls, self.n_flushes = log_dir, [], 0

    def add_scalar(self, tag, scalar_value, global_step=None):
        self.calls.append((global_step, tag, scalar_value))

    def flush(self):
        self.n_flushes += 1


def module(monkeypatch, name, **contents):
    fake = ModuleType(name)
    vars(fake).update(contents)
    monkeypatch.setitem(sys.modules, name, fake)
    return fake


def scalars():
    return [(step, tag, value) for step, values in PROGRESS for tag, value in values.items()]


@pytest.mark.parametrize("start", [to_wandb, lambda: make_callback("wandb")])
def test_wandb_logs_to_the_open_run(start, monkeypatch):
    run = Run()
    module(monkeypatch, "wandb", run=run, init=None)
    tell(start())
    assert run.calls == PROGRESS


def test_wandb_opens_a_run_where_none_is(monkeypatch):
    run = Run()
    module(monkeypatch, "wandb", run=None, init=lambda: run)
    tell(to_wandb())
    assert run.calls == PROGRESS


def test_wandb_logs_to_the_run_that_is_given(monkeypatch):
    run = Run()
    monkeypatch.setitem(sys.modules, "wandb", None)  # not even imported
    tell(to_wandb(run))
    assert run.calls == PROGRESS


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (to_mlflow, None),
        (lambda: make_callback("mlflow"), None),
        (lambda: to_mlflow("0123abcd"), "0123abcd"),
    ],
)
def test_mlflow_logs_to_the_run(start, expected, monkeypatch):
    calls = []

    def log_metrics(metrics, step=None, synchronous=None, run_id=None):
        calls.append((step, metrics, run_id))

    module(monkeypatch, "mlflow", log_metrics=log_metrics)
    tell(start())
    assert calls == [(step, values, expected) for step, values in PROGRESS]


def test_tensorboard_writes_every_value_and_flushes():
    writer = Writer()
    tell(to_tensorboard(writer))
    assert writer.calls == scalars()
    assert writer.n_flushes == len(PROGRESS)


@pytest.mark.parametrize(
    "start",
    [
        lambda: to_tensorboard("runs/a:b"),
        lambda: to_tensorboard(Path("runs/a:b")),
        lambda: make_callback("tensorboard:runs/a:b"),
    ],
)
def test_tensorboard_makes_a_writer_for_a_directory(start, monkeypatch):
    writers = []

    def make_writer(log_dir):
        writers.append(Writer(log_dir))
        return writers[-1]

    module(monkeypatch, "torch.utils.tensorboard", SummaryWriter=make_writer)
    tell(start())
    (writer,) = writers
    assert writer.log_dir == str(Path("runs/a:b"))
    assert writer.calls == scalars()


def test_the_values_told_are_the_trackers_own():
    """What a tracker does to its dictionary does not reach the caller's."""
    values = {"eval/bpb": 1.0}
    to_wandb(SimpleNamespace(log=lambda data, step: data.clear()))(1, values)
    assert values == {"eval/bpb": 1.0}


@pytest.mark.parametrize(
    ("name", "missing", "package"),
    [
        ("wandb", "wandb", "wandb"),
        ("mlflow", "mlflow", "mlflow"),
        ("tensorboard:runs", "torch.utils.tensorboard", "tensorboard"),
    ],
)
def test_a_missing_package_is_named(name, missing, package, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError) as error:
        make_callback(name)
    assert str(error.value) == (
        f"a log to {package} needs the package {package}, which is missing; pip install {package}"
    )


@pytest.mark.parametrize("name", ["", "wandb:x", "tensorboard", "tensorboard:", "Wandb", "csv"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError) as error:
        make_callback(name)
    assert str(error.value) == (
        f"a log must go to wandb, mlflow or tensorboard:DIR, got {name!r}; leave it out for none"
    )
