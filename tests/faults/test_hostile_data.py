"""Data of every format, damaged in any way: read, or one line that names the file."""

import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import ipc, parquet

from eval.comparing.sources import SavedSource
from eval.data import table_process
from eval.data.arrays import open_logits
from eval.data.open_data import open_data
from tests.faults.data_files import seeds
from tests.faults.mutants import byte_mutants, chosen, json_mutants

N, SEED = chosen(12)  # of each file
SEEDS = seeds()
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


def outcome(*paths, **options):
    """The bytes or tokens that are read, or the error; bad rows are left out."""
    try:
        documents = list(open_data(list(map(str, paths)), on_bad_row="skip", **options))
    except ValueError as caught:
        error = caught
    else:
        return [d.tokens.tolist() if d.raw is None else d.raw for d in documents]
    assert type(error).__module__.partition(".")[0] in ("builtins", "eval"), repr(error)
    assert not isinstance(error, UnicodeError)
    assert "\n" not in str(error).replace(str(paths[0]), "")
    assert str(paths[0]) in str(error)
    return error


@pytest.mark.parametrize("name", SEEDS)
def test_mutants_are_read_or_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(SEEDS[name])
    has_text = not name.startswith("null")
    assert isinstance(outcome(path), list) == has_text
    for mutant in byte_mutants(SEEDS[name], SEED, N):
        path.write_bytes(mutant)
        started = time.monotonic()
        outcome(path)
        assert time.monotonic() - started < 20


def test_mutants_of_a_saved_data_set_are_read_or_refused_in_one_line(tmp_path):
    path = tmp_path / "set"
    (path / "train").mkdir(parents=True)
    files = {
        path / "dataset_dict.json": {"splits": ["train"]},
        path / "train" / "state.json": {
            "_data_files": [{"filename": "data.arrow"}], "_fingerprint": "1", "_split": "train",
        },
        path / "train" / "dataset_info.json": {"features": {"text": {"dtype": "string"}}},
    }  # fmt: skip
    (path / "train" / "data.arrow").write_bytes(SEEDS["string-stream.arrow"])
    for file, value in files.items():
        file.write_text(json.dumps(value))
    assert len(outcome(path)) == 60
    for file, value in files.items():
        for mutant in json_mutants(value, SEED, 5 * N):
            with suppress(RecursionError):  # deeper than json writes
                file.write_text(json.dumps(mutant))
            outcome(path)
        file.write_text(json.dumps(value))


def header(text, version=(1, 0)):
    raw = text if isinstance(text, bytes) else text.encode("latin-1")
    size = struct.pack("<H" if version == (1, 0) else "<I", len(raw))
    return b"\x93NUMPY" + bytes(version) + size + raw + np.arange(8).tobytes()


HEADERS = {
    "huge": "{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427387904,)}",
    "beyond": "{'descr': '<i8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
    "negative": "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (8,)}",
    "records": "{'descr': [('a', '<i8')], 'fortran_order': False, 'shape': (8,)}",
    "fractions": "{'descr': '<i8', 'fortran_order': False, 'shape': (8.0,)}",
    "many axes": f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({'1,' * 99})}}",
    "digits": f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({'9' * 5000},)}}",
    "nothing": "",
    "deep": "(" * 5000,
    "signs": "-" * 9000 + "1",
    "no shape": "{'descr': '<i8', 'fortran_order': False}",
    "long": "{'descr': '<i8', 'fortran_order': False, 'shape': (8,)}" + " " * 60_000,
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0), (9, 9)])
def test_headers_of_arrays_are_refused(tmp_path, name, version):
    path = tmp_path / "a.npy"
    path.write_bytes(header(HEADERS[name] + "\n", version))
    assert isinstance(outcome(path), ValueError)
    with pytest.raises(ValueError) as error:
        open_logits(path)
    assert str(path) in str(error.value)


def test_bytes_after_an_array_are_refused(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(SEEDS["a.npy"] + b"\0")
    assert str(outcome(path)) == (
        f"tokens must end with the array, got 1 bytes after it in {path}; save one array with "
        "numpy.save"
    )


def test_folders_of_hostile_files(tmp_path):
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "a.txt").write_text("text")
    os.mkfifo(folder / "b.txt")  # nobody ever writes to it
    (folder / "c.jsonl").mkdir()
    for link, target in {"d": ".", "e": ".", "f": "f", "g.txt": "/dev/zero", "h.txt": "x"}.items():
        (folder / link).symlink_to(target)
    for pattern in (folder, f"{folder}/*", f"{folder}/**", f"{folder}/**/*.txt"):
        assert outcome(pattern) == [b"text"]


