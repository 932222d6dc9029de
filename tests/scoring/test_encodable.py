"""Bad rows of a score: what the tokenizer refuses is left out as a whole, and counted."""

import json

import pytest

from eval import ScoreConfig, compare, open_data, score
from eval.cli import main
from eval.data.data_hash import sha256
from eval.data.document import Document, Documents
from eval.scoring.encodable import encodable
from eval.tokenizers.byte_tokenizer import ByteTokenizer
from tests.toy import ToyModel

BAD = "refused text"


class Picky(ByteTokenizer):
    """A byte tokenizer that refuses texts with an x."""

    def encode(self, document):
        if b"x" in (document.raw or b""):
            raise ValueError(BAD)
        return super().encode(document)


def lines(*texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_row_whose_last_piece_is_refused_leaves_no_trace(inside):
    long = "word " * 10_000
    (inside / "t.jsonl").write_bytes(lines("a", long + "x", long, "x") + b'{"text": null}\n')
    (inside / "good.jsonl").write_bytes(lines("a", long))
    results = []
    for name, on_bad_row in (("t.jsonl", "skip"), ("good.jsonl", "error")):
        data = open_data(name, on_bad_row=on_bad_row)
        results.append(score(None, data, ScoreConfig(order=3), tokenizer=Picky()))
    skipped, good = results
    assert (skipped.rows_skipped, skipped.first_skipped) == (3, BAD)
    assert (good.rows_skipped, good.first_skipped) == (0, None)
    for figure in ("bits", "bytes", "tokens", "documents", "data_sha256", "bytes_copied"):
        assert getattr(skipped, figure) == getattr(good, figure)
    assert "|skipped:3|" in skipped.signature
    assert "skipped" not in good.signature
    remark = f"bad rows skipped, and in no figure: 3; the first: {BAD}"
    assert remark in skipped.table()
    assert "skipped" not in good.table()


def test_what_is_refused_is_an_error_unless_bad_rows_are_skipped(inside):
    (inside / "t.jsonl").write_bytes(lines("a", "x"))
    with pytest.raises(ValueError, match=f"^{BAD}$"):
        score(None, open_data("t.jsonl"), tokenizer=Picky())
    (inside / "u.jsonl").write_bytes(lines("x", "x"))
    with pytest.raises(ValueError) as error:
        score(None, open_data("u.jsonl", on_bad_row="skip"), tokenizer=Picky())
    assert str(error.value) == (
        f"data must hold at least one good row, got 2 bad in u.jsonl, the first: {BAD}"
    )


def test_a_text_longer_than_a_row_and_tokens_go_on_unseen(monkeypatch):
    monkeypatch.setattr("eval.scoring.encodable.MAX_ROW", 20_000)
    long = Documents(["a", "word " * 10_000 + "x", "b"])
    data = open_data(long, on_bad_row="skip")
    seen = list(encodable(data, Picky()))
    assert sha256(seen) == sha256(long)
    assert data.skipped.count == 0
    tokens = Documents([Document("t", tokens=ByteTokenizer().encode(Document("", b"x"))[0])])
    assert len(list(encodable(open_data(tokens, on_bad_row="skip"), Picky()))) == 1


def test_a_run_goes_on_with_the_rows_it_began_with(inside):
    (inside / "t.jsonl").write_bytes(lines("abc", "x", "abcabc"))
    data = open_data("t.jsonl", on_bad_row="skip")
    score(None, data, tokenizer=Picky(), checkpoint=inside / "state")
    with pytest.raises(ValueError, match=r"^a run must go on with the --on-bad-row it began "):
        score(None, open_data("t.jsonl"), tokenizer=Picky(), checkpoint=inside / "state")
    again = score(None, data, tokenizer=Picky(), checkpoint=inside / "state")
    assert again.rows_skipped == 1


def test_score_and_compare_take_what_open_data_takes(inside):
    (inside / "t.txt").write_bytes(b"abcabcabc " * 30)
    model = ToyModel()
    expected = score(model, open_data("t.txt"))
    for data in ("t.txt", inside / "t.txt", ["t.txt"], Documents(["abcabcabc " * 30]),
                 b"abcabcabc " * 30):  # fmt: skip
        assert score(model, data).bits == expected.bits
    assert compare(model, "t.txt").conditions["data_sha256"] == expected.data_sha256
    (inside / "t.jsonl").write_bytes(lines("abc") + b"null\n")
    compared = compare(model, open_data("t.jsonl", on_bad_row="skip"), ["ngrammix"])
    assert compared.conditions["rows_skipped"] == 1
    assert "|skipped:1|" in compared.signature
    with pytest.raises(ValueError, match=r"^data must be a file or a folder, got none\.txt, "):
        score(model, "none.txt")


def test_bad_rows_on_the_command_line(inside, capsys):
    (inside / "t.jsonl").write_bytes(lines("abc", "def") + b'{"text": null}\n')
    (inside / "run.toml").write_text('on_bad_row = "skip"\ndata = ["t.jsonl"]\nmodel = "none"')
    for arguments in (
        ["--model", "none", "--data", "t.jsonl", "--on-bad-row", "skip"],
        ["--config", "run.toml"],
    ):
        assert main(["score", "--json", *arguments]) == 0
        result = json.loads(capsys.readouterr().out)
        assert (result["bytes"], result["rows_skipped"], result["documents"]) == (6, 1, 2)
        assert result["on_bad_row"] == "skip"
    assert main(["score", "--model", "none", "--data", "t.jsonl"]) == 2
    assert "got null in t.jsonl:3" in capsys.readouterr().err
