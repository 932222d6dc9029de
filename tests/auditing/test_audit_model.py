"""audit_model: planted leaks of every kind are found, honest models are never accused."""

import math
import os
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import eval as workbench
from eval.auditing.models.audit_model import NOT_CHECKED, audit_model
from eval.bench.peers import tiny_models
from eval.models.wrap import wrap
from ngrammix.auditing.report import smallest_share

V, BOS = 24, 0
TABLE = torch.randn(V, V, generator=torch.Generator().manual_seed(0))


def honest(x):
    """Logits from the sum of all tokens so far."""
    return TABLE[x].cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None].sqrt()


def leaky(rows_and_targets, amount=0.3):
    """Honest logits; each row of the first indices has seen the token at the second one."""

    def network(x):
        logits = honest(x).clone()
        for row, seen in rows_and_targets(x.shape[1]):
            if 0 <= row < seen < x.shape[1]:
                logits[:, row] += amount * TABLE[x[:, seen]]
        return logits

    return network


def where(condition, amount=0.5, token=7):
    """Honest logits; one of them is larger at the rows where the condition of x holds."""

    def network(x):
        logits = honest(x).clone()
        logits[..., token] += amount * condition(x)
        return logits

    return network


def following(x, fill=-1):
    """The next token of each position."""
    return torch.cat([x[:, 1:], torch.full_like(x[:, :1], fill)], dim=1)


def inside_chunks(size):
    """A row sees all tokens of its chunk."""

    def network(x):
        parts = [TABLE[part].mean(1, keepdim=True).expand(-1, part.shape[1], -1)
                 for part in x.split(size, dim=1)]  # fmt: skip
        return honest(x) + torch.cat(parts, dim=1)

    return network


def chunk_ends(size):
    return leaky(lambda n: [(row, row + 1) for row in range(size - 1, n, size)])


def hashed(x):
    """At one context in 100, by the sum of its tokens and its length."""
    where_ = (x.cumsum(1) * 7919 + torch.arange(x.shape[1])) % 100 == 3
    logits = honest(x).clone()
    return logits + where_[..., None] * TABLE[following(x, 0)]


