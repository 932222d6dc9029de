"""Folders, patterns and several names: every file once, in the order of the names."""

import gzip
import json
import os

import numpy as np
import pytest

from eval.data.open_data import open_data


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    """Names in the errors are short: everything is where the test stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fill(folder, **files):
    """Write files of these names, `__` for a slash and `_` for a dot, with the content given."""
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def lines(*texts):
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def found(*arguments, **options):
    """(name, bytes) of each document."""
    return [(document.name, document.raw) for document in open_data(*arguments, **options)]


def test_each_text_of_a_folder_is_a_document(inside):
    fill(inside / "d", b_txt="b", a_md="a", sub__c_txt_gz=gzip.compress(b"c"), z="z",
         README_md="about", LICENSE="about")  # fmt: skip
    (inside / "d" / ".hidden.txt").write_text("no")
    fill(inside / "d" / ".git", x_txt="no")
    data = open_data("d")
    assert data.name == "d"
    assert [(d.name, d.raw) for d in data] == [
        ("d/a.md", b"a"), ("d/b.txt", b"b"), ("d/sub/c.txt.gz", b"c"), ("d/z", b"z")
    ]  # fmt: skip
    assert data.size == [document.offset for document in data][-1] + len(gzip.compress(b"c")) - (
        (inside / "d" / "sub" / "c.txt.gz").stat().st_size
    )


@pytest.mark.parametrize("suffix", ["jsonl", "ndjson", "JSONL", "json"])
def test_rows_of_a_folder_come_file_by_file(inside, suffix):
    fill(inside / "d", **{f"b_{suffix}": lines("c"), f"a_{suffix}_gz": gzip.compress(
        lines("a", "b").encode())}, README_md="about", plot_png=b"\x89PNG",
        X="")  # fmt: skip
    (inside / "d" / "dataset_infos.json").write_text("{}")
    (inside / "d" / "_SUCCESS").touch()
    assert found("d") == [
        (f"d/a.{suffix}.gz:1", b"a"), (f"d/a.{suffix}.gz:2", b"b"), (f"d/b.{suffix}:1", b"c")
    ]  # fmt: skip


def test_files_without_suffixes_are_known_by_their_content(inside):
    fill(inside / "d", part1=lines("a"), part2=lines("b"))
    assert found("d") == [("d/part1:1", b"a"), ("d/part2:1", b"b")]
    fill(inside / "d", part3="text")
    with pytest.raises(ValueError) as error:
        open_data("d")
    assert str(error.value) == (
        "a folder must hold files of one format, got 2 of json, 1 of text in d; name those to "
        "score, as with the pattern 'd/*'"
    )


def test_a_folder_may_be_called_like_a_file(inside):
    fill(inside / "d.jsonl", a_txt="a")
    assert found("d.jsonl") == [("d.jsonl/a.txt", b"a")]


def test_splits_are_those_of_the_library(inside):
    fill(inside / "d", train_jsonl=lines("a", "b", "c", "d"), test_jsonl=lines("e"))
    assert [raw for _, raw in found("d", split="test")] == [b"e"]
    assert [raw for _, raw in found("d", split="train+test")] == [b"a", b"b", b"c", b"d", b"e"]
    slices = {
        "train[:2]": "ab", "train[2:]": "cd", "train[-1:]": "d", "train[:50%]": "ab",
        "train[25%:75%]": "bc", "train[1:2]+test": "be", "train[:99]": "abcd", "train[:-3]": "a",
    }  # fmt: skip
    for split, letters in slices.items():
        assert b"".join(raw for _, raw in found("d", split=split)).decode() == letters
    assert found("d", split="train[1:3]")[0][0] == "d/train.jsonl:2"  # where it stands in the file


def test_the_card_of_a_folder_names_its_files(inside):
    card = "---\nconfigs:\n- config_name: a\n  default: true\n  data_files: x.jsonl\n---\n"
    fill(inside / "d", x_jsonl=lines("x"), y_jsonl=lines("y"), README_md=card)
    assert found("d") == [("d/x.jsonl:1", b"x")]


def test_a_pattern_names_files_in_order(inside):
    fill(inside / "d", b_jsonl=lines("b"), a_jsonl=lines("a"), c_txt="c", sub__e_jsonl=lines("e"))
    assert [raw for _, raw in found("d/*.jsonl")] == [b"a", b"b"]
    assert [raw for _, raw in found("d/**/*.jsonl")] == [b"a", b"b", b"e"]
    assert [raw for _, raw in found(["d/[ab].jsonl", "d/c.txt"])] == [b"a", b"b", b"c"]
    fill(inside, **{"x[1]_txt": "x"})
    assert found("x[1].txt") == [("x[1].txt", b"x")]  # a file of this very name


def test_shards_of_tokens_are_named_by_folder_or_pattern(inside):
    (inside / "d").mkdir()
    for i in range(3):
        np.save(inside / "d" / f"val_{i}.npy", np.array([1, 5 + i]))
    for name in ("d", "d/*.npy"):
        (document,) = [d for d in open_data(name, bos=1) if d.name.endswith("2.npy:1")]
        assert document.tokens.tolist() == [7]
        assert open_data(name).size == 6


def empty(path):
    (path / "d").mkdir()
    fill(path / "d", README_md="about")


ONCE = "data must name each file once, got "
TWICE = "; leave one out, or its bytes count twice"
REFUSED = {
    "empty folder": (empty, "d", {}, "data must be files, got the folder d without any; name "
                     "another"),
    "several formats": (
        lambda p: fill(p / "d", a_jsonl=lines("a"), b_jsonl_gz=b"", c_txt="c", d_csv="text\nd\n"),
        "d", {},
        "a folder must hold files of one format, got 1 of csv, 2 of jsonl, 1 of text in d; name "
        "those to score, as with the pattern 'd/*.jsonl'",
    ),
    "a split of texts": (
        lambda p: fill(p / "d", a_txt="a"), "d", {"split": "test"},
        "split applies to data sets with splits, got test for d, which has none; leave --split out",
    ),
    "a column of texts": (
        lambda p: fill(p / "d", a_txt="a"), "d", {"column": "a"},
        "column applies to tables, got a for d, which has none; leave --column out, or say with "
        "--format what the table is",
    ),
    "a file in no split": (
        lambda p: fill(p / "d", train_jsonl=lines("a"), other_jsonl=lines("b")), "d", {},
        "every file of a folder must be in a split, got d/other.jsonl beside the files of train in "
        "d; choose with --split, or name the files",
    ),
    "a row twice": (
        lambda p: fill(p / "d", train_jsonl=lines("a", "b")), "d", {"split": "train+train[:1]"},
        "split must name each row once, got train and train[0:1] for d; leave the common rows out "
        "of one",
    ),
    "no slice": (
        lambda p: fill(p / "d", train_jsonl=lines("a")), "d", {"split": "train[1"},
        "split must be one of train, got train[1 for d; choose one with --split, or rows of one "
        "such as train[:100]",
    ),
    "no rows": (
        lambda p: fill(p / "d", train_jsonl=lines("a")), "d", {"split": "train[1:]"},
        "data must hold at least one document, got none in d/train[1:]; name other files",
    ),
    "no file of a pattern": (
        lambda p: None, "d/*.jsonl", {}, "data must be files, got none that fit d/*.jsonl; check "
        "the pattern",
    ),
    "a file twice": (
        lambda p: fill(p, a_txt="a"), ["a.txt", "./a.txt"], {}, ONCE + "a.txt and ./a.txt" + TWICE,
    ),
    "a link to a file": (
        lambda p: (fill(p, a_txt="a"), (p / "b.txt").symlink_to("a.txt")), ["a.txt", "b.txt"], {},
        ONCE + "a.txt and b.txt" + TWICE,
    ),
    "a file and its folder": (
        lambda p: fill(p / "d", a_txt="a"), ["d/a.txt", "d"], {},
        ONCE + "d/a.txt and its folder d" + TWICE,
    ),
    "standard input twice": (lambda p: None, ["-", "-"], {}, ONCE + "- and -" + TWICE),
    "no name": (
        lambda p: None, [""], {}, "data must be names of files, got an empty name; check the "
        "command",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_names(inside, case):
    make, names, options, text = REFUSED[case]
    make(inside)
    with pytest.raises(ValueError) as error:
        found(names, **options)
    assert str(error.value) == text


CARD = "a data card must be short YAML that names files of its folder, got {} in {}/README.md; "
CARDS = {
    "configs: [[[": "no YAML",
    "configs: " + "[" * 5000: "no YAML",
    "a: &a [1, 2]\n" + "".join(f"{y}: &{y} [*{x}, *{x}]\n" for x, y in zip("abcdefghijklmnop",
    "bcdefghijklmnopq", strict=True)): "more than 65536 values",
    "a: &a [*a]": "more than 65536 values",
    "x: " + "y" * (1 << 20): "more than 1048576 bytes",
    "configs:\n- data_files: ../**": "the name ../** outside of the folder",
    "configs:\n- data_files: [a/../../b]": "the name a/../../b outside of the folder",
    "configs:\n- data_files: /etc/*": "the name /etc/* outside of the folder",
    "configs:\n- data_files: https://x.org/a.jsonl": (
        "the name https://x.org/a.jsonl outside of the folder"
    ),
    "configs:\n- {config_name: default, data_files: [{split: train, path: zip://a::b}]}": (
        "the name zip://a::b outside of the folder"
    ),
}  # fmt: skip


@pytest.mark.parametrize("card", CARDS, ids=range(len(CARDS)))
def test_cards_that_lead_astray_are_refused(tmp_path, card):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n# A set\n", encoding="utf-8")
    with pytest.raises(ValueError) as error:
        open_data(str(tmp_path))
    text = CARD.format(CARDS[card], tmp_path) + "correct it, or name the files"
    assert str(error.value) == text


def test_a_card_with_anchors_is_followed(tmp_path):
    for name in ("one.jsonl", "two.jsonl"):
        (tmp_path / name).write_text(f'{{"text": "{name}"}}\n', encoding="utf-8")
    card = "a: &a one.jsonl\nconfigs:\n- config_name: default\n  data_files: *a\nb: *a"
    (tmp_path / "README.md").write_text(f"---\n{card}\n---\n# A set\n", encoding="utf-8")
    assert [d.raw for d in open_data(str(tmp_path))] == [b"one.jsonl"]


@pytest.mark.parametrize("name", ["README.md", "dataset_infos.json"])
def test_a_file_about_the_data_that_is_too_long_is_refused(tmp_path, name):
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    (tmp_path / name).touch()
    os.truncate(tmp_path / name, (1 << 24) + 1)
    with pytest.raises(ValueError) as error:
        open_data(str(tmp_path))
    text = CARD.format("more than 16777216 bytes", tmp_path).replace("README.md", name)
    assert str(error.value) == text + "correct it, or name the files"


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a", encoding="utf-8")
    (tmp_path / "b").mkdir()
    scan = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(ValueError) as error:
        open_data(str(tmp_path))
    assert str(error.value) == (
        f"a file must be readable, got {tmp_path / 'b'} (Permission denied); check its rights"
    )
