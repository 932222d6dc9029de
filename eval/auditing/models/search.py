"""Search: the streams of a model audit take turns by their weight, until one shows a leak."""

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from eval.auditing.models.reader import STOPPERS, TimeUpError
from eval.auditing.models.streams import Stream
from eval.auditing.models.windows import Windows
from eval.models.probe import Leak, Probe, Variant
from eval.types import Tokens
from ngrammix.auditing.scorer import described

TRIALS = 3  # times that a leak which may be rounding must show again


def search(streams: Sequence[Stream], probe: Probe, windows: Windows) -> Leak | None:
    """The first leak that a batch of the streams shows; None once all are read, or time is up."""
    batches = {id(stream): stream.batches() for stream in streams}
    active = list(streams)
    while active:
        stream = min(active, key=lambda each: each.seconds / each.weight)
        batch = next(batches[id(stream)], None)
        if batch is None:
            active.remove(stream)
            continue
        began = perf_counter()
        try:
            found = show(probe, *batch, windows)
        except TimeUpError:  # shorter batches may still fit
            active.remove(stream)
            continue
        except STOPPERS:
            raise
        except Exception as error:  # of any kind: a model need not take each shape
            stream.refused = described(error)
            active.remove(stream)
            continue
        finally:
            stream.seconds += perf_counter() - began
        stream.calls += 1
        if found is not None:
            return found
    return None


def show(probe: Probe, rows: Tokens, variants: Sequence[Variant], windows: Windows) -> Leak | None:
    """The leak in a batch, if it shows again where it may be rounding."""
    probe.is_certain = True
    found = probe.look_at(rows, variants)
    if found is None or (probe.is_certain and found.kind == "future"):
        return found
    for _ in range(TRIALS):
        again = probe.look_at(*(other_prefix(found, len(rows), windows) or (rows, variants)))
        if again is None or again.kind != found.kind:
            return None
    return found


def other_prefix(found: Leak, n_rows: int, windows: Windows) -> tuple[Tokens, list[Variant]] | None:
    """A batch with the two futures that showed a leak, after another text; None without futures.

    The token before the future stays: a leak may follow it. The other rows are copies of the first.
    """
    if found.kind != "future":
        return None
    base, other = found.windows
    prefix = windows.draw(found.edge)
    prefix[-1:] = base[found.edge - 1 : found.edge]
    rows = np.tile(np.concatenate([prefix, base[found.edge :]]), (n_rows, 1))
    rows[-1, found.edge :] = other[found.edge :]
    return rows, [Variant(n_rows - 1, 0, found.edge)]
