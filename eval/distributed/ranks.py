"""Ranks: processes that share the forward pass; rank 0 does everything else.

Rank 0 reads the data, observes, mixes in stream order and writes. The other ranks receive batches
and return a few numbers for each target, by gloo's send and recv: the arrays are in host memory,
wherever the model runs. The content of a batch does not depend on the number of ranks, so neither
does any figure, provided that the model computes the same bits on every rank. On CPUs this takes
the same number of threads (``OMP_NUM_THREADS``) on every rank.

The store of torch.distributed, which torchrun or rank 0 hosts, has three uses beside. Every rank
writes heartbeats to it, so a rank that computes or loads for long is not taken for one that hangs.
The first error is written to it for all ranks. Rank 0 writes the name of its model, versions and
number of threads to it, which the other ranks compare.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from time import monotonic, sleep
from typing import Any, TypeVar

import numpy as np

from eval.distributed.messages import (
    END,
    HEADER_SIZE,
    pack_request,
    payload_size,
    unpack_request,
)
from eval.distributed.rank_info import RankInfo
from eval.interrupts import SIGNALS, Stopped
from eval.models.base import Model
from eval.models.numerics import numerics_of
from eval.scoring.forward import ForwardRequest, run_forward
from ngrammix.auditing.environment import versions
from ngrammix.model_logprobs import ModelLogprobs, pack, unpack

# Seconds. torchrun kills a rank 30 s after it has told it to stop; in sum this is below a minute.
START_TIMEOUT = 50.0  # for all ranks to start
RANK_TIMEOUT = 20.0  # without a heartbeat
ERROR_TIMEOUT = 5.0  # for the rank that failed first to write its error
HEARTBEATS = 20  # in RANK_TIMEOUT
FOREVER = timedelta(days=365)  # of gloo's own timeout: heartbeats tell who hangs
THREAD_NAME = "ngrammix-ranks"  # of transfers
AGAIN = "run again, with the same --checkpoint to go on"

Value = TypeVar("Value")


class RankError(ValueError):
    """The error of another rank, or the loss of one."""


class Ranks:
    """Connections to the other ranks; `join_ranks` makes them.

    Parameters
    ----------
    info : RankInfo
        Of this process.
    store : torch.distributed.Store
        Shared by all ranks.
    timeout : float
        Seconds without a heartbeat after which a rank counts as hung.
    """

    def __init__(self, info: RankInfo, store: Any, timeout: float) -> None:
        self.info, self._store, self._timeout = info, store, timeout
        self._beats = [heartbeat_name(rank) for rank in range(info.size)]
        self._is_left = Event()
        Thread(target=self._beat, daemon=True).start()

    def lead(self, model: Model) -> "ForwardOnRanks":
        """The model on all ranks; on rank 0."""
        self._store.set("model", json.dumps(describe(model)))
        return ForwardOnRanks(self, model)

    def serve(self, model: Model) -> None:
        """Run the requests of rank 0 until there are no more; on the other ranks.

        Raises
        ------
        ValueError
            If rank 0 has another model, other versions, or computes in another way.
        """
        is_compared = False
        while (request := self.wait(start(self._receive_request))) is not None:
            if not is_compared:
                self._compare(describe(model))
                is_compared = True
            answer = pack(run_forward(model, request))
            self.wait(start(partial(self._send, answer, 0)))

    def exchange(self, request: ForwardRequest, rank: int) -> ModelLogprobs:
        """Log-probabilities that another rank computes."""
        for array in pack_request(request):
            self._send(array, rank)
        n_targets, n_hints = request.hint_tokens.shape
        return unpack(self._receive(np.empty((n_targets, 4 + n_hints)), rank))

    def wait(self, future: Future[Value]) -> Value:
        """Result of a future; RankError if meanwhile a rank has failed or hangs."""
        last, n_missed = [b""] * self.info.size, [0] * self.info.size
        # Waits are counted, not seconds: a process that was suspended itself blames no other.
        while not wait_for([future], self._timeout / HEARTBEATS).done:
            if (error := self.error()) is not None:
                raise RankError(error)
            with suppress(RuntimeError):  # the store is gone: `error` says so
                beats = self._store.multi_get(self._beats)
                for rank, (beat, old) in enumerate(zip(beats, last, strict=True)):
                    n_missed[rank] = n_missed[rank] + 1 if beat == old else 0
                last = beats
            if max(n_missed) > HEARTBEATS:
                hung = f"rank {np.argmax(n_missed)} is silent for {self._timeout:g} s; {AGAIN}"
                raise RankError(self.fail(hung))
        return future.result()

    def error(self) -> str | None:
        """The first error of any rank, or None."""
        try:
            return self._store.get("error").decode() if self._store.check(["error"]) else None
        except RuntimeError:
            return f"the store of the ranks is gone (connection closed); {AGAIN}"

    def fail(self, text: str) -> str:
        """Write an error for all ranks, unless one was written before; returns the first one."""
        try:
            return str(self._store.compare_set("error", "", text).decode())
        except RuntimeError:  # the process that hosted the store is gone
            return text

    def leave(self) -> None:
        """End the requests, and close all connections."""
        import torch.distributed as dist

        for rank in range(1, self.info.size) if self.info.rank == 0 else ():
            self.wait(start(partial(self._send, END, rank)))
        self._is_left.set()
        dist.destroy_process_group()

    def abort(self) -> None:
        """Close all connections, so that no thread is left inside gloo when the process ends."""
        import torch
        import torch.distributed as dist

        self._is_left.set()
        with suppress(RuntimeError):  # gloo closes every connection when a transfer times out
            peer = 1 if self.info.rank == 0 else 0
            dist.irecv(torch.empty(1), peer, tag=1).wait(timedelta(milliseconds=1))  # type: ignore[union-attr]
        for thread in enumerate_threads():
            if thread.name == THREAD_NAME:
                thread.join(1.0)

    def _beat(self) -> None:
        n_beats = 0
        with suppress(RuntimeError):  # the store is gone: `wait` reports it
            while not self._is_left.wait(self._timeout / HEARTBEATS):
                n_beats += 1
                self._store.set(self._beats[self.info.rank], str(n_beats))

    def _compare(self, own: dict[str, Any]) -> None:
        leader = json.loads(self._store.get("model"))
        for name, value in own.items():
            if leader.get(name) != value:
                raise ValueError(
                    f"ranks must have the same {name}, got {leader.get(name)!r} on rank 0 and "
                    f"{value!r} on rank {self.info.rank}; start all with the same files, versions "
                    "and OMP_NUM_THREADS"
                )

    def _receive_request(self) -> ForwardRequest | None:
        header = self._receive(np.empty(HEADER_SIZE, np.int64), 0)
        if (size := payload_size(header)) == 0:
            return None
        return unpack_request(header, self._receive(np.empty(size, np.int32), 0))

    def _send(self, array: Any, rank: int) -> None:
        import torch.distributed as dist

        self._transfer(dist.isend, array, rank)

    def _receive(self, array: Any, rank: int) -> Any:
        import torch.distributed as dist

        self._transfer(dist.irecv, array, rank)
        return array

    def _transfer(self, operation: Callable[..., Any], array: Any, rank: int) -> None:
        import torch

        try:
            operation(torch.from_numpy(array), rank).wait(FOREVER)
        except RuntimeError as error:
            text = f"rank {rank} is gone (connection closed); {AGAIN}"
            raise RankError(self.fail(text)) from error


class ForwardOnRanks:
    """A `Forward` that runs one batch on each rank at the same time."""

    def __init__(self, ranks: Ranks, model: Model) -> None:
        self._ranks, self._model = ranks, model
        self.n_parallel = ranks.info.size

    def __call__(self, requests: Sequence[ForwardRequest]) -> list[ModelLogprobs]:
        """Log-probabilities for each request; the first one runs on this rank."""
        own, *others = requests
        exchange = self._ranks.exchange
        futures = [start(partial(exchange, other, rank)) for rank, other in enumerate(others, 1)]
        answers = [run_forward(self._model, own)]
        return answers + [self._ranks.wait(future) for future in futures]


def start(work: Callable[[], Value]) -> Future[Value]:
    """Run work in a daemon thread: during a call into gloo no signal would be handled."""
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # raised again where the result is taken
            future.set_exception(error)

    Thread(target=run, name=THREAD_NAME, daemon=True).start()
    return future


def describe(model: Model) -> dict[str, Any]:
    """What ranks must have in common to compute the same bits."""
    return {
        "vocabulary": model.vocab_size,
        "context": model.context,
        "model": model.name,
        "versions": versions(),
        **numerics_of(model),
    }


def heartbeat_name(rank: int) -> str:
    """Name of a rank's heartbeat in the store."""
    return f"heartbeat of {rank}"


