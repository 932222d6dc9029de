"""CsvWriter: csv reads back what was scored; a resumed file equals the uninterrupted one."""

import csv
import hashlib
import json
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.scoring.csv_cells import to_cell
from eval.scoring.csv_writer import CsvWriter
from eval.scoring.metrics import Scored

ALL = {"has_model": True, "has_cache": True, "has_match": True}
FILES = ("tokens.csv", "documents.csv")
TOKEN_BYTES = [b"a", b"", b",", b'"', b"\r\n", b"\n", b" ", b"%s", b"\xff", "é".encode(), b"\0"]


def make_run(seed, lengths):
    """(scored, bytes of each token, names) of documents of so many tokens."""
    rng = np.random.default_rng(seed)
    n_tokens = sum(lengths)
    tokens = rng.integers(0, len(TOKEN_BYTES), n_tokens)
    decoded = [TOKEN_BYTES[token] for token in tokens]
    begins = np.zeros(n_tokens, np.bool_)
    begins[np.cumsum([0, *lengths])[:-1]] = True
    scored = Scored(
        tokens=tokens, n_bytes=np.array([len(raw) for raw in decoded]), begins=begins,
        nats=rng.exponential(1, n_tokens), nats_model=rng.exponential(2, n_tokens),
        nats_cache=rng.exponential(3, n_tokens), matched_order=rng.integers(1, 8, n_tokens),
    )  # fmt: skip
    return scored, decoded, [f'a,"b".txt:{i}' for i in range(len(lengths))]


def write(csv_writer, run, start, stop):
    """Write tokens start..stop - 1 of a run."""
    scored, decoded, names = run
    first = scored.begins[:start].sum()
    csv_writer.write(
        Scored(**{
            name: None if column is None else column[start:stop]
            for name, column in vars(scored).items()
        }),
        b"".join(decoded[start:stop]),
        names[first : first + scored.begins[start:stop].sum()],
    )  # fmt: skip


def write_all(folder, run, **options):
    folder.mkdir(exist_ok=True)
    with CsvWriter(folder, **(options or ALL)) as csv_writer:
        write(csv_writer, run, 0, len(run[1]))
        csv_writer.finish()


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def contents(folder, suffix=""):
    """Bytes of the files; with the suffix ".part" as they grow."""
    return [(folder / f"{name}{suffix}").read_bytes() for name in FILES]


def test_csv_reads_back_every_token(tmp_path):
    scored, decoded, _ = run = make_run(0, [30, 1, 200])
    write_all(tmp_path, run)
    rows = read(tmp_path / "tokens.csv")
    offset = np.concatenate([np.cumsum([0, *scored.n_bytes[a:b]])[:-1] for a, b in
                            ((0, 30), (30, 31), (31, 231))])  # fmt: skip
    assert [list(row.values()) for row in rows] == [
        [
            str(i), str(0 if i < 30 else 1 if i < 31 else 2), str(offset[i]), str(len(decoded[i])),
            str(scored.tokens[i]), to_cell(decoded[i]),
            str(scored.matched_order[i]), f"{scored.nats_model[i] / log(2):.6f}",
            f"{scored.nats_cache[i] / log(2):.6f}", f"{scored.nats[i] / log(2):.6f}",
        ]
        for i in range(231)
    ]  # fmt: skip
    assert list(rows[0]) == [
        "position", "document", "byte", "bytes", "token", "text", "matched_order", "bits_model",
        "bits_cache", "bits",
    ]  # fmt: skip


def test_csv_reads_back_every_document(tmp_path):
    scored, _, names = run = make_run(1, [30, 1, 200])
    scored.n_bytes[30], run[1][30] = 0, b""
    write_all(tmp_path, run)
    expected = []
    for i, (start, stop) in enumerate([(0, 30), (30, 31), (31, 231)]):
        n_bytes = scored.n_bytes[start:stop].sum()
        bits = [
            column[start:stop].sum() / log(2)
            for column in (scored.nats_model, scored.nats_cache, scored.nats)
        ]
        bpb = [f"{cost / n_bytes:.6f}" if n_bytes else "" for cost in (bits[0], bits[2])]
        sizes = [str(stop - start), str(n_bytes)]
        expected.append([str(i), names[i], *sizes, *(f"{cost:.6f}" for cost in bits), *bpb])
    rows = read(tmp_path / "documents.csv")
    assert [list(row.values()) for row in rows] == expected
    assert list(rows[0]) == [
        "document", "name", "tokens", "bytes", "bits_model", "bits_cache", "bits", "bpb_model",
        "bpb",
    ]  # fmt: skip


