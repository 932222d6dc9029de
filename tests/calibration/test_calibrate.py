"""Calibration: Hessians of any module are the plain sums, Fisher is the gradient's square."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eval.models.load_model import load_demo
from quant.calibration.calibrate import calibrate
from quant.calibration.self_generate import self_generate


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def second_moment(rows):
    rows = rows.detach().double().reshape(-1, rows.shape[-1])
    return (rows.T @ rows / len(rows)).numpy()


def check_hessian(calibration, name, rows, *, is_transposed=False):
    hessian = calibration.hessian(name)
    assert hessian.n_rows == rows.reshape(-1, rows.shape[-1]).shape[0]
    np.testing.assert_allclose(hessian.matrix(), second_moment(rows), rtol=1e-5, atol=1e-6)
    assert calibration.is_transposed(name) is is_transposed


def hooked_inputs(model, batches):
    """What goes into each Linear and Conv2d, gathered by hooks of modules."""
    seen = {}

    def hook(name):
        return lambda module, args: seen.setdefault(name, []).append(args[0])

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for handle in handles:
        handle.remove()
    return seen


class Tied(nn.Module):
    """Embedding, a linear layer, and the embedding again as the head, by any way to write it."""

    def __init__(self, head, vocab_size=7, width=4):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.linear = nn.Linear(width, width)
        self.head = head

    def hidden(self, tokens):
        return self.linear(self.embedding(tokens)).tanh()

    def forward(self, tokens):
        return self.head(self.hidden(tokens), self.embedding.weight)


HEADS = {
    "F.linear": F.linear,
    "@ .T": lambda x, w: x @ w.T,
    "@ .mT": lambda x, w: x @ w.mT,
    "matmul t": lambda x, w: torch.matmul(x, w.t()),
    "matmul transpose": lambda x, w: x.matmul(w.transpose(0, 1)),
    "matmul permute": lambda x, w: x.matmul(w.permute(1, 0)),
    "matmul permute list": lambda x, w: x.matmul(w.permute([-1, 0]).contiguous()),
    "from the left": lambda x, w: (w @ x.mT).mT,
    "a vector at a time": lambda x, w: torch.stack(
        [torch.stack([w @ row for row in rows]) for rows in x]
    ),
    "mm": lambda x, w: torch.mm(x.flatten(0, 1), w.t()).unflatten(0, x.shape[:2]),
    "addmm": lambda x, w: torch.addmm(torch.zeros(7), x.flatten(0, 1), w.t()).unflatten(
        0, x.shape[:2]
    ),
    "cast": lambda x, w: F.linear(x.double(), w.double()),
    "cast to": lambda x, w: F.linear(x, w.to(torch.float64).type_as(x)),
    "not turned after all": lambda x, w: F.linear(x, w.T.T.transpose(1, -1)),
}
TOKENS = [np.array([[1, 2, 3, 0], [6, 5, 4, 1]]), torch.tensor([[2, 2, 6]])]


@pytest.mark.parametrize("how", HEADS)
def test_a_tied_head_is_found_however_it_is_written(how):
    model = Tied(HEADS[how])
    calibration = calibrate(model, TOKENS)
    inputs = [torch.as_tensor(tokens) for tokens in TOKENS]
    embedded = torch.cat([model.embedding(tokens).flatten(0, 1) for tokens in inputs])
    hidden = torch.cat([model.hidden(tokens).flatten(0, 1) for tokens in inputs])
    assert calibration.names == ("embedding.weight", "linear.weight")
    assert calibration.passes == (calibration.names,)
    assert not calibration.has_fisher
    assert calibration.fisher("linear.weight") is None
    check_hessian(calibration, "linear.weight", embedded)
    check_hessian(calibration, "embedding.weight", hidden)


def test_a_weight_stored_in_out_is_known_by_its_product():
    class Stored(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Parameter(torch.randn(3, 5))
            self.second = nn.Parameter(torch.randn(5, 2))

        def forward(self, x):
            return F.linear(x @ self.first, self.second.T)

    model, x = Stored(), torch.randn(9, 3)
    calibration = calibrate(model, [x], fisher=True)
    check_hessian(calibration, "first", x, is_transposed=True)
    check_hessian(calibration, "second", x @ model.first, is_transposed=True)
    assert calibration.fisher("first").shape == (5,)
    assert calibration.fisher("second").shape == (2,)


def test_a_conv1d_of_transformers_is_transposed():
    utils = pytest.importorskip("transformers.pytorch_utils")
    model, x = nn.Sequential(utils.Conv1D(4, 6)), torch.randn(2, 5, 6)
    check_hessian(calibrate(model, [x]), "0.weight", x, is_transposed=True)


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # an odd pixel takes torch a copy
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3},
        {"kernel_size": (2, 3), "stride": (1, 2), "padding": (2, 1), "dilation": (1, 2)},
        {"kernel_size": (2, 3), "padding": "same"},
        {"kernel_size": 2, "padding": "valid"},
    ],
)
def test_a_convolution_is_a_matrix_of_patches(options):
    conv = nn.Conv2d(2, 3, bias=False, **options)
    x = torch.randn(4, 2, 7, 8)
    hessian = calibrate(conv, [x]).hessian("weight")
    # The Hessian is right if every output is what the matrix makes of the patches: of their
    # squares, then, for any weight.
    for _ in range(5):
        with torch.no_grad():
            conv.weight.normal_()
            output = conv(x)
        matrix = conv.weight.detach().double().flatten(1).numpy()
        expected = output.double().square().mean((0, 2, 3)).numpy()
        np.testing.assert_allclose(np.diag(matrix @ hessian.matrix() @ matrix.T), expected, 1e-5)
    assert hessian.n_rows == output.numel() // 3


def test_a_convolution_in_one_dimension():
    conv, x = nn.Conv1d(2, 3, 4, stride=2, padding=1, dilation=2), torch.randn(4, 2, 11)
    hessian = calibrate(conv, [x]).hessian("weight")
    padded = F.pad(x, (1, 1))
    patches = torch.stack([padded[:, :, i : i + 7 : 2] for i in range(0, 7, 2)], 1).flatten(2)
    np.testing.assert_allclose(hessian.matrix(), second_moment(patches), rtol=1e-5)
    y = F.linear(patches, conv.weight.flatten(1), conv.bias).mT
    torch.testing.assert_close(y, conv(x))


def test_what_no_product_reaches_is_no_part():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(3, 3), nn.Linear(3, 3)
            self.left, self.right = (nn.Parameter(torch.randn(3, 3)) for _ in range(2))
            self.gate = nn.Parameter(torch.randn(3))

        def forward(self, x):
            return self.used(x) @ (self.left @ self.right) @ self.gate

    calibration = calibrate(Apart(), [torch.randn(4, 3)])
    assert calibration.names == ("used.weight",)
    with pytest.raises(ValueError) as error:
        calibration.hessian("unused.weight")
    assert str(error.value) == (
        "a weight that needs a Hessian must be used during calibration, got no matrix product with "
        "unused.weight; calibrate with batches that use it, or give it another rule in the recipe"
    )


@pytest.mark.parametrize("is_frozen", [False, True])
def test_fisher_is_the_mean_square_of_gradients_in_outputs(is_frozen):
    """Against gradients of each label's loss alone; labels of one position are independent."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)

        def forward(self, x):
            y = self.first(x)
            y.relu_()  # in place: what counts is the output as it came
            return self.second(y)

    model = Model().requires_grad_(not is_frozen)
    x = torch.randn(20_000, 3)
    calibration = calibrate(model, [x[:15_000], (x[15_000:],)], fisher=True, seed=np.int64(3))
    with torch.no_grad():
        hidden = model.first(x)
        p = model(x).softmax(-1)
        # dL/dlogits = p - onehot: its square's mean over labels is p (1 - p)
        of_second = (p * (1 - p)).mean(0)
        w = model.second.weight
        expected = torch.zeros(4)
        for label in range(2):
            gradient = ((p - F.one_hot(torch.tensor(label), 2)) @ w) * (hidden > 0)
            expected += (p[:, label, None] * gradient.square()).mean(0)
    assert calibration.has_fisher
    np.testing.assert_allclose(calibration.fisher("second.weight"), of_second, rtol=0.02)
    np.testing.assert_allclose(calibration.fisher("first.weight"), expected, rtol=0.04)
    assert all(weight.grad is None for weight in model.parameters())


