"""``ngrammix audit`` as a user types it: verdicts, files, and scorers that misbehave."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from eval.cli import main
from eval.commands import audit_jobs, audit_watch
from eval.commands.audit_options import FORMATS, KINDS
from eval.commands.options import add_arguments
from eval.commands.parser import Parser
from ngrammix.auditing.report import AuditReport
from ngrammix.auditing.report_json import from_json
from tests.toy import heed_signals

ROOT = Path(__file__).resolve().parents[2]
SCORERS = """
import ctypes, os, signal, sys, time
import numpy as np

V = 16

def uniform(tokens):
    return np.full(len(tokens), np.log(V))

def knows_the_next(tokens):
    return np.where(np.roll(tokens, -1) == 3, 0.1, np.log(V))

def raises(tokens):
    raise KeyError("no \\x1b[31m document")

def leaves(tokens):
    raise SystemExit(0)

def shape(tokens):
    return np.zeros((len(tokens), 2))

def nan(tokens):
    return np.full(len(tokens), np.nan)

def fewer(tokens):
    return uniform(tokens)[1:]

def crashes(tokens):
    os.kill(os.getpid(), signal.SIGSEGV)

def exits(tokens):
    os._exit(0)

def hangs(tokens):
    time.sleep(600)

def holds(tokens):  # the interpreter, so that no other thread of the process goes on
    ctypes.PyDLL(None).sleep(600)

def forks(tokens):
    if not os.path.exists("forked"):
        open("forked", "w").close()
        os.fork()
    return uniform(tokens)

def prints(tokens):
    print("a scorer prints")
    return uniform(tokens)

def probs(prefix):
    return np.full(V, 1 / V)

def other_probs(prefix):
    return np.append(np.full(V - 1, 0.5 / (V - 1)), 0.5)

class Stepper:
    def probs(self):
        return np.full(V, 1 / V)
    def commit(self, token):
        return np.log(V)

def bytes_(tokens):
    return np.full(len(tokens), np.log(256))
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs ``ngrammix audit`` in a folder with scorers: (status, standard output, errors)."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(SCORERS, encoding="utf-8")

    def run_words(*words, budget="1"):
        extra = [] if budget is None else ["--budget", budget]
        status = main(["audit", *words, *extra])
        output, errors = capfd.readouterr()
        lines = [line for line in errors.splitlines() if "compiling kernels" not in line]
        return status, output, "\n".join(lines)

    return run_words


@pytest.fixture
def in_process(monkeypatch):
    """Lets jobs run in this process, which takes a tenth of the time."""

    def run_job(job, budget):
        return audit_jobs.KINDS[job["kind"]](job)()

    monkeypatch.setattr("eval.commands.audit.run_watched", run_job)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    sys.modules.pop("mine", None)


def scorer(name, *words):
    return ("--scorer", f"mine:{name}", "--vocab-size", "16", "--limit", "200", *words)


def test_a_legal_scorer(run):
    status, text, errors = run(*scorer("uniform", "--seed", "5", "--positions", "50"), budget="20")
    assert (status, errors) == (0, "")
    assert text.startswith("LEGAL  mine.uniform\n")
    for words in ("seed: 5", "n positions: 50", "tokens: 200", "vocab size: 16", "hardware: ",
                  "versions: ngrammix", "budget seconds: 20", "not checked", "would have been ",
                  "stream: made for the audit", "code: mine.py "):  # fmt: skip
        assert words in text


