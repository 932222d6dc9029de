"""Progress of a run: a progress bar, and callbacks for other programs."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from tqdm import tqdm

from eval.scoring.run import Run
from quant.base.screen import screen

Callback = Callable[[int, Mapping[str, float]], None]

SECONDS = 1.0  # between two calls of the callbacks
# The line on the screen: 70 columns at most beside the bar itself. The second is for a pipe, or
# for data of unknown size, of which nobody knows a percentage.
OF_TOTAL = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} tokens, {rate_fmt}, {remaining} left"
WITHOUT_TOTAL = "{n_fmt} tokens, {rate_fmt}, {elapsed}"


def token_bar(is_shown: bool, total: int | None = None) -> tqdm:
    """Progress bar over tokens on stderr: after two seconds, and on a terminal only."""
    return tqdm(
        total=total,
        unit=" tokens",
        unit_scale=True,
        delay=2,
        disable=None if is_shown else True,
        bar_format=bar_format(total),
        **screen(),
    )


def bar_format(total: int | None) -> str:
    """Template of the line."""
    return (WITHOUT_TOTAL if total is None else OF_TOTAL) + "{postfix}"


class Progress:
    """Shows tokens scored, tokens a second, bits per byte so far and the time left.

    Parameters
    ----------
    bar : tqdm
        The progress bar.
    callbacks : sequence of callable
        Called once a second and at the end with the position and figures such as ``eval/bpb``.
    first : int
        Tokens that an earlier run has scored: they are no part of the speed.
    limit : int, optional
        Most tokens of the run.
    """

    def __init__(
        self,
        bar: tqdm,
        callbacks: Sequence[Callback] = (),
        *,
        first: int = 0,
        limit: int | None = None,
    ) -> None:
        self._bar, self._callbacks = bar, callbacks
        self._last = self._started = monotonic()
        self._first, self._limit = first, limit
        bar.reset()
        bar.initial = bar.n = first

    def show(self, run: Run, fraction: float | None, *, at_end: bool = False) -> None:
        """Update bar and callbacks; `fraction` is the share of the data that is scored."""
        bpb = {name: value for name, value in run.metrics.scores().items() if value is not None}
        self._bar.total = run.position if at_end else self._total(run.position, fraction)
        self._bar.bar_format = bar_format(self._bar.total)
        if "bpb" in bpb:
            self._bar.set_postfix_str(f"BPB {bpb['bpb']:.4f}", refresh=False)
        self._bar.update(run.position - self._bar.n)
        now = monotonic()
        if self._callbacks and (at_end or now - self._last >= SECONDS):
            self._last = now
            rate = (run.position - self._first) / max(now - self._started, 1e-9)
            figures: dict[str, Any] = {f"eval/{name}": value for name, value in bpb.items()}
            for callback in self._callbacks:
                callback(run.position, figures | {"eval/tokens_per_second": rate})

    def _total(self, position: int, fraction: float | None) -> int | None:
        """Tokens of the whole run, as far as the share of the data tells them."""
        total = round(position / min(fraction, 1.0)) if fraction else None
        if self._limit is None or total is None:
            return total or self._limit
        return min(total, self._limit)
