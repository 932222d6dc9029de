"""Hugging Face data sets: from a saved folder, a folder of files, or a name, the same rows."""

import json

import datasets
import pytest

from eval.data.hf_datasets import open_hub
from eval.data.open_data import open_data

TEXTS = ["a", "é\r\n" * 10, "c "]


@pytest.fixture(autouse=True, scope="module")
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def data_set(texts=TEXTS):
    return datasets.Dataset.from_dict({"id": list(range(len(texts))), "text": texts})


def save(path, texts=TEXTS):
    data_set(texts).save_to_disk(path)


def save_splits(path):
    splits = {"train": data_set(), "test": data_set(["x"])}
    datasets.DatasetDict(splits).save_to_disk(path)


def lines(path, *names, texts=TEXTS):
    path.mkdir()
    for name in names or ["train"]:
        rows = [json.dumps({"id": 1, "text": text}) for text in texts]
        (path / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")


def parquet(path):
    path.mkdir()
    data_set().to_parquet(path / "train.parquet")


@pytest.mark.parametrize(
    ("make", "split", "name", "size"),
    [
        (save, None, "{p}", None),
        (save_splits, "train", "{p}/train", None),
        (lines, None, "{p}/train", 168),
        (lambda p: lines(p, "train", "test"), "train", "{p}/train", 168),
        (parquet, "train", "{p}/train", None),
    ],
)
def test_rows_come_byte_for_byte(tmp_path, make, split, name, size):
    path = tmp_path / "set"
    make(path)
    data = open_data(path, split=split)
    name = name.format(p=path)
    assert data.name == name
    assert size in (None, data.size)
    for _ in range(2):  # from the beginning each time
        assert [(d.raw, d.begins) for d in data] == [(text.encode(), True) for text in TEXTS]
        files = path.glob("**/data-*.arrow" if "save" in make.__name__ else "train*")
        file = next(file for file in sorted(files, reverse=True))
        assert [d.name for d in data] == [f"{file}:{i}" for i in range(1, 4)]
        assert [d.offset for d in data][-1] == data.size


def test_a_name_of_the_hub_is_streamed(tmp_path, monkeypatch):
    lines(tmp_path / "set", "train", "test")
    builder = datasets.load_dataset_builder(str(tmp_path / "set"))
    asked = []
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *a: asked.append(a) or builder)
    data = open_hub("org/set", "en", "text", "test")
    assert asked == [("org/set", "en")]
    assert (data.name, data.size) == ("org/set:en/test", None)
    assert [(d.name, d.raw) for d in data] == [
        (f"org/set:en/test:{i}", text.encode()) for i, text in enumerate(TEXTS, 1)
    ]


def test_rows_of_the_hub_are_sliced(tmp_path, monkeypatch):
    lines(tmp_path / "set", "train", "test")
    builder = datasets.load_dataset_builder(str(tmp_path / "set"))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *a: builder)
    data = open_hub("org/set", None, "text", "train[1:]+test[:1]")
    assert [d.raw for d in data] == [text.encode() for text in (*TEXTS[1:], TEXTS[0])]
    assert next(d.name for d in data) == "org/set/train[1:]:2"
    with pytest.raises(ValueError) as error:
        open_hub("org/set", None, "text", "train[:50%]")
    assert str(error.value) == (
        "rows must be counted from the start where their number is not known, got train[:50%] for "
        "org/set; name them as in train[:100]"
    )
    sizes = {"train": datasets.SplitInfo("train", num_examples=4)}
    builder.info.splits = datasets.splits.SplitDict(sizes)
    assert [d.raw for d in open_hub("org/set", None, "text", "train[:50%]")] == [
        text.encode() for text in TEXTS[:2]
    ]


def damaged_parquet(path):
    path.mkdir()
    (path / "a.parquet").write_bytes(b"PAR1" + bytes(40) + b"PAR1")


def damaged_lines(path):
    path.mkdir()
    (path / "a.jsonl").write_text('{"text": "a"}\n{"text":')


