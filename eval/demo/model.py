"""The demo language model: a small causal transformer with int8 weights in one file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

TOKENIZER_PATH = Path(__file__).with_name("tokenizer.json")
WEIGHTS_PATH = Path(__file__).with_name("weights.safetensors")


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """The shape of the model.

    Parameters
    ----------
    vocab_size : int
        V, including the token that begins a document.
    context : int
        Largest T of `DemoModel.forward`.
    bos : int
        Id of the token that begins a document.
    layers, width, heads, hidden : int
        Number of blocks; channels; attention heads, each with an even number of channels; channels
        of the MLP.
    """

    vocab_size: int = 1024
    context: int = 512
    bos: int = 0
    layers: int = 4
    width: int = 160
    heads: int = 5
    hidden: int = 640


class Block(nn.Module):
    """Causal attention with rotary positions and query-key norm, then a ReLU^2 MLP."""

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.attention_out = nn.Linear(config.width, config.width, bias=False)
        self.mlp_in = nn.Linear(config.width, config.hidden, bias=False)
        self.mlp_out = nn.Linear(config.hidden, config.width, bias=False)
        self.sharpness = nn.Parameter(torch.ones(config.heads))
        self.first_layer = nn.Parameter(torch.zeros(config.width))

    def forward(self, x: Tensor, x0: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        """The residual stream after this block; x and x0, the embedding, (B, T, width) float32."""
        x = x + self.first_layer * x0
        q, k, v = self.qkv(norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q = rotate(norm(q), rotary) * self.sharpness[:, None, None]
        mixed = F.scaled_dot_product_attention(q, rotate(norm(k), rotary), v, is_causal=True)
        x = x + self.attention_out(mixed.transpose(1, 2).flatten(-2))
        mlp: Tensor = self.mlp_out(F.relu(self.mlp_in(norm(x))).square())
        return x + mlp


class DemoModel(nn.Module):
    """A decoder-only transformer with tied embedding and output head.

    Parameters
    ----------
    config : DemoConfig
        The shape.
    """

    def __init__(self, config: DemoConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.previous = nn.Parameter(torch.zeros(config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_gain = nn.Parameter(torch.ones(config.width))
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                # Each branch ends with zeros, so that the model starts as its embedding.
                zero = name.endswith(("attention_out.weight", "mlp_out.weight"))
                nn.init.normal_(parameter, std=0.0 if zero else parameter.shape[1] ** -0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the next token at each position.

        Parameters
        ----------
        tokens : (B, T) int64
            Ids in [0, vocab_size), T <= ``config.context``.

        Returns
        -------
        (B, T, vocab_size) float32
            Row t is for token t + 1, and depends on tokens 0..t only.
        """
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= self.config.context:
            raise ValueError(
                f"tokens must be (B, T) with 1 <= T <= {self.config.context}, "
                f"got shape {tuple(tokens.shape)}; cut the text into windows"
            )
        x = norm(self.embedding(tokens))
        # Add a gated embedding of the previous token: bigrams need no attention head.
        x = x0 = x + self.previous * F.pad(x[:, :-1], (0, 0, 1, 0))
        rotary = rotary_table(tokens.shape[1], self.config.width // self.config.heads, x.device)
        for block in self.blocks:
            x = block(x, x0, rotary)
        logits: Tensor = F.linear(norm(x) * self.final_gain, self.embedding.weight)
        return logits


def norm(x: Tensor) -> Tensor:
    """Vectors of the last axis scaled to a root mean square of one."""
    return F.rms_norm(x, (x.shape[-1],))


def rotary_table(length: int, channels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (length, channels / 2) float32 (Su et al. 2021, arXiv:2104.09864)."""
    frequency = 10_000.0 ** -torch.linspace(0, 1, channels // 2, device=device)
    angle = torch.outer(torch.arange(length, device=device), frequency)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate each pair of channels of queries or keys (B, heads, T, channels) by its position."""
    cos, sin = rotary
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def load_network(path: Path = WEIGHTS_PATH) -> DemoModel:
    """Load the trained model in eval mode; its int8 weights become float32.

    Parameters
    ----------
    path : Path
        A file that `eval.demo.training.train` wrote.

    Returns
    -------
    DemoModel

    Raises
    ------
    FileNotFoundError
        If the file is missing.
    ValueError
        If the metadata of the file lacks the config.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "config" not in metadata:
            raise ValueError(
                f"the weights must carry a config in their metadata, got {sorted(metadata)} in "
                f"{path}; write the file with python -m eval.demo.training.train"
            )
        config = DemoConfig(**json.loads(metadata["config"]))
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    scales = {
        name: stored.pop(name + ".scale") for name in list(stored) if name + ".scale" in stored
    }
    state = {name: value.float() for name, value in stored.items()}
    state |= {name: state[name] * scale.float()[:, None] for name, scale in scales.items()}
    model = DemoModel(config)
    model.load_state_dict(state)
    return model.eval()