def test_a_guilty_one_writes_three_files_and_its_witness_is_replayed(run):
    status, card, _ = run(*scorer("knows_the_next", "--out", "found", "--format", "markdown"))
    assert status == 1
    assert card.startswith("**guilty**: mine.knows\\_the\\_next\n")
    assert {path.name for path in Path("found").iterdir()} == set(FORMATS.values())
    assert Path("found/audit.md").read_text(encoding="utf-8") == card
    assert Path("found/audit.txt").read_text(encoding="utf-8").startswith("GUILTY  ")
    report = from_json(Path("found/audit.json").read_text(encoding="utf-8"))
    assert "C1" in {finding.condition for finding in report.findings}

    replay = ("--replay", "found/audit.json", "--scorer")
    status, text, _ = run(*replay, "mine:knows_the_next")
    n = len(report.findings)
    assert (status, text.splitlines()[0]) == (1, f"{n} of {n} witnesses show a violation again")
    assert re.search(
        r"\n  C1 at position [\d,]+: shown again; (2\.77\d* and 0\.1|0\.1 and 2)", text
    )
    status, text, _ = run(*replay, "mine:uniform", "--format", "json")
    assert status == 0
    stored = json.loads(text)
    assert stored["exit_code"] == 0
    assert [each["is_shown"] for each in stored["replayed"]] == [False] * n
    status, text, _ = run(*replay, "mine:raises", "--format", "markdown")
    assert status == 2
    assert text.count("could not be tried; the scorer raised KeyError") == n

    status, _, errors = run(*scorer("uniform", "--out", "found"))
    assert status == 2
    assert errors.startswith(
        "ngrammix: error: --out must hold no results of another run, got audit"
    )
    assert Path("found/audit.md").read_text(encoding="utf-8") == card


def test_out_may_be_one_file(run):
    status, text, _ = run(*scorer("nan", "--out", "nan.json"))
    assert (status, {path.name for path in Path().iterdir() if path.is_file()}) == (
        1, {"mine.py", "nan.json"},
    )  # fmt: skip
    assert from_json(Path("nan.json").read_text(encoding="utf-8")).findings[0].condition == "C2"
    assert text.startswith("GUILTY  mine.nan\n")
    assert run(*scorer("uniform", "--out", "nan.json"))[0] == 2
    assert run(*scorer("fewer", "--out", "nan.json", "--overwrite"))[0] == 1
    found = from_json(Path("nan.json").read_text(encoding="utf-8")).findings
    assert [finding.condition for finding in found] == ["C4"]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("raises", r"the scorer raised KeyError: .*no .*x1b\[31m document"),
        ("leaves", "the scorer raised SystemExit: 0"),
        ("shape", "score_fn must return one score in nats a token"),
        ("crashes", r"the scorer ended the process by signal 11 \(SIGSEGV\)\n"),
        ("exits", "the scorer ended the process with exit status 0\n"),
        ("hangs", "the scorer did not return within the budget of 1 s"),
        ("holds", "the scorer hung: it held the process for 4 seconds, with a budget of 1, and was "
         "stopped; raise --budget"),
    ],
)  # fmt: skip
def test_a_scorer_that_gives_no_scores_is_unknown_and_why(run, monkeypatch, name, problem):
    monkeypatch.setattr(audit_watch, "GRACE", 2.0)
    status, text, errors = run(*scorer(name, "--out", "why"))
    assert (status, errors) == (2, "")
    assert text.startswith("UNKNOWN  mine")
    assert "\x1b" not in text
    assert re.search(problem, re.sub(r"\n +", " ", text))
    assert "hardware: " in text
    report = from_json(Path("why/audit.json").read_text(encoding="utf-8"))
    assert (report.verdict, len(report.problems)) == ("unknown", 1)


def test_a_scorer_that_forks_gives_one_report(run):
    status, text, _ = run(*scorer("forks", "--format", "json"), budget="3")
    assert Path("forked").exists()
    assert json.loads(text)["subject"] == "mine.forks"  # one object: JSON takes no second
    assert status in (0, 2)


def test_what_a_scorer_prints_is_no_part_of_the_report(run):
    _, text, errors = run(*scorer("prints", "--format", "json"))
    json.loads(text)
    assert set(errors.splitlines()) == {"a scorer prints"}


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (scorer("uniform", "--probs", "mine:probs"), 0),
        (scorer("uniform", "--probs", "mine:other_probs"), 1),
        (scorer("uniform", "--stepper", "mine:Stepper"), 0),
        (("--stepper", "mine:Stepper", "--vocab-size", "16", "--limit", "64"), 0),
    ],
)
def test_what_is_shown_before_a_token_is_checked_too(run, in_process, words, status):
    found, text, _ = run(*words, budget="3")
    assert found in (status, 2)
    assert (found == 1) == (status == 1)
    assert "C3" in text