def test_the_first_lines_of_the_files(tmp_path):
    scored = Scored(
        tokens=np.array([5, 6]), n_bytes=np.array([2, 1]), begins=np.array([True, False]),
        nats=np.array([log(2), 0]), nats_cache=np.array([log(2), 0]),
        matched_order=np.array([0, 1]),
    )  # fmt: skip
    with CsvWriter(tmp_path, has_cache=True, has_match=True) as csv_writer:
        csv_writer.write(scored, b",\xff\n", ["x"])
        csv_writer.finish()
    assert contents(tmp_path) == [
        b"position,document,byte,bytes,token,text,matched_order,bits_cache,bits\r\n"
        b'0,0,0,2,5,",\\xff",0,1.000000,1.000000\r\n'
        b'1,0,2,1,6,"\'\n",1,0.000000,0.000000\r\n',
        b"document,name,tokens,bytes,bits_cache,bits,bpb\r\n0,x,2,3,1.000000,1.000000,0.333333\r\n",
    ]


def test_what_a_run_does_not_have_is_no_column(tmp_path):
    write_all(tmp_path, make_run(2, [4]), has_model=True)
    assert list(read(tmp_path / "tokens.csv")[0])[5:] == ["text", "bits_model", "bits"]
    write_all(tmp_path, make_run(2, [4]), has_model=False)
    assert list(read(tmp_path / "documents.csv")[0])[4:] == ["bits", "bpb"]


def test_text_that_nobody_knows_is_left_empty(tmp_path):
    scored, _, names = make_run(3, [4])
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        csv_writer.write(scored, None, names)
        csv_writer.finish()
    rows = read(tmp_path / "tokens.csv")
    assert [row["text"] for row in rows] == [""] * 4
    assert [row["bytes"] for row in rows] == [str(n) for n in scored.n_bytes]


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6), st.floats(0, 1), st.floats(0, 1),
    st.integers(0, 99),
)  # fmt: skip
def test_a_killed_and_resumed_run_leaves_the_same_files(tmp_path_factory, lengths, a, b, seed):
    folder = tmp_path_factory.mktemp("csv")
    run, n_tokens = make_run(seed, lengths), sum(lengths)
    write_all(folder, run)
    expected = contents(folder)
    checkpoint, killed = sorted([int(a * n_tokens), int(b * n_tokens)])
    with CsvWriter(folder, **ALL) as csv_writer:
        write(csv_writer, run, 0, checkpoint)
        state = json.dumps(csv_writer.state_dict())
        write(csv_writer, run, checkpoint, killed)
    with CsvWriter(folder, **ALL, state=json.loads(state)) as csv_writer:
        write(csv_writer, run, checkpoint, n_tokens)
        csv_writer.finish()
    assert contents(folder) == expected


def test_a_state_is_true_of_the_files_as_they_lie(tmp_path):
    run = make_run(4, [5, 5])
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 7)
        files = csv_writer.state_dict()["files"]
        for name, content in zip(("tokens", "documents"), contents(tmp_path, ".part"), strict=True):
            digest = hashlib.sha256(content).hexdigest()
            assert files[name] == {"length": len(content), "sha256": digest}


def test_what_was_written_after_the_checkpoint_is_cut_off(tmp_path):
    run = make_run(4, [5, 5])
    write_all(tmp_path / "whole", run)
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 3)
        state = csv_writer.state_dict()
        write(csv_writer, run, 3, 10)
        csv_writer.finish()
    # The rows of a run that had ended are continued in a copy: its own files stay until then.
    with CsvWriter(tmp_path, **ALL, state=state) as csv_writer:
        write(csv_writer, run, 3, 7)
        assert contents(tmp_path) == contents(tmp_path / "whole")
        write(csv_writer, run, 7, 10)
        assert contents(tmp_path, ".part") != contents(tmp_path)  # without the last document
        csv_writer.finish()
    assert contents(tmp_path) == contents(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "whole"])