def connect(info: RankInfo, timeout: float) -> Any:
    """Connect all ranks by gloo; returns their store, with a heartbeat of every rank.

    Raises
    ------
    ValueError
        If a rank has not started within `timeout` seconds: it names the missing ranks.
    """
    import torch.distributed as dist

    limit = timedelta(seconds=timeout)
    try:
        deadline = monotonic() + timeout
        store = open_store(info, limit)
        store.set(heartbeat_name(info.rank), "0")
        while missing := [r for r in range(info.size) if not store.check([heartbeat_name(r)])]:
            if monotonic() > deadline:
                raise RuntimeError(f"no sign of rank {', '.join(map(str, missing))}")
            sleep(0.05)
        dist.init_process_group(
            "gloo", store=store, rank=info.rank, world_size=info.size, timeout=limit
        )
    except RuntimeError as error:
        raise ValueError(
            f"all {info.size} ranks must start within {timeout:g} s, got {error}; look at the "
            "errors of the other ranks, and at MASTER_ADDR and MASTER_PORT"
        ) from error
    return store


def open_store(info: RankInfo, limit: timedelta) -> Any:
    """The store at MASTER_ADDR and MASTER_PORT, held by torchrun or else by rank 0.

    Unlike the rendezvous of torch, it does not wait for all ranks, so that the missing ones can be
    named.
    """
    import torch.distributed as dist

    is_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        return dist.TCPStore(  # type: ignore[attr-defined]
            host,
            port,
            is_master=info.rank == 0 and not is_torchrun,
            timeout=limit,
            wait_for_workers=False,
            multi_tenant=True,
        )
    except RuntimeError as error:
        if info.rank == 0 or is_torchrun:
            raise
        raise RuntimeError(f"no sign of rank 0, which listens at {host}:{port}") from error