def divergence(model, batches, weight, error):
    """Mean divergence of the logits, in nats, that an error of a weight makes."""
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            old = torch.cat([model(batch) for batch in batches]).double().log_softmax(-1)
            weight += error
            new = torch.cat([model(batch) for batch in batches]).double().log_softmax(-1)
    finally:
        with torch.no_grad():
            weight.copy_(before)
    return float((old.exp() * (old - new)).sum(-1).mean())


@pytest.mark.parametrize("name", ["blocks.1.mlp_out.weight", "embedding.weight"])
def test_half_the_cost_foretells_the_divergence_of_the_demo(name):
    """Also of its embedding, which is looked up, and is the head as well."""
    model = load_demo().network
    batches = [torch.randint(0, 1024, (8, 64)) for _ in range(2)]
    calibration = calibrate(model, batches, fisher=True)
    weight = model.get_parameter(name)
    error = 0.02 * weight.std().detach() * torch.randn(weight.shape)
    foretold = calibration.error(name, error.double().numpy()) / 2
    assert foretold == pytest.approx(divergence(model, batches, weight, error), rel=0.15)


def test_lookups_count_by_their_gradients():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.head = nn.Embedding(3, 2), nn.Linear(2, 4)

        def forward(self, tokens):
            return self.head(self.embedding(tokens))

    model, tokens = Model(), torch.randint(0, 2, (40, 500))
    calibration = calibrate(model, [tokens], fisher=True)
    assert calibration.names == ("embedding.weight", "head.weight")
    with torch.no_grad():
        p, w = model(tokens).softmax(-1).flatten(0, 1), model.head.weight
        # dL/dx = W' (p - onehot), whose second moment is W' (diag(p) - p p') W
        spread = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        expected = (w.T @ spread.mean(0) @ w).numpy()
    np.testing.assert_allclose(calibration.cost("embedding.weight"), expected, rtol=0.05, atol=2e-3)
    counts = np.bincount(tokens.flatten(), minlength=3) / tokens.numel()
    np.testing.assert_allclose(calibration.row_weights("embedding.weight"), counts)
    errors = np.array([[1.0, 2.0], [0.5, -1.0], [9.0, 9.0]])
    rows = np.diag(errors @ calibration.cost("embedding.weight") @ errors.T)
    assert calibration.error("embedding.weight", errors) == pytest.approx(counts @ rows)
    assert not calibration.is_transposed("embedding.weight")
    with pytest.raises(ValueError, match=r"got no matrix product with embedding\.weight"):
        calibration.hessian("embedding.weight")
    assert calibrate(model, [tokens]).names == ("head.weight",)