@pytest.mark.parametrize("name", [n for n in SEEDS if not n.startswith("null")])
def test_a_name_may_be_no_text_at_all(tmp_path, name):
    path = tmp_path / os.fsdecode(b"\xff\n\x1b" + name.encode())
    path.write_bytes(SEEDS[name])
    assert isinstance(outcome(path), list)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_no_file_can_have(name):
    shown = name.encode("unicode_escape").decode()
    with pytest.raises(ValueError) as error:
        open_data(name)
    assert str(error.value) == (
        f"data must be names of files, got {shown}, which none can have; correct it"
    )


def test_a_token_file_that_shrinks_while_it_is_read(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros(3 << 20, np.int64))
    documents = iter(open_data(path))
    next(documents)
    os.truncate(path, 1 << 20)
    with pytest.raises(ValueError) as error:
        list(documents)
    assert str(error.value) == (
        f"data must stay as they are while they are read, got {1 << 20} bytes instead of "
        f"{(3 << 23) + 128} in {path}; write to another file"
    )


def test_saved_logits_that_shrink_while_they_are_compared(tmp_path):
    logits, tokens = tmp_path / "logits.npy", tmp_path / "tokens.npy"
    np.save(logits, np.zeros((1 << 12, 1 << 12), np.float16))
    np.save(tokens, np.zeros(1 << 12, np.int64))
    source = SavedSource(logits, tokens)
    rows = source.rows()
    next(rows)
    os.truncate(logits, 1 << 12)
    with pytest.raises(ValueError) as error:
        list(rows)
    assert str(error.value) == (
        "data must stay as they are while they are read, got 4096 bytes instead of "
        f"{(1 << 25) + 128} in {logits}; write to another file"
    )


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_two_names_of_one_file_are_refused(tmp_path, link):
    folder = tmp_path / "f"
    folder.mkdir()
    first, second = folder / "a.txt", folder / "b.txt"
    first.write_text("text")
    link(first, second)
    for paths in ([first, second], [folder]):
        with pytest.raises(ValueError) as error:
            open_data([str(path) for path in paths])
        assert str(error.value) == (
            f"data must name each file once, got {first} and {second}; leave one out, or its bytes "
            "count twice"
        )


def test_an_arrow_file_that_shrinks_ends_its_process_alone(tmp_path):
    path = tmp_path / "a.arrow"
    table = pyarrow.table({"text": ["word " * 2000] * 4000})
    with ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=500)
    documents = iter(open_data(path))
    next(documents)
    os.truncate(path, 1 << 16)
    with pytest.raises(ValueError) as error:
        list(documents)
    start = f"{path} must be complete Arrow data, got a damaged one, whose decoder ended with "
    assert str(error.value).startswith(start + "SIGBUS after row ")


def test_flipped_bits_of_a_page_with_a_checksum_are_found(tmp_path):
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": ["word" * 500]})
    options = {"use_dictionary": False, "compression": "none", "write_page_checksum": True}
    options["write_statistics"] = False  # these have no checksum
    parquet.write_table(table, path, **options)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"wordword", b"wordlord", 1))
    assert str(outcome(path)) == (
        f"{path} must be a complete Parquet file, got a damaged one; download or write it again"
    )


def processes():
    return len(table_process._running)


def test_a_process_is_used_again_and_ends_with_its_reader(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(SEEDS["zstd.parquet"])
    table_process.close_all()
    for _ in range(3):
        assert len(outcome(path)) == 60
    assert processes() == 1
    first, second = (iter(open_data(path, on_bad_row="skip")) for _ in range(2))
    assert [next(first).raw, next(second).raw] == [b"text 0 "] * 2  # two at once
    assert processes() == 2
    del first, second
    assert processes() == 0  # in the middle of a file nothing else can be asked
    assert len(outcome(path)) == 60


def test_a_process_that_is_killed_is_an_error_and_the_next_file_is_read(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["word " * 2000] * 2000}), path)
    documents = iter(open_data(path))
    next(documents)
    table_process._running[-1]._process.send_signal(signal.SIGKILL)
    with pytest.raises(ValueError, match="whose decoder ended with SIGKILL after row "):
        list(documents)
    assert len(outcome(path)) == 2000


