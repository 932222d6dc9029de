"""Checkpoints of runs whose values are altered, with a right digest: continued, or refused."""

import copy
import json

import numpy as np
import pytest

from eval.config import ScoreConfig
from eval.data.document import Document
from eval.scoring.checkpoint import NAME
from eval.scoring.saved_state import SUM, Integer, Many, Maybe, Named, Text, check_like
from eval.scoring.score import score
from ngrammix import snapshot
from tests.faults.mutants import chosen, json_mutants
from tests.faults.watchdog import outcome_of
from tests.toy import ToyModel

N, SEED = chosen(50)
DOCUMENTS = [Document(f"d{i}", b"the cat sat on the mat " * 4) for i in range(3)]


class InterruptError(Exception):
    pass


class Interrupted(ToyModel):
    """A model that fails after some passes."""

    n_left = 30

    def logits(self, tokens):
        self.n_left -= 1
        if not self.n_left:
            raise InterruptError
        return super().logits(tokens)


def run(folder, model=None):
    return score(
        model or ToyModel(), DOCUMENTS, ScoreConfig(batch=1, context=16, stride=8), overwrite=True,
        out=folder / "out", checkpoint=folder / "c", checkpoint_every=60,
    )  # fmt: skip


@pytest.fixture
def interrupted(tmp_path):
    """(file, values, arrays) of a run that was interrupted."""
    with pytest.raises(InterruptError):
        run(tmp_path, Interrupted())
    path = tmp_path / "c" / NAME
    values, arrays = snapshot.read(path)
    assert 0 < values["state"]["position"] < 276
    return path, values, arrays


def test_a_mutant_is_continued_or_refused_in_one_line(tmp_path, interrupted):
    path, values, arrays = interrupted
    kept = {file: file.read_bytes() for file in (tmp_path / "out").iterdir()}
    n_read, wrong = 0, []
    for mutant in json_mutants(values["state"], SEED, N):
        for file, content in kept.items():
            file.write_bytes(content)
        try:
            snapshot.write(path, values | {"state": mutant}, arrays)
        except ValueError:  # too deep, or too large for a header
            continue
        outcome = outcome_of(lambda path: run(path.parent.parent).bits, path)
        if not outcome.is_right and "CSV files" not in outcome.text and "--" not in outcome.text:
            wrong.append((json.dumps(mutant)[:1000], outcome))
        n_read += outcome.kind == "read"
    assert not wrong
    assert n_read


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda s: s.pop("words"), "state must be an object with position, tokens, metrics, words, "
                                   "csv_writer, seconds, got a dict"),
        (lambda s: s["metrics"].update(tokens="7"),
         "state.metrics.tokens must be an integer >= 0 of at most 63 bits, got '7'"),
        (lambda s: s["metrics"]["totals"].pop(),
         "state.metrics.totals must be a list of 4, got a list"),
        (lambda s: s["metrics"]["bootstraps"]["documents"]["sums"][0].__setitem__(3, 2**63),
         "state.metrics.bootstraps.documents.sums.0.3 must be an integer >= 0 of at most 63 bits, "
         "got 9223372036854775808"),
        (lambda s: s["words"].update(cut_character="0g"),
         "state.words.cut_character must be a text as it was, got '0g'"),
        (lambda s: s["words"].update(is_known=1), "state.words.is_known must be a bool, got 1"),
        (lambda s: s["seconds"].update(total=-0.5),
         "state.seconds.total must be a number >= 0, got -0.5"),
        (lambda s: s["csv_writer"].update(document=-2),
         "state.csv_writer.document must be an integer >= -1 of at most 63 bits, got -2"),
        (lambda s: s["csv_writer"]["files"]["documents"].update(sha256=None),
         "state.csv_writer.files.documents.sha256 must be a text as it was, got None"),
    ],
)  # fmt: skip
def test_values_of_other_kinds_are_named(tmp_path, interrupted, change, text):
    path, values, arrays = interrupted
    change(values["state"])
    snapshot.write(path, values, arrays)
    with pytest.raises(snapshot.SnapshotError) as error:
        run(tmp_path)
    assert str(error.value) == str(snapshot.damaged(path, text))


def test_errors_of_the_parts_name_the_file(tmp_path, interrupted):
    path, values, arrays = interrupted
    seed = copy.deepcopy(values)
    seed["state"]["metrics"]["bootstraps"]["documents"]["seed"] = 7
    snapshot.write(path, seed, arrays)
    with pytest.raises(ValueError) as error:
        run(tmp_path)
    assert str(error.value) == f"seed must be 0, got 7 (of {path})"
    values["state"]["metrics"]["copied"]["is_repeat"].append(True)
    n = len(values["state"]["metrics"]["copied"]["is_repeat"])
    snapshot.write(path, values, arrays)
    with pytest.raises(ValueError) as error:
        run(tmp_path)
    assert str(error.value) == f"columns must be of one length, got [{n - 1}, {n}] (of {path})"


@pytest.mark.parametrize(
    ("value", "like"),
    [
        (None, Maybe(0)), (3, Maybe(0)), ([1, 2], Many(0)), ({"x": 1.5, "y": 2}, Named(0.0)),
        ("ab", Text("a.")), (-1, Integer(-1)), (2**200, SUM), (True, False), ("x", ""),
        (None, None), ({"a": [0, "x"]}, {"a": [5, "y"]}),
    ],
)  # fmt: skip
def test_values_of_the_same_kind(value, like):
    check_like(value, like, "v")


@pytest.mark.parametrize(
    ("value", "like", "rule"),
    [
        (3, Many(0), "a list, got 3"), ([1], Named(0), "an object, got a list"),
        ([1], [1, 2], "a list of 2, got a list"), (0, None, "a NoneType, got 0"),
        (0, "x", "a text, got 0"), ("x" * 50, 0, "an integer >= 0 of at most 63 bits, got a str"),
        (True, 0, "an integer >= 0 of at most 63 bits, got True"),
        (np.inf, 0.0, "a number >= 0, got inf"), (True, 0.0, "a number >= 0, got True"),
    ],
)  # fmt: skip
def test_values_of_another_kind(value, like, rule):
    with pytest.raises(ValueError) as error:
        check_like(value, like, "v")
    assert str(error.value) == f"v must be {rule}"
