"""Bombs: small files that hold gigabytes; as a program, reads them under small limits.

    python -m tests.faults.bombs FOLDER

prints, for each, the memory that its reader took beyond that of a small file, and what came of it.
The limits are a 64th of those of the readers, so that each bomb is read in less than a second.
"""

import gzip
import json
import lzma
import sys
from pathlib import Path

import zstandard

MAX_ROW, MAX_PARTS, MAX_MEMORY = 1 << 20, 1 << 14, 1 << 26
SIZE = 32 * MAX_ROW  # bytes of a row, unless it is told
FACE = "\U0001f600"  # makes each character of a text take four bytes


def press(content):
    return zstandard.ZstdCompressor(level=1).compress(content)


def one_row(text):
    return json.dumps({"text": text}, ensure_ascii=False).encode()


TEXTS = {
    "row.jsonl.zst": lambda: press(b'{"text": "' + b"a" * SIZE + b'"}\n'),
    "row.jsonl.xz": lambda: lzma.compress(b'{"text": "' + b"a" * SIZE + b'"}\n', preset=0),
    "deep.jsonl.zst": lambda: press(b"[" * SIZE),
    "lists.jsonl": lambda: b'{"text": "a", "x": [' + b"[]," * (MAX_ROW // 3 - 20) + b"[]]}\n",
    "objects.jsonl": lambda: b'{"text": "a", "x": [' + b"{}," * (MAX_ROW // 3 - 20) + b"{}]}\n",
    "wide.jsonl": lambda: one_row(FACE + "a" * (MAX_ROW - 100)),
    "escapes.jsonl": lambda: one_row(FACE + "\n" * (MAX_ROW // 2 - 100)),
    "row.json.zst": lambda: press(b'[{"text": "' + b"a" * SIZE + b'"}]'),
    "lists.json": lambda: b'[{"text": "a", "x": [' + b"[]," * (MAX_ROW // 3 - 20) + b"[]]}]",
    "wide.json": lambda: b"[" + one_row(FACE + "a" * (MAX_ROW - 100)) + b"]",
    "space.json.zst": lambda: press(b"[" + b" " * SIZE + b'{"text": "a"}]'),
    "cell.csv.zst": lambda: press(b'text\n"' + b"a" * SIZE + b'"\n'),
    "lines.csv.zst": lambda: press(b'text\n"' + b"a\n" * (SIZE // 8) + b'"\n'),
    "fields.csv.zst": lambda: press(b"text\n" + b"ab," * (SIZE // 3) + b"\n"),
    "fields.csv": lambda: b"text\n" + b"ab," * (MAX_ROW // 3 - 20) + b"\n",
    "columns.tsv": lambda: b"text" + b"\tab" * (MAX_ROW // 3 - 20) + b"\na\n",
    "field lines.csv.zst": lambda: press(b"text\n" + b'"\n",' * (SIZE // 4) + b"\n"),
    "wide.csv": lambda: f'text\n"{FACE}{"a" * (MAX_ROW - 100)}"\n'.encode(),
    "quotes.csv": lambda: f'text\n"{FACE}{chr(34) * (MAX_ROW // 2 * 2 - 100)}"\n'.encode(),
    "lines.txt.gz": lambda: gzip.compress(b"a\n" * (2 * SIZE), 1),
    "line.txt.zst": lambda: press(b"a" * (4 * SIZE)),
}


def parquet_of(column, **options):
    def write():
        import pyarrow
        from pyarrow import parquet

        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.table({"text": column()}), sink, compression="zstd", **options)
        return sink.getvalue().to_pybytes()

    return write


def arrow_of(column, kind):
    def write():
        import pyarrow
        from pyarrow import ipc

        sink, array = pyarrow.BufferOutputStream(), pyarrow.array(column(), pyarrow.large_string())
        options = ipc.IpcWriteOptions(compression="lz4")
        schema = pyarrow.schema([("text", array.type)])
        with getattr(ipc, f"new_{kind}")(sink, schema, options=options) as writer:
            writer.write_batch(pyarrow.record_batch([array], schema=schema))
        return sink.getvalue().to_pybytes()

    return write


def repeated():
    import pyarrow

    rows = pyarrow.array([0] * 4000, pyarrow.int32())
    return pyarrow.DictionaryArray.from_arrays(rows, pyarrow.array(["a" * MAX_ROW]))


TABLES = {
    "dictionary.parquet": parquet_of(repeated),  # 4 GB of text from one cell
    "rows.parquet": parquet_of(lambda: ["a" * MAX_ROW] * 200, use_dictionary=False),
    "cell.parquet": parquet_of(lambda: ["a" * (200 * MAX_ROW)], use_dictionary=False),
    "file.arrow": arrow_of(lambda: ["a" * MAX_ROW] * 200, "file"),
    "stream.arrow": arrow_of(lambda: ["a" * MAX_ROW] * 200, "stream"),
}


def read(path):
    """What comes of a file: its error, or the bytes that it has; the first GB of it."""
    from eval.data.open_data import open_data

    n_bytes = 0
    try:
        for document in open_data(str(path)):
            n_bytes += len(document.raw)
            if n_bytes > 1 << 30:
                break
    except ValueError as error:
        return f"error: {error}"
    return f"{n_bytes} bytes"


def peak():
    """Most bytes of memory of this process since the last call, or of a process that it started."""
    import resource

    from eval.data.table_process import close_all

    close_all()
    status = Path("/proc/self/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")  # begin anew
    return 1024 * own, 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def main(folder):
    """Read each bomb of the folder, after a small file of each kind."""
    from eval.data import columns

    columns.MAX_ROW, columns.MAX_PARTS = MAX_ROW, MAX_PARTS  # before others import them
    from eval.data import table_reader

    table_reader.MAX_MEMORY = MAX_MEMORY
    small = {*Path(folder).glob("small.*")}
    for path in small:
        read(path)
    base = peak()
    for path in sorted({*Path(folder).iterdir()} - small):
        text = read(path)
        own, child = (a - b for a, b in zip(peak(), base, strict=True))
        sys.stdout.write(json.dumps([path.name, own, child, text]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