def test_the_stream_may_be_ids_or_text(run, in_process):
    np.save("ids.npy", np.arange(300) % 16)
    np.arange(300, dtype="<u2").tofile("ids.u16")
    Path("text.txt").write_text("one day, one night, one day " * 30, encoding="utf-8")
    words = ("--scorer", "mine:bytes_", "--limit", "150", "--tokens")
    for more in (("ids.npy", "--vocab-size", "256"),
                 ("ids.u16", "--vocab-size", "256", "--token-dtype", "uint16"),
                 ("text.txt", "--tokenizer", "bytes")):  # fmt: skip
        status, text, errors = run(*words, *more)
        assert (status in (0, 2), errors) == (True, "")
        assert f"stream: {more[0]}\n" in text
        assert "tokens: 150\n" in text
        assert re.search(r"tokens sha256: [0-9a-f]{16}\n", text)


PEAKY = """
import numpy as np

def score(tokens):  # 16 ids, of which the stream may use fewer
    p = np.full(16, 0.04)
    p[0] = 0.4
    return -np.log(p[tokens])

def ahead(tokens):
    return np.where(np.roll(tokens, -1) == 3, 0.1, score(tokens))
"""


def test_without_its_size_no_scorer_is_accused_of_a_vocabulary_that_is_too_small(run, in_process):
    Path("peaky.py").write_text(PEAKY, encoding="utf-8")
    np.save("few.npy", np.arange(300) % 10)
    np.save("all.npy", np.arange(300) % 16)
    words = ("--scorer", "peaky:score", "--tokens")
    status, text, _ = run(*words, "few.npy")
    assert status == 2
    assert "sum to 0.76; pass --vocab-size, for there may be more ids" in " ".join(text.split())
    assert "vocab size from: the highest id in the file\n" in text
    assert run(*words, "few.npy", "--vocab-size", "16", budget="4")[0] in (0, 2)
    status, text, _ = run(*words, "all.npy", budget="4")
    assert status in (0, 2)
    assert "sum to" not in text
    assert run("--scorer", "peaky:ahead", "--tokens", "few.npy")[0] == 1
    sys.modules.pop("peaky")


def test_what_is_shown_tells_the_size_of_the_vocabulary(run, in_process):
    for words in (("--scorer", "mine:uniform", "--probs", "mine:probs"),
                  ("--stepper", "mine:Stepper")):  # fmt: skip
        status, text, _ = run(*words, "--limit", "30")
        assert status in (0, 2)
        assert "vocab size: 16\n" in text


def test_a_round_trip_has_a_text_of_its_own(run, in_process):
    pytest.importorskip("constriction")
    status, text, _ = run("--codec", "--model", "none", "--limit", "64", budget="20")
    assert status in (0, 2)  # 64 tokens are few
    assert "64 tokens" in text


def test_our_own_mixers_are_audited(run, in_process):
    status, text, _ = run("--self", "--limit", "32", "--vocab-size", "8", budget="6")
    assert status in (0, 2)
    assert "the cache, and the mixers beside a model" in text
    assert "in each of 12 audits" in re.sub(r"\n +", " ", text)


MODELS = """
import torch

class Model(torch.nn.Module):
    def __init__(self, leaks):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.leaks = torch.nn.Embedding(64, 64), leaks

    def forward(self, tokens):
        is_next = (tokens.roll(-1, 1) == 7).float()[..., None]
        return self.table(tokens) + self.leaks * is_next * torch.arange(64) / 20

def honest():
    return Model(0.0)

def ahead():
    return Model(1.0)
"""


def test_a_model_is_audited_and_its_windows_are_replayed(run):
    Path("models.py").write_text(MODELS, encoding="utf-8")
    context = ("--context", "16", "--seed", "3")
    status, text, errors = run("--model", "models:ahead", *context, "--out", "found", budget="5")
    assert (status, errors) == (1, "")
    assert "broken: C1, causality" in text
    assert "seed: 3\n" in text
    for name, expected in (("ahead", 1), ("honest", 0)):
        words = ("--replay", "found/audit.json", "--model", f"models:{name}", "--context", "16")
        assert run(*words, budget=None)[0] == expected
    assert run("--model", "models:honest", *context, budget="8")[0] in (0, 2)


