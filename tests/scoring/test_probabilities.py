"""A model that returns probabilities is refused by every command, unless one insists."""

import numpy as np
import pytest

from eval import Document, Documents, ScoreConfig, compare, score
from eval.comparing.comparison import compare_source
from eval.comparing.sources import SavedSource
from tests.toy import ToyModel

DOCUMENTS = Documents([Document("a", b"abracadabra, said the cat. " * 4)])
REFUSED = "^logits must not be normalized, got rows that are >= 0 and sum to 1 at positions 0 to"


class SoftmaxModel(ToyModel):
    """Toy model whose last layer is a softmax."""

    def logits(self, tokens):
        weights = np.exp(super().logits(tokens))
        return weights / weights.sum(axis=-1, keepdims=True)


class ShiftedModel(SoftmaxModel):
    """The same rows but for a constant, which no softmax sees."""

    def logits(self, tokens):
        return super().logits(tokens) - 1


@pytest.mark.parametrize("mixer", ["tilt+gate+guard", "none"])
def test_scores_are_refused_or_are_those_of_the_rows_as_logits(mixer):
    with pytest.raises(ValueError, match=REFUSED):
        score(SoftmaxModel(), DOCUMENTS, ScoreConfig(mixer=mixer))
    insisting = score(SoftmaxModel(), DOCUMENTS, ScoreConfig(mixer=mixer, allow_probabilities=True))
    shifted = score(ShiftedModel(), DOCUMENTS, ScoreConfig(mixer=mixer))
    assert insisting.bpb == pytest.approx(shifted.bpb, rel=1e-6)
    assert "|probabilities:allowed|" in insisting.signature.replace("|version", "||version")
    assert "probabilities" not in shifted.signature
    assert insisting.allow_probabilities
    assert not shifted.allow_probabilities


def test_comparisons_are_refused_or_say_so(tmp_path):
    with pytest.raises(ValueError, match=REFUSED):
        compare(SoftmaxModel(), DOCUMENTS, ["ngrammix", "entropy"])
    config = ScoreConfig(allow_probabilities=True)
    result = compare(SoftmaxModel(), DOCUMENTS, ["ngrammix", "entropy"], config)
    assert "|probabilities:allowed" in result.signature
    tokens = np.frombuffer(b"abracadabra" * 9, np.uint8).astype(np.uint16)
    np.save(tmp_path / "logits.npy", SoftmaxModel().logits(tokens[None].astype(np.int64))[0])
    np.save(tmp_path / "tokens.npy", tokens)
    paths = tmp_path / "logits.npy", tmp_path / "tokens.npy"
    with pytest.raises(ValueError, match=REFUSED):
        compare_source(SavedSource(*paths), ["ngrammix"], order=3)
    source = SavedSource(*paths, allow_probabilities=True)
    assert compare_source(source, ["ngrammix"], order=3).nats.shape[0] == 2