def long_only(length):
    def network(x):
        return leaky(lambda n: [(n // 3, n // 3 + 1)])(x) if x.shape[1] == length else honest(x)

    return network


def by_length(x):
    logits = honest(x).clone()
    logits[:, -1] *= 1.1
    return logits


def smeared_ahead(x):
    """The first row of a document has seen the next token: the mask of documents is off by one."""
    return where((lambda x: (x == BOS) * (following(x) % 5)), 0.2)(x)


class Stateful:
    """Its logits grow with each call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return honest(x) * (1 + self.calls / 50)


class Memory:
    """It knows the windows that it has read before."""

    def __init__(self):
        self.known = set()

    def __call__(self, x):
        rows = [tuple(row) for row in x.tolist()]
        is_known = torch.tensor([row in self.known for row in rows])
        self.known.update(rows)
        return honest(x) + is_known[:, None, None] * F.one_hot(following(x, 0), V)


def mixed_rows(x):
    logits = honest(x)
    return logits + 0.05 * logits.mean(0, keepdim=True)


def batch_norm(x):
    logits = honest(x)
    return (logits - logits.mean((0, 1))) / (1e-3 + logits.var((0, 1), unbiased=False).sqrt())


def padded(x):
    """A window whose end is padding is known to end there."""
    return where(lambda x: (x.flip(1).cumsum(1) == 0).flip(1).any(1, keepdim=True).float())(x)


class Block(nn.Module):
    """Attention and a network of two layers; with experts if asked for."""

    def __init__(self, width, experts=0, window=None, alibi=False):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(max(1, experts))
        )
        self.router = nn.Linear(width, experts) if experts else None
        self.window, self.alibi = window, alibi

    def forward(self, x):
        n = x.shape[1]
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        back = torch.arange(n)[:, None] - torch.arange(n)
        seen = (back >= 0) & (back < (self.window or n))
        bias = torch.zeros(n, n, dtype=x.dtype)
        if self.alibi:
            bias = -0.1 * back.to(x.dtype)
        x = x + self.out(
            F.scaled_dot_product_attention(q, k, v, bias.masked_fill(~seen, -torch.inf))
        )
        if self.router is None:
            return x + self.mlp[0](x)
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        for i, expert in enumerate(self.mlp):
            places = (chosen == i).nonzero()
            b, t, slot = places.T
            x = x.index_put((b, t), weights[b, t, slot][:, None] * expert(x[b, t]), accumulate=True)
        return x


class Small(nn.Module):
    """A transformer of two blocks."""

    def __init__(self, seed=0, scale=1.0, tied=False, dropout=0.0, **options):
        super().__init__()
        torch.manual_seed(seed)
        self.embed, self.drop = nn.Embedding(V, 16), nn.Dropout(dropout)
        self.place = nn.Embedding(64, 16)
        self.blocks = nn.ModuleList(Block(16, **options) for _ in range(2))
        self.head = nn.Linear(16, V, bias=False)
        if tied:
            self.head.weight = self.embed.weight
        self.scale = scale

    def hidden(self, x):
        h = self.drop(self.embed(x) + self.place.weight[: x.shape[1]])
        for block in self.blocks:
            h = block(h)
        return h

    def forward(self, x):
        return self.scale * self.head(self.hidden(x))


class Golf(Small):
    """A module of Parameter Golf: it takes targets, and returns the loss alone."""

    is_leaky = False

    def forward(self, input_ids, target_ids):
        h = self.hidden(input_ids)
        if self.is_leaky:
            h = h + 0.1 * self.embed(target_ids)
        return F.cross_entropy(self.head(h).view(-1, V), target_ids.reshape(-1))


class GolfWithLogits(Golf):
    def forward_logits(self, ids):
        return self.head(self.hidden(ids)).float()


class Nano(Small):
    """A module as nanoGPT's: without targets, the logits of the last position alone."""

    def forward(self, idx, targets=None):
        logits = self.head(self.hidden(idx))
        return (logits if targets is not None else logits[:, [-1]]), None


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.gru, self.head = nn.Embedding(V, 16), nn.GRU(16, 16, batch_first=True), (
            nn.Linear(16, V)
        )  # fmt: skip

    def forward(self, x):
        return self.head(self.gru(self.embed(x))[0])


class Packed(Small):
    """Documents are kept apart: no row sees a token before its document."""

    def forward(self, x):
        document = (x == BOS).cumsum(1)
        same = document[:, :, None] == document[:, None]
        mask = same & torch.ones(x.shape[1], x.shape[1]).tril().bool()
        h = self.embed(x)
        return self.head(F.scaled_dot_product_attention(h, h, h, mask))


PLANTED = {
    "next at every row": (leaky(lambda n: [(t, t + 1) for t in range(n)]), "C1"),
    "next but one": (leaky(lambda n: [(t, t + 2) for t in range(n)]), "C1"),
    "33 ahead": (leaky(lambda n: [(t, t + 33) for t in range(n)]), "C1"),
    "one row": (leaky(lambda n: [(37, 38)]), "C1"),
    "last but one row": (leaky(lambda n: [(n - 2, n - 1)]), "C1"),
    "first sees last": (leaky(lambda n: [(0, n - 1)]), "C1"),
    "chunks of 2": (inside_chunks(2), "C1"),
    "chunks of 7": (inside_chunks(7), "C1"),
    "chunks of 64": (inside_chunks(64), "C1"),
    "ends of chunks of 61": (chunk_ends(61), "C1"),
    "ends of chunks of 16": (chunk_ends(16), "C1"),
    "one context in 100": (hashed, "C1"),
    "shift by 1": (lambda x: 9.0 * F.one_hot(x.roll(-1, 1), V), "C1"),
    "shift by 5": (lambda x: honest(x.roll(-5, 1)), "C1"),
    "shift back by 3": (lambda x: honest(x) + TABLE[x.roll(3, 1)], "C1"),
    "one next id": (where(lambda x: following(x) == 5), "C1"),
    "one id before one id": (where(lambda x: (following(x) == 5) & (x == 9)), "C1"),
    "one id at one row": (
        where(lambda x: (following(x) == 5) & (torch.arange(x.shape[1]) == 11)), "C1"),
    "windows of full length": (long_only(80), "C1"),
    "after a document begins": (smeared_ahead, "C1"),
    "padding": (padded, "C1"),
    "over time": (lambda x: honest(x) - honest(x).mean(1, keepdim=True), "C1"),
    "sorted": (lambda x: honest(x) + 0.1 * TABLE[x.sort(1).values], "C1"),
    "number of tokens": (by_length, "C1"),
    "rows mixed": (mixed_rows, "C1"),
    "row beside": (lambda x: honest(x) + TABLE[x.roll(1, 0)], "C1"),
    "batch norm": (batch_norm, "C1"),
    "bfloat16": (lambda x: (honest(x) + TABLE[following(x, 0)]).bfloat16(), "C1"),
    "numpy": (lambda x: np.eye(V, dtype=np.float32)[np.roll(x.numpy(), -1, 1)] * 9, "C1"),
    "dropout": (lambda x: F.dropout(honest(x), 0.1), "C4"),
    "probabilities": (lambda x: honest(x).softmax(-1), "C2"),
    "NaN after one id": (lambda x: honest(x).masked_fill((x == 9)[..., None], torch.nan), "C2"),
    "infinite": (lambda x: honest(x) + torch.inf * F.one_hot(x, V).clamp(min=0), "C2"),
    "nothing is left": (
        lambda x: honest(x).masked_fill((x == 9)[..., None], -torch.inf), "C2"),
}  # fmt: skip
PLANTED_OBJECTS = {"grows": Stateful, "remembers": Memory}
HONEST = {
    "sum": lambda: honest,
    "constant": lambda: lambda x: torch.zeros(*x.shape, V),
    "unigram": lambda: lambda x: TABLE[0].expand(*x.shape, V),
    "bigram": lambda: lambda x: TABLE[x],
    "numpy float64": lambda: lambda x: honest(x).double().numpy(),
    "masked": lambda: lambda x: honest(x).masked_fill(torch.arange(V) > 20, -torch.inf),
    "transformer": Small,
    "bfloat16": lambda: Small().bfloat16(),
    "float16": lambda: Small().half(),
    "float64": lambda: Small().double(),
    "bfloat16 inside": lambda: (lambda m: lambda x: m(x).float())(Small().bfloat16().eval()),
    "dropout in training mode": lambda: Small(dropout=0.5).train(),
    "experts": lambda: Small(experts=4),
    "experts in bfloat16": lambda: Small(experts=4).bfloat16(),
    "sliding window": lambda: Small(window=5),
    "ALiBi": lambda: Small(alibi=True),
    "tied": lambda: Small(tied=True),
    "big logits": lambda: Small(scale=300.0),
    "recurrent": Recurrent,
    "documents apart": Packed,
    "loss alone": Golf,
    "loss and logits": GolfWithLogits,
    "last position": Nano,
}


def audit(network, seed=0, *, context=40, budget_seconds=60.0, **options):
    return audit_model(
        network, context=context, seed=seed, budget_seconds=budget_seconds, **options
    )


def assert_found(network, condition, seed, context=80):
    report = audit(network, seed, context=context)
    assert report.verdict == "guilty", str(report)
    assert condition in {found.condition for found in report.findings}
    for found in report.findings:
        assert found.witness.kind == "logits"
        assert found.witness.position == found.position
        assert found.witness.numbers[0] != found.witness.numbers[1]
        assert max(*found.witness.stream, *found.witness.other, 0) < V
        assert "\n" not in found.message
    return report


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_found(name):
    network, condition = PLANTED[name]
    assert_found(network, condition, seed=1)


@pytest.mark.parametrize("name", PLANTED_OBJECTS)
def test_state_is_found(name):
    assert_found(PLANTED_OBJECTS[name](), "C4", seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("name", [*PLANTED, *PLANTED_OBJECTS])
def test_a_planted_leak_is_found_with_any_seed(name, seed):
    if name in PLANTED_OBJECTS:
        assert_found(PLANTED_OBJECTS[name](), "C4", seed)
    else:
        assert_found(*PLANTED[name], seed)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3, 5, 64, 100, 127, 333, 512, 777, 1000, 1023])
def test_chunks_of_any_size_are_found(size):
    for make in (inside_chunks, chunk_ends):
        assert_found(make(size), "C1", seed=1, context=1024)


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_is_legal(name):
    report = audit(HONEST[name](), context=16)
    assert report.verdict == "legal", str(report)
    assert {check.condition for check in report.checks} == {"C1", "C2", "C4"}


@pytest.mark.slow
@pytest.mark.parametrize("name", HONEST)
def test_an_honest_model_is_never_accused(name):
    for seed in range(1, 13):
        report = audit(
            HONEST[name](), seed, context=(16, 33, 64)[seed % 3], batch=(8, 1, 3)[seed % 3]
        )
        assert report.verdict == "legal", str(report)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["gpt2", "llama", "mixtral", "gemma3_text", "rwkv", "qwen2_moe"])
def test_a_family_of_transformers_is_legal(family, dtype):
    pytest.importorskip("transformers")
    if (network := tiny_models.build(family)) is None:
        pytest.skip(f"this release of transformers builds no tiny {family}")
    model = wrap(
        network.to(dtype), context=48, tokenizer=None, vocab_size=tiny_models.VOCAB, name=family
    )
    report = audit_model(model, seed=1, budget_seconds=120)
    assert report.verdict == "legal", str(report)


def test_the_smallest_windows_are_shown():
    found = audit(PLANTED["one id before one id"][0]).findings[0]
    assert (found.condition, found.position) == ("C1", 0)
    assert found.witness.stream[0] == found.witness.other[0] == 9
    assert 5 in (found.witness.stream[1], found.witness.other[1])
    assert len(found.witness.stream) == 2
    rows = torch.tensor([found.witness.stream, found.witness.other])
    right = PLANTED["one id before one id"][0](rows).double().log_softmax(-1)[:, 0]
    (token,) = found.witness.tokens
    assert right[:, token].tolist() == pytest.approx(found.witness.numbers, abs=1e-6)
    edge = 1
    assert found.message == (
        "a model must predict each token from the tokens before it, got where.<locals>.network: "
        f"its logits at position 0 of 2 moved by {float((right[0] - right[1]).abs().max()):.3g} "
        f"nats when the tokens from position {edge} on were changed; load a class for causal "
        "models, set is_decoder or is_causal in its config, clear use_bidirectional_attention, "
        "undo a shift in its factory"
    )


def test_coverage_is_stated():
    report = audit(honest, context=100)
    checks = {check.unit: check for check in report.checks if check.condition == "C1"}
    assert checks["pairs of ids"].smallest_share == 0
    assert checks["pairs of ids"].note == f"{V} of {V} ids stood next"
    assert checks["contexts"].smallest_share == smallest_share(checks["contexts"].tried)
    assert [c.tried for c in report.checks if c.unit == "positions" and c.smallest_share == 0] == [
        99, 99,
    ]  # fmt: skip
    assert report.not_checked == NOT_CHECKED
    assert report.conditions["longest_window"] == 100
    assert report.conditions["vocab_size"] == V
    assert report.calls > 10 < report.tokens_scored


def test_the_same_seed_gives_the_same_report():
    first, second = (audit(PLANTED["one row"][0], seed=5) for _ in range(2))
    assert first.findings == second.findings


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        (lambda x: 1 / 0, "the model raised ZeroDivisionError: division by zero"),
        (lambda x: honest(x) if x.shape[1] == 1 else 1 / 0,
         "the model raised ZeroDivisionError: division by zero"),
        (lambda x: honest(x)[:, -1:] if x.shape[1] > 1 else honest(x),
         "the model raised ValueError: logits must be (B, T, V) = (8, 40, 24), got shape "
         "(8, 1, 24) from <lambda>; return the logits of every position and of the whole "
         "vocabulary"),
        (lambda x: honest(x).long(),
         "logits must be floating point, got dtype torch.int64; pass the model's output "
         "unquantized"),
    ],
)  # fmt: skip
def test_a_model_that_gives_no_logits_has_no_verdict(network, problem):
    report = audit(network)
    assert (report.verdict, report.problems, report.findings) == ("unknown", (problem,), ())