def test_published_log_lines(run):
    line = "step:1 val_loss:2.4007 val_bpb:1.0069\n"
    Path("train.log").write_text(line, encoding="utf-8")
    words = ("--log", "train.log", "--n-tokens", "47851520")
    status, text, errors = run(*words, "--n-bytes", "151080891", "--out", "log.json", budget=None)
    assert (status, errors) == (1, "")
    assert text.startswith("GUILTY")
    status, text, _ = run("--replay", "log.json", budget=None)
    assert "C1" not in text
    assert status in (1, 2)  # the numbers of the options are not in the line
    done = subprocess.run(
        [sys.executable, "-m", "eval", "audit", "--log", "-", *words[2:], "--n-bytes", "164594398"],
        input=line, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.startswith("GUILTY")


def test_bytes_of_tokens(run, in_process):
    Path("text.txt").write_text("naïve", encoding="utf-8")
    words = ("--bytes", "--data", "text.txt", "--tokenizer", "bytes")
    assert run(*words, budget=None)[0] == 0
    table = np.ones(256, np.int64)
    table[ord("v")] = 3
    np.save("table.npy", table)
    status, text, _ = run(*words, "--token-bytes", "table.npy", budget=None)
    assert status == 1
    assert text.startswith("GUILTY")


def test_tokens_are_coded_kept_and_decoded_in_another_process(run):
    pytest.importorskip("constriction")
    text = b"the cat sat on the mat, the cat sat on the hat. " * 6
    Path("text.txt").write_bytes(text)
    words = ("--codec", "--model", "none", "--data", "text.txt", "--keep", "kept.bin", "--limit")
    status, card, errors = run(*words, "256", "--format", "markdown", budget="20")
    assert (status, errors) == (0, "")
    assert card.startswith("**legal**: ")
    decode = ("--decode", "kept.bin", "--model", "none")
    status, line, errors = run(*decode, "--out", "tokens.npy", budget=None)
    assert (status, line, errors) == (0, "tokens.npy: 256 tokens\n", "")
    assert np.load("tokens.npy").astype(np.uint8).tobytes() == text[:256]
    status, _, errors = run(*decode, "--out", "other.npy", "--order", "3", budget=None)
    assert status == 2
    assert errors.startswith("ngrammix: error: coded tokens must be decoded by the model and ")
    assert not Path("other.npy").exists()


def test_a_stepper_is_coded(run, in_process):
    pytest.importorskip("constriction")
    np.save("ids.npy", np.arange(300) % 16)
    status, text, errors = run("--codec", "--stepper", "mine:Stepper", "--tokens", "ids.npy")
    assert (status, errors) == (0, "")
    assert text.startswith("LEGAL  mine:Stepper\n")


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("--codec --model none --data mine.py --tokens x.npy", "a round trip has --data or "
         "--tokens, got both; leave one of them out"),
        ("--codec --stepper mine:Stepper --data mine.py", "a stepper needs ids; name them with "),
        ("--codec --stepper mine:Stepper --model none", "a round trip is of a model or of a "
         "stepper, got both; leave out --model or --stepper"),
        ("--decode kept --model none", "decoded tokens need --out FILE.npy, got none; name the "),
        ("--decode kept --model none --out x.bin", "decoded tokens need --out FILE.npy, got x.bin"),
        ("", "an audit must be of one thing, got none; name one of --scorer, --model, --self, "),
        ("--self --log x", "an audit must be of one thing, got --self and --log; name one of "),
        ("--scorer mine:uniform --model demo", "an audit must be of one thing, got --scorer and "
         "--model; name one of "),
        ("--self --scorer mine:uniform", "--scorer goes with --scorer or --replay, got --self; "),
        ("--model demo --probs mine:probs", "--probs goes with --scorer or --replay, got --model"),
        ("--scorer mine:uniform", "the size of the vocabulary must be known, got none; pass "),
        ("--scorer mine.py:uniform", "a scorer must be package.module:function, got the path "
         "'mine.py:uniform'; pass mine:uniform and start in its folder"),
        ("--scorer mine", "a scorer must be package.module:function, got 'mine'; name a function "
         "from ids (n,) to nats (n,)"),
        ("--scorer mine:unifrom --vocab-size 16", "a scorer must be a function, got 'mine:unifrom'"
         ": mine has no 'unifrom'; did you mean uniform?"),
        ("--scorer mime:uniform --vocab-size 16", "a scorer must be importable, got 'mime:uniform'"
         ": No module named 'mime'; did you mean mine?"),
        ("--scorer mine:V --vocab-size 16", "a scorer must be a function, got 'mine:V': V is a "
         "int; name a function"),
        ("--scorer mine:uniform --vocab-size 0", "vocab_size must be in 1..2**31, got 0"),
        ("--scorer mine:uniform --vocab-size 16 --limit 0", "--limit must be an integer in 1..1"),
        ("--scorer mine:uniform --vocab-size 16 --seed -1", "seed must be an integer in 0..9"),
        ("--scorer mine:uniform --vocab-size 16 --budget 0", "--budget must be a number of seconds"
         " > 0, got 0; leave it out"),
        ("--scorer mine:uniform --vocab-size 16 --budget nan", "--budget must be a number of "),
        ("--scorer mine:uniform --vocab-size 16 --tokens no.bin", "--tokens must be a file, got "
         "no.bin; check the path"),
        ("--scorer mine:uniform --vocab-size 16 --tokens mine.py", "text needs a tokenizer, got "
         "none for mine.py; name one with --tokenizer, or name a file of ids"),
        ("--scorer mine:uniform --vocab-size 16 --tokens mine.py --tokenizer bytes", "tokens must "
         "be in [0, 16), got 105 at position 1; raise vocab_size or check the tokenizer"),
        ("--scorer mine:uniform --vocab-size 16 --out mine.py", "--out must be a folder, got the "
         "file mine.py"),
        ("--bytes --data mine.py", "--bytes needs the tokenizer, got none; name it with "),
        ("--bytes --tokenizer bytes", "--data must name at least one file or data set, got none"),
        ("--replay no.json --scorer mine:uniform", "--replay must be a file, got no.json; name "),
        ("--replay mine.py --scorer mine:uniform", "mine.py: a report must be JSON, got: "),
        ("--replay mine.py", "mine.py: a report must be JSON, got: "),
    ],
)  # fmt: skip
def test_a_wrong_option_is_one_line(run, in_process, words, error):
    status, text, errors = run(*words.split(), budget=None)
    assert (status, text) == (2, "")
    assert errors.startswith(f"ngrammix: error: {error}")
    assert "\n" not in errors


