"""Ranks that share the forward pass pay what one process pays, to the bit."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ngrammix import Mixer, RankMixer
from tests.mixer.rank_program import (
    CASES,
    LOGITS,
    OPTIONS,
    SHARES,
    TOKENS,
    N,
    V,
    parts,
    scored,
    scored_alone,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=[2, 3])
def ranks(request, tmp_path_factory):
    """(number of ranks, folder of what they wrote)."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = str(ROOT / "tests" / "mixer" / "rank_program.py")
    processes = [
        subprocess.Popen(
            [sys.executable, program, str(rank), str(request.param), str(folder)],
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(request.param)
    ]  # fmt: skip
    for process in processes:
        _, text = process.communicate(timeout=300)
        assert process.returncode == 0, text
    return request.param, folder


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("share", SHARES)
def test_each_rank_gets_the_costs_of_one_process(share, case, ranks):
    size, folder = ranks
    whole = scored_alone(**CASES[case])
    for rank, own in enumerate(SHARES[share](size)):
        expected = np.concatenate([np.empty(0), *(whole[start:stop] for start, stop in own)])
        actual = np.load(folder / f"{rank}.npz")[f"{share}, {case}"]
        np.testing.assert_array_equal(actual, expected)


def test_a_group_may_be_some_of_the_ranks(ranks):
    size, folder = ranks
    whole = scored_alone()
    for rank, ((start, stop),) in enumerate(parts(2)):
        actual = np.load(folder / f"{rank + size - 2}.npz")["group"]
        np.testing.assert_array_equal(actual, whole[start:stop])


def test_every_rank_is_told_what_does_not_fit(ranks):
    size, folder = ranks
    for rank in range(size):
        assert np.load(folder / f"{rank}.npz")["errors"].tolist() == [
            "ranks must have the same tokens and documents, got others on rank 1 than on rank 0; "
            "pass the whole stream and the same options on every rank",
            "ranks must have the same options of the mixer, got others on rank 1 than on rank 0; "
            "pass the whole stream and the same options on every rank",
            "each position must be added by one rank, got 0 from rank 0 and from rank 1; give "
            "each rank targets of its own",
            "each position must be added by one rank, got none for 10 to 19; add all windows "
            "before score, on every rank",
        ]


def test_a_rank_that_ended_is_missed(ranks):
    _, folder = ranks
    text = (folder / "missing").read_text(encoding="utf-8")
    assert text.startswith("every rank must take part in score, got: ")
    assert text.endswith("; look for the error of a rank that ended, and call score on all of them")


@pytest.mark.parametrize("case", CASES)
def test_without_a_process_group_it_is_the_only_rank(case):
    nats = scored(parts(1), 0, **CASES[case])
    np.testing.assert_array_equal(nats, scored_alone(**CASES[case]))


def test_positions_may_be_those_of_rows_with_ignored_targets():
    ranks, targets = RankMixer(TOKENS[:12], **OPTIONS), TOKENS[:12].reshape(2, 6).copy()
    ranks.add(LOGITS[:2], TOKENS[:2], positions=0)
    targets[0, :2] = -100  # the context of a window
    positions = np.arange(12).reshape(2, 6)
    ranks.add(LOGITS[:12].reshape(2, 6, V), targets, positions=positions)
    ranks.add(LOGITS[:1], [-1], positions=0, ignore_index=-1)
    nats = Mixer(**OPTIONS).score(LOGITS[:12], TOKENS[:12])
    np.testing.assert_array_equal(ranks.score(), nats)


def test_probabilities_are_refused_here_too():
    p = np.exp(LOGITS[:40]) / np.exp(LOGITS[:40]).sum(1, keepdims=True)
    with pytest.raises(ValueError, match="as probabilities do"):
        RankMixer(TOKENS, **OPTIONS).add(p, TOKENS[:40], positions=0)
    RankMixer(TOKENS, allow_probabilities=True, **OPTIONS).add(p, TOKENS[:40], positions=0)


ERRORS = {
    "again": (4, TOKENS[4:6], "positions of a rank must increase, got 4 after 4; add its windows "
              "in the order of the stream, and only the new targets of each"),
    "backwards": ([9, 8], TOKENS[[9, 8]], "positions of a rank must increase, got 8 after 9; add "
                  "its windows in the order of the stream, and only the new targets of each"),
    "beyond": (N - 1, TOKENS[:2], f"positions must be below the {N} tokens of the stream, got {N}; "
               "pass all targets as tokens"),
    "another token": (5, [TOKENS[5], (TOKENS[6] + 1) % V],
                      f"targets must be the tokens of the stream, got {(TOKENS[6] + 1) % V} at "
                      f"position 6, where it has {TOKENS[6]}; pass the targets, not the inputs, as "
                      "tokens, and the position of the first target"),
    "no positions": ([5.0, 6.0], TOKENS[5:7], "positions must be integer positions, got dtype "
                     "float64; cast them first if they really are positions"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_no_part_of_the_stream_is_refused_and_not_taken(case):
    positions, targets, text = ERRORS[case]
    ranks = RankMixer(TOKENS, **OPTIONS)
    ranks.add(LOGITS[:5], TOKENS[:5], positions=0)
    with pytest.raises(ValueError) as error:
        ranks.add(LOGITS[5:7], targets, positions=positions)
    assert str(error.value) == text
    ranks.add(LOGITS[5:], TOKENS[5:], positions=5)
    np.testing.assert_array_equal(ranks.score(), scored_alone())


@pytest.mark.parametrize("documents", [[3, 3], [5, 2], [-1], [12], [[1]]])
def test_documents_begin_within_the_stream(documents):
    with pytest.raises(ValueError) as error:
        RankMixer(TOKENS[:12], documents=documents, **OPTIONS)
    assert str(error.value) == (
        f"documents must be increasing positions below 12, got {documents}; pass the position of "
        "the first target of each document"
    )
