"""Checkpoints of `quantize_model`: the weights that are finished, by which a killed run goes on.

A folder holds the conditions of the run, and a file for each finished weight with its report. Each
is written whole or not at all, and has a checksum. Hessians are not stored: they take more room
than the model, and calibration takes less time than rounding by them. So a run that goes on
calibrates again, and reads the finished weights instead of quantizing them.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ngrammix.atomic import kind_of, reason
from ngrammix.reading import read_errors, shown
from quant.base.config import Config, QuantizedTensor
from quant.io.file import MAX_BYTES, load, save
from quant.models.plan import Job
from quant.models.report import TensorReport

FORMAT = 1
CONDITIONS = "quantize.ngq"
TENSOR, STATE = "tensor", "state"  # names in a file
MAX_CONDITIONS = 1 << 22  # bytes
BYTES_A_WEIGHT = 32  # most that a file and its decoded weights need
MAX_TEXT = 300  # characters of a value or a reason in an error
REPORT_TUPLES = ("shape", "notes")
# How to come back to a condition, where that takes more than to pass the argument again.
MENDS = {
    "format": "go on with the ngrammix that wrote it",
    "versions": "install the same versions",
    "model": "pass the same model, with the same weights",
    "calibration batches": "calibrate with the same data, number of tokens, context and seed",
    "hardware": "use the same kind of machine",
    "threads": "set OMP_NUM_THREADS={value}",
}


class Checkpoint:
    """A folder of finished weights; made if it is missing, and written to at once.

    Parameters
    ----------
    folder : path
    conditions : mapping of str
        All that moves the result, as JSON; a run with others cannot go on.

    Raises
    ------
    ValueError
        If the folder belongs to a run with other conditions, is damaged, or cannot be written to.
    """

    def __init__(self, folder: str | os.PathLike[str], conditions: Mapping[str, Any]) -> None:
        self._folder = Path(folder)
        self._conditions = json.loads(json.dumps({"format": FORMAT, **conditions}))
        make_folder(self._folder)
        path = self._folder / CONDITIONS
        if exists(path):
            self._check_same(read_state(path, MAX_CONDITIONS, "the checkpoint")[0])
        write_state(path, self._conditions, {})

    def has(self, job: Job) -> bool:
        """Whether the tensor of the job is finished."""
        return isinstance(job.config, Config) and exists(self._path(job))

    def save(self, job: Job, tensor: QuantizedTensor, report: TensorReport) -> None:
        """Store a finished tensor and its report; ValueError if the system refuses."""
        make_folder(self._folder)
        state = {"conditions": self._conditions, "report": asdict(report)}
        write_state(self._path(job), state, {TENSOR: tensor})

    def load(self, job: Job) -> tuple[QuantizedTensor, TensorReport]:
        """A finished tensor and its report; ValueError if the file is not what was saved."""
        path, what = self._path(job), "that file, so that its weight is quantized again"
        most = max(MAX_BYTES, BYTES_A_WEIGHT * job.weight.numel())
        state, tensors = read_state(path, most, what)
        tensor = tensors.get(TENSOR)
        try:
            report = report_of(state["report"])
            is_same = (
                state["conditions"] == self._conditions
                and report.name == job.name
                and isinstance(tensor, QuantizedTensor)
                and tensor.layout.shape == tuple(job.weight.shape)
            )
        except (LookupError, TypeError, ValueError) as error:
            raise damaged(path, repr(error), what) from error
        if not is_same:
            raise damaged(path, f"another weight than {job.name} of this run", what)
        assert isinstance(tensor, QuantizedTensor)
        return tensor, report

    def _path(self, job: Job) -> Path:
        return self._folder / f"weight-{sha256(job.name.encode()).hexdigest()[:16]}.ngq"

    def _check_same(self, before: Mapping[str, Any]) -> None:
        """Raise ValueError that names the first condition which changed."""
        for name in [*self._conditions, *before]:
            old, new = before.get(name), self._conditions.get(name)
            if old != new:
                mend = MENDS.get(name, f"pass the same {name}").format(value=old)
                raise ValueError(
                    f"a run must go on with the {name} it began with, got {shown(new, MAX_TEXT)} "
                    f"where the checkpoint in {self._folder} has {shown(old, MAX_TEXT)}; {mend}, "
                    "or delete the checkpoint"
                )


def has_checkpoint(folder: Path | None) -> bool:
    """Whether a run has begun to store weights in the folder; False for None."""
    return folder is not None and exists(folder / CONDITIONS)


def make_folder(folder: Path) -> None:
    """Make the folder of a checkpoint; ValueError if the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise ValueError(
            f"checkpoint must be a folder, got {folder}, {kind_of(folder)}; choose another name"
        ) from error
    except OSError as error:
        raise ValueError(
            f"checkpoint must be a folder that can be written to, got {folder}: {reason(error)}"
        ) from error


def exists(path: Path) -> bool:
    """Whether there is a file; ValueError if the system does not tell."""
    with read_errors(path):
        return path.exists()


def write_state(path: Path, state: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """Write a state (JSON) and tensors, whole or not at all."""
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    save(path, {STATE: text, **tensors}, packed=True, codec="none")


def read_state(path: Path, max_bytes: int, what: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(state, tensors) that `write_state` wrote; else ValueError, which says to delete `what`."""
    try:
        tensors = load(path, max_bytes)
        return dict(json.loads(bytes(tensors.pop(STATE)))), tensors
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise damaged(path, str(error).partition(";")[0], what) from error


def damaged(path: Path, why: str, what: str) -> ValueError:
    """The error for a file that is not what was saved."""
    return ValueError(
        f"a checkpoint must be as it was saved, got a damaged {path} ({shown(why, MAX_TEXT)}); "
        f"delete {what}"
    )


def report_of(values: Mapping[str, Any]) -> TensorReport:
    """The report that was stored as JSON; an error of several kinds if it is none."""
    tuples = {name: tuple(values[name]) for name in REPORT_TUPLES}
    return TensorReport(**{**values, **tuples})
