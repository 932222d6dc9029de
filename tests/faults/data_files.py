"""Small files of every format that data may have, as seeds of mutants."""

import bz2
import gzip
import io
import json
import lzma

import numpy as np
import pyarrow
import zstandard
from pyarrow import ipc, parquet

TEXTS = [f"text {i} " + "é" * (i % 5) for i in range(60)]
ROWS = [*TEXTS[:30], None, *TEXTS[30:]]
LINES = "".join(json.dumps({"text": t, "n": 1.5, "l": [1, {"a": None}]}) + "\n" for t in TEXTS)
CSV = "text,n\r\n" + "".join(f'"{t}, ""quoted""\n",1\r\n' for t in TEXTS)


def arrow(array, kind, compression=None):
    """A file or a stream of batches of 25 rows."""
    table, sink = pyarrow.table({"text": array, "n": pyarrow.array(range(61))}), io.BytesIO()
    options = ipc.IpcWriteOptions(compression=compression)
    with getattr(ipc, f"new_{kind}")(sink, table.schema, options=options) as writer:
        for batch in table.to_batches(max_chunksize=25):
            writer.write_batch(batch)
    return sink.getvalue()


def parquet_file(**options):
    """A file of several groups and pages."""
    nested = pyarrow.array([{"text": t, "l": [t]} for t in ROWS])
    sink = io.BytesIO()
    parquet.write_table(
        pyarrow.table({"text": pyarrow.array(ROWS), "m": nested}), sink, row_group_size=25,
        data_page_size=200, **options,
    )  # fmt: skip
    return sink.getvalue()


def npy(array):
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def shard():
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 300
    return header.tobytes() + np.arange(300, dtype="<u2").tobytes()


def seeds():
    """Content by the name of the file."""
    strings = {
        "string": pyarrow.array(ROWS),
        "large": pyarrow.array(ROWS, pyarrow.large_string()),
        "view": pyarrow.array(ROWS, pyarrow.string_view()),
        "dictionary": pyarrow.array(ROWS).dictionary_encode(),
        "null": pyarrow.nulls(61),
    }
    found = {
        f"{name}-{kind}.arrow": arrow(array, kind)
        for name, array in strings.items()
        for kind in ("file", "stream")
    }
    found |= {f"{c}-file.arrow": arrow(strings["string"], "file", c) for c in ("lz4", "zstd")}
    found |= {
        f"{c}.parquet": parquet_file(compression=c)
        for c in ("none", "snappy", "gzip", "zstd", "lz4", "brotli")
    }
    found["plain.parquet"] = parquet_file(use_dictionary=False, write_page_checksum=True)
    found["v2.parquet"] = parquet_file(data_page_version="2.0", use_dictionary=False)
    lines = LINES.encode()
    found |= {
        "a.jsonl": lines,
        "a.json": b"[" + lines.strip().replace(b"\n", b",") + b"]",
        "a.csv": CSV.encode(),
        "a.tsv": CSV.replace(",", "\t").encode(),
        "a.txt": "\n".join(TEXTS).encode(),
        "a.jsonl.gz": gzip.compress(lines),
        "a.jsonl.xz": lzma.compress(lines),
        "a.jsonl.bz2": bz2.compress(lines),
        "a.csv.zst": zstandard.ZstdCompressor().compress(CSV.encode()),
        "a.npy": npy(np.arange(300)),
        "b.npy": npy(np.arange(300, dtype=">u2")),
        "a.bin": shard(),
    }
    return found