def test_a_process_that_ends_while_it_waits_is_replaced(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(SEEDS["zstd.parquet"])
    table_process.close_all()
    assert len(outcome(path)) == 60
    waiting = table_process._idle[0]._process
    waiting.kill()
    waiting.wait()
    assert len(outcome(path)) == 60
    assert processes() == 1


def test_a_process_that_cannot_run_is_an_error(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    path.write_bytes(SEEDS["zstd.parquet"])
    table_process.close_all()
    monkeypatch.setattr(table_process, "PROGRAM", "raise MemoryError")
    assert str(outcome(path)) == (
        f"{path} must be decoded by a process of its own, which cannot run (status 1); free some "
        "memory, then try again"
    )
    assert processes() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits are those of Linux")
def test_a_limit_of_the_user_is_no_damage(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(SEEDS["zstd.parquet"])
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (1 << 29, 1 << 29));"
        "import sys; from eval.data.open_data import open_data;"
        "print(sum(1 for _ in open_data(sys.argv[1], on_bad_row='skip')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=60,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("60\n", "")


def test_a_relative_name_after_a_change_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(SEEDS["zstd.parquet"])
    outcome(tmp_path / "a.parquet")  # starts a process in another folder
    monkeypatch.chdir(tmp_path)
    assert len(outcome("a.parquet")) == 60


THROUGH_A_PIPE = """
import sys, time
from eval.data.open_data import open_data
try:
    print(sum(len(d.raw) for d in open_data("-", column=sys.argv[1], on_bad_row="skip")))
except ValueError as error:
    print(error)
"""


def stream_of(texts):
    table, sink = pyarrow.table({"text": texts}), pyarrow.BufferOutputStream()
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("column", ["text", "missing"])
def test_a_stream_of_arrow_comes_through_a_pipe(column):
    content = stream_of(["word " * 200] * 500)
    with subprocess.Popen(
        [sys.executable, "-c", THROUGH_A_PIPE, column], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    ) as reader:  # fmt: skip
        timer = threading.Timer(60, reader.kill)
        timer.start()
        with suppress(BrokenPipeError):  # the other end may have seen enough
            reader.stdin.write(content[:200_000])
            reader.stdin.flush()
        if column == "missing":  # the pipe stays open: the error does not wait for its end
            assert reader.stdout.readline().decode() == (
                "data must have column missing, got text in standard input; name the column of the "
                "text with --column\n"
            )
        else:
            reader.stdin.write(content[200_000:])
            reader.stdin.close()
            assert int(reader.stdout.read()) == 500_000
        with suppress(BrokenPipeError):
            reader.stdin.close()
        assert reader.wait() == 0
        assert reader.stderr.read() == b""
        timer.cancel()


def test_a_compressed_stream_of_arrow_is_read_and_its_end_is_missed(tmp_path):
    path = tmp_path / "a.arrow.gz"
    content = gzip.compress(stream_of(["word " * 2000] * 3000), 1)
    path.write_bytes(content)
    assert sum(map(len, outcome(path))) == 30_000_000
    path.write_bytes(content[:-5000])
    assert "must be a complete gzip file" in str(outcome(path))


def test_a_fork_cannot_read_on(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["word " * 2000] * 2000}), path)
    code = f"""
import os
from eval.data.open_data import open_data
documents = iter(open_data({str(path)!r}))
next(documents)
if os.fork() == 0:
    try:
        list(documents)
    except ValueError as error:
        print(error, flush=True)
    print(len(list(open_data({str(path)!r}))), flush=True)
    os._exit(0)
os.wait()
print(len(list(documents)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60,
        env=ENVIRONMENT,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "data must be read on by the process that began, got a fork of it; iterate anew",
        "2000",
        "1999",
    ]
    assert done.stderr == ""


def test_a_reader_that_is_killed_leaves_no_process(tmp_path):
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"text": ["word " * 2000] * 2000}), path)
    code = f"""
import time
from eval.comparing.sources import SavedSource
from eval.data import table_process
from eval.data.open_data import open_data
documents = iter(open_data({str(path)!r}))
next(documents)
print(table_process._running[0]._process.pid, flush=True)
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as reader:
        process = Path("/proc") / reader.stdout.readline().strip()
        if not Path("/proc/self").exists():
            pytest.skip("reads /proc")
        assert process.exists()
        reader.kill()
    for _ in range(100):
        if not process.exists() or "zombie" in (process / "status").read_text():
            return
        time.sleep(0.1)
    pytest.fail("the process is still there")
