"""Progress: the bar that someone watches, and the callback that some program does."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from tqdm import tqdm

from eval.scoring.run import Run

Callback = Callable[[int, Mapping[str, float]], None]

SECONDS = 1.0  # between two calls of the callback


class Progress:
    """Tokens scored, tokens a second, bits per byte so far, and how long it will take.

    Parameters
    ----------
    bar : tqdm, optional
        Shows it.
    callbacks : sequence of callable
        Each is given the position and figures such as ``eval/bpb``: once a second, and at the end.
    """

    def __init__(self, bar: tqdm | None = None, callbacks: Sequence[Callback] = ()) -> None:
        self._bar = tqdm(disable=True) if bar is None else bar
        self._callbacks = callbacks
        self._last = self._started = monotonic()
        self._first: int | None = None

    def show(self, run: Run, fraction: float | None, *, at_end: bool = False) -> None:
        """Tell how far the run is; `fraction` of the data was read."""
        first = self._first = run.position if self._first is None else self._first
        bpb = {name: value for name, value in run.tally.scores().items() if value is not None}
        if fraction:
            self._bar.total = run.position if at_end else round(run.position / min(fraction, 1.0))
        self._bar.update(run.position - self._bar.n)
        self._bar.set_postfix({name: f"{value:.4f}" for name, value in bpb.items()}, refresh=False)
        now = monotonic()
        if self._callbacks and (at_end or now - self._last >= SECONDS):
            self._last = now
            rate = (run.position - first) / max(now - self._started, 1e-9)
            figures: dict[str, Any] = {f"eval/{name}": value for name, value in bpb.items()}
            for callback in self._callbacks:
                callback(run.position, figures | {"eval/tokens_per_second": rate})
