"""Callbacks that log the progress of a score to Weights & Biases, MLflow or TensorBoard."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from eval.fields import expand_home
from eval.scoring.progress import Callback


def make_callback(name: str) -> Callback:
    """The callback of this name, for ``--log``.

    Parameters
    ----------
    name : str
        "wandb", "mlflow", or "tensorboard:DIR".

    Raises
    ------
    ValueError
        If the name is not one of these, or the package is missing.
    """
    kind, _, directory = name.partition(":")
    if name == "wandb":
        return to_wandb()
    if name == "mlflow":
        return to_mlflow()
    if kind == "tensorboard" and directory:
        return to_tensorboard(expand_home(directory))
    raise ValueError(
        f"a log must go to wandb, mlflow or tensorboard:DIR, got {name!r}; leave it out for none"
    )


def to_wandb(run: Any = None) -> Callback:
    """Callback that logs to a Weights & Biases run.

    Parameters
    ----------
    run : wandb.Run, optional
        Default: the current run, or a new one with the settings of the environment.

    Raises
    ------
    ValueError
        If wandb is missing and no run is passed.
    """
    if run is None:
        wandb = _load("wandb", "wandb")
        run = wandb.run or wandb.init()

    def log(step: int, values: Mapping[str, float]) -> None:
        run.log(dict(values), step=step)

    return log


def to_mlflow(run_id: str | None = None) -> Callback:
    """Callback that logs to an MLflow run.

    Parameters
    ----------
    run_id : str, optional
        Default: the active run, or a new one.

    Raises
    ------
    ValueError
        If mlflow is missing.
    """
    mlflow = _load("mlflow", "mlflow")

    def log(step: int, values: Mapping[str, float]) -> None:
        mlflow.log_metrics(dict(values), step=step, run_id=run_id)

    return log


def to_tensorboard(writer: Any) -> Callback:
    """Callback that writes to a TensorBoard directory and flushes every time.

    Parameters
    ----------
    writer : str, path or SummaryWriter
        The directory, or an open writer.

    Raises
    ------
    ValueError
        If tensorboard is missing and a directory is passed.
    """
    if isinstance(writer, str | Path):
        writer = _load("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(writer))

    def log(step: int, values: Mapping[str, float]) -> None:
        for tag, value in values.items():
            writer.add_scalar(tag, value, step)
        writer.flush()  # a killed run keeps its log

    return log


def _load(module: str, package: str) -> Any:
    """Import a module; the ValueError names the package to install."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"a log to {package} needs the package {package}, which is missing; "
            f"pip install {package}"
        ) from error
