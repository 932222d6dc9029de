"""One rank of the tests of RankMixer: python rank_program.py RANK SIZE FOLDER."""

import sys
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from ngrammix import Mixer, RankMixer

V, N, STRIDE = 50, 3001, 64
RNG = np.random.default_rng(0)
TOKENS = np.resize(RNG.integers(0, V, 700), N)
LOGITS = RNG.normal(scale=2, size=(N, V)).astype(np.float32)
DOCUMENTS = np.array([0, 100, 1000, 1001, 2500])
OPTIONS = {"vocab_size": V, "order": 4}


def parts(size):
    """Contiguous parts of different sizes, by rank."""
    edges = [0, *(N * np.arange(1, size) ** 2 // size**2).tolist(), N]
    return [[(edges[rank], edges[rank + 1])] for rank in range(size)]


def in_turn(size):
    """Windows, one for each rank in turn."""
    starts = range(0, N, STRIDE)
    return [[(i, min(i + STRIDE, N)) for i in starts[rank::size]] for rank in range(size)]


def one_has_all(size):
    """The last rank has everything."""
    return [[] for _ in range(size - 1)] + [[(0, 1500), (1500, N)]]


SHARES = {"parts": parts, "in turn": in_turn, "one has all": one_has_all}
CASES = {
    "": {}, "documents": {"documents": DOCUMENTS}, "gate": {"experts": "gate+guard"},
    "a small cache": {"memory_limit": "4MiB"},
}  # fmt: skip


def scored_alone(documents=(), **options):
    """Costs in one process, by a plain Mixer."""
    mixer, nats = Mixer(**OPTIONS, **options), []
    edges = sorted({0, *map(int, documents), N})
    for start, stop in pairwise(edges):
        if start in documents:
            mixer.boundary()
        nats.append(mixer.score(LOGITS[start:stop], TOKENS[start:stop]))
    return np.concatenate(nats)


def scored(share, rank, **options):
    """Costs of this rank's targets."""
    ranks = RankMixer(TOKENS, **OPTIONS, **options)
    for start, stop in share[rank]:
        logits = torch.from_numpy(LOGITS[None, start:stop])
        ranks.add(logits, torch.from_numpy(TOKENS[None, start:stop]), positions=start)
    return ranks.score()


def errors(rank, size):
    """Texts of what this rank is told when ranks do not fit."""
    texts = []
    for tokens, order, share in (
        (np.where(np.arange(N) == 7 * rank, 0, TOKENS), 4, []),
        (TOKENS, 4 + rank, []),
        (TOKENS, 4, [(0, N)]),
        (TOKENS, 4, [(0, 10)] if rank == 0 else [(20, N)] if rank == 1 else []),
    ):
        ranks = RankMixer(tokens, vocab_size=V, order=order)
        for start, stop in share:
            ranks.add(LOGITS[start:stop], TOKENS[start:stop], positions=start)
        try:
            ranks.score()
        except ValueError as error:
            texts.append(str(error))
    return texts


def main(rank, size, folder):
    timeout = timedelta(seconds=120)
    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", meeting, rank=rank, world_size=size, timeout=timeout)
    results = {
        f"{name}, {case}": scored(shares(size), rank, **CASES[case])
        for name, shares in SHARES.items()
        for case in CASES
    }
    results["errors"] = np.array(errors(rank, size))
    pair = dist.new_group([size - 2, size - 1])  # a group without rank 0, unless there are two
    if rank >= size - 2:
        results["group"] = scored(parts(2), rank - size + 2, group=pair)
    np.savez(Path(folder) / f"{rank}.npz", **results)
    dist.barrier()
    if rank == 0:  # the others end without a word
        missing = RankMixer(TOKENS[:1], **OPTIONS)
        missing.add(LOGITS[:1], TOKENS[:1], positions=0)
        try:
            missing.score()
        except ValueError as error:
            (Path(folder) / "missing").write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
