"""Ranks: messages are exact to the bit, errors and hung ranks are named, models are compared."""

import json
from concurrent.futures import Future
from time import sleep

import numpy as np
import pytest
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eval.bench import ranks as bench
from eval.cli import main
from eval.distributed.messages import (
    END,
    pack_request,
    payload_size,
    unpack_request,
)
from eval.distributed.rank_info import RankInfo, find_rank
from eval.distributed.ranks import RankError, Ranks, heartbeat_name, start
from eval.models.wrap import wrap
from eval.scoring.forward import ForwardRequest
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from ngrammix.model_logprobs import ModelLogprobs, pack, unpack

TOKENS = st.integers(0, 2**31 - 1)
NATS = st.floats(width=64)  # NaN and infinities too
SILENT = "rank 1 is silent for 0.2 s; run again, with the same --checkpoint to go on"


@st.composite
def requests(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 9)))
    inputs = draw(arrays.arrays(np.int64, shape, elements=TOKENS))
    is_scored = draw(arrays.arrays(np.bool_, shape))
    n = int(is_scored.sum())
    targets = draw(arrays.arrays(np.int64, n, elements=TOKENS))
    hint_shape = n, draw(st.integers(0, 3))
    hints = draw(arrays.arrays(np.int64, hint_shape, elements=TOKENS | st.just(-1)))
    position, allowed = draw(st.integers(0, 2**62)), draw(st.booleans())
    return ForwardRequest(inputs, is_scored, targets, hints, position, allowed)


def same(a, b):
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


@given(requests())
def test_a_request_arrives_as_it_was_sent(request):
    header, payload = pack_request(request)
    assert (header.dtype, payload.dtype) == (np.int64, np.int32)
    assert payload_size(header) == len(payload)
    received = unpack_request(header, payload)
    for name in ("inputs", "is_scored", "targets", "hint_tokens"):
        same(getattr(request, name), getattr(received, name))
    assert request.position == received.position
    assert request.allow_probabilities is received.allow_probabilities


def test_after_the_end_comes_no_payload():
    assert payload_size(END) == 0


@given(st.data(), st.integers(1, 9), st.integers(0, 3))
def test_log_probabilities_arrive_to_the_bit(data, n, n_hints):
    log_p, entropy, log_top = (
        data.draw(arrays.arrays(np.float64, n, elements=NATS)) for _ in range(3)
    )
    log_hints = data.draw(arrays.arrays(np.float64, (n, n_hints), elements=NATS))
    top = data.draw(arrays.arrays(np.int64, n, elements=TOKENS))
    array = pack(ModelLogprobs(log_p, entropy, top, log_top, log_hints))
    assert (array.dtype, array.shape) == (np.float64, (n, 4 + n_hints))
    received = unpack(array)
    same(log_p, received.log_p)
    same(entropy, received.entropy)
    same(top, received.top)
    same(log_top, received.log_top)
    same(log_hints, received.log_hints)


@pytest.fixture
def store():
    store = dist.HashStore()
    for rank in range(2):
        store.set(heartbeat_name(rank), "0")
    return store


def test_a_result_is_waited_for_as_long_as_heartbeats_come(store):
    ranks, other = (Ranks(RankInfo(rank, 2), store, 0.2) for rank in range(2))
    assert ranks.wait(start(lambda: sleep(0.8) or "done")) == "done"  # four times the timeout
    for end in (ranks, other):
        end._is_left.set()


def test_an_error_of_the_work_is_raised_where_its_result_is_taken(store):
    with pytest.raises(ZeroDivisionError):
        Ranks(RankInfo(0, 2), store, 0.2).wait(start(lambda: 1 / 0))


def test_a_silent_rank_is_an_error_for_all(store):
    ranks = Ranks(RankInfo(0, 2), store, 0.2)
    with pytest.raises(RankError) as error:
        ranks.wait(Future())
    assert str(error.value) == ranks.error() == SILENT


def test_the_first_error_of_any_rank_counts(store):
    ranks, other = (Ranks(RankInfo(rank, 2), store, 20.0) for rank in range(2))
    assert ranks.error() is None
    assert other.fail("rank 1: Größe") == ranks.fail("rank 0: later") == "rank 1: Größe"
    with pytest.raises(RankError, match=r"^rank 1: Größe$"):
        ranks.wait(Future())


class ClosedStore:
    """A store whose host is gone."""

    def __getattr__(self, name):
        def fail(*arguments):
            raise RuntimeError("Connection reset by peer")

        return fail


def test_a_store_that_is_gone_is_an_error():
    ranks = Ranks(RankInfo(1, 2), ClosedStore(), 0.2)
    assert ranks.fail("rank 0 is gone") == "rank 0 is gone"
    with pytest.raises(RankError) as error:
        ranks.wait(Future())
    assert str(error.value) == (
        "the store of the ranks is gone (connection closed); run again, with the same --checkpoint "
        "to go on"
    )


