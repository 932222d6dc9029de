"""Messages between ranks come as they went; a line says why nothing comes; places make sense."""

import json
import threading
from queue import Queue

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from eval.bench import ranks as bench
from eval.cli import main
from eval.distributed import line, messages
from eval.distributed.line import END, FAILED, GATHERED, GREETING, JOB, Line, LineError
from eval.distributed.ranks import Leader, RankInfo, Ranks, find_rank, greeting
from eval.models.wrap import wrap
from eval.scoring.forward import ForwardRequest, run_forward
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from ngrammix.logits import ModelLogprobs

GONE = "rank 7 is gone (connection closed); run again, with the same --checkpoint to go on"
SILENT = "rank 7 is silent for 0.2 s; run again, with the same --checkpoint to go on"
TOKENS = st.integers(0, 2**31 - 1)
NATS = st.floats(width=64)  # NaN and infinities too: they must come as they went


@st.composite
def jobs(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 9)))
    inputs = draw(arrays.arrays(np.int64, shape, elements=TOKENS))
    is_scored = draw(arrays.arrays(np.bool_, shape))
    n = int(is_scored.sum())
    targets = draw(arrays.arrays(np.int64, n, elements=TOKENS))
    asked = draw(
        arrays.arrays(
            np.int64, st.tuples(st.just(n), st.integers(0, 3)), elements=TOKENS | st.just(-1)
        )
    )
    return ForwardRequest(inputs, is_scored, targets, asked, draw(st.integers(0, 2**62)))


def same(ours, theirs):
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.tobytes() == theirs.tobytes()


@given(jobs())
def test_a_job_comes_as_it_went(job):
    message = messages.pack_job(job)
    came = messages.unpack_job(message)
    same(job.inputs, came.inputs)
    same(job.is_scored, came.is_scored)
    same(job.targets, came.targets)
    same(job.hint_tokens, came.hint_tokens)
    assert job.position == came.position


@given(jobs(), st.data())
def test_what_the_model_said_comes_to_the_bit(job, data):
    n = len(job.targets)
    log_p, entropy, log_top = (
        data.draw(arrays.arrays(np.float64, n, elements=NATS)) for _ in range(3)
    )
    shape = (n, 0) if job.hint_tokens is None else job.hint_tokens.shape
    log_hints = data.draw(arrays.arrays(np.float64, shape, elements=NATS))
    if job.hint_tokens is not None:
        log_hints[job.hint_tokens < 0] = -np.inf
    top = data.draw(arrays.arrays(np.int64, n, elements=TOKENS))
    message = messages.pack_gathered(
        ModelLogprobs(log_p, entropy, top, log_top, log_hints), job.hint_tokens
    )
    n_hints = 0 if job.hint_tokens is None else int((job.hint_tokens >= 0).sum())
    assert len(message) == 28 * n + 8 * n_hints
    came = messages.unpack_gathered(message, n, job.hint_tokens)
    same(log_p, came.log_p)
    same(entropy, came.entropy)
    same(top, came.top)
    same(log_top, came.log_top)
    same(log_hints, came.log_hints)


