"""Parameter Golf's eval_val on two ranks: the ranks share the forward pass, rank 0 mixes.

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

from ngrammix import Mixer

SEQ_LEN, STRIDE, VOCAB_SIZE = 128, 64, 256


def eval_val(model, tokens, rank: int, n_ranks: int) -> float | None:
    """Bits per token on rank 0; every target is scored once, in the order of the text."""
    n = len(tokens) - 1
    starts = range(0, max(n - SEQ_LEN, 0) + STRIDE, STRIDE)
    mixer, nats = Mixer(vocab_size=VOCAB_SIZE) if rank == 0 else None, 0.0
    for i in range(0, len(starts), n_ranks):  # a window for each rank, in turn
        start = starts[min(i + rank, len(starts) - 1)]
        window = tokens[start : start + SEQ_LEN][: n - start]
        x = torch.nn.functional.pad(window, (0, SEQ_LEN - len(window)))
        logits = model(x[None])[0].contiguous()
        rows = [torch.empty_like(logits) for _ in range(n_ranks)] if rank == 0 else None
        dist.gather(logits, rows)
        for start, row in zip(starts[i : i + n_ranks], rows or []):
            first = SEQ_LEN - STRIDE if start else 0  # the targets that no earlier window scored
            y = tokens[start + 1 + first : start + 1 + SEQ_LEN]
            nats += mixer.cross_entropy(
                row[first : first + len(y)], y, reduction="sum", positions=start + first
            ).item()
    return nats / math.log(2) / n if rank == 0 else None


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
