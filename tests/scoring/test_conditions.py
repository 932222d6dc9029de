"""Conditions: what moves a figure is in the result, in its signature, and in the checkpoint."""

from dataclasses import fields
from typing import get_args

import pytest
import torch

from eval import fields as option_fields
from eval.config import QuantizeConfig, RunConfig, ScoreConfig
from eval.data.document import Document, Documents
from eval.models.numerics import NUMERICS, describe_settings, dtype_of, hardware_of
from eval.models.wrap import wrap
from eval.scoring.conditions import CONDITIONS, OPTIONS, find_change, flag_of, hash_conditions
from eval.scoring.result import Result
from eval.scoring.score import score
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from ngrammix import snapshot
from ngrammix.auditing.environment import versions
from tests.toy import ToyModel

TEXTS = [Document("a", b"the cat sat on the mat, the cat sat on the mat"), Document("b", b"on it")]
# Two values of every option that moves figures, and what else it needs.
VALUES = {
    "mixer": ("gate+guard", "none"),
    "order": (3, 5),
    "memory_limit": (None, "1MiB"),
    "windows": ("document", "stream"),
    "context": (16, 8),
    "stride": (4, 5),
    "bos": (256, 7),
    "token_check": (True, False),
    "batch": (8, 1),
    "logits_memory": (None, 4 * 257 * 3),
    "limit": (30, 40),
    "allow_probabilities": (False, True),
    "causality_check": (True, False),
}


def run(folder=None, model=None, texts=TEXTS, **options):
    model = ToyModel() if model is None else model
    return score(model, Documents(texts), ScoreConfig(**options), checkpoint=folder)


def refusal(folder, **options):
    """What a run says that may not go on with the checkpoint in the folder."""
    with pytest.raises(ValueError) as error:
        run(folder, **options)
    return str(error.value)


@pytest.mark.parametrize("config", [ScoreConfig, RunConfig, QuantizeConfig])
def test_every_option_says_what_it_moves(config):
    known = get_args(option_fields.Moves)
    assert all(field.metadata["moves"] in known for field in fields(config))
    with pytest.raises(TypeError):
        option_fields.option(7, text="an option that does not say")


def test_the_options_that_move_figures_are_those_of_a_score_and_conditions_of_its_result():
    moving = {f.name for f in fields(QuantizeConfig) if f.metadata["moves"] == "figures"}
    assert moving == set(OPTIONS) == set(VALUES) == {field.name for field in fields(ScoreConfig)}
    assert set(CONDITIONS) <= {field.name for field in fields(Result)}
    assert moving | {*NUMERICS, "model", "tokenizer", "data_sha256", "versions"} <= {*CONDITIONS}


@pytest.mark.parametrize("name", VALUES)
def test_an_option_that_moves_figures_is_in_signature_and_checkpoint(name, tmp_path):
    first, second = ({name: value} for value in VALUES[name])
    results = [run(tmp_path, **first), run(**second)]
    assert results[0].signature != results[1].signature
    assert getattr(results[0], name) != getattr(results[1], name)
    flag = f"--{name.replace('_', '-')}"
    shown = refusal(tmp_path, **second)
    before, now = getattr(results[0], name), getattr(results[1], name)
    assert shown.startswith(
        f"a run must go on with the {flag} it began with, got {now!r} where the checkpoint in "
        f"{tmp_path} has {before!r}; "
    )
    mend = shown.partition("; ")[2].removesuffix(", or delete the checkpoint")
    if before is None:
        assert mend == f"leave {flag} out"
    else:
        assert mend.startswith(f"pass --no-{flag[2:]}" if before is False else f"pass {flag}")
    assert run(tmp_path, **first).signature == results[0].signature


def test_the_cache_alone_on_bytes_has_a_longer_order_that_can_be_named():
    texts = Documents(TEXTS)
    alone, named, short = (score(None, texts, ScoreConfig(order=order)) for order in (None, 24, 7))
    assert alone.order == 24
    assert alone.signature == named.signature
    assert alone.signature != short.signature
    assert alone.bits < short.bits
    assert run().order == 7
    assert run().signature == run(order=7).signature


def test_a_run_goes_on_if_the_default_order_is_named(tmp_path):
    first = run(tmp_path)
    assert run(tmp_path, order=7).signature == first.signature
    assert refusal(tmp_path, order=24).startswith("a run must go on with the --order it began with")


def test_the_mend_can_be_typed():
    for value, mend in ((None, "leave --limit out"), (3, "pass --limit 3")):
        assert find_change({"limit": value}, {"limit": 9}).mend == mend
    assert find_change({"bos": None}, {"bos": 9}).mend == "pass --bos none"
    assert find_change({"token_check": True}, {"token_check": False}).mend == "pass --token-check"
    change = find_change({"token_check": False}, {"token_check": True})
    assert (change.label, change.mend) == ("--token-check", "pass --no-token-check")
    assert find_change({"order": 3}, {"order": 3}) is None
    assert find_change({"gone": 3}, {}).label == "gone"
    assert [flag_of("memory_limit"), flag_of("versions")] == ["--memory-limit", "versions"]


def test_where_the_data_lie_is_not_in_the_hash_of_the_conditions():
    conditions = {"order": 3, "data": "a.txt"}
    assert hash_conditions(conditions) == hash_conditions(conditions | {"data": "/b/a.txt"})
    assert hash_conditions(conditions) != hash_conditions(conditions | {"order": 4})
    moved = [Document("c", TEXTS[0].raw), Document("d", TEXTS[1].raw)]
    assert run(texts=moved).signature == run().signature


