"""Files of coded tokens: decoded elsewhere, refused if damaged, or by another scorer."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval import ScoreConfig
from eval.auditing.codec import coded_file
from eval.auditing.codec.audit_codec import audit_codec, decode_file
from eval.auditing.codec.coded_file import HEAD, MAGIC, CodedFile, digest_of
from eval.auditing.codec.token_stream import Layout
from tests.toy import ToyModel

pytest.importorskip("constriction")
TEXT = b"It was the best of times, it was the worst of times, it was the age of wisdom. " * 2
TOKENS = np.frombuffer(TEXT, np.uint8).astype(np.int64)


@pytest.fixture
def kept(tmp_path):
    """A file of tokens that the cache alone has coded."""
    path = tmp_path / "kept"
    report = audit_codec(tokens=TOKENS, keep=path)
    assert report.conditions["file_bytes"] == path.stat().st_size
    assert path.stat().st_size == HEAD.size + 8 + report.conditions["code_bytes"]
    return path


def refused(*arguments, **options):
    with pytest.raises(ValueError) as caught:
        decode_file(*arguments, **options)
    return str(caught.value)


def test_another_process_decodes_the_file(kept, tmp_path):
    program = f"""
import numpy as np
from eval.auditing.codec.audit_codec import decode_file
np.save({str(tmp_path / "tokens.npy")!r}, decode_file({str(kept)!r}))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert np.array_equal(np.load(tmp_path / "tokens.npy"), TOKENS)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=5),
    st.binary(max_size=40),
    st.data(),
)
def test_a_file_is_read_as_it_was_written(tmp_path_factory, documents, code, data):
    layout = Layout(*map(tuple, zip(*documents, strict=True)))
    n_tokens = data.draw(st.integers(1, layout.n_tokens))
    file = CodedFile(n_tokens, 10, layout, b"settings", b"surround", bytes(range(16)), code)
    path = tmp_path_factory.mktemp("files") / "file"
    assert coded_file.write(path, file) == path.stat().st_size
    assert coded_file.read(path) == file


def test_an_altered_byte_is_seen(kept):
    whole = kept.read_bytes()
    for i in range(len(whole)):
        kept.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        message = refused(kept)
        assert str(kept) in message
        assert "\n" not in message
    for cut in (whole[:3], whole[:40], whole[:70], whole[:-1], whole + b"\0"):
        kept.write_bytes(cut)
        assert str(kept) in refused(kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_tokens": 0}, "{} is damaged: 0 tokens of V = 256 do not fit its documents"),
        ({"n_tokens": 2**32 - 1}, "{} is damaged: 4294967295 tokens of V = 256 do not fit its"),
        ({"vocab_size": 0}, "{} is damaged: 158 tokens of V = 0 do not fit its documents"),
        ({"layout": Layout((158, 0), (0, 0))}, "{} is damaged: 158 tokens of V = 256 do not fit"),
        ({"layout": Layout((158,), (256,))}, "{} is damaged: 158 tokens of V = 256 do not fit"),
        ({"layout": Layout((2**32 - 1,), (0,))}, "{} is damaged: 158 tokens of V = 256 do not fit"),
        ({"code": b"\xff" * 9}, "decoded tokens must be those that were coded, got others from {}"),
        ({"code": b""}, "decoded tokens must be those that were coded, got others from {}"),
        ({"n_tokens": 157}, "decoded tokens must be those that were coded, got others from {}"),
        ({"settings": b"another!"}, "coded tokens must be decoded by the model and options that"),
    ],
)
def test_what_a_right_checksum_does_not_show_is_seen_too(kept, changes, message):
    coded_file.write(kept, replace(coded_file.read(kept), **changes))
    assert refused(kept).startswith(message.format(kept))


def test_what_is_no_file_of_coded_tokens_is_refused(kept, tmp_path, monkeypatch):
    raw = kept.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(b"NGRAMMIX" + raw[8:])
    assert refused(other) == (
        f"coded tokens must begin with NGRCODED, got b'NGRAMMIX' in {other}; "
        "is it a file of --keep?"
    )
    other.write_bytes(raw[:8] + b"\x02" + raw[9:])
    assert refused(other) == (
        f"coded tokens must be of version 1 with tables of 24 bits, got 2 with 24 in {other}; "
        "read it with the ngrammix that wrote it"
    )
    assert refused(tmp_path) == f"coded tokens must be a file, got {tmp_path}; check the path"
    monkeypatch.setattr(coded_file, "MAX_FILE", 100)
    assert refused(kept) == (
        f"coded tokens must have at most 100 bytes, got more in {kept}; is it a file of --keep?"
    )


def test_a_file_with_more_documents_than_bytes_is_refused(kept):
    raw = bytearray(kept.read_bytes())
    raw[20:24] = b"\xff" * 4  # the number of documents
    start, rest = bytes(raw[: HEAD.size - 8]), bytes(raw[HEAD.size :])
    kept.write_bytes(start + coded_file.check_of(start, rest) + rest)
    assert refused(kept) == (
        f"{kept} is damaged: it has no room for 4294967295 documents; use another copy, or code "
        "the tokens anew"
    )
    assert raw[:8] == MAGIC


OTHERS = [
    {"config": ScoreConfig(order=6)},
    {"config": ScoreConfig(memory_limit="4MiB")},
    {"vocab_size": 300},
    {"model": ToyModel()},
]


@pytest.mark.parametrize("options", OTHERS)
def test_other_options_are_refused(kept, options):
    message = refused(kept, **options)
    assert message.startswith(
        "coded tokens must be decoded by the model and options that coded them, got others for "
        f"{kept} (model "
    )
    assert message.endswith("); pass those of the encoder")


def test_another_model_is_refused(tmp_path):
    path = tmp_path / "kept"
    audit_codec(ToyModel(), TOKENS, keep=path)
    assert np.array_equal(decode_file(path, ToyModel()), TOKENS)
    changed = ToyModel()
    changed.name = "another"
    assert "got others" in refused(path, changed)
    for config in (ScoreConfig(mixer="none"), ScoreConfig(context=8), ScoreConfig(stride=2)):
        assert "got others" in refused(path, ToyModel(), config=config)


class Rounding(ToyModel):
    """The same model on another machine: its logits round otherwise."""

    def logits(self, tokens):
        return super().logits(tokens) * np.float32(1.001)


def test_a_machine_that_rounds_otherwise_is_told(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    audit_codec(ToyModel(), TOKENS, keep=path)
    message = f"decoded tokens must be those that were coded, got others from {path}; "
    assert refused(path, Rounding()) == message + "decode them by the scorer that coded them"
    monkeypatch.setattr(
        "eval.auditing.codec.subject.environment", lambda: {"versions": "1", "hardware": "another"}
    )
    assert refused(path, Rounding()) == (
        message + "use the versions, hardware and threads of the encoder: a model rounds by them"
    )


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    path = tmp_path / "missing" / "kept"
    with pytest.raises(ValueError) as caught:
        audit_codec(ToyModel(), TOKENS, keep=path)
    assert str(caught.value) == (
        f"coded tokens must go into a folder that exists, got {path}; make {path.parent} first"
    )


def test_the_digest_tells_tokens_apart():
    assert digest_of(TOKENS) == digest_of(TOKENS.copy()) != digest_of(TOKENS[::-1])
