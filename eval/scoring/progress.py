"""Progress of a run: a progress bar, and callbacks for other programs."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from tqdm import tqdm

from eval.scoring.run import Run

Callback = Callable[[int, Mapping[str, float]], None]

SECONDS = 1.0  # between two calls of the callbacks


def token_bar(is_shown: bool, total: int | None = None) -> tqdm:
    """Progress bar over tokens on stderr: after two seconds, and on a terminal only."""
    disable = None if is_shown else True
    return tqdm(total=total, unit=" tokens", unit_scale=True, delay=2, disable=disable)


class Progress:
    """Shows tokens scored, tokens a second, bits per byte so far and the time left.

    Parameters
    ----------
    bar : tqdm
        The progress bar.
    callbacks : sequence of callable
        Called once a second and at the end with the position and figures such as ``eval/bpb``.
    """

    def __init__(self, bar: tqdm, callbacks: Sequence[Callback] = ()) -> None:
        self._bar, self._callbacks = bar, callbacks
        self._last = self._started = monotonic()
        self._first: int | None = None

    def show(self, run: Run, fraction: float | None, *, at_end: bool = False) -> None:
        """Update bar and callbacks; `fraction` is the share of the data that was read."""
        first = self._first = run.position if self._first is None else self._first
        bpb = {name: value for name, value in run.metrics.scores().items() if value is not None}
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
