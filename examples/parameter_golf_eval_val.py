"""Parameter Golf's eval_val on many ranks: each scores its part of the windows, then all_reduce.

python examples/parameter_golf_eval_val.py notes.txt
torchrun --nproc-per-node 8 examples/parameter_golf_eval_val.py val.txt
"""

import math
import os
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from ngrammix import RankMixer

SEQ_LEN, STRIDE, VOCAB_SIZE = 128, 64, 256


def eval_val(model, tokens, rank: int, n_ranks: int) -> float:
    """Bits per token: those of one process, whatever the number of ranks."""
    n = len(tokens) - 1
    starts = range(0, max(n - SEQ_LEN, 0) + STRIDE, STRIDE)
    own = starts[len(starts) * rank // n_ranks : len(starts) * (rank + 1) // n_ranks]
    mixer = RankMixer(tokens[1:], vocab_size=VOCAB_SIZE)  # on each rank: all targets
    for start in own:
        first = SEQ_LEN - STRIDE if start else 0  # the targets that no earlier window scored
        x = tokens[None, start : start + SEQ_LEN][:, : n - start]
        y = tokens[None, start + 1 : start + 1 + SEQ_LEN]
        # loss = F.cross_entropy(model(x)[0, first:], y[0, first:], reduction="none")
        mixer.add(model(x)[:, first:], y[:, first:], positions=start + first)
    loss = mixer.score()  # of this rank's targets, once all ranks have added theirs
    total = torch.tensor(loss.sum())
    dist.all_reduce(total)
    return total.item() / math.log(2) / n


def main(rank: int, n_ranks: int, path: str, meeting: str) -> None:
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=n_ranks)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 32), torch.nn.Linear(32, VOCAB_SIZE))
    with torch.no_grad():
        bits = eval_val(model, torch.tensor(list(Path(path).read_bytes())), rank, n_ranks)
    if rank == 0:
        print(f"{n_ranks} ranks: {bits:.4f} bits per byte")
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:  # started by torchrun
        main(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), sys.argv[1], "env://")
    else:
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(main, (2, sys.argv[1], f"file://{folder}/meeting"), nprocs=2)