@pytest.mark.parametrize("at", [0, 7])
def test_other_names_of_the_rows_keep_their_content(tmp_path, at):
    run = make_run(4, [5, 5])
    write_all(tmp_path / "whole", run)
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 7)
        state = csv_writer.state_dict()
    for name in FILES:
        (tmp_path / f"kept {name}").hardlink_to(tmp_path / f"{name}.part")
    kept = [path.read_bytes() for path in sorted(tmp_path.glob("kept*"))]
    with CsvWriter(tmp_path, **ALL, state=state if at else None) as csv_writer:
        write(csv_writer, run, at, 10)
        csv_writer.finish()
    assert contents(tmp_path) == contents(tmp_path / "whole")
    assert [path.read_bytes() for path in sorted(tmp_path.glob("kept*"))] == kept


def test_nothing_is_touched_before_the_first_rows(tmp_path):
    write_all(tmp_path, make_run(1, [3]))
    before = contents(tmp_path)
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        state = csv_writer.state_dict()
    assert (contents(tmp_path), len(list(tmp_path.iterdir()))) == (before, 2)
    run = make_run(2, [4])
    with CsvWriter(tmp_path, **ALL, state=json.loads(json.dumps(state))) as csv_writer:
        write(csv_writer, run, 0, 3)
        assert contents(tmp_path) == before
        write(csv_writer, run, 3, 4)
        csv_writer.finish()
    write_all(tmp_path / "whole", run)
    assert contents(tmp_path) == contents(tmp_path / "whole")


def test_links_are_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    for name in FILES:
        (tmp_path / name).symlink_to(precious)
        (tmp_path / f"{name}.part").symlink_to(precious)
    run = make_run(2, [4])
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 4)
        state = csv_writer.state_dict()
    for name in FILES:  # as somebody may do while no run is there
        path = tmp_path / f"{name}.part"
        path.rename(tmp_path / f"moved {name}")
        path.symlink_to(tmp_path / f"moved {name}")
    with pytest.raises(ValueError, match=r"must have the \d+ bytes of the checkpoint, got 0"):
        CsvWriter(tmp_path, **ALL, state=state)
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 4)
        csv_writer.finish()
    assert not any((tmp_path / name).is_symlink() for name in FILES)
    assert precious.read_bytes() == b"precious"


def test_parts_that_are_gone_leave_the_old_files(tmp_path):
    write_all(tmp_path, make_run(1, [3]))
    before, run = contents(tmp_path), make_run(2, [4])
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 4)
        (tmp_path / "tokens.csv.part").unlink()
        with pytest.raises(ValueError) as error:
            csv_writer.finish()
    assert str(error.value) == (
        f"results must become a file, got {tmp_path / 'tokens.csv'}, which cannot be written: No "
        "such file or directory; put its folder back"
    )
    assert contents(tmp_path) == before


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path):
    scored, decoded, _ = make_run(5, [3])
    name = b"caf\xe9.txt".decode("utf-8", "surrogateescape")  # as a path of the system comes
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        csv_writer.write(scored, b"".join(decoded), [name])
        state = json.loads(json.dumps(csv_writer.state_dict()))
    with CsvWriter(tmp_path, **ALL, state=state) as csv_writer:
        csv_writer.finish()
    assert read(tmp_path / "documents.csv")[0]["name"] == "caf\\xe9.txt"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [None, 3])