@contextmanager
def join_ranks(
    info: RankInfo, start_timeout: float | None = None, timeout: float | None = None
) -> Iterator[Ranks]:
    """Connections to the other ranks, for the time of the block.

    Parameters
    ----------
    info : RankInfo
        Of this process; one of at least two.
    start_timeout : float, optional
        Seconds within which all ranks must start; by default NGRAMMIX_START_TIMEOUT, or 50.
    timeout : float, optional
        Seconds without a heartbeat after which a rank counts as hung; by default
        NGRAMMIX_RANK_TIMEOUT, or 20.

    Raises
    ------
    ValueError
        For a ValueError or an OSError on any rank, or a signal to stop on another one; the text
        names this rank and the one that failed. Other errors, and a signal to this rank, are raised
        with a note of the rank.
    """
    if start_timeout is None:
        start_timeout = float(os.environ.get("NGRAMMIX_START_TIMEOUT", START_TIMEOUT))
    if timeout is None:
        timeout = float(os.environ.get("NGRAMMIX_RANK_TIMEOUT", RANK_TIMEOUT))
    ranks: Ranks | None = None
    try:
        ranks = Ranks(info, start(partial(connect, info, start_timeout)).result(), timeout)
        yield ranks
        ranks.leave()
    except BaseException as error:
        for number in SIGNALS:  # the process ends anyhow, and must still say why
            signal.signal(number, signal.SIG_IGN)
        here = f"rank {info.rank} of {info.size}"
        cause = error if ranks is None else tell(ranks, error)
        if isinstance(cause, ValueError | OSError):
            raise ValueError(f"{here}: {cause}") from error
        error.add_note(f"on {here}")
        raise


def tell(ranks: Ranks, error: BaseException) -> BaseException:
    """Write an error of this rank for all ranks; returns the error to report here."""
    if isinstance(error, Stopped) and error.number == signal.SIGTERM:
        # torchrun stops all ranks when one has ended: that one, or its peer, writes why.
        deadline = monotonic() + ERROR_TIMEOUT
        while (text := ranks.error()) is None and monotonic() < deadline:
            sleep(0.05)
        error = error if text is None else RankError(text)
    if not isinstance(error, RankError):
        if isinstance(error, KeyboardInterrupt):
            text = f"{error}; {AGAIN}"
        elif isinstance(error, ValueError | OSError):
            text = str(error)
        else:
            text = f"{type(error).__name__}: {error}"
        ranks.fail(f"rank {ranks.info.rank}: {text}")
    ranks.abort()
    return error
