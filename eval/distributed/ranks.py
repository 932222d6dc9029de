"""Ranks: processes that share the forward pass; rank 0 does everything else.

Rank 0 reads, lets the cache look ahead, mixes in stream order and writes; the others get batches
and send back a few numbers a target. What a batch holds does not depend on how many ranks there
are, so neither does any figure, as long as the model says the same on each of them: on processors
that takes as many threads (``OMP_NUM_THREADS``) whatever the number of ranks.

What is sent lies in the host's memory, whatever the model runs on, so gloo carries it; nccl, which
carries what lies on GPUs, would have nothing to do.
"""

import json
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from types import FrameType
from typing import Any

from eval.distributed.line import (
    AGAIN,
    END,
    FAILED,
    GATHERED,
    GREETING,
    JOB,
    Bytes,
    Line,
    LineError,
    text,
)
from eval.distributed.messages import pack_gathered, pack_job, unpack_gathered, unpack_job
from eval.models.base import Model
from eval.scoring.forward import ForwardRequest, run_forward
from eval.tables import versions
from ngrammix.logits import ModelLogprobs

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torch's env://
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds. torchrun gives a rank 30 s more before it kills it: all together are below a minute.
SILENCE = 20.0
FAREWELL = 5.0


@dataclass(frozen=True)
class RankInfo:
    """Which of how many ranks this process is, and which of those on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0


def find_rank(environment: Mapping[str, str] = os.environ) -> RankInfo:
    """The place that torchrun gave this process, or that of one alone; ValueError if it is none."""
    if any(name not in environment for name in VARIABLES):
        return RankInfo()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    values = [environment.get(name, "0") for name in names]
    if not all(value.isdecimal() for value in values) or int(values[0]) >= int(values[1]):
        got = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        raise ValueError(
            f"a rank must be below the number of ranks, got {got}; start them with torchrun"
        )
    return RankInfo(*map(int, values))


def choose_gpu(place: RankInfo, device: str | None) -> None:
    """Make the rank's own GPU what ``cuda`` means; ValueError if there are too few."""
    import torch

    if device not in (None, "cuda") or not torch.cuda.is_available():
        return
    if place.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"each rank must have a GPU of its own, got local rank {place.local_rank} where there "
            f"are {torch.cuda.device_count()}; start fewer ranks, or name a --device"
        )
    torch.cuda.set_device(place.local_rank)


class Ranks:
    """Lines to the other ranks: from rank 0 to each, from each to rank 0. `joined` makes them.

    Parameters
    ----------
    place : RankInfo
        Of this process.
    lines : sequence of Line
        In the order of the ranks.
    """

    def __init__(self, place: RankInfo, lines: Sequence[Line]) -> None:
        self.place, self.lines = place, lines

    def lead(self, model: Model) -> "Leader":
        """The model on all ranks, once each has loaded it; ValueError if they differ."""
        ours = greeting(model)
        for rank, line in enumerate(self.lines, 1):
            theirs = read_greeting(*line.receive(), rank)
            for name, value in ours.items():
                if theirs.get(name) != value:
                    raise ValueError(
                        f"ranks must have the same {name}, got {value!r} on rank 0 and "
                        f"{theirs.get(name)!r} on rank {rank}; start all with the same files, "
                        "versions and OMP_NUM_THREADS"
                    )
        return Leader(model, self.lines)

    def serve(self, model: Model) -> None:
        """Do the jobs that rank 0 sends, until it has no more."""
        (line,) = self.lines
        line.send(GREETING, text(json.dumps(greeting(model))))
        while True:
            kind, message = line.receive()
            if kind == END:
                return
            job = unpack_job(message)
            line.send(GATHERED, pack_gathered(run_forward(model, job), job.hint_tokens))

    def why(self) -> str | None:
        """Why another rank has ended, if one has, and it is an error."""
        return next((line.why for line in self.lines if line.why is not None), None)

    def part(self, words: str | None = None) -> None:
        """Say the last message, `words` if it is an error, and wait a while for the others'."""
        if not self.lines:
            return
        for line in self.lines:
            line.send(END if words is None else FAILED, None if words is None else text(words))
        from eval.distributed import gloo

        deadline = monotonic() + FAREWELL
        are_closed = [line.close(deadline) for line in self.lines]
        if not all(are_closed):
            gloo.cut(1 if self.place.rank == 0 else 0)