def test_files_shorter_than_their_checkpoint_are_refused(tmp_path, name, size):
    run = make_run(6, [5, 5])
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 7)
        state = csv_writer.state_dict()
    part = tmp_path / f"{name}.part"
    part.unlink()
    if size is not None:
        part.write_bytes(b"abc")
    other = tmp_path / f"{next(other for other in FILES if other != name)}.part"
    with other.open("ab") as file:
        file.write(b"written later")
    before = other.read_bytes()
    with pytest.raises(ValueError) as error:
        CsvWriter(tmp_path, **ALL, state=state)
    length = state["files"][name.removesuffix(".csv")]["length"]
    assert str(error.value) == (
        f"CSV files must have the {length} bytes of the checkpoint, got {size or 0} in "
        f"{part if size else tmp_path / name}; put the file back, or start again without the "
        "checkpoint"
    )
    assert other.read_bytes() == before


@pytest.mark.parametrize("name", FILES)
def test_the_files_of_another_run_are_not_gone_on_with(tmp_path, name):
    run = make_run(6, [5, 5])
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        write(csv_writer, run, 0, 7)
        state = csv_writer.state_dict()
        write(csv_writer, run, 7, 10)
        csv_writer.finish()
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1] + b"!")  # after the checkpoint: cut off
    CsvWriter(tmp_path, **ALL, state=state).close()
    other = path.read_bytes().replace(b"0", b"1", 1) + b"written later"
    path.write_bytes(other)
    with pytest.raises(ValueError) as error:
        CsvWriter(tmp_path, **ALL, state=state)
    assert str(error.value) == (
        f"--out must hold the files of the checkpoint, got others' in {path}; pass the --out that "
        "the run began with, or start again without the checkpoint"
    )
    assert path.read_bytes() == other


@pytest.mark.parametrize("had", [True, False])
def test_tokens_are_written_from_the_beginning_or_never(tmp_path, had):
    with CsvWriter(tmp_path, **ALL, has_tokens=had) as csv_writer:
        write(csv_writer, make_run(6, [5, 5]), 0, 7)
        state = csv_writer.state_dict()
    assert (tmp_path / "tokens.csv.part").exists() == had
    with pytest.raises(ValueError) as error:
        CsvWriter(tmp_path, **ALL, has_tokens=not had, state=state)
    here, there = ("none", "--tokens") if had else ("--tokens", "none")
    assert str(error.value) == (
        f"a run must go on with the --tokens it began with, got {here} where the checkpoint has "
        f"{there}; pass the same, or delete the checkpoint"
    )


def test_documents_do_not_depend_on_whether_tokens_are_written(tmp_path):
    written = []
    for has_tokens in (True, False):
        with CsvWriter(tmp_path, **ALL, has_tokens=has_tokens) as csv_writer:
            for start, stop in ((0, 3), (3, 7), (7, 20)):
                write(csv_writer, make_run(7, [5, 3, 12]), start, stop)
            csv_writer.finish()
        written.append((tmp_path / "documents.csv").read_bytes())
    assert written[0] == written[1]


def test_bytes_and_names_must_fit_the_tokens(tmp_path):
    scored, decoded, names = run = make_run(7, [5, 5])
    raw = b"".join(decoded)
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        with pytest.raises(ValueError) as error:
            csv_writer.write(scored, raw + b"!", names)
        assert str(error.value) == (
            f"raw bytes must be as many as the tokens stand for, got {len(raw) + 1} for {len(raw)} "
            "in the 10 tokens from 0 on; the tokenizer does not encode this text losslessly"
        )
        with pytest.raises(ValueError) as error:
            csv_writer.write(scored, raw, names[:1])
        assert str(error.value) == (
            "names must be as many as the documents that begin, got 1 for 2 in the 10 tokens from "
            "0 on; name each one"
        )
        write(csv_writer, run, 0, 10)
        csv_writer.finish()
    assert len(read(tmp_path / "tokens.csv")) == 10


def test_a_missing_column_is_named_before_anything_is_written(tmp_path):
    scored, decoded, names = make_run(8, [5, 5])
    with CsvWriter(tmp_path, **ALL) as csv_writer:
        before = csv_writer.state_dict()
        with pytest.raises(ValueError) as error:
            csv_writer.write(
                Scored(**(vars(scored) | {"matched_order": None})), b"".join(decoded), names
            )
        assert str(error.value) == (
            "tokens must come with matched_order, got None; pass it, or ask for no figures of it"
        )
        assert csv_writer.state_dict() == before