def test_chance_at_few_calls_is_found():
    rng = np.random.default_rng(3)

    def network(x):
        return honest(x) * (1.1 if rng.random() < 0.03 else 1.0)

    for _ in range(5):
        assert_found(network, "C4", seed=0, context=16)


def test_a_convolution_by_fourier_transforms_is_legal_in_any_dtype():
    def network(x):
        n = x.shape[1]
        decay = torch.exp(-torch.arange(n) / 9.0)[:, None]
        both = [torch.fft.rfft(part, 2 * n, dim=-2) for part in (TABLE[x], decay)]
        return torch.fft.irfft(both[0] * both[1], 2 * n, dim=-2)[:, :n]

    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for seed in range(3):
            report = audit(lambda x, dtype=dtype: network(x).to(dtype), seed, context=10)
            assert report.verdict == "legal", str(report)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_small_leak_in_few_digits_is_found(dtype):
    leak = leaky(lambda n: [(t, t + 1) for t in range(n)], amount=0.05)
    assert_found(lambda x: leak(x).to(dtype), "C1", seed=0)


def test_a_model_that_ends_the_process_or_forks_has_one_report(tmp_path):
    def leaves(x):
        raise SystemExit("enough")

    def leaves_later(x):
        return honest(x) if x.shape[1] == 1 else leaves(x)

    for network in (leaves, leaves_later):
        assert audit(network).problems == ("the model raised SystemExit: enough",)

    def forks(x):
        if len(x) == 3 and hasattr(os, "fork"):
            os.fork()
        return honest(x)

    report = audit(forks, context=8)
    with (tmp_path / "reports").open("a") as file:
        file.write(report.verdict)
    assert (tmp_path / "reports").read_text() == "legal"