def test_a_tied_embedding_costs_as_head_and_as_what_is_looked_up():
    model = Tied(F.linear)
    calibration = calibrate(model, [torch.randint(0, 7, (50, 40))], fisher=True)
    name = "embedding.weight"
    errors = torch.randn(7, 4).double().numpy()
    fisher, hessian = calibration.fisher(name), calibration.hessian(name).matrix()
    counts = calibration.row_weights(name) - fisher
    assert counts.sum() == pytest.approx(1)
    gradients = calibration.cost(name) - fisher.sum() * hessian
    both = fisher @ np.diag(errors @ hessian @ errors.T)
    both += counts @ np.diag(errors @ gradients @ errors.T)
    assert calibration.error(name, errors) == pytest.approx(both)


def test_what_the_loss_does_not_depend_on_has_no_fisher():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.aside = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x), self.aside(x)

    calibration = calibrate(Aside(), [torch.randn(4, 3)], fisher=True)
    assert calibration.fisher("aside.weight").tolist() == [0, 0, 0]
    assert calibration.fisher("used.weight").min() > 0


def test_fisher_needs_no_help_and_takes_no_less():
    x = torch.randn(4, 2)
    calibration = calibrate(LINEAR, [x], fisher=True)
    with torch.no_grad():
        again = calibrate(LINEAR, [x], fisher=True)
    np.testing.assert_array_equal(calibration.fisher("weight"), again.fisher("weight"))
    with torch.inference_mode(), pytest.raises(ValueError) as error:
        calibrate(LINEAR, [x], fisher=True)
    assert str(error.value) == (
        "logits must have gradients, got none that reach a weight; check that the model does not "
        "run under no_grad, or calibrate with fisher=False"
    )


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 2)).train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[2].weight.grad = torch.ones(2, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    calibrate(model, [torch.randn(4, 3)], fisher=True)
    with pytest.raises(RuntimeError):  # of torch: the shape is wrong
        calibrate(model, [torch.randn(4, 5)], fisher=True)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert [w.requires_grad for w in model.parameters()] == [False, True, True, True]
    assert model[2].weight.grad.tolist() == [[1] * 3] * 2
    assert all(weight.grad is None for weight in model[0].parameters())
    assert all(not module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_demo_equals_hooks_of_its_modules():
    model = load_demo().network
    batches = [torch.randint(0, 1024, (2, 64)), torch.randint(0, 1024, (1, 100))]
    calibration = calibrate(model, batches)
    assert len(calibration.names) == 1 + 4 * model.config.layers
    for name, inputs in hooked_inputs(model, batches).items():
        rows = torch.cat([x.flatten(0, -2) for x in inputs])
        check_hessian(calibration, f"{name}.weight", rows)
    assert calibration.hessian("embedding.weight").n_rows == 228


def test_short_memory_takes_passes():
    model = nn.Sequential(*[nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(3, 2)])
    batches = [torch.randn(6, 3), torch.randn(2, 3)]
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    whole = calibrate(model, batches, fisher=True)
    assert len(seen) == 1 + 2  # the first batch runs once more: what does it change?
    short = calibrate(model, batches, fisher=True, memory_limit="0.272 kB")  # 8 * (25 + 9)
    names = ("0.weight", "1.weight"), ("2.weight", "3.weight")
    assert short.passes == names
    assert whole.passes == ((*names[0], *names[1]),)
    for name in whole.names:
        np.testing.assert_array_equal(short.hessian(name).matrix(), whole.hessian(name).matrix())
        np.testing.assert_array_equal(short.fisher(name), whole.fisher(name))
    assert len(seen) == 2 * (1 + 2) + 2


def test_names_choose():
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 4))
    calibration = calibrate(model, [torch.randn(6, 3)], names=["1.weight", "1.bias"], fisher=True)
    assert calibration.names == ("1.weight",)
    assert "0.weight" not in calibration


