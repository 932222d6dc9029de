"""Data in memory: data sets of the library ``datasets``, paths, texts."""

import datasets
import pandas as pd
import pytest

from eval.data.document import Document, Documents
from eval.data.open_data import open_data

TEXTS = ["a", "é\r\n" * 10, "c "]


def data_set(texts=TEXTS):
    return datasets.Dataset.from_dict({"id": list(range(len(texts))), "text": texts})


def stream(texts=TEXTS):
    return datasets.IterableDataset.from_generator(lambda: ({"text": text} for text in texts))


def raws(*arguments, **options):
    """The bytes of each document."""
    return [document.raw for document in open_data(*arguments, **options)]


def encoded(texts):
    return [text.encode() for text in texts]


OBJECTS = {
    "rows": (data_set, TEXTS),
    "some rows": (lambda: data_set().select([2, 0]), [TEXTS[2], TEXTS[0]]),
    "filtered": (lambda: data_set().filter(lambda row: row["id"] > 0), TEXTS[1:]),
    "formatted": (lambda: data_set().with_format("numpy"), TEXTS),
    "stream": (stream, TEXTS),
    "changed stream": (
        lambda: stream().map(lambda row: {"text": row["text"] + "!"}).take(2),
        ["a!", TEXTS[1] + "!"],
    ),
    "one split": (lambda: datasets.DatasetDict({"test": data_set()}), TEXTS),
    "one streamed split": (lambda: datasets.IterableDatasetDict({"test": stream()}), TEXTS),
    "two": (lambda: [data_set(["x"]), stream(["y"])], ["x", "y"]),
    "texts": (lambda: Documents(TEXTS), TEXTS),
    "a column": (lambda: Documents(pd.Series(TEXTS)), TEXTS),
    "bytes": (lambda: [b"a", b"b"], ["a", "b"]),
    "bytes of one text": (lambda: b"a", ["a"]),
    "documents": (lambda: [Document("n", b"a"), Document("m", b"b")], ["a", "b"]),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_give_their_rows_byte_for_byte(name):
    make, texts = OBJECTS[name]
    data = open_data(make())
    for _ in range(2):  # from the beginning each time
        assert [document.raw for document in data] == encoded(texts)


def test_a_path_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"a")
    (tmp_path / "b.txt").write_bytes(b"b")
    assert raws("a.txt") == raws(tmp_path / "a.txt") == [b"a"]
    assert (
        raws([tmp_path / "a.txt", "b.txt"]) == raws(sorted(tmp_path.glob("*.txt"))) == [b"a", b"b"]
    )


def test_columns_of_objects_may_be_nested():
    rows = [{"meta": {"text": text}} for text in TEXTS]
    assert raws(datasets.Dataset.from_list(rows), column="meta.text") == encoded(TEXTS)


def test_batches_of_a_stream_may_differ():
    def rows():
        yield from [{"text": None}] * 64 + [{"text": "a"}] * 64 + [{"text": 1}] * 64

    data = open_data(datasets.IterableDataset.from_generator(rows), on_bad_row="skip")
    documents = iter(data)
    assert [next(documents).raw for _ in range(64)] == [b"a"] * 64
    assert data.skipped.count == 64
    with pytest.raises(ValueError, match=r"^column text must hold strings, got int64 in data set"):
        next(documents)


def test_splits_of_objects_are_sliced():
    splits = {"train": data_set(list("abcd")), "test": data_set(list("ef"))}
    for made in (datasets.DatasetDict(splits), datasets.IterableDatasetDict(
        {name: one.to_iterable_dataset() for name, one in splits.items()}
    )):  # fmt: skip
        assert raws(made, split="train[1:3]+test") == encoded("bcef")
    assert raws(datasets.DatasetDict(splits), split="train[50%:]") == encoded("cd")
    (document,) = open_data(datasets.DatasetDict(splits), split="train[3:]")
    assert document.name == "data set/train[3:]:4"


def test_a_long_text_comes_in_pieces_as_a_file_does(tmp_path):
    text = "word " * 10_000
    (tmp_path / "a.txt").write_text(text)
    in_memory = list(Documents([text, "b"]))
    assert [d.raw for d in in_memory[:-1]] == raws(tmp_path / "a.txt")
    assert [(d.name, d.begins) for d in in_memory[-2:]] == [("text 1", False), ("text 2", True)]
    assert Documents([text, "b"]).name == "2 texts"
    assert Documents([Document("n", b"a"), "b"]).name == "n, 1 texts"


NAME_IT = "; name the column of the text with --column"
REFUSED = {
    "no column": (data_set, {"column": "x"}, "data must have column x, got id, text in data set"
                  + NAME_IT),
    "numbers": (data_set, {"column": "id"}, "column id must hold strings, got int64 in data set"
                + NAME_IT),
    "no split": (
        lambda: datasets.DatasetDict({"train": data_set(), "test": data_set()}), {},
        "split must be one of train, test, got None for data set; choose one with --split, or rows "
        "of one such as train[:100]",
    ),
    "a split of none": (
        data_set, {"split": "test"},
        "split applies to data sets with splits, got test for data set, which has none; leave "
        "--split out",
    ),
    "per cent of a stream": (
        lambda: datasets.IterableDatasetDict({"train": stream()}), {"split": "train[:50%]"},
        "rows of a stream must be counted from its start, got train[:50%] for data set; name them "
        "as in train[:100]",
    ),
    "a transform": (
        lambda: data_set().with_transform(lambda rows: rows), {},
        "data set must hold its rows, got a transform that makes them in data set; apply it with "
        "map, or remove it with reset_format",
    ),
    "null": (
        lambda: data_set(["a", None]), {},
        "column text must hold a string, got null in data set:2; remove the row, name another "
        "column with --column, or pass --on-bad-row skip",
    ),
    "a split of texts": (
        lambda: Documents(["a"]), {"split": "test"},
        "split applies to data sets with splits, got test for 1 texts, which has none; leave "
        "--split out",
    ),
    "a table of pandas": (
        lambda: pd.DataFrame({"text": ["a"]}), {},
        "data must be names of files or data sets, got DataFrame; pass texts as Documents(texts)",
    ),
    "a number": (
        lambda: [1], {},
        "data must be names of files or data sets, got int; pass texts as Documents(texts)",
    ),
    "a text of no file": (
        lambda: "word " * 2000, {},
        f"data must be a file or a folder, got {'word ' * 40}..., which is missing; check the "
        "path, or pass --download if it is a data set of the Hugging Face Hub",
    ),
    "one text": (
        lambda: Documents("abc"), {},
        "documents must be a list of texts, got one of 3 characters; pass [text]",
    ),
    "no text": (
        lambda: Documents(["a", float("nan")]), {},
        "text must be str or bytes, got float as text 2; remove it or convert it",
    ),
    "no Unicode": (
        lambda: Documents(["\ud800"]), {},
        "text must be Unicode, got the lone surrogate U+D800 at character 0 in text 1; correct it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_objects(name):
    make, options, text = REFUSED[name]
    with pytest.raises(ValueError) as error:
        raws(make(), **options)
    assert str(error.value) == text