def masked(network, value):
    """The last three ids have this logit."""

    def wrapped(x):
        logits = torch.as_tensor(network(x)).clone()
        logits[..., -3:] = value
        return logits

    return wrapped


@pytest.mark.parametrize("value", [-1e4, -1e9, torch.finfo(torch.float32).min, -torch.inf])
def test_masks_of_any_kind_are_no_leak_and_hide_none(value):
    assert audit(masked(honest, value), context=16).verdict == "legal"
    for name in ("next at every row", "one next id", "rows mixed", "number of tokens"):
        assert audit(masked(PLANTED[name][0], value)).findings[0].condition == "C1"


def test_the_rounding_of_an_offset_is_no_leak():
    network = Small()
    assert audit(lambda x: network(x) + 1e5, context=16).verdict == "legal"


def test_a_model_may_write_all_its_logits_to_one_place():
    place = torch.zeros(1 << 22)

    def same_place(network):
        def into(x):
            logits = network(x)
            return place[: logits.numel()].copy_(logits.flatten()).view(logits.shape)

        return into

    assert audit(same_place(honest), context=16).verdict == "legal"
    for name in ("one row", "number of tokens", "rows mixed"):
        assert_found(same_place(PLANTED[name][0]), "C1", seed=0)


def test_autocast_around_the_audit_is_kept():
    seen = set()

    def network(x):
        out = torch.nn.functional.linear(TABLE[x], TABLE).cumsum(1)
        seen.add(torch.is_autocast_enabled("cpu"))
        return out.float()

    with torch.autocast("cpu", torch.bfloat16):
        report = audit(wrap(network, context=12, tokenizer=None, vocab_size=V))
    assert seen == {True}
    assert report.verdict == "legal"


