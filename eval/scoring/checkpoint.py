"""Checkpoints: what a killed run needs to go on, and to end with the same result.

Caches are made of tokens alone, so none is kept: a resumed run reads its data again, lets the cache
learn what was scored (millions of tokens a second), and compares the hash of those tokens with that
of the checkpoint. Kept is what is made of the model's numbers: sums, and what the experts learned.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ngrammix import snapshot

NAME = "checkpoint.ngrammix"


class Checkpoint:
    """One file in a folder, written whole or not at all.

    Parameters
    ----------
    folder : Path
        Made if it is missing.
    identity : mapping of str
        Data, model and configuration of the run: one of another identity does not go on here.

    Raises
    ------
    ValueError
        If something else has the folder's name.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"--checkpoint must be a folder, got the file {folder}; name another")
        folder.mkdir(parents=True, exist_ok=True)
        self._path, self._identity = folder / NAME, dict(identity)

    def save(self, state: dict[str, Any], experience: dict[str, NDArray[Any]]) -> None:
        """Keep this state, JSON and arrays, in the place of the one before."""
        snapshot.write(self._path, {"identity": self._identity, "state": state}, experience)

    def load(self) -> snapshot.Contents | None:
        """The state last kept, or None if there is none.

        Raises
        ------
        ValueError
            If it is of another run, or damaged.
        """
        if not self._path.exists():
            return None
        with snapshot.opened(self._path) as (values, experience):
            identity, state = dict(values["identity"]), dict(values["state"])
        for name, ours in self._identity.items():
            if identity.get(name) != ours:
                raise ValueError(
                    f"a run goes on with the {name} it began with, got {ours!r} where the "
                    f"checkpoint in {self._path.parent} has {identity.get(name)!r}; restore it, or "
                    "delete the checkpoint"
                )
        return state, experience
