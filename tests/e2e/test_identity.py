"""Identity, as a user meets it: every option of a run, with two values, in a command line each."""

import base64
import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from eval.cli import main
from eval.config import QuantizeConfig, RunConfig
from eval.models.load_model import load_model
from quant import QuantizedModel
from tests.models.tiny import TEXT, copy_folder, edit_config, save_llama

BYTES = ["--model", "none", "--tokenizer", "bytes"]
HF = ["--model", "m", "--limit", "60"]
TOKENS = [*BYTES, "--data", "t.npy"]
RANKS = ["--model", "none", "--tokenizer", "q.tiktoken"]
RAW = [*RANKS, "--pre-tokenizer", "gpt2", "--no-token-check", "--data", "t.ids"]
SIZED = [*HF, "--data", "t.npy", "--tokenizer", "none"]
ROWS = [*BYTES, "--data", "r.jsonl"]
# Of every option that moves data, tokenizer or model: two values, and the command that has them.
# None: the option is left out.
VALUES = {
    "model": (["--data", "a.txt", "--limit", "60"], "m", "n"),
    "data": (BYTES, "a.txt", "b.txt"),
    "tokenizer": (["--model", "none", "--data", "a.txt"], "bytes", "m"),
    "pre_tokenizer": ([*RANKS, "--data", "a.txt"], "gpt2", "qwen"),
    "quantized": ([*HF, "--data", "a.txt"], None, "small"),
    "format": ([*BYTES, "--data", "r.jsonl"], "text", "jsonl"),
    "column": (ROWS, "text", "title"),
    "split": ([*BYTES, "--data", "rows"], "train[:1]", "train[1:]"),
    "token_dtype": (RAW, "uint8", "uint16"),
    "document_end": (TOKENS, None, "10"),
    "token_bytes": ([*SIZED, "--token-bytes-per", "token"], "two.npy", "five.npy"),
    "token_bytes_per": ([*SIZED, "--token-bytes", "v.npy"], "token", "id"),
    "on_bad_row": (ROWS, "error", "skip"),
    "dtype": ([*HF, "--data", "a.txt"], "float32", "float64"),
}  # fmt: skip
# Why the others have no two values here.
ELSEWHERE = {
    "device": "the other kind of device is not here: see test_conditions",
    "skip_empty": "an empty document is refused, or is no document: the other value has no figure",
    "trust_remote_code": "the code that runs is in the hash of the model: see test_behaviour",
}
MOVE_NOTHING = {
    "download": (None, True),
    "out": (None, "o"),
    "tokens": (None, True),
    "overwrite": (None, True),
    "checkpoint": (None, "c"),
    "checkpoint_every": ("7", "1000"),
    "threads": ("1", "2"),
    "log": (None, "tensorboard:log"),
}
TIMES = ("seconds", "tokens_per_second")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with models, texts, tables and token files."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("identity")
    save_llama(folder / "m")
    edit_config(copy_folder(folder / "m", folder / "n"), rms_norm_eps=0.1)
    text = TEXT.encode()
    (folder / "a.txt").write_bytes(text)
    (folder / "b.txt").write_bytes(text[:90] + text)
    rows = [{"text": TEXT[:40], "title": "the cat"}, {"text": TEXT[9:60], "title": "the dog"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "r.jsonl").write_text(lines)
    (folder / "rows").mkdir()
    (folder / "rows" / "train.jsonl").write_text(lines)
    ids = np.frombuffer(text * 2, np.uint8).astype(np.int32)
    ids[20] = ids[50] = 10
    np.save(folder / "t.npy", ids[:257])
    (folder / "t.ids").write_bytes(bytes([1, 1, 2, 1, 3, 1]) * 30)  # also 257, 258, 259
    for name, size in (("two", 2), ("five", 5)):
        np.save(folder / f"{name}.npy", np.full(len(ids[:257]), size))
    np.save(folder / "v.npy", np.arange(257) % 3)
    ranks = [bytes([i]) for i in range(256)] + [b"1 ", b"12", b"he", b"th", b"the"]
    (folder / "q.tiktoken").write_bytes(
        b"".join(base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(ranks))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quantize = ["quantize", "--model", "m", "--recipe", "int4", "--codec", "none"]
        assert main([*quantize, "--out", "small"]) == 0
    return folder


@pytest.fixture
def inside(made, tmp_path, monkeypatch):
    """A copy of the folder to stand in."""
    copy_folder(made, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flag(name, value):
    """An option on the command line."""
    if value is None:
        return []
    return [f"--{name.replace('_', '-')}", *([] if value is True else [value])]


def test_every_option_is_walked():
    moves = {field.name: field.metadata["moves"] for field in fields(RunConfig)}
    walked = {name for name, kind in moves.items() if kind in ("data", "tokenizer", "model")}
    assert walked == {*VALUES, *ELSEWHERE}
    assert {name for name, kind in moves.items() if kind == "nothing"} == {*MOVE_NOTHING}
    own = {field.name: field.metadata["moves"] for field in fields(QuantizeConfig)}
    own = {name: kind for name, kind in own.items() if name not in moves}
    assert {name for name, kind in own.items() if kind == "weights"} == {*WEIGHTS}
    free = {name for name, kind in own.items() if kind == "nothing"}
    assert free == {"codec", "export", "export_format", "strict"}


@pytest.fixture
def run(capsys):
    def run(*arguments, status=0):
        assert main(["score", *arguments, "--json"]) == status, capsys.readouterr().err
        captured = capsys.readouterr()
        return json.loads(captured.out) if status == 0 else captured.err

    return run


@pytest.mark.parametrize("name", VALUES)
def test_another_value_is_another_signature_and_no_way_on(inside, run, name):
    command, *values = VALUES[name]
    first, second = ([*command, *flag(name, value)] for value in values)
    results = [run(*first, "--checkpoint", "c", "--checkpoint-every", "5"), run(*second)]
    assert results[0]["signature"] != results[1]["signature"]
    shown = run(*second, "--checkpoint", "c", status=2)
    assert shown.startswith("ngrammix: error: a run must go on with the ")
    assert f"--{name.replace('_', '-')}" in shown
    assert shown.count("\n") == 1
    assert run(*first, "--checkpoint", "c")["signature"] == results[0]["signature"]


def test_other_bytes_of_the_tokens_in_the_same_file_are_no_way_on(inside, run):
    command = [*SIZED, "--token-bytes-per", "token", "--token-bytes", "two.npy"]
    first = run(*command, "--checkpoint", "c", "--checkpoint-every", "5")
    np.save("two.npy", np.full(257, 5))
    assert "other tokens, bytes or names" in run(*command, "--checkpoint", "c", status=2)
    second = run(*command)
    assert (first["bytes"], second["bytes"]) == (120, 300)
    assert first["data_sha256"] != second["data_sha256"]


def tell_nobody(step, figures):
    """A callback."""


@pytest.mark.parametrize("name", MOVE_NOTHING)
def test_what_moves_nothing_leaves_every_figure_as_it_is(inside, run, name, monkeypatch):
    monkeypatch.setattr("eval.commands.score.make_callback", lambda name: tell_nobody)
    command = ["--model", "m", "--data", "a.txt", "--order", "4"]
    command += {"tokens": ["--out", "t"], "checkpoint_every": ["--checkpoint", "e"]}.get(name, [])
    results = []
    for value in MOVE_NOTHING[name]:
        result = run(*command, *flag(name, value), "--overwrite")
        results.append({k: v for k, v in result.items() if not k.startswith(TIMES)})
        for path in Path("e").glob("checkpoint*"):
            path.unlink()
    assert results[0] == results[1]


WEIGHTS = {
    "recipe": ([], "int8", "int4"),
    "keep": (["--recipe", "int4"], "lm_head", "model.embed_tokens"),
    "rule": (["--recipe", "int4"], "lm_head=int8", "lm_head=int6"),
    "calibrate": (["--recipe", "gptq-int4"], "a.txt", "b.txt"),
    "calibration_tokens": (["--recipe", "gptq-int4", "--calibrate", "a.txt"], "100", "200"),
    "calibration_batch": (["--recipe", "gptq-int4", "--calibrate", "a.txt"], "1", "2"),
    "seed": (["--recipe", "gptq-int4", "--calibration-tokens", "200"], "0", "1"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_what_moves_the_weights_is_in_the_report_and_in_the_name(inside, run, capsys, name):
    command, *values = WEIGHTS[name]
    names, reports = [], []
    for value in values:
        arguments = ["quantize", "--model", "m", "--codec", "none", *command, *flag(name, value)]
        assert main([*arguments, "--out", "q", "--overwrite", "--json"]) == 0
        reports.append(json.loads(capsys.readouterr().out))
        names.append(run(*HF, "--data", "a.txt", "--quantized", "q")["model"])
    assert names[0] != names[1]
    assert reports[0]["tensors"] != reports[1]["tensors"]
    told = {"calibrate": "calibration_sha256", "keep": "overrides", "rule": "overrides"}
    told = told.get(name, name)
    assert reports[0][told] != reports[1][told]
    assert {"dtype", "device", "tokenizer", "bos", "codec", "seed", "versions"} <= {*reports[0]}
    if name in ("recipe", "keep", "rule"):
        assert reports[0]["calibration"] is None
    else:
        assert reports[0]["calibration_tokens"] > 0


def test_a_codec_keeps_the_weights(inside, capsys):
    for codec in ("none", "lzma"):
        arguments = ["quantize", "--model", "m", "--recipe", "int4", "--codec", codec]
        assert main([*arguments, "--out", codec]) == 0
    network = load_model("m").network
    states = []
    for codec in ("none", "lzma"):
        QuantizedModel.load(f"{codec}/model.ngq").load_into(network)
        states.append({key: value.clone() for key, value in network.state_dict().items()})
    assert all(value.equal(states[1][key]) for key, value in states[0].items())


def test_a_pipeline_names_its_conditions(inside, capsys):
    arguments = ["pipeline", "--data", "a.txt", "--recipe", "gptq-int4", "--codec", "none"]
    arguments += ["--model", "m", "--calibrate", "b.txt", "--calibration-tokens", "100", "--json"]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    conditions = result["conditions"]
    assert conditions["calibration"] == "b.txt"
    assert conditions["calibration_tokens"] == 128  # whole windows
    assert (conditions["seed"], conditions["codec"], conditions["order"]) == (0, "none", 7)
    before, after = (row["signature"] for row in result["rows"])
    assert before == result["signature"] != after