def model(name="toy", vocab_size=256):
    def network(tokens):
        x = tokens.numpy()[..., None]
        return np.sin(np.arange(vocab_size) * (1 + x)).astype(np.float32)

    tokenizer = ByteTokenizer()
    return wrap(network, context=16, tokenizer=tokenizer, vocab_size=vocab_size, name=name)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (model("another"),
         "ranks must have the same model, got '{toy}' on rank 0 and '{other}' on rank 1; start all "
         "with the same files, versions and OMP_NUM_THREADS"),
        (model(vocab_size=300),
         "ranks must have the same vocabulary, got 256 on rank 0 and 300 on rank 1; start all "
         "with the same files, versions and OMP_NUM_THREADS"),
    ],
)  # fmt: skip
def test_ranks_with_different_models_are_refused(store, monkeypatch, other, text):
    Ranks(RankInfo(0, 2), store, 20.0).lead(model())
    inputs = np.zeros((1, 4), np.int64)
    request = ForwardRequest(inputs, inputs == 0, inputs[0], np.empty((4, 0), np.int64), 0)
    ranks = Ranks(RankInfo(1, 2), store, 20.0)
    monkeypatch.setattr(ranks, "_receive_request", lambda: request)
    with pytest.raises(ValueError) as error:
        ranks.serve(other)
    assert str(error.value) == text.format(toy=model().name, other=other.name)


ALL = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


def test_ranks_are_found_in_the_environment():
    assert find_rank({}) == RankInfo(0, 1, 0)
    assert find_rank({"RANK": "1", "WORLD_SIZE": "1"}) == RankInfo(0, 1, 0)  # not torchrun's
    assert find_rank({"RANK": "1"}) == RankInfo(0, 1, 0)
    assert find_rank(ALL) == RankInfo(1, 3, 0)
    assert find_rank(ALL | {"LOCAL_RANK": "1"}) == RankInfo(1, 3, 1)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        ({"RANK": "3"}, "RANK=3, WORLD_SIZE=3, LOCAL_RANK=0"),
        ({"RANK": "-1"}, "RANK=-1, WORLD_SIZE=3, LOCAL_RANK=0"),
        ({"WORLD_SIZE": "0", "RANK": "0"}, "RANK=0, WORLD_SIZE=0, LOCAL_RANK=0"),
        ({"LOCAL_RANK": "x"}, "RANK=1, WORLD_SIZE=3, LOCAL_RANK=x"),
    ],
)
def test_a_rank_that_is_none_is_refused(wrong, got):
    with pytest.raises(ValueError) as raised:
        find_rank(ALL | wrong)
    assert str(raised.value) == (
        f"a rank must be below the number of ranks, got {got}; start them with torchrun"
    )


@pytest.mark.parametrize("left_out", [["RANK"], ["MASTER_ADDR"], ["RANK", "MASTER_PORT"]])
def test_many_ranks_that_cannot_meet_are_refused(left_out):
    with pytest.raises(ValueError) as raised:
        find_rank({name: value for name, value in ALL.items() if name not in left_out})
    assert str(raised.value) == (
        "ranks need RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, got WORLD_SIZE=3 without "
        f"{', '.join(left_out)}; start them with torchrun, or unset WORLD_SIZE"
    )


@pytest.mark.parametrize("port", ["http", "-1", "65536", ""])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(ValueError) as raised:
        find_rank(ALL | {"MASTER_PORT": port})
    assert str(raised.value) == (
        f"MASTER_PORT must be in 0..65535, got {port!r}; start the ranks with torchrun"
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["score", "--model", "none", "--data", "x"],
         "ranks share the work of a model, got --model none on 3 of them; start this without "
         "torchrun"),
        (["demo"], "score alone runs on many ranks, got 3 of them; start this without torchrun"),
    ],
)  # fmt: skip
def test_what_ranks_cannot_share_is_refused(arguments, text, capsys, monkeypatch):
    for name, value in ALL.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"ngrammix: error: {text}\n"


@pytest.mark.slow
def test_the_bench_measures_each_number_of_ranks(tmp_path, capsys):
    sizes = ["--ranks", "1", "2", "--runs", "1", "--tokens", "3000"]
    assert main(["bench", "ranks", *sizes, "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    result = json.loads((tmp_path / "ranks.json").read_text(encoding="utf-8"))
    assert [row["ranks"] for row in result["ranks"]] == [1, 2]
    assert result["ranks"][0]["forward_speed_up"] == result["ranks"][0]["whole_speed_up"] == 1
    for row in result["ranks"]:
        assert 0 < row["seconds_forward"] < row["seconds"]
        assert 0 < row["beside_forward_percent"] < 100
    assert result["is_same_bits"]
    assert 32 < result["bytes_per_token_sent_back"] < 80  # 32 and 8 a hint
    assert 16 < result["bytes_per_token_sent_to_a_rank"] < 60  # 4 a target, input, flag and hint
    assert "same bits: True" in table


def test_the_bench_sees_other_bits(tmp_path, monkeypatch, capsys):
    def score(size, data, tokens, out):
        return dict.fromkeys(bench.PARTS, 1.0), (size,)

    monkeypatch.setattr(bench, "score", score)
    assert main(["bench", "ranks", "--tokens", "300"]) == 0
    assert "same bits: False" in capsys.readouterr().out


def test_the_bench_needs_a_rank(capsys):
    assert main(["bench", "ranks", "--ranks", "0"]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: --ranks must be >= 1, got 0; leave it out for the default\n"
    )