def test_batches_are_what_the_model_takes():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, a, b, names=None):
            return self.linear(a + b)

    x = torch.tensor([[1.0, 2.0]])
    batches = [(x, x), {"a": x.numpy(), "b": x, "names": ["a"]}]
    hessian = calibrate(Sum(), batches, progress=True).hessian("linear.weight")
    assert hessian.matrix().tolist() == [[4.0, 8.0], [8.0, 16.0]]


LINEAR = nn.Linear(2, 2)
ONES = torch.ones(1, 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: calibrate(len, [ONES]), "model must be a torch.nn.Module, got "
         "builtin_function_or_method; pass the module itself"),
        (lambda: calibrate(LINEAR, []), "batches must hold at least one batch, got none; check "
         "the iterable"),
        (lambda: calibrate(LINEAR, [ONES], seed=-1), "seed must be an integer in "
         "0..9223372036854775807, got -1; correct it"),
        (lambda: calibrate(LINEAR, [ONES], names=["weight", "head"]), "names must be "
         "parameters of the model, got head; use the first name of a tied parameter"),
        (lambda: calibrate(LINEAR, [ONES], memory_limit=0), "memory_limit must be a number of "
         "bytes > 0, got 0; pass an int, or text such as \"2GiB\" (2G: the same; 2GB: by 1000)"),
        (lambda: calibrate(LINEAR, 3), "batches must be iterable, got int; pass a list of batches"),
        (lambda: calibrate(LINEAR, [ONES], memory_limit=31), "memory_limit must be at least 32 "
         "bytes for the Hessians of weight, got 31; raise it, or leave the weight out of names"),
        (lambda: calibrate(LINEAR, [ONES * torch.nan]), "weight: calibration rows must be finite, "
         "and their squares too, got otherwise in column 0; look at the model's activations"),
        (lambda: calibrate(nn.LSTM(2, 2), [ONES], fisher=True), None),
        (lambda: calibrate(Scalar(), [ONES], fisher=True), "the model must return logits (..., V), "
         "an object with .logits, or a tuple whose first item is logits, got Tensor; or calibrate "
         "with fisher=False"),
    ],
)  # fmt: skip
def test_errors(call, text):
    if text is None:  # an LSTM is one call: nothing is seen, and nothing is wrong
        assert call().names == ()
        return
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == text