def test_a_model_that_hangs_has_no_verdict():
    began = time.perf_counter()
    report = audit(lambda x: honest(x) if x.shape[1] < 9 else time.sleep(60), budget_seconds=0.5)
    assert time.perf_counter() - began < 30
    assert report.problems == (
        "the model did not return within the budget of 0.5 s, in pass 1; raise budget_seconds",
    )
    assert report.verdict == "unknown"


def test_a_model_that_is_slow_has_no_verdict():
    def slow(x):
        time.sleep(0.2)
        return honest(x)

    report = audit(slow, budget_seconds=1)
    assert report.verdict == "unknown"
    (problem,) = report.problems
    assert problem.startswith("the budget of 1 s was too short after ")
    assert problem.endswith(" tokens; raise budget_seconds")


def test_no_distribution_is_named():
    found = audit(PLANTED["NaN after one id"][0]).findings[0]
    assert (found.condition, found.witness.stream[-1]) == ("C2", 9)
    assert math.isnan(found.witness.numbers[1])
    n = len(found.witness.stream)
    assert found.message == (
        f"the logits of a position must be a distribution, got <lambda>: the largest logit at "
        f"position {n - 1} of {n} is nan; mask tokens with -inf, and let one be finite"
    )


def test_a_model_that_takes_few_shapes_is_audited_in_them():
    def whole_batches(x):
        if len(x) != 4 or x.shape[1] < 30:
            raise RuntimeError("four windows of 30 tokens or more")
        return honest(x)

    model = wrap(whole_batches, context=40, tokenizer=None, vocab_size=V)
    report = audit(model, batch=4)
    assert report.verdict == "legal"
    (cuts,) = [check for check in report.checks if check.note.endswith("tokens or more")][:1]
    assert cuts.note == (
        "the model took no such batch: RuntimeError: four windows of 30 tokens or more"
    )

    def few(x):
        if len(x) > 3:
            raise RuntimeError("three windows at most")
        return honest(x)

    assert audit(few, batch=3).verdict == "legal"
    leak = leaky(lambda n: [(30, 31)])
    assert audit(lambda x: few(x) * 0 + leak(x), batch=3).verdict == "guilty"


@pytest.mark.parametrize("name", ["next at every row", "one row", "one next id", "over time"])
def test_windows_that_are_read_one_by_one_show_the_future(name):
    assert audit(PLANTED[name][0], batch=1).findings[0].condition == "C1"


