"""Tiny models of several families, and what quantization costs them on unseen tokens.

``python -m tests.quantized_models.families`` prints the KL divergence of each recipe for five
seeds, and the worst ratio of GPTQ to rounding at the same grid.
"""

import torch
import torch.nn.functional as F
from torch import nn

from quant import quantize_model

VOCABULARY = 96
WIDTH = 32
PAIRS = (("int6", "gptq-int6"), ("int4", "gptq-int4"))
FAMILIES = ("golf", "gpt2", "mixtral", "qwen3-moe", "deepseek-v3", "mamba", "gemma3", "rwkv")


class GolfBlock(nn.Module):
    """A block of Parameter Golf's baseline, with its control tensors."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)
        mix = torch.stack([torch.ones(WIDTH), torch.zeros(WIDTH)])
        self.resid_mix = nn.Parameter(mix + 0.05 * torch.randn(2, WIDTH))
        self.attn_scale, self.mlp_scale = (nn.Parameter(torch.ones(WIDTH)) for _ in range(2))
        self.q_gain = nn.Parameter(torch.full((4,), 1.5))

    def forward(self, x, first):
        x = self.resid_mix[0] * x + self.resid_mix[1] * first
        heads = self.qkv(self.norm(x)).unflatten(-1, (3, 4, WIDTH // 4))
        q, k, v = (part.transpose(1, 2) for part in heads.unbind(2))
        q, k = (F.rms_norm(part, part.shape[-1:]) for part in (q, k))
        gain = self.q_gain[:, None, None]
        attended = F.scaled_dot_product_attention(q * gain, k, v, is_causal=True)
        x = x + self.attn_scale * self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp_scale * self.down(self.up(self.norm(x)).relu().square())


class Golf(nn.Module):
    """Parameter Golf's baseline in miniature: skips over the middle, tied and capped logits."""

    def __init__(self, depth=4):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(GolfBlock() for _ in range(depth))
        self.skip_weights = nn.Parameter(1 + 0.1 * torch.randn(depth // 2, WIDTH))
        self.norm = nn.LayerNorm(WIDTH, bias=False)

    def forward(self, tokens):
        x = first = F.rms_norm(self.embedding(tokens), (WIDTH,))
        middle, skips = len(self.blocks) // 2, []
        for block in self.blocks[:middle]:
            x = block(x, first)
            skips.append(x)
        for weight, block in zip(self.skip_weights, self.blocks[middle:], strict=True):
            x = block(x + weight * skips.pop(), first)
        return 30 * torch.tanh(self.norm(x) @ self.embedding.weight.T / 30)


def make(family):
    """A tiny model of a family, with new weights."""
    if family == "golf":
        return Golf()
    import transformers as hf

    sizes = {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": 64,
    }  # fmt: skip
    experts = {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    latent = {
        "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 8, "n_shared_experts": 1,
        "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
    }  # fmt: skip
    small = {"vocab_size": VOCABULARY, **ends}
    configs = {
        "mixtral": lambda: hf.MixtralConfig(**sizes, num_local_experts=4),
        "qwen3-moe": lambda: hf.Qwen3MoeConfig(**sizes, **experts, num_experts=8, head_dim=8),
        "deepseek-v3": lambda: hf.DeepseekV3Config(**sizes | experts | latent),
        "gemma3": lambda: hf.Gemma3TextConfig(
            **sizes, head_dim=8, sliding_window=16, query_pre_attn_scalar=8
        ),
        "gpt2": lambda: hf.GPT2Config(**small, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64),
        "mamba": lambda: hf.MambaConfig(
            **small, hidden_size=WIDTH, state_size=8, num_hidden_layers=2
        ),
        "rwkv": lambda: hf.RwkvConfig(
            **small, hidden_size=WIDTH, num_hidden_layers=2, attention_hidden_size=WIDTH,
            intermediate_size=64, context_length=64,
        ),
    }  # fmt: skip
    return hf.AutoModelForCausalLM.from_config(configs[family]())


def batches(seed, n):
    """Batches (8, 32) of tokens of which most depend on the one before."""
    rng = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        tokens = torch.randint(0, VOCABULARY, (8, 32), generator=rng)
        for i in range(1, 32):
            is_new = torch.rand(8, generator=rng) < 0.3
            skewed = (torch.rand(8, generator=rng) ** 3 * VOCABULARY).long()
            tokens[:, i] = torch.where(is_new, skewed, (tokens[:, i - 1] * 7 + 3) % VOCABULARY)
        made.append(tokens)
    return made


def logits(model, tokens):
    """Logits (B, T, V) float64."""
    output = model(tokens)
    return getattr(output, "logits", output).double()


def trained(family, seed, steps=60):
    """A model of a family, trained for a moment, in eval mode."""
    torch.manual_seed(seed)
    model = make(family).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for tokens in batches(1000 + seed, steps):
        loss = F.cross_entropy(logits(model, tokens)[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def divergences(family, seed, recipes):
    """KL divergence on unseen tokens, in nats, that each recipe brings."""
    state = {name: x.clone() for name, x in trained(family, seed).state_dict().items()}

    def fresh():  # some models change themselves when they run
        model = make(family)
        model.load_state_dict(state)
        return model.eval()

    calibration, unseen, found = batches(2000 + seed, 16), batches(3000 + seed, 8), {}
    for recipe in recipes:
        copy = fresh()
        quantize_model(fresh(), recipe, calibration).load_into(copy)
        model, total = fresh(), 0.0
        with torch.no_grad():
            for tokens in unseen:
                p, q = (logits(each, tokens).log_softmax(-1) for each in (model, copy))
                total += float((p.exp() * (p - q)).sum(-1).mean())
        found[recipe] = total / len(unseen)
    return found


if __name__ == "__main__":
    for family in FAMILIES:
        every = [divergences(family, seed, sum(PAIRS, ())) for seed in range(5)]
        for rounded, gptq in PAIRS:
            ratios = [found[gptq] / found[rounded] for found in every]
            worst = max(range(5), key=ratios.__getitem__)
            mean, of = sum(ratios) / 5, f"{every[worst][gptq]:.2e} of {every[worst][rounded]:.2e}"
            line = f"{family:12} {gptq:10} mean ratio {mean:.2f}, worst {ratios[worst]:.2f}: {of}"
            print(line, "nats", flush=True)  # noqa: T201
