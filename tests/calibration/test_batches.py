"""Batches as loaders, data sets and files give them; padding counts nowhere."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from quant import calibrate, quantize_model
from quant.calibration.calibrate import calibrate_sparingly

TOKENS = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(0))


class Model(nn.Module):
    """Logits of tokens, as Hugging Face takes them: by name, with a mask."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.inner, self.head = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 9)

    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.head(self.inner(self.embedding(input_ids)).tanh())


class Positional(Model):
    def forward(self, idx, targets=None):
        logits = super().forward(idx)
        return (logits if targets is not None else logits[:, [-1]]), None


def figures(calibration):
    return {
        name: (calibration.hessian(name).matrix(), calibration.row_weights(name))
        for name in ("inner.weight", "head.weight")
    }


def check_same(one, other):
    for name, (matrix, weights) in figures(one).items():
        np.testing.assert_allclose(figures(other)[name][0], matrix, rtol=1e-6)
        np.testing.assert_allclose(figures(other)[name][1], weights, rtol=1e-6)


KINDS = {
    "loader": DataLoader(TensorDataset(TOKENS), 6),
    "loader with targets": DataLoader(TensorDataset(TOKENS, TOKENS), 6),
    "iterator": iter([TOKENS]),
    "one tensor": TOKENS,
    "uint16": [TOKENS.numpy().astype(np.uint16)],
    "int32 of torch": [TOKENS.int()],
    "lists": [TOKENS.tolist()],
    "rows": TOKENS.tolist(),
    "rows of a data set": [{"input_ids": row.tolist(), "text": "x"} for row in TOKENS],
    "rows of tensors": [{"input_ids": list(TOKENS)}],
    "another name": [{"tokens": TOKENS, "id": 3}],
    "tuple": [(TOKENS,)],
    "a mask of ones": [{"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_any_kind_are_those_tokens(kind):
    check_same(calibrate(Model(), [TOKENS]), calibrate(Model(), KINDS[kind]))


@pytest.mark.parametrize("by", ["mask", "labels", "both"])
def test_padding_counts_nowhere(by):
    """As the same rows without padding, with Fisher information too."""
    lengths = torch.tensor([5, 3, 5, 1, 4, 2])
    is_kept = torch.arange(5) < lengths[:, None]
    batch = {"input_ids": torch.where(is_kept, TOKENS, 8)}
    if by != "labels":
        batch["attention_mask"] = is_kept.long()
    if by != "mask":
        batch["labels"] = torch.where(is_kept, TOKENS, -100)
    model = Model()
    padded = calibrate(model, [batch], fisher=True)
    rows = [row[None, :n] for row, n in zip(TOKENS, lengths, strict=True)]
    plain = calibrate(model, rows)
    for name in ("inner.weight", "head.weight"):
        hessian = padded.hessian(name)
        assert hessian.n_rows == int(lengths.sum())
        np.testing.assert_allclose(hessian.matrix(), plain.hessian(name).matrix(), rtol=1e-5)
    counts = TOKENS[is_kept].bincount(minlength=9).numpy()
    shares = padded.row_weights("embedding.weight") * is_kept.sum().item()
    np.testing.assert_allclose(shares, counts)


def test_padding_is_known_through_a_router():
    """Rows that an expert takes are those of tokens, wherever they stand."""

    class Routed(Model):
        def forward(self, input_ids, attention_mask=None):
            x = self.embedding(input_ids).flatten(0, 1)
            chosen = x[:, 0].topk(11).indices
            y = x.index_add(0, chosen, self.inner(x[chosen]))
            return self.head(y).unflatten(0, input_ids.shape)

    mask = torch.ones_like(TOKENS)
    mask[:, 3:] = 0
    model = Routed()
    calibration = calibrate(model, [{"input_ids": TOKENS, "attention_mask": mask}])
    x = model.embedding(TOKENS).flatten(0, 1).detach()
    chosen = x[:, 0].topk(11).indices
    rows = x[chosen[mask.flatten()[chosen] > 0]].double()
    hessian = calibration.hessian("inner.weight")
    assert hessian.n_rows == len(rows)
    np.testing.assert_allclose(hessian.matrix(), rows.T @ rows / len(rows), rtol=1e-5)


def test_targets_are_passed_and_without_them_the_last_logits_are_noted():
    with_targets = calibrate(Positional(), DataLoader(TensorDataset(TOKENS, TOKENS), 6))
    assert with_targets.note == ""
    alone = quantize_model(Positional(), "gptq-int4", [TOKENS])
    notes = [note for report in alone.report for note in report.notes]
    assert any(
        note == "the model returned logits of 6 of 30 positions, so that its head was calibrated "
        "on those alone; give it targets, or return all logits"
        for note in notes
    )


def test_fisher_information_is_collected_where_a_recipe_uses_it(monkeypatch):
    asked = []
    from quant.models import calibrate_for_recipes as module

    def spy(*args, fisher=False, **options):
        asked.append(fisher)
        return calibrate_sparingly(*args, fisher=fisher, **options)

    monkeypatch.setattr(module, "calibrate_sparingly", spy)
    quantize_model(Model(), "int4", [TOKENS])
    quantize_model(Model(), "gptq-int4", [TOKENS])
    assert asked == [False, True]


def test_a_model_without_logits_is_quantized_too():
    class Encoder(Model):
        def forward(self, input_ids):
            return {"last_hidden_state": self.inner(self.embedding(input_ids))}

    q = quantize_model(Encoder(), "gptq-int4", [TOKENS])
    notes = [note for report in q.report for note in report.notes]
    assert any(
        note.startswith("no Fisher information: the model must return logits") for note in notes
    )


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([[[1, 2], [3]]], "rows of a batch must have one length, got 1..2; give each row as a "
         "batch, or pad them and give an attention_mask"),
        ([{"text": "abc"}], "a batch must have a key that the model takes, input_ids, "
         "attention_mask, labels, got text; rename one"),
    ],
)  # fmt: skip
def test_batches_that_are_none(batches, text):
    with pytest.raises(ValueError) as error:
        calibrate(Model(), batches)
    assert str(error.value) == text