def damaged_save(path, state):
    save(path)
    (path / "state.json").write_text(state, encoding="utf-8")


def no_saved_split(path):
    path.mkdir()
    (path / "dataset_dict.json").write_text("{")


NOT_SAVED = (
    "data set must be as save_to_disk writes it, got {} in {{p}}/state.json; save it again, or "
    "name its files"
)
NAME_IT = "; name the column of the text with --column"
CASES = {
    "several splits": (
        lambda p: lines(p, "train", "test"),
        {},
        "split must be one of train, test, got None for {p}; choose one with --split, or rows of "
        "one such as train[:100]",
    ),
    "several saved splits": (
        save_splits,
        {},
        "split must be one of test, train, got None for {p}; choose one with --split, or rows of "
        "one such as test[:100]",
    ),
    "no such split": (
        save_splits,
        {"split": "dev"},
        "split must be one of test, train, got dev for {p}; choose one with --split, or rows of "
        "one such as test[:100]",
    ),
    "split of what has none": (
        save,
        {"split": "train"},
        "split applies to data sets with splits, got train for {p}, which has none; leave --split "
        "out",
    ),
    "no saved split": (
        no_saved_split,
        {},
        "split must be one of the saved ones, got None for {p}; choose one with --split",
    ),
    "no column": (
        save,
        {"column": "content"},
        "data must have column content, got id, text in {p}/data-00000-of-00001.arrow" + NAME_IT,
    ),
    "no streamed column": (
        parquet,
        {"column": "content"},
        "data must have column content, got id, text in {p}/train.parquet" + NAME_IT,
    ),
    "numbers": (
        save,
        {"column": "id"},
        "column id must hold strings, got int64 in {p}/data-00000-of-00001.arrow" + NAME_IT,
    ),
    "null": (
        lambda p: save(p, ["a", None]),
        {},
        "column text must hold a string, got null in {p}/data-00000-of-00001.arrow:2; remove "
        "the row, name another column with --column, or pass --on-bad-row skip",
    ),
    "empty folder": (
        lambda p: p.mkdir(),
        {},
        "data must be files, got the folder {p} without any; name another",
    ),
    "no JSON": (lambda p: damaged_save(p, "{"), {}, NOT_SAVED.format("no JSON")),
    "deep JSON": (lambda p: damaged_save(p, "[" * 100_000), {}, NOT_SAVED.format("no JSON")),
    "no object": (lambda p: damaged_save(p, "[]"), {}, NOT_SAVED.format("no JSON object")),
    **{
        f"no names: {files}": (
            lambda p, files=files: damaged_save(p, json.dumps({"_data_files": files})),
            {},
            NOT_SAVED.format("no names of data files"),
        )
        for files in (None, 1, [], [1], [{}], [{"filename": "../x.arrow"}], [{"filename": ".."}])
    },
    "indices": (
        lambda p: damaged_save(
            p, '{"_data_files": [{"filename": "a"}], "_indices_data_files": [{"filename": "b"}]}'
        ),
        {},
        NOT_SAVED.format("rows by their indices"),
    ),
    "a file is missing": (
        lambda p: damaged_save(p, '{"_data_files": [{"filename": "a.arrow"}]}'),
        {},
        NOT_SAVED.format("no file").replace("state.json", "a.arrow"),
    ),
    "damaged parquet": (
        damaged_parquet,
        {},
        "{p}/a.parquet must be a complete Parquet file, got a damaged one; download or write it "
        "again",
    ),
    "damaged lines": (
        damaged_lines,
        {},
        "row must be JSON in UTF-8, got {p}/a.jsonl:2 (Expecting value); correct it, or pass "
        "--format text if it is no table",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_refused_folders(tmp_path, name):
    make, options, text = CASES[name]
    path = tmp_path / "set"
    make(path)
    with pytest.raises(ValueError) as error:
        list(open_data(path, **options))
    assert str(error.value) == text.format(p=path)
