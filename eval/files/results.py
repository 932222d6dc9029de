"""The files of a run in its folder: another run's stay until this one's are whole."""

from collections.abc import Sequence
from pathlib import Path

from ngrammix.atomic import kind_of, replaced, sync_folder, write_errors

PART = ".part"


def part_of(path: Path) -> Path:
    """Where a file grows until it is whole, such as ``documents.csv.part``."""
    return path.with_name(path.name + PART)


def check_results(folder: Path | None, names: Sequence[str], *, overwrite: bool = False) -> None:
    """Raise ValueError if another run's files are in the way.

    Parameters
    ----------
    folder : Path or None
        The folder; None: nothing is checked.
    names : sequence of str
        Names of the files that the run will write there.
    overwrite : bool
        Accept files of these names.

    Raises
    ------
    ValueError
        If one of the names, or one of their parts, is taken by a file without `overwrite`, or by a
        folder, a pipe or a device. A link in the place of a result is replaced later, not followed.
    """
    if folder is None:
        return
    paths = [path for name in names for path in (folder / name, part_of(folder / name))]
    kinds = {path: kind for path in paths if (kind := kind_of(path)) is not None}
    for path, kind in kinds.items():
        if kind != "a file" and (kind != "a link" or path.suffix == PART):
            raise ValueError(f"results must become files, got {path}, {kind}; remove it")
    if kinds and not overwrite:
        found = ", ".join(path.name for path in kinds)
        raise ValueError(
            f"--out must hold no results of another run, got {found} in {folder}; choose "
            "another folder, or replace them with --overwrite"
        )


def put_in_place(folder: Path, names: Sequence[str], written: Sequence[str]) -> None:
    """Let the parts of a run take their names, all of them or none.

    What another run has left under any of the names is removed first, so that files of two runs
    never lie side by side under the names of one. Links are replaced, not followed.

    Parameters
    ----------
    folder : Path
        The folder.
    names : sequence of str
        Every name that such a run may write.
    written : sequence of str
        Those whose parts this run has written, whole and on disk.

    Raises
    ------
    ValueError
        If a part is gone, or the system refuses. Where a part is gone, nothing is changed.
    """
    for name in written:
        with write_errors(folder / name, "results"):
            part_of(folder / name).lstat()
    with write_errors(folder, "results"):
        for name in names:
            (folder / name).unlink(missing_ok=True)
        sync_folder(folder)
    for name in written:
        with write_errors(folder / name, "results"):
            part_of(folder / name).replace(folder / name)
    with write_errors(folder, "results"):
        sync_folder(folder)


def write_report(path: Path, text: str) -> None:
    """Write the text of a report, whole or not at all."""
    with replaced(path, "results") as file:
        file.write(text.encode("utf-8", "backslashreplace"))
