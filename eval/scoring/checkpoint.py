"""Checkpoints: what an interrupted run needs to continue, and to end with the same result.

The cache is a function of the tokens, so it is not saved: a resumed run reads the data again, lets
the cache learn what was scored (millions of tokens a second), and compares the hash of those tokens
with the checkpoint's. Saved is what depends on the model: sums, and the experts' weights.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from eval.files.lock import make
from eval.scoring.conditions import find_change
from eval.scoring.saved_state import check_like
from ngrammix import snapshot
from ngrammix.atomic import write_errors

NAME = "checkpoint.ngrammix"
FORMAT = 2  # of the conditions and the state; that of the file around them is the snapshot's


class Checkpoint:
    """One file in a folder; writing it is atomic.

    Parameters
    ----------
    folder : Path
        Held by this run; made again if it has gone.
    conditions : mapping of str
        Data, model and configuration of the run; a run with other conditions cannot continue it.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        self._path, self._conditions = folder / NAME, dict(conditions)

    def save(self, state: dict[str, Any], experts: dict[str, NDArray[Any]]) -> None:
        """Replace the saved state: `state` as JSON, `experts` as arrays."""
        with write_errors(self._path, "checkpoints"):
            make(self._path.parent)
        values = {"checkpoint": FORMAT, "conditions": self._conditions, "state": state}
        snapshot.write(self._path, values, experts)

    def load(self, like: Mapping[str, Any]) -> snapshot.Contents | None:
        """(state, experts) as saved, or None if nothing was saved.

        `like` describes the state; see `check_like`.

        Raises
        ------
        ValueError
            If the file belongs to a run with other conditions or was written by another version
            of ngrammix, or is damaged.
        """
        if not self._path.exists():
            return None
        with snapshot.opened(self._path) as (values, experts):
            format_, conditions = values.get("checkpoint", 1), dict(values["conditions"])
            state = dict(values["state"])
        if format_ != FORMAT:
            raise ValueError(
                f"a checkpoint must be of format {FORMAT}, got {format_!r:.80} in {self._path}, "
                "which another version of ngrammix wrote; go on with that version "
                f"({conditions.get('versions')!r:.400}), or delete the checkpoint"
            )
        if (change := find_change(conditions, self._conditions)) is not None:
            raise ValueError(
                f"a run must go on with the {change.label} it began with, got {change.now!r} where "
                f"the checkpoint in {self._path.parent} has {change.before!r}; {change.mend}, or "
                "delete the checkpoint"
            )
        try:
            check_like(state, like, "state")
        except ValueError as error:
            raise snapshot.damaged(self._path, error) from error
        return state, experts

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Add the name of the file to the errors about what it holds."""
        try:
            yield
        except ValueError as error:
            raise ValueError(f"{error} (of {self._path})") from error


def has_checkpoint(folder: Path | None) -> bool:
    """Whether a run has saved its state in the folder; False for None."""
    return folder is not None and (folder / NAME).exists()
