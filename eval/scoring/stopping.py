"""What a run that ends early keeps: a checkpoint at the batch that it scored last."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from eval.scoring.run import Run


@contextmanager
def kept(run: Run, save: Callable[[], None], folder: Path | None) -> Iterator[None]:
    """Save the run if the block ends early; an interrupt gets a note of what is kept.

    Nothing is saved before the first token, nor within `Run.score`, where sums and files are those
    of half a batch.

    Parameters
    ----------
    run : Run
        Advances in the block.
    save : callable
        Writes the checkpoint.
    folder : Path, optional
        Where the checkpoint is; None: there is none.
    """
    try:
        yield
    except BaseException as error:
        is_saved = folder is not None and run.is_whole and run.position > 0
        if is_saved:
            try:
                save()
            except ValueError as unsaved:  # the error that ended the run matters more
                error.add_note(str(unsaved))
                is_saved = False
        if isinstance(error, KeyboardInterrupt):
            error.add_note(describe(run, folder if is_saved else None))
        raise


def describe(run: Run, folder: Path | None) -> str:
    """How far a run came, and where that is saved."""
    bpb = run.metrics.scores()["bpb"]
    figure = "" if bpb is None else f", BPB {bpb:.4f} so far"
    if folder is not None:
        return f"{run.position:,} tokens are scored{figure}, and saved in {folder}"
    if run.position == 0:
        return "no token was scored"
    return f"{run.position:,} tokens were scored{figure}; --checkpoint DIR would keep them"
