"""Wrap a nanoGPT-style evaluation loop: the loss line changes, the rest stays.

python examples/score_nanogpt_loop.py notes.txt
"""

import math
import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ngrammix import Mixer

BLOCK_SIZE, VOCAB_SIZE = 128, 256  # bytes as tokens


class GPT(nn.Module):
    """A small stand-in with the interface of nanoGPT's model: (idx, targets) -> (logits, loss)."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(VOCAB_SIZE, 64)
        self.lm_head = nn.Linear(64, VOCAB_SIZE)

    def forward(self, idx, targets):
        logits = self.lm_head(self.wte(idx))
        return logits, F.cross_entropy(logits.view(-1, VOCAB_SIZE), targets.view(-1))


@torch.no_grad()
def evaluate(model: nn.Module, tokens: torch.Tensor) -> tuple[float, float]:
    """Bits per token of the model alone and of model and cache, over consecutive windows."""
    mixer = Mixer(vocab_size=VOCAB_SIZE)  # one for the whole text: it remembers the stream
    nats_model = nats = 0.0
    for i in range(0, len(tokens) - 1, BLOCK_SIZE):
        x = tokens[None, i : i + BLOCK_SIZE][:, : len(tokens) - 1 - i]
        y = tokens[None, i + 1 : i + 1 + BLOCK_SIZE]
        logits, loss = model(x, y)
        nats_model += loss.item() * y.numel()
        nats += mixer.cross_entropy(logits, y, reduction="sum", positions=i).item()
    n_bits = math.log(2) * (len(tokens) - 1)
    return nats_model / n_bits, nats / n_bits


if __name__ == "__main__":
    torch.manual_seed(0)
    data = torch.tensor(list(Path(sys.argv[1]).read_bytes()))
    alone, mixed = evaluate(GPT().eval(), data)  # yours: GPT.from_pretrained or a checkpoint
    print(f"model alone {alone:.3f}, with the cache {mixed:.3f} bits per byte")