def test_what_the_process_of_the_audit_refuses_is_one_line_too(run):
    status, text, errors = run("--replay", "mine.py", budget=None)
    assert (status, text) == (2, "")
    assert errors.startswith("ngrammix: error: mine.py: a report must be JSON, got: ")


WITNESSES = """{"subject": "x", "conditions": {"vocab_size": 16}, "findings": [
{"condition": "C1", "position": 0, "message": "m", "witness":
 {"kind": "future", "numbers": [1, 2], "stream": [1, 2], "other": [1, 3], "position": 0}},
{"condition": "bytes", "position": 0, "message": "m", "witness":
 {"kind": "bytes", "numbers": [3, 4], "text": "one"}},
{"condition": "C1", "position": 0, "message": "m", "witness":
 {"kind": "logits", "numbers": [1, 2], "stream": [1, 2], "other": [1, 3], "position": 0}}]}"""


def test_each_witness_is_shown_on_what_it_is_about(run, in_process):
    Path("report.json").write_text(WITNESSES, encoding="utf-8")
    status, text, _ = run("--replay", "report.json", budget=None)
    assert status == 2
    assert re.findall("name what it is about with (.*)", text) == [
        "--scorer", "--tokenizer", "--model",
    ]  # fmt: skip
    status, text, _ = run("--replay", "report.json", "--stepper", "mine:Stepper",
                          "--tokenizer", "bytes", budget=None)  # fmt: skip
    assert status == 2
    assert re.findall(": (.*?)[;\n]", text) == ["not shown", "not shown", "could not be tried"]
    table = np.ones(256, np.int64)
    table[ord("n")] = 2
    np.save("table.npy", table)
    status, text, _ = run("--replay", "report.json", "--tokenizer", "bytes",
                          "--token-bytes", "table.npy", budget=None)  # fmt: skip
    assert status == 1
    assert "shown again; 1 and 2\n" in text or "shown again; 3 and 4\n" in text