class Leader:
    """A `Forward`: the model on rank 0 and, at the same time, on each of the others."""

    def __init__(self, model: Model, lines: Sequence[Line]) -> None:
        self._model, self._lines = model, lines
        self.n_parallel = 1 + len(lines)

    def __call__(self, requests: Sequence[ForwardRequest]) -> list[ModelLogprobs]:
        """See `eval.scoring.forward.Forward`."""
        own, *others = requests
        served = list(zip(self._lines, others, strict=False))  # the last round may be smaller
        for line, job in served:
            line.send(JOB, pack_job(job))
        gathered = [run_forward(self._model, own)]
        for line, job in served:
            _, message = line.receive()
            gathered.append(unpack_gathered(message, len(job.targets), job.hint_tokens))
        return gathered


def greeting(model: Model) -> dict[str, Any]:
    """What ranks must have in common, for the same bits."""
    import torch

    return {
        "model": model.name,
        "vocabulary": model.vocab_size,
        "context": model.context,
        "versions": versions(),
        "number of threads": torch.get_num_threads(),
    }


def read_greeting(kind: int, message: Bytes, rank: int) -> dict[str, Any]:
    """What another rank has; ValueError if it said something else."""
    with suppress(ValueError):
        theirs = json.loads(message.tobytes())
        if kind == GREETING and isinstance(theirs, dict):
            return theirs
    raise ValueError(
        f"a rank must greet with what it has, got something else from rank {rank}; install the "
        "same ngrammix for every rank"
    )


@contextmanager
def joined(place: RankInfo, silence: float | None = None) -> Iterator[Ranks]:
    """Ranks that talk to each other, until they part.

    Parameters
    ----------
    place : RankInfo
        Of this process; one of at least two.
    silence : float, optional
        Seconds without a sign of life that are an error.

    Raises
    ------
    ValueError
        In the place of a ValueError, an OSError or a signal to stop, on whichever rank: it names
        that rank and this one, and comes after all others were told. Other errors pass, with a
        note of the rank.
    """
    if silence is None:
        silence = float(os.environ.get("NGRAMMIX_SILENCE", SILENCE))  # shorter in the tests
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    ranks = Ranks(place, [])
    try:
        from eval.distributed import gloo  # torch takes seconds to load: a signal may come

        gloo.meet()
        peers = range(1, place.size) if place.rank == 0 else (0,)
        ranks = Ranks(place, [gloo.connect(peer, silence) for peer in peers])
        yield ranks
    except BaseException as error:
        for number in SIGNALS:  # it ends anyhow, and wants to say why
            signal.signal(number, signal.SIG_IGN)
        here = f"rank {place.rank} of {place.size}"
        if isinstance(error, KeyboardInterrupt):
            # torchrun stops all ranks where one has ended: it, or rank 0, may have said why.
            for line in ranks.lines if place.rank else ():
                line.wait_for_end(FAREWELL)
            told = ranks.why()
            error = error if told is None else LineError(told)
        words = str(error) if isinstance(error, LineError) else f"rank {place.rank}: {said(error)}"
        ranks.part(words)
        if isinstance(error, ValueError | OSError | KeyboardInterrupt):
            raise ValueError(f"{here}: {error}") from error
        error.add_note(f"on {here}")
        raise
    ranks.part()
    gloo.leave()
    for number, handler in before.items():
        signal.signal(number, handler)


def stop(number: int, frame: FrameType | None) -> None:
    """Handle a signal to stop by raising KeyboardInterrupt, as Python does with one of them."""
    raise KeyboardInterrupt(f"told to stop by {signal.Signals(number).name}; {AGAIN}")


def said(error: BaseException) -> str:
    """An error in words, with its kind where it was not expected."""
    is_expected = isinstance(error, ValueError | OSError | KeyboardInterrupt)
    return str(error) if is_expected else f"{type(error).__name__}: {error}"