class Twice(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        return super().forward(x) @ self.weight


def test_a_weight_multiplied_from_both_sides_has_no_hessian():
    calibration = calibrate(Twice(), [ONES])
    assert calibration.names == ()
    assert calibration.two_sided == {"weight"}


class Scalar(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def forward(self, x):
        return super().forward(x).sum()


def test_generation_is_the_model_s_own_distribution():
    """Tokens that depend on the last alone: their pairs come as often as the model says."""
    chain = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.9, 0.05, 0.05]]).log()

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.chain = nn.Parameter(chain)

        def forward(self, tokens):
            assert not self.training
            return (self.chain[tokens], None)

    model = Chain().train()
    batches = self_generate(model, 30_030, context=60, bos=2, batch=300)
    assert [tuple(b.shape) for b in batches] == [(300, 60), (200, 60), (1, 30)]
    assert all(b.dtype == torch.int64 and (b[:, 0] == 2).all() for b in batches)
    assert model.training
    pairs = torch.zeros(3, 3)
    for b in batches:
        for row in b:
            pairs.index_put_((row[:-1], row[1:]), torch.ones(len(row) - 1), accumulate=True)
    torch.testing.assert_close(pairs / pairs.sum(1, True), chain.exp(), atol=0.02, rtol=0)
    again = self_generate(
        model, np.int64(30_030), context=np.int32(60), bos=np.uint8(2), batch=np.int64(300)
    )
    other = self_generate(model, 30_030, context=60, bos=2, batch=300, seed=1)
    assert all(map(torch.equal, batches, again))
    assert not torch.equal(batches[0], other[0])
    cold = self_generate(model, 50, context=50, bos=2, temperature=1e-3)[0][0]
    assert cold.tolist() == [2, 0] * 25


GENERATE = {"n_tokens": 8, "context": 4, "bos": 0}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"n_tokens": 0}, "n_tokens must be an integer in 1..2147483647, got 0; correct it"),
        ({"context": 0}, "context must be an integer in 1..2147483647, got 0; correct it"),
        ({"bos": 1024}, "bos must be an integer in 0..1023, got 1024; correct it"),
        ({"seed": 0.5}, "seed must be an integer in 0..9223372036854775807, got 0.5; correct it"),
        ({"batch": 0}, "batch must be an integer in 1..2147483647, got 0; correct it"),
        ({"temperature": 0}, "temperature must be a number > 0, got 0; 1.0 is usual"),
    ],
)
def test_generation_errors(options, text):
    with pytest.raises(ValueError) as error:
        self_generate(load_demo().network, **GENERATE | options)
    assert str(error.value) == text


def test_generation_of_a_broken_model():
    class Broken(nn.Embedding):
        def forward(self, tokens):
            return super().forward(tokens) * torch.nan

    with pytest.raises(ValueError) as error:
        self_generate(Broken(5, 5), 3, context=3, bos=1)
    assert str(error.value) == (
        "logits must be finite, got NaN or infinity after 1 tokens; check the model's weights"
    )


def test_a_llama_generates(shared):
    pytest.importorskip("transformers")
    from eval.models.load_model import load_model

    model = load_model(str(shared("models/llama-sp1024-1m4"))).network
    first, last = self_generate(model, 20, context=8, bos=1)
    assert (first.shape, last.shape) == ((2, 8), (1, 4))
    calibration = calibrate(model, [first, last], fisher=True)
    assert len(calibration.names) == 1 + 4 * 7
    assert calibration.hessian("model.embed_tokens.weight").n_rows == 20
    assert calibration.fisher("model.embed_tokens.weight").shape == (1024,)


def test_the_bar_has_a_width_on_any_terminal(monkeypatch):
    asked = []
    monkeypatch.setattr("quant.base.screen.tqdm", lambda items, **o: asked.append(o) or items)
    calibrate(LINEAR, [ONES], progress=True)
    calibrate(LINEAR, [ONES])
    assert [options["disable"] for options in asked] == [None, True]
    assert all(options["ncols"] > 0 and options["nrows"] > 0 for options in asked)