def test_a_window_that_a_model_cannot_read_is_said_to_be_so(run, in_process):
    Path("models.py").write_text(MODELS, encoding="utf-8")
    Path("report.json").write_text(WITNESSES.replace('"position": 0}}]', '"position": 9}}]'),
                                   encoding="utf-8")  # fmt: skip
    words = ("--replay", "report.json", "--model", "models:honest", "--context", "16")
    assert "its position is not in its window" in run(*words, budget=None)[1]
    Path("report.json").write_text(WITNESSES.replace("[1, 3]", "[1, 99]"), encoding="utf-8")
    status, _, errors = run(*words, budget=None)
    assert (status, "tokens must be in [0, 64), got 99" in errors) == (2, True)
    sys.modules.pop("models")


def test_a_report_without_findings_has_nothing_to_show(run, in_process):
    Path("report.json").write_text('{"subject": "x"}', encoding="utf-8")
    status, text, _ = run("--replay", "report.json", "--format", "markdown", budget=None)
    assert status == 0
    assert text == "**the report has no findings: there is nothing to show again**\n\n"


def test_a_module_that_ends_the_process_is_unknown(run):
    Path("ends.py").write_text("import os\nos._exit(3)\n", encoding="utf-8")
    status, text, _ = run("--scorer", "ends:score", "--vocab-size", "8")
    assert status == 2
    assert "the scorer ended the process with exit status 3, while it was loaded\n" in text


def test_a_module_that_never_loads_is_unknown(run, monkeypatch):
    monkeypatch.setattr(audit_watch, "LOADING", 0.0)
    Path("waits.py").write_text("import time\ntime.sleep(600)\n", encoding="utf-8")
    status, text, _ = run("--scorer", "waits:score", "--vocab-size", "8")
    assert status == 2
    assert "the scorer was not loaded within 2 seconds; raise" in " ".join(text.split()), text


def test_a_fault_of_the_audit_accuses_nobody(run, monkeypatch):
    monkeypatch.setattr(audit_watch, "CODE", audit_watch.CODE.replace(
        "main(sys.argv[2])", "import eval.commands.audit_jobs as jobs; jobs.KINDS.clear(); "
        "main(sys.argv[2])"))  # fmt: skip
    status, text, _ = run(*scorer("uniform"))
    assert status == 2
    assert "the audit itself failed: KeyError ('scorer') at" in re.sub(r"\n +", " ", text)


def test_an_error_that_nobody_foresaw_is_no_verdict(run, monkeypatch, tmp_path):
    def run_job(job, budget):
        raise KeyError("x")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("eval.commands.audit.run_watched", run_job)
    status, text, errors = run(*scorer("uniform"))
    assert (status, text) == (2, "")
    assert errors.startswith("ngrammix: error: KeyError ('x') at ")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "with exit status 0"),
        (-11, "by signal 11 (SIGSEGV)"),
        (-9, "by signal 9 (SIGKILL), as the system does where memory runs out"),
        (-77, "by signal 77"),
    ],
)
def test_how_a_process_ended(status, words):
    assert audit_watch.ending(status) == words


def test_ctrl_c_ends_the_scorer_too(run, tmp_path):
    Path("mine.py").write_text(
        "import os, time\n"
        "def score(tokens):\n"
        "    open('pid.part', 'w').write(str(os.getpid()))\n"
        "    os.replace('pid.part', 'pid')\n"
        "    time.sleep(600)\n",
        encoding="utf-8",
    )
    words = ("audit", "--scorer", "mine:score", "--vocab-size", "8")
    process = subprocess.Popen(
        [sys.executable, "-m", "eval", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, preexec_fn=heed_signals,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not Path("pid").exists() and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    assert errors.endswith("ngrammix: stopped by SIGINT\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("pid").read_text(encoding="utf-8")), 0)


def test_a_users_own_modules_of_our_names_do_not_hide_ours(tmp_path):
    (tmp_path / "quant.py").write_text("raise SystemExit('the user has this file')")
    (tmp_path / "mine.py").write_text(SCORERS, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "ngrammix", "audit", *scorer("nan"), "--budget", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("GUILTY  mine.nan\n")


def test_every_option_goes_with_something():
    parser = Parser(prog="ngrammix audit")
    add_arguments(parser, "audit")
    names = {action.dest for action in parser._actions} - {"help"}
    assert names == set().union(*KINDS.values())
    assert AuditReport("x").exit_code == 2