@given(jobs(), st.data())
def test_a_damaged_job_is_an_error_and_takes_no_memory(job, data):
    message = messages.pack_job(job)
    place = data.draw(st.integers(1, messages.SHAPE_BYTES // 8 - 1))
    number = data.draw(st.integers(-(2**63), 2**63 - 1))
    shape = message[: messages.SHAPE_BYTES].view("<i8")
    if number == shape[place] or (place == 4 and min(number, shape[place]) <= 0):
        return  # the same, or as many hints: none
    shape[place] = number
    try:
        came = messages.unpack_job(message)
    except ValueError as error:
        assert str(error).startswith("a message between ranks must hold the ")  # noqa: PT017
    else:  # another shape of as many bytes
        assert len(messages.pack_job(came)) == len(message)


@pytest.mark.parametrize(
    ("unpack", "message", "wanted"),
    [
        (messages.unpack_job, np.zeros(39, np.uint8), 40),
        (messages.unpack_job, np.zeros(41, np.uint8), 0),
        (lambda m: messages.unpack_gathered(m, 3, None), np.zeros(83, np.uint8), 84),
    ],
)
def test_the_text_of_a_damaged_message(unpack, message, wanted):
    with pytest.raises(ValueError) as raised:
        unpack(message)
    got = len(message) - (messages.SHAPE_BYTES if len(message) == 41 else 0)
    assert str(raised.value) == (
        f"a message between ranks must hold the {wanted} bytes that its shape says, got {got}; "
        "install the same ngrammix for every rank"
    )


class Wire:
    """One direction of a connection in memory; `closed` makes both its ends fail."""

    def __init__(self):
        self.queue = Queue()

    def put(self, array):
        self.queue.put(array.tobytes())

    def take(self, array):
        came = self.queue.get()
        if came is None:
            raise RuntimeError("Connection closed by peer")
        array[...] = np.frombuffer(came, array.dtype)


def pair(silence=20.0):
    there, back = Wire(), Wire()
    return Line(7, there.put, back.take, silence), Line(0, back.put, there.take, silence)


def close(*ends):
    for end in ends:
        end.send(END)
    assert all(end.close(line.monotonic() + 5) for end in ends)


def test_messages_come_in_order_and_the_line_closes():
    ours, theirs = pair()
    for i in range(5):
        ours.send(JOB, np.arange(i, dtype=np.uint8))
    for i in range(5):
        kind, message = theirs.receive()
        assert kind == JOB
        assert message.tolist() == list(range(i))
    close(ours, theirs)
    assert ours.receive()[0] == theirs.receive()[0] == END
    assert ours.why is None


def test_signs_of_life_hold_a_line_that_has_nothing_to_say():
    ours, theirs = pair(silence=0.2)
    threading.Timer(0.6, theirs.send, (JOB,)).start()  # three times the silence
    assert ours.receive()[0] == JOB
    close(ours, theirs)


def test_a_silent_rank_is_an_error():
    ours = Line(7, Wire().put, Wire().take, 0.2)
    with pytest.raises(LineError) as raised:
        ours.receive()
    assert str(raised.value) == ours.why == SILENT
    assert not ours.close(line.monotonic() + 0.1)


def test_a_rank_that_is_gone_is_an_error_after_what_it_said():
    back = Wire()
    ours = Line(7, Wire().put, back.take, 20.0)
    back.put(np.array([JOB, 0]))
    back.queue.put(None)
    ours.wait_for_end(5)
    assert ours.receive()[0] == JOB
    with pytest.raises(LineError) as raised:
        ours.receive()
    assert str(raised.value) == ours.why == GONE
    ours.send(END)
    assert ours.close(line.monotonic() + 5)


def test_why_a_rank_failed_comes_with_it():
    ours, theirs = pair()
    theirs.send(FAILED, line.text("rank 7: Größe"))
    with pytest.raises(LineError) as raised:
        ours.receive()
    assert str(raised.value) == ours.why == "rank 7: Größe"
    ours.send(END)
    assert ours.close(line.monotonic() + 5)


@pytest.mark.parametrize("size", [-1, line.MAX_BYTES + 1])
def test_a_message_without_a_sensible_size_is_refused(size):
    back = Wire()
    ours = Line(7, Wire().put, back.take, 20.0)
    back.put(np.array([JOB, size]))
    with pytest.raises(LineError) as raised:
        ours.receive()
    assert str(raised.value) == (
        f"a message must hold 0 to 4294967296 bytes, got {size} from rank 7; install the same "
        "ngrammix for every rank"
    )
    close(ours)


def model(name="toy", vocab_size=256):
    def network(tokens):
        x = tokens.numpy()[..., None]
        return np.sin(np.arange(vocab_size) * (1 + x)).astype(np.float32)

    tokenizer = ByteTokenizer()
    return wrap(network, context=16, tokenizer=tokenizer, vocab_size=vocab_size, name=name)


def job(rng, n_rows, position):
    inputs = rng.integers(0, 256, (n_rows, 9))
    is_scored = rng.random(inputs.shape) < 0.5
    n = int(is_scored.sum())
    targets = rng.integers(0, 256, n)
    return ForwardRequest(inputs, is_scored, targets, rng.integers(-1, 256, (n, 2)), position)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_two_ranks_say_what_one_says(rng, n_jobs):
    ours, theirs = pair()
    served = threading.Thread(target=Ranks(RankInfo(1, 2), [theirs]).serve, args=(model(),))
    served.start()
    ranks = Ranks(RankInfo(0, 2), [ours])
    leader = ranks.lead(model())
    assert leader.n_parallel == 2
    work = [job(rng, 3, 0), job(rng, 2, 99)][:n_jobs]
    gathered = leader(work)
    assert len(gathered) == n_jobs
    for said, asked in zip(gathered, work, strict=True):
        expected = run_forward(model(), asked)
        for name in ("log_p", "entropy", "top", "log_top", "log_hints"):
            same(getattr(expected, name), getattr(said, name))
    ours.send(END)
    served.join(5)
    theirs.send(END)
    assert ours.close(line.monotonic() + 5)


def test_a_leader_without_followers_is_one_wide(rng):
    work = [job(rng, 3, 0)]
    assert Leader(model(), []).n_parallel == 1
    same(Leader(model(), [])(work)[0].log_p, run_forward(model(), work[0]).log_p)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (model("another"),
         "ranks must have the same model, got 'toy' on rank 0 and 'another' on rank 1; start all "
         "with the same files, versions and OMP_NUM_THREADS"),
        (model(vocab_size=300),
         "ranks must have the same vocabulary, got 256 on rank 0 and 300 on rank 1; start all "
         "with the same files, versions and OMP_NUM_THREADS"),
    ],
)  # fmt: skip
def test_ranks_with_different_models_are_refused(other, text):
    ours, theirs = pair()
    theirs.send(GREETING, line.text(json.dumps(greeting(other))))
    with pytest.raises(ValueError) as raised:
        Ranks(RankInfo(0, 2), [ours]).lead(model())
    assert str(raised.value) == text
    close(ours, theirs)