@pytest.mark.parametrize(
    "other",
    [
        [Document("a", b"the cat sat on the hat"), TEXTS[1]],  # another token
        [Document("a", b"the cat sat on the mat, "), Document("b", b"the cat sat on")],  # begins
    ],
)
def test_tokens_bytes_names_and_beginnings_are_those_of_the_run(tmp_path, other):
    score(ToyModel(), Named(TEXTS), checkpoint=tmp_path)
    text = "got other tokens, bytes or names of documents within the first 51 tokens"
    for texts in (other, [Document("z", TEXTS[0].raw), TEXTS[1]]):
        with pytest.raises(ValueError, match=text):
            score(ToyModel(), Named(texts), checkpoint=tmp_path)


class Named(Documents):
    """Documents of a data set that has one name."""

    def __init__(self, documents):
        super().__init__(documents)
        self.name = "data"


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Embedding(257, 8), torch.nn.Linear(8, 257)).to(dtype)


def of_dtype(dtype):
    return wrap(network(dtype), context=16, tokenizer=ByteTokenizer(256), vocab_size=257)


def test_the_dtype_is_that_of_the_weights_and_named_before_their_hash(tmp_path):
    single, half = of_dtype(torch.float32), of_dtype(torch.bfloat16)
    results = [run(tmp_path, single), run(model=half)]
    assert [result.dtype for result in results] == ["float32", "bfloat16"]
    assert [result.device for result in results] == ["cpu", "cpu"]
    assert results[0].signature != results[1].signature
    assert "|dtype:float32|device:cpu|" in results[0].signature
    assert "the --dtype it began with, got 'bfloat16' where" in refusal(tmp_path, model=half)
    mixed = network()
    mixed[1].bfloat16()
    assert dtype_of(wrap(mixed, context=4, tokenizer=None, vocab_size=257)) == "bfloat16+float32"
    assert dtype_of(ToyModel()) is None


def change_precision(monkeypatch):
    torch.set_float32_matmul_precision("high")


def change_threads(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)


def change_environment(monkeypatch):
    monkeypatch.setenv("MKL_CBWR", "AVX2")


def change_versions(monkeypatch):
    monkeypatch.setattr("eval.scoring.conditions.versions", lambda: versions() + ", torch 9")


def change_hardware(monkeypatch):
    monkeypatch.setattr("eval.models.numerics.hardware_of", lambda device: "abacus")


def change_device(monkeypatch):
    monkeypatch.setattr("eval.models.numerics.device_kind", lambda model: "meta")


@pytest.mark.parametrize(
    ("change", "label", "mend"),
    [
        (change_precision, "torch_settings", "set the same flags of torch and variables of the "
                                             "environment"),
        (change_environment, "torch_settings", "set the same flags of torch and variables of the "
                                               "environment"),
        (change_threads, "torch_threads", f"set OMP_NUM_THREADS={torch.get_num_threads()}"),
        (change_versions, "versions", "install the same versions"),
        (change_hardware, "hardware", "use the same kind of machine"),
        (change_device, "--device", "pass --device cpu"),
    ],
)  # fmt: skip
def test_what_moves_the_rounding_is_a_condition(tmp_path, monkeypatch, change, label, mend):
    model = of_dtype(torch.float32)
    first = run(tmp_path, model)
    try:
        change(monkeypatch)
        assert run(model=model).signature != first.signature
        shown = refusal(tmp_path, model=model)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert shown.startswith(f"a run must go on with the {label} it began with, got ")
    assert shown.endswith(f"; {mend}, or delete the checkpoint")


def test_a_checkpoint_of_another_model_says_how_to_come_back(tmp_path):
    run(tmp_path, of_dtype(torch.float32))
    other = network()
    with torch.no_grad():
        other[0].weight[0, 0] += 1
    shown = refusal(
        tmp_path, model=wrap(other, context=16, tokenizer=ByteTokenizer(256), vocab_size=257)
    )
    assert shown.startswith("a run must go on with the --model it began with, got 'Sequential-")
    assert shown.endswith(
        "; pass the same --model, --quantized, --device, --dtype, --trust-remote-code, with the "
        "same weights, config.json and code, or delete the checkpoint"
    )


def test_a_checkpoint_of_another_version_is_refused_by_name(tmp_path):
    run(tmp_path)
    path = tmp_path / "checkpoint.ngrammix"
    values, arrays = snapshot.read(path)
    written = f"({values['conditions']['versions']!r})"
    for number in (None, 1, 3, "2"):
        values["checkpoint"] = number
        if number is None:
            del values["checkpoint"]  # as before there was a number
        snapshot.write(path, values, arrays)
        assert refusal(tmp_path) == (
            f"a checkpoint must be of format 2, got {1 if number is None else number!r} in {path}, "
            f"which another version of ngrammix wrote; go on with that version {written}, or "
            "delete the checkpoint"
        )


def test_the_cache_alone_has_no_numerics():
    result = score(None, Documents(TEXTS))
    assert [getattr(result, name) for name in NUMERICS] == [None] * len(NUMERICS)
    assert "|dtype:" not in result.signature


def test_the_settings_are_those_that_torch_has():
    assert "float32_matmul_precision highest" in describe_settings("cpu")
    assert "autocast" not in describe_settings("cpu")
    with torch.autocast("cpu"):
        assert describe_settings("cpu").startswith("autocast torch.bfloat16, ")
    assert "backends.cuda.matmul.allow_tf32" in describe_settings("cuda")  # where there is none too
    assert describe_settings("another kind") == describe_settings("cpu")
    assert hardware_of(None).split()[-1] == torch.backends.cpu.get_cpu_capability()
