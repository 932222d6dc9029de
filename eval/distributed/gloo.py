"""Gloo: how ranks find each other, and what carries their messages."""

from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from threading import Thread

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from eval.distributed.line import Line

MEETING = timedelta(minutes=30)  # for the last rank to come
FOREVER = timedelta(days=365)  # of gloo's own patience: `Line` counts the seconds


def meet() -> None:
    """Wait for all ranks, in a thread, for no signal is heard within; ValueError if one lacks."""
    met: Future[None] = Future()

    def join() -> None:
        try:
            dist.init_process_group("gloo", timeout=MEETING)
        except (RuntimeError, ValueError) as error:
            met.set_exception(error)
        else:
            met.set_result(None)

    Thread(target=join, daemon=True).start()
    try:
        met.result()
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"ranks must find each other within {MEETING}, got {error}; look at the other ranks' "
            "errors, and at what torchrun was given"
        ) from error


def connect(rank: int, silence: float) -> Line:
    """A line to another rank."""

    def put(array: NDArray[np.generic]) -> None:
        wait(dist.isend(torch.from_numpy(array), rank), FOREVER)

    def take(array: NDArray[np.generic]) -> None:
        wait(dist.irecv(torch.from_numpy(array), rank), FOREVER)

    return Line(rank, put, take, silence)


def cut(rank: int) -> None:
    """End every wait within gloo: one that is out of time closes all connections."""
    with suppress(RuntimeError):
        wait(dist.irecv(torch.empty(1), rank, tag=1), timedelta(milliseconds=1))


def wait(work: dist.Work | None, timeout: timedelta) -> None:
    """Wait until something was sent, or has come; None is for ranks that have no part in it."""
    if work is not None:
        work.wait(timeout)


def leave() -> None:
    """Close all connections, once nobody waits for anything."""
    dist.destroy_process_group()
