"""Models that see the future: planted leaks are found, honest models are not accused."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from eval.models import causality
from eval.models.causality import check_causality, find_leak, short_length
from eval.models.futures import all_edges, few_edges, with_futures
from eval.models.movement import is_beyond, movement, recorded, spread
from eval.models.wrap import wrap

V = 50
TABLE = torch.randn(V, V, generator=torch.Generator().manual_seed(0))
TEXT = np.random.default_rng(0).integers(0, V, 256)


def honest(x):
    """Logits from the sum of all tokens so far."""
    return TABLE[x].cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None].sqrt()


def ahead(distance, every=1, amount=1.0):
    """Each `every`-th row sees the token at this distance."""

    def network(x):
        logits = honest(x).clone()
        rows = torch.arange(every - 1, x.shape[1], every)
        rows = rows[rows + distance < x.shape[1]]
        logits[:, rows] += amount * TABLE[x[:, rows + distance]]
        return logits

    return network


def inside_chunks(size):
    """A row sees the other tokens of its chunk: attention without a mask, in blocks."""

    def network(x):
        parts = [TABLE[part].mean(1, keepdim=True).expand(-1, part.shape[1], -1)
                 for part in x.split(size, dim=1)]  # fmt: skip
        return honest(x) + torch.cat(parts, dim=1)

    return network


def last_row(x):
    logits = honest(x).clone()
    logits[:, -2:-1] += TABLE[x[:, -1:]]
    return logits


def over_time(x):
    logits = honest(x)
    return (logits - logits.mean(1, keepdim=True)) / (logits.std(1, keepdim=True) + 1e-3)


def with_capacity(x):
    """Experts by token, each with room for a fifth of the batch: the tokens beyond are dropped."""
    logits, expert = honest(x).reshape(-1, V).clone(), (x % 4).flatten()
    for i in range(4):
        logits[(expert == i).nonzero().flatten()[max(1, x.numel() // 5) :]] *= 0.5
    return logits.view(*x.shape, V)


def chosen_by_experts(x):
    """One expert that takes the quarter of the batch it likes best."""
    logits = honest(x).reshape(-1, V).clone()
    logits[logits[:, 0].topk(max(1, len(logits) // 4)).indices] *= 2
    return logits.view(*x.shape, V)


def batch_norm(x):
    logits = honest(x)
    return (logits - logits.mean((0, 1))) / logits.std((0, 1))


def from_the_end(x):
    """Honest logits, and a term of the distance to the end of the window."""
    left = torch.arange(x.shape[1], 0, -1.0)
    return honest(x) + torch.sin(left[:, None] * torch.arange(V) / 9)


def seeded_dropout(x):
    torch.manual_seed(0)
    return F.dropout(honest(x), 0.1)


class Stateful:
    calls = 0

    def __call__(self, x):
        self.calls += 1
        return honest(x) * (1 + self.calls / 10)


def probe(network, *, length=64, batch=8, text=TEXT, vocab_size=V, **options):
    def logits(tokens):
        return network(torch.from_numpy(tokens))

    return find_leak(
        logits, text, vocab_size=vocab_size, longest=length, batch=batch, **options
    )  # fmt: skip


LENGTHS = pytest.mark.parametrize("length", [1, 2, 3, 12, 64, 100, 256])


@LENGTHS
@pytest.mark.parametrize("batch", [1, 2, 8])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_an_honest_model_is_not_accused(length, batch, dtype):
    assert probe(lambda x: honest(x).to(dtype), length=length, batch=batch) is None


def test_constant_logits_and_logits_of_minus_infinity_are_honest():
    assert probe(lambda x: torch.zeros(*x.shape, V)) is None
    masked = torch.where(torch.arange(V) < 40, 0.0, -torch.inf)
    assert probe(lambda x: honest(x) + masked) is None


@given(length=st.integers(2, 64), data=st.data())
def test_a_leak_over_any_distance_at_any_row_of_a_short_window_is_found(length, data):
    row = data.draw(st.integers(0, length - 2))
    distance = data.draw(st.integers(1, length - 1 - row))

    def network(x):
        logits = honest(x).clone()
        if x.shape[1] > row + distance:
            logits[:, row] += 0.1 * TABLE[x[:, row + distance]]
        return logits

    found = probe(network, length=length)
    assert (found.kind, found.position, found.length) == ("future", row, length)
    assert row < found.edge <= row + distance


@given(length=st.integers(65, 256), data=st.data())
def test_a_leak_at_every_row_of_a_long_window_is_found(length, data):
    distance = data.draw(st.integers(1, length - 1))
    size = data.draw(st.integers(2, length))
    assert probe(ahead(distance), length=length).kind == "future"
    assert probe(inside_chunks(size), length=length).kind == "future"


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        (ahead(1, amount=0.001), "future"),  # 0.003 nats
        (ahead(1, every=16), "future"),
        (lambda x: 20.0 * F.one_hot(x.roll(-1, 1), V), "future"),
        (last_row, "future"),
        (over_time, "future"),
        (lambda x: honest(x) + 0.1 * TABLE[x[:, -1:]], "future"),
        (lambda x: honest(x) + 0.1 * TABLE[x.sort(1).values], "future"),
        (lambda x: honest(x).bfloat16() + TABLE[x[:, -1:]].bfloat16(), "future"),
        (lambda x: np.eye(V, dtype=np.float16)[np.roll(x.numpy(), -1, 1)], "future"),
        (lambda x: honest(x) + 0.01 * honest(x).mean(0, keepdim=True), "rows"),
        (lambda x: honest(x) + TABLE[x.roll(1, 0)], "rows"),
        (batch_norm, "rows"),
        (with_capacity, "rows"),
        (seeded_dropout, "rows"),
        (from_the_end, "length"),
        (lambda x: F.dropout(honest(x), 0.1), "repeat"),
        (Stateful(), "repeat"),
    ],
)
@pytest.mark.parametrize("length", [24, 64, 200])
def test_what_the_logits_depend_on_is_named(network, kind, length):
    found = probe(network, length=length)
    assert found.kind == kind
    assert found.nats > 0.001
    assert 0 <= found.position < found.length <= length


def test_experts_that_choose_their_tokens_are_found():
    assert probe(chosen_by_experts).kind in ("future", "rows")


@pytest.mark.parametrize("network", [ahead(1), over_time, batch_norm, inside_chunks(50)])
def test_windows_alone_show_the_future_too(network):
    assert probe(network, length=200, batch=1).kind == "future"


@pytest.mark.parametrize("network", [with_capacity, from_the_end, seeded_dropout])
def test_windows_alone_have_no_rows_beside_them_and_no_padding(network):
    assert probe(network, length=200, batch=1) is None


def test_a_leak_that_needs_a_long_window_is_found():
    def network(x):
        return ahead(1)(x) if x.shape[1] > 150 else honest(x)

    assert probe(network, length=100) is None
    assert probe(network, length=200).length == 200


def refuses(is_taken, network):
    def refusing(x):
        if not is_taken(*x.shape):
            raise RuntimeError(f"a batch of shape {tuple(x.shape)}")
        return network(x)

    return refusing


@pytest.mark.parametrize(
    "is_taken",
    [
        lambda b, t: b == 8 and t == 200,
        lambda b, t: t % 100 == 0,
        lambda b, t: b <= 8,
        lambda b, t: t >= 64,
    ],
)
@pytest.mark.parametrize(
    ("network", "kinds"),
    [(honest, {None}), (ahead(1), {"future"}), (batch_norm, {"rows", "future"})],
)
def test_shapes_that_the_model_does_not_take_are_left_out(is_taken, network, kinds):
    found = probe(refuses(is_taken, network), length=200)
    assert (found and found.kind) in kinds


def test_a_model_that_takes_no_batch_of_the_run_shows_its_own_error():
    with pytest.raises(RuntimeError, match=r"a batch of shape \(8, 200\)"):
        probe(refuses(lambda b, t: False, honest), length=200)


def noisy_experts(amount, n_flips):
    """Honest logits with rounding noise that depends on the other rows; n_flips routers at a tie.

    So does an honest mixture of experts round, whose products have other shapes in other batches.
    """

    def network(x):
        rng = torch.Generator().manual_seed(int(x.sum()))
        logits = honest(x)
        logits = logits * (1 + amount * torch.randn(logits.shape, generator=rng))
        flips = torch.randperm(x.numel(), generator=rng)[:n_flips]
        logits.view(-1, V)[flips] *= 1.3
        return logits

    return network


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_flips", [0, 1, 5])
def test_rounding_noise_and_routers_at_a_tie_are_not_accused(seed, n_flips):
    text = np.random.default_rng(seed).integers(0, V, 200)
    assert probe(noisy_experts(1e-6, n_flips), length=200, text=text) is None


def test_the_cost_is_a_few_passes_over_a_few_thousand_tokens():
    sizes = []

    def network(x):
        sizes.append(x.numel())
        return honest(x)

    for length, passes, tokens in ((12, 3, 210), (64, 3, 5300), (1024, 4, 9400), (4096, 4, 13_500)):
        sizes.clear()
        assert probe(network, length=length) is None
        assert len(sizes) <= passes
        assert sum(sizes) <= tokens
    sizes.clear()
    assert probe(network, length=20, positions=100) is None
    assert sum(sizes) < 500


@pytest.mark.parametrize("n_rows", [0, 1, 2, 100, 1000])
def test_the_logits_of_each_pass_fit_in_memory(monkeypatch, n_rows):
    sizes = []

    def network(x):
        sizes.append(x.numel())
        return honest(x)

    assert probe(network, length=1024, max_rows=n_rows) is None
    monkeypatch.setattr(causality, "logits_memory", lambda option, model: 4 * V * n_rows)
    check_causality(network, context=1024)
    assert max(sizes) <= max(2, n_rows)  # a token, and one that differs from it


def test_one_token_cannot_be_changed():
    assert find_leak(None, np.zeros(5, np.int64), vocab_size=1, longest=5) is None


@given(length=st.integers(1, 200), rng=st.integers(0, 99).map(np.random.default_rng))
def test_futures_differ_from_their_edge_on(length, rng):
    base = rng.integers(1, 9, length)
    odd, even = all_edges(length)
    assert len(odd) == len(even)
    assert {*odd, *even} == {*range(length)}
    few = few_edges(length)
    assert sorted(few) == [*range(1, length)]
    for edges in (odd, even, few):
        rows = with_futures(base, edges, 9, rng)
        assert rows.min() >= 0
        assert rows.max() < 9
        assert (rows[0] == base).all()
        for row, edge in zip(rows[1:], edges, strict=True):
            assert (row[:edge] == base[:edge]).all()
            assert (row[edge:] != base[edge:]).all()


@given(longest=st.integers(1, 5000), positions=st.integers(1, 3000))
def test_short_windows_fit(longest, positions):
    n = short_length(longest, positions)
    assert 1 <= n <= min(longest, 64)
    assert n == 1 or n * (n // 2 + 1) <= positions


def test_movement_is_exact():
    a = torch.tensor([[0.0, 0.0], [1.0, -torch.inf], [torch.nan, 1.0], [0.0, 0.0]])
    b = torch.tensor([[0.0, np.log(3)], [1.0, -torch.inf], [torch.nan, 1.0], [0.0, -torch.inf]])
    for left, right in ((a, b), (a.numpy(), b.numpy()), (a.double(), b.double())):
        assert movement(left, right) == pytest.approx([np.log(2), 0, 0, np.inf], abs=1e-7)
    shift = torch.tensor([[5.0, 7.0]])
    assert movement(shift, shift + 1) == [0]
    assert spread(torch.tensor([[1.0, -1.0, -torch.inf], [3.0, 3.0, 3.0]])) == np.sqrt(0.5).astype(
        "f"
    )


def test_noise_moves_everything_a_little_and_single_positions_far():
    noise = np.full(100, 1e-6)
    assert not is_beyond(np.zeros(100), 0.0)
    assert not is_beyond(noise, 1e-3)
    noise[:5] = 1.0
    assert not is_beyond(noise, 1e-3)
    noise[5] = 1.0
    assert is_beyond(noise, 1e-3)
    assert is_beyond(np.eye(100)[7], 1e-3)


def test_the_coarsest_dtype_counts():
    x = torch.ones(2, 3)
    assert recorded(lambda: x)[1] == torch.finfo(torch.float32).eps
    assert recorded(lambda: (x.bfloat16() * 2).float())[1] == torch.finfo(torch.bfloat16).eps
    assert recorded(lambda: np.ones((2, 3)))[1] == torch.finfo(torch.float64).eps
    torch.set_float32_matmul_precision("high")
    try:
        assert recorded(lambda: x)[1] == torch.finfo(torch.float16).eps
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_precision_that_was_set_by_its_newer_names_may_be_the_lowest(monkeypatch):
    def fail():
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", fail)
    assert recorded(lambda: torch.ones(2, 3))[1] == torch.finfo(torch.bfloat16).eps


SWITCH = ", or pass --no-causality-check (causality_check=False)"


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (lambda x: 20.0 * F.one_hot(x.roll(-1, 1), V),
         "a model must predict each token from the tokens before it, got it: its logits at "
         "position {position} of 64 moved by 20 nats when the tokens from position {edge} on were "
         "changed; load a class for causal models, set is_decoder or is_causal in its config, "
         "clear use_bidirectional_attention, undo a shift in its factory"),
        (batch_norm,
         "the logits of a window must not depend on the rest of its batch, got it: those at "
         "position {position} of 64 moved by {nats} nats when other rows stood beside it; pass "
         "--batch 1, take out what mixes rows, such as a batch norm or experts with a capacity"),
        (from_the_end,
         "the logits of a window must not depend on the padding after it, got it: those at "
         "position {position} moved by {nats} nats when 32 tokens became 64; pass --batch 1, "
         "count positions from the first token"),
        (Stateful(),
         "a model must give the same logits for the same tokens, got it: those at position "
         "{position} of 64 moved by {nats} nats when the same batch was read again; switch off "
         "dropout, noise, and what it keeps from call to call"),
    ],
)  # fmt: skip
def test_check_causality_names_the_witness_and_the_mend(network, text):
    model = wrap(network, context=64, tokenizer=None, name="it", vocab_size=V)
    if isinstance(network, Stateful):
        network = Stateful()
        model = wrap(network, context=64, tokenizer=None, name="it", vocab_size=V)
    with pytest.raises(ValueError) as error:
        check_causality(model, TEXT)
    assert model.name.startswith("it-")  # and a hash, which depends on the version of Python
    shown = str(error.value).replace(model.name, "it")
    found = find_leak(model.logits, TEXT, vocab_size=V, longest=64)
    values = {"position": found.position, "edge": found.edge, "nats": f"{found.nats:.3g}"}
    if isinstance(network, Stateful):  # every call gives other logits
        assert shown.startswith(text.partition("{")[0])
        assert shown.endswith(text.rpartition("}")[2] + SWITCH)
    else:
        assert shown == text.format(**values) + SWITCH


def test_check_causality_takes_callables_and_leaves_training_modes_alone():
    module = torch.nn.Sequential(torch.nn.Embedding(V, V), torch.nn.Dropout(0.5))
    module[0].eval()
    check_causality(module, context=16)
    assert [part.training for part in module.modules()] == [True, False, True]
    check_causality(honest, TEXT, context=40, vocab_size=30 if TEXT.max() < 30 else None, batch=2)
    for arguments, text in (
        ((honest, [1, V]), f"tokens must be in [0, {V}), got {V} at position 1; raise vocab_size "
                           "or check the tokenizer"),
        ((honest, [0.5]), "tokens must be integer token ids, got dtype float64; cast them first "
                          "if they really are token ids"),
        ((honest, []), "tokens must hold at least one id, got none; leave them out for random "
                       "ones"),
    ):  # fmt: skip
        with pytest.raises(ValueError) as error:
            check_causality(*arguments, context=8)
        assert str(error.value) == text
    with pytest.raises(ValueError) as error:
        check_causality(honest)
    assert str(error.value) == (
        "context must be an integer >= 1, got None for honest; pass the tokens that the model "
        "reads at once (--context)"
    )
