"""The end of a run: its result is told before the last files are written."""

from collections.abc import Callable
from pathlib import Path

from eval.files.results import write_report
from eval.interrupts import uninterrupted
from eval.scoring.result import Result
from eval.scoring.run import Run

OnResult = Callable[[Result], None]


def finish(
    run: Run,
    result: Result,
    save: Callable[[], None],
    on_result: OnResult | None,
    report: Path | None,
) -> None:
    """Tell the result, then save the run, let its files take their names, and write the report.

    Each is done even if the ones before fail, and an interrupt waits for all: whatever becomes of
    the files, the result is told, and whoever reads it, the files are written.

    Parameters
    ----------
    run : Run
        Every token is scored.
    result : Result
        Its result.
    save : callable
        Writes the checkpoint.
    on_result : callable, optional
        Is told the result.
    report : Path, optional
        The file of the result, as JSON.
    """
    try:
        if on_result is not None:
            on_result(result)
    finally:
        with uninterrupted():
            try:
                try:
                    save()
                finally:
                    run.finish()
                    if report is not None:
                        write_report(report, result.to_json())
            except ValueError as error:
                error.add_note(f"every token is scored: {result.last_line()}")
                raise