def test_rows_that_are_read_one_by_one_mix_nothing():
    assert audit(mixed_rows, batch=1, context=20).verdict == "legal"


class Smeared(Packed):
    """Documents are kept apart, but the first token of one is mixed with the last of another."""

    def forward(self, x):
        before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
        return super().forward(x) + 0.3 * TABLE[before] * (x == BOS)[..., None]


def test_documents_that_are_not_kept_apart_are_told():
    options = {"bos": BOS, "context": 24}
    remarks = [audit(network, **options).remarks for network in (Packed(), Smeared(), honest)]
    assert remarks == [
        ("documents are kept apart: no logits from token 0 on moved with those before it",),
        ("the logits at 1 of the 12 positions from token 0 on depend on the tokens before it, and "
         "the later ones do not: if documents shall be kept apart, what mixes neighbours must "
         "stop at their edge",),
        ("documents are not kept apart: the logits from token 0 on depend on the tokens before it",
         ),
    ]  # fmt: skip
    options["documents_apart"] = True
    assert audit(Packed(), **options).verdict == "legal"
    (found,) = audit(Smeared(), **options).findings
    assert (found.condition, found.position, found.witness.stream[12]) == ("C4", 12, BOS)
    assert found.witness.numbers[0] != found.witness.numbers[1]
    assert found.message.startswith(
        "documents must be kept apart, got Smeared: the logits at position 12 of 24 moved by "
    )
    with pytest.raises(ValueError) as error:
        audit(honest, documents_apart=True)
    assert str(error.value) == (
        "documents_apart needs the token that begins a document, got none; pass bos"
    )


def test_a_module_keeps_its_mode():
    module = Small(dropout=0.5).train()
    module.blocks[0].eval()
    modes = [part.training for part in module.modules()]
    audit(module, context=8)
    assert [part.training for part in module.modules()] == modes


def test_targets_that_leak_into_the_logits_are_found():
    network = Golf()
    network.is_leaky = True
    assert audit(network).findings[0].condition == "C1"


def test_a_loss_without_logits_is_refused():
    class Bare(Golf):
        def forward(self, input_ids, target_ids):
            logits = self.head(self.hidden(input_ids)).log_softmax(-1)
            return -logits.gather(2, target_ids[..., None]).mean()

    assert audit(Bare()).problems == (
        "the model raised ValueError: a model must give logits for its tokens, got the loss of "
        "Bare, which no cross_entropy of torch computed; add a method forward_logits(ids)",
    )


def test_a_cache_that_differs_from_the_full_pass_is_found():
    pytest.importorskip("transformers")
    network = tiny_models.build("llama")
    model = wrap(network, context=12, tokenizer=None, vocab_size=tiny_models.VOCAB, name="llama")
    assert audit_model(model, budget_seconds=60).verdict == "legal"
    embed = network.model.embed_tokens
    embed.register_forward_hook(lambda m, args, out: out * (2 if args[0].shape[1] == 1 else 1))
    report = audit_model(model, budget_seconds=60)
    assert "its cache" in " ".join(found.message for found in report.findings) or (
        report.findings[0].condition == "C1"  # a window of one token moves as well
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"budget_seconds": 0}, "budget_seconds must be a number > 0, got 0; leave it out for 50"),
        ({"batch": 0}, "batch must be an integer in 1..4096, got 0; leave it out for the default"),
        ({"tokens": []}, "tokens must hold at least one id, got none; leave them out"),
        ({"tokens": [V]}, f"tokens must be in [0, {V}), got {V} at position 0; raise vocab_size "
                          "or check the tokenizer"),
        ({"context": None}, "context must be an integer >= 1, got None for honest; pass the "
                            "tokens that the model reads at once (--context)"),
        ({"vocab_size": V + 1}, f"vocab_size must be an integer in 1..{V}, got {V + 1}; leave it "
                                "out for the default"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused(options, text):
    with pytest.raises(ValueError) as error:
        audit_model(honest, **({"context": 8} | options))
    assert str(error.value) == text


def test_one_token_and_one_position_are_legal():
    assert audit(honest, context=1).verdict == "legal"
    assert audit(lambda x: torch.zeros(*x.shape, 1), context=8).verdict == "legal"


def test_it_is_at_the_face_and_takes_a_name():
    assert workbench.audit_model is audit_model
    report = audit_model("demo", context=24, budget_seconds=3)
    assert report.subject.startswith("demo-")
    assert report.verdict in ("legal", "unknown")
    assert not report.findings