@pytest.mark.parametrize("said", [(GATHERED, b"{}"), (GREETING, b"[1]"), (GREETING, b"\xff")])
def test_a_greeting_that_is_none_is_refused(said):
    ours, theirs = pair()
    theirs.send(said[0], np.frombuffer(said[1], np.uint8))
    with pytest.raises(ValueError) as raised:
        Ranks(RankInfo(0, 2), [ours]).lead(model())
    assert str(raised.value) == (
        "a rank must greet with what it has, got something else from rank 1; install the same "
        "ngrammix for every rank"
    )
    close(ours, theirs)


ALL = {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}


def test_places():
    assert find_rank({}) == RankInfo(0, 1, 0)
    assert find_rank({"RANK": "1", "WORLD_SIZE": "3"}) == RankInfo(0, 1, 0)  # not torchrun's
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
def test_a_place_that_is_none_is_refused(wrong, got):
    with pytest.raises(ValueError) as raised:
        find_rank(ALL | wrong)
    assert str(raised.value) == (
        f"a rank must be below the number of ranks, got {got}; start them with torchrun"
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
    assert 28 < result["bytes_per_token_sent_back"] < 60  # 28 and 8 a hint
    assert 12 < result["bytes_per_token_sent_to_a_rank"] < 40  # 4 a target, input and hint
    assert "same bits: yes" in table


def test_the_bench_sees_other_bits(tmp_path, monkeypatch, capsys):
    def score(size, data, tokens, out):
        return dict.fromkeys(bench.PARTS, 1.0), (size,)

    monkeypatch.setattr(bench, "score", score)
    assert main(["bench", "ranks", "--tokens", "300"]) == 0
    assert "same bits: NO" in capsys.readouterr().out


def test_the_bench_needs_a_rank(capsys):
    assert main(["bench", "ranks", "--ranks", "0"]) == 2
    assert capsys.readouterr().err == (
        "ngrammix: error: --ranks must be >= 1, got 0; leave it out for the default\n"
    )
