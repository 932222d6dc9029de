"""The bytes of tokens: every known bug is planted and named, and no honest tokenizer is accused."""

import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eval import Document, Documents, audit_bytes, load_tokenizer
from eval.demo.model import TOKENIZER_PATH
from eval.tokenizers.byte_level import PATTERNS
from tests.tokenizers.test_byte_level import SAMPLE, Encoding, small_ranks

TEXT = "The café in 你好 Zürich costs 3 € and it is naïve of the owner to say that 😀 they pay"
HONEST = {
    "ascii": "hello world", "accents": "café naïve", "cjk": "你好、世界", "emoji": "😀👨‍👩‍👧 x",
    "controls": "a\x01b\x00c\x7f", "crlf": "a\r\nb\r\n", "tabs": "a\tb\t\tc", "spaces": "a  b   c",
    "empty": "", "combining": "\u0301x e\u0301", "begins with spaces": "  begins", "ends": "ends  ",
    "lines": "a\n\nb\n", "nbsp": "a\u00a0b", "zero width": "a\u200bb", "bom": "\ufeffa",
    "ligature": "ﬁ x²", "replacement": "a\ufffdb", "only spaces": "   ", "blank": " ",
    "special": "<s></s><|endoftext|><unk>", "private": "\ue001a",
}  # fmt: skip


def sentencepiece(rule="identity", *, text=(TEXT, SAMPLE), **options):
    """A trained SentencePiece model with a token for every byte."""
    library = pytest.importorskip("sentencepiece")
    content = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter([line for part in text for line in part.split("\n")] * 20),
        model_writer=content, vocab_size=400, hard_vocab_limit=False, byte_fallback=True,
        normalization_rule_name=rule, minloglevel=3, model_type="bpe", character_coverage=0.98,
        **({"remove_extra_whitespaces": False} | options),
    )  # fmt: skip
    processor = library.SentencePieceProcessor()
    processor.LoadFromSerializedProto(content.getvalue())
    return load_tokenizer(processor)


@pytest.fixture(scope="module")
def pieces():
    """SentencePiece without a space before the text."""
    return sentencepiece(add_dummy_prefix=False)


@pytest.fixture(scope="module")
def prefixed():
    """SentencePiece with a space before the text."""
    return sentencepiece()


@pytest.fixture(scope="module")
def encoding():
    """Tokens of tiktoken."""
    return load_tokenizer(Encoding(small_ranks(), PATTERNS["gpt2"], {"<|endoftext|>": 400}))


@pytest.fixture(scope="module")
def honest(pieces, prefixed, encoding):
    return {
        "bytes": "bytes", "demo": load_tokenizer(TOKENIZER_PATH), "sentencepiece": pieces,
        "prefixed": prefixed, "tiktoken": encoding,
    }  # fmt: skip


def sizes_of(tokenizer):
    """The right table: the bytes of each id, by the tokenizer's own decoding of one token."""
    tokenizer = load_tokenizer(tokenizer)
    n = tokenizer.vocab_size
    return np.array([len(tokenizer.decode_bytes(np.array([i]))) for i in range(n)])


def arrays_of(tokenizer):
    """The three arrays of Parameter Golf: bytes without the space, whether one, boundaries."""
    sizes, space = sizes_of(tokenizer), np.zeros(tokenizer.vocab_size, bool)
    for i in range(tokenizer.vocab_size):
        space[i] = tokenizer.decode_bytes(np.array([i])).startswith(b" ")
    return sizes - space, space, tokenizer.table.boundary


def only(report, name=None):
    """The one finding of a report, which must name the bug."""
    assert report.verdict == "guilty"
    assert len(report.findings) == 1, [finding.message for finding in report.findings]
    (finding,) = report.findings
    assert finding.condition == "bytes"
    assert finding.witness.kind == "bytes"
    assert finding.witness.numbers[0] != finding.witness.numbers[1]
    assert name is None or name in finding.message, finding.message
    return finding


def ids(tokenizer, text):
    return tokenizer.encode(Document("x", text.encode()))[0].tolist()


# ---------------------------------------------------------------------------- honest tokenizers


@pytest.mark.parametrize("name", ["bytes", "demo", "sentencepiece", "prefixed", "tiktoken"])
def test_an_honest_tokenizer_is_legal_on_every_kind_of_text(honest, name):
    tokenizer = honest[name]
    for text in HONEST.values():
        report = audit_bytes(tokenizer, text)
        assert report.verdict == "legal", (text, report.findings)
    report = audit_bytes(tokenizer, list(HONEST.values()))
    assert report.verdict == "legal"
    assert report.conditions["documents"] == len(HONEST)
    assert report.conditions["bytes"] == sum(len(text.encode()) for text in HONEST.values())
    if name != "prefixed":
        assert audit_bytes(tokenizer, list(HONEST.values()), sizes_of(tokenizer)).verdict == "legal"


@settings(max_examples=60)
@given(text=st.text(max_size=60), data=st.data())
def test_no_honest_tokenizer_is_accused_and_any_wrong_entry_is(honest, text, data):
    name = data.draw(st.sampled_from(sorted(honest)))
    tokenizer = load_tokenizer(honest[name])
    assume("\u2581" not in text)
    assert audit_bytes(tokenizer, text).verdict == "legal"
    if name == "prefixed":
        assert audit_bytes(tokenizer, text, arrays_of(tokenizer)).verdict == "legal"
        return
    table = sizes_of(tokenizer)
    assert audit_bytes(tokenizer, text, table).verdict == "legal"
    tokens = ids(tokenizer, text)
    assume(tokens)
    wrong = table.astype(float)
    i = data.draw(st.sampled_from(tokens))
    wrong[i] += data.draw(st.sampled_from([1, -1, 2, 5, 0.5, 1e9, np.nan, np.inf, -np.inf]))
    report = audit_bytes(tokenizer, text, wrong)
    assert report.verdict == "guilty"
    assert all(i in finding.witness.tokens for finding in report.findings)
    smallest = report.findings[0].witness
    assert smallest.text in text or len(smallest.text) <= len(text)


@settings(max_examples=30)
@given(text=st.text(max_size=40), more=st.integers(1, 3))
def test_bytes_that_are_moved_between_tokens_are_right_only_if_given_token_by_token(
    encoding, text, more
):
    tokens = ids(encoding, text)
    sizes = sizes_of(encoding)[tokens]
    assume(len(tokens) > 1)
    moved = sizes.copy()
    moved[0] += more
    moved[1] -= more
    if moved[1] >= 0:
        report = audit_bytes(encoding, text, moved, token_bytes_per="token")
        assert report.verdict == "legal"
    moved[1] = sizes[1]
    report = audit_bytes(encoding, text, moved, token_bytes_per="token")
    assert report.verdict == "guilty"


def test_the_first_byte_of_a_character_may_have_them_all():
    # Sums are right for every text, so no text shows an error.
    table = np.ones(256)
    table[0x80:0xC0] = 0
    table[0xC0:0xE0], table[0xE0:0xF0], table[0xF0:] = 2, 3, 4
    assert audit_bytes("bytes", TEXT, table).verdict == "legal"


def test_errors_that_cancel_out_in_a_text_are_found_in_a_part_of_it():
    table = np.ones(256)
    table[ord("a")], table[ord("b")] = 2, 0
    report = audit_bytes("bytes", "a b", table)
    assert report.verdict == "guilty"
    assert report.findings[0].witness.text in ("a", "b")


def test_the_tokenizers_at_hand_are_honest_on_text_that_they_do_not_change(shared):
    text = " ".join(TEXT.split())
    for name in ("fineweb_1024_bpe.model", "fineweb_8192_bpe.model", "gpt2_vocab.json"):
        tokenizer = load_tokenizer(shared(f"data/tokenizers/{name}"))
        assert audit_bytes(tokenizer, text).verdict == "legal"
        assert audit_bytes(tokenizer, text, sizes_of(tokenizer)).verdict == "legal"
    gpt2 = shared("data/tokenizers/gpt2_vocab.json")
    assert audit_bytes(gpt2, list(HONEST.values())).verdict == "legal"


# ---------------------------------------------------------------------------- bugs of tables


def spaces(tokenizer):
    return arrays_of(tokenizer)[1]


def twice(tokenizer):
    return sizes_of(tokenizer) + spaces(tokenizer)


def literal(tokenizer):
    table = sizes_of(tokenizer)
    for i in range(tokenizer.vocab_size):
        if tokenizer.piece(i).startswith("<0x"):
            table[i] = 6
    return table


def decoded_alone(tokenizer, count=lambda text: len(text.encode())):
    table = sizes_of(tokenizer)
    for i in np.flatnonzero(table):
        table[i] = count(tokenizer.decode([int(i)]))
    return table


def as_written(tokenizer):
    table = sizes_of(tokenizer)
    for i in np.flatnonzero(table):
        table[i] = len(tokenizer.piece(int(i)).encode())
    return table


def characters(tokenizer):
    table = sizes_of(tokenizer)
    for i in np.flatnonzero(table):
        raw = tokenizer.decode_bytes(np.array([i]))
        table[i] = len(raw.decode("utf-8", "replace"))
    return table


def ignored(tokenizer):
    table = sizes_of(tokenizer)
    for i in np.flatnonzero(table):
        table[i] = len(tokenizer.decode_bytes(np.array([i])).decode("utf-8", "ignore").encode())
    return table


def stripped(tokenizer):
    table = sizes_of(tokenizer)
    for i in np.flatnonzero(table):
        table[i] = len(tokenizer.decode_bytes(np.array([i])).strip())
    return table


@pytest.mark.parametrize(
    ("which", "plant", "name"),
    [
        ("sentencepiece", twice, "the leading space is counted twice"),
        ("tiktoken", twice, "the leading space is counted twice"),
        ("sentencepiece", literal, "byte tokens are sized by the literal <0xXX>, six characters"),
        ("tiktoken", decoded_alone, "U+FFFD is counted, three bytes"),
        ("demo", decoded_alone, "U+FFFD is counted, three bytes"),
        ("sentencepiece", as_written, "tokens are sized as they are written in the vocabulary"),
        ("tiktoken", as_written, "tokens are sized as they are written in the vocabulary"),
        ("sentencepiece", lambda t: sizes_of(t) - spaces(t), "the leading space is not counted"),
        ("tiktoken", characters, "characters are counted in place of bytes"),
        ("prefixed", lambda t: decoded_alone(t, len), "the characters of decode([id])"),
        ("tiktoken", lambda t: 1 * (sizes_of(t) > 0), "tokens are counted in place of bytes"),
        ("tiktoken", ignored, "without the bytes that cannot be decoded"),
        ("tiktoken", stripped, "the white space of tokens is stripped"),
        ("tiktoken", lambda t: np.roll(sizes_of(t)[:-1], 1), "the bytes of the id before it"),
        ("tiktoken", lambda t: np.append(sizes_of(t)[1:-1], 0), "the bytes of the id after it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bug_of_a_table_is_named(honest, which, plant, name):
    tokenizer = honest[which]
    table = plant(tokenizer)
    report = audit_bytes(tokenizer, TEXT, table)
    finding = only(report, name)
    tokens = ids(tokenizer, TEXT)
    charged, raw = int(table[tokens].sum()), len(TEXT.encode())
    assert f"{charged:,} bytes for {raw:,}, x{charged / raw:.5f}" in finding.message
    witness = finding.witness
    assert len(witness.text) <= 4
    assert witness.stream == tuple(ids(tokenizer, witness.text))
    right, found = len(witness.text.encode()), int(table[list(witness.stream)].sum())
    assert witness.numbers == (right, found)
    sizes = tokenizer.encode(Document("x", TEXT.encode()))[1]
    assert finding.position == np.flatnonzero(table[tokens] != sizes)[0]


def test_the_message_has_the_bug_the_token_the_ratio_the_place_and_the_mend(encoding):
    finding = only(audit_bytes(encoding, "say so", sizes_of(encoding) + spaces(encoding)))
    assert finding.message == (
        "bytes must be those of the text, but the leading space is counted twice, in the table and "
        f"again where it is used: 1 of {len(ids(encoding, 'say so'))} tokens, such as "
        f"{encoding.decode_bytes(np.array([finding.witness.tokens[0]])).decode()!r} (id "
        f"{finding.witness.tokens[0]}) with "
        f"{len(encoding.decode_bytes(np.array(finding.witness.tokens))) + 1} for "
        f"{len(encoding.decode_bytes(np.array(finding.witness.tokens)))}; 7 bytes for 6, x1.16667; "
        f"first in text 1 at token {finding.position}; count the space of a token such as ' the' "
        "once"
    )


def test_several_bugs_of_one_table_are_named_each(pieces):
    table = twice(pieces)
    for i in range(pieces.vocab_size):
        if pieces.piece(i).startswith("<0x"):
            table[i] = 6
    messages = [f.message for f in audit_bytes(pieces, TEXT, table).findings]
    assert len(messages) == 2
    assert any("<0xXX>" in message for message in messages)
    assert any("counted twice" in message for message in messages)


def test_one_wrong_entry_that_looks_like_a_bug_is_not_called_one(encoding):
    table = sizes_of(encoding)
    i = next(i for i in ids(encoding, TEXT) if encoding.decode_bytes(np.array([i]))[:1] == b" ")
    table[i] += 1
    only(audit_bytes(encoding, TEXT, table), "in no pattern that is known")


def test_the_space_at_the_start_of_a_document(pieces, prefixed):
    # A table has one number for the space, which is none of the text at the start.
    finding = only(
        audit_bytes(prefixed, [TEXT, "say so"], sizes_of(prefixed)),
        "the space that the tokenizer puts before each document is counted",
    )
    assert finding.witness.numbers[1] - finding.witness.numbers[0] == 1
    assert audit_bytes(prefixed, [TEXT, "say so"], arrays_of(prefixed)).verdict == "legal"
    # And a rule that leaves it out is wrong where the tokenizer puts none.
    assert audit_bytes(pieces, TEXT, arrays_of(pieces)).verdict == "legal"
    base, space, boundary = arrays_of(pieces)
    only(
        audit_bytes(pieces, [TEXT, " say so"], (base, space, boundary)),
        "the space at the start of a document is not counted",
    )


def test_the_published_arrays_with_the_space_in_both(pieces, shared):
    base, space, boundary = arrays_of(pieces)
    only(audit_bytes(pieces, TEXT, (base + space, space, boundary)), "counted twice")
    path = shared("data/tokenizers/fineweb_1024_bpe.model")
    tokenizer = load_tokenizer(path)
    base, space, boundary = arrays_of(tokenizer)
    rows = shared("data/fineweb/verify_docs.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    words = [" ".join(json.loads(row)["text"].split()) for row in rows]
    texts = [text for text in words if text == unicodedata.normalize("NFKC", text)]
    finding = only(audit_bytes(tokenizer, texts, (base + space, space, boundary)), "counted twice")
    ratio = float(finding.message.split(", x")[1].split(";")[0])
    assert ratio == pytest.approx(1.167, abs=0.01)
    assert audit_bytes(tokenizer, texts, (base, space, boundary)).verdict == "legal"


def test_special_tokens_have_no_bytes(pieces, encoding):
    table = sizes_of(pieces)
    for i in range(pieces.vocab_size):
        if not table[i]:
            table[i] = len(pieces.piece(i))
    finding = only(audit_bytes(pieces, TEXT, table))
    assert finding.message == (
        "bytes must be those of the text, but special tokens are counted by their names: '<s>' "
        "(id 1) is charged with 3 and has none in a text, and 2 more; charge 0"
    )
    assert finding.witness.numbers == (0.0, 3.0)
    table = sizes_of(encoding)
    table[400] = 1
    finding = only(audit_bytes(encoding, TEXT, table))
    assert finding.message == (
        "bytes must be those of the text, but special tokens such as BOS and EOS are counted: "
        "'<|endoftext|>' (id 400) is charged with 1 and has none in a text; charge 0"
    )
    tokens = [400, *ids(encoding, TEXT)]
    finding = only(audit_bytes(encoding, TEXT, table, tokens=tokens), "BOS and EOS are counted")
    assert finding.position == 0
    only(audit_bytes(encoding, TEXT, table[tokens], tokens=tokens), "BOS and EOS are counted")
    assert audit_bytes(encoding, TEXT, sizes_of(encoding), tokens=tokens).verdict == "legal"


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (-1, "negative"),
        (1.5, "fractional"),
        (np.nan, "NaN or infinite"),
        (np.inf, "NaN or infinite"),
    ],
)
def test_entries_are_whole_numbers(value, what):
    table = np.ones(256)
    table[ord("b")] = value
    finding = only(audit_bytes("bytes", "abc", table))
    assert finding.message == (
        f"the bytes of a token must be a whole number >= 0, got {value:g} ({what}) for id 98, "
        "which has 1, and 0 more such; count the bytes that the token decodes to"
    )
    assert (finding.position, finding.witness.tokens) == (1, (98,))
    only(audit_bytes("bytes", "xyz", table), what)  # in a table, where the text does not hold it
    assert audit_bytes("bytes", "xyz", lambda i: table[i]).verdict == "legal"
    only(audit_bytes("bytes", "abc", lambda i: table[i]), what)
    only(audit_bytes("bytes", "abc", table[[97, 98, 99]]), what)


def test_an_average_is_no_number_of_bytes(encoding):
    only(audit_bytes(encoding, TEXT, np.full(401, 3.66)), "the average of all tokens")


def test_a_table_of_the_wrong_length(encoding, pieces):
    table = sizes_of(encoding)
    assert audit_bytes(encoding, TEXT, table[:-1]).verdict == "legal"  # without <|endoftext|>
    padded = np.concatenate([table, np.zeros(47)])
    assert audit_bytes(encoding, TEXT, padded).verdict == "legal"
    padded[-1] = 1
    for wrong, n in ((padded, len(padded)), (table[:300], 300)):
        messages = [f.message for f in audit_bytes(encoding, TEXT, wrong).findings]
        assert messages[0] == (
            f"token_bytes must have one number for each of the 401 ids of the tokenizer, got {n}; "
            "take the numbers and the tokenizer of one run"
        )
    finding = only(audit_bytes("bytes", "abc", [1, 1], token_bytes_per="token"))
    assert finding.message == (
        "token_bytes must have one number for each of the 3 tokens of the text, got 2; take the "
        "numbers and the tokenizer of one run"
    )


def test_entries_of_other_ids_are_a_remark(encoding):
    table = sizes_of(encoding)
    i = next(i for i in range(256, 400) if i not in ids(encoding, "x"))
    table[i] += 1
    report = audit_bytes(encoding, "x", table)
    assert report.verdict == "legal"
    assert report.remarks == (
        f"1 ids that the text does not hold have another entry than their bytes, such as {i} with "
        f"{table[i]} for {table[i] - 1}: audit a text with these tokens",
    )


# ---------------------------------------------------------------------------- texts that change


class Changed:
    """A tokenizer of a user, bytes of a text that it changes first."""

    vocab_size, name, bos = 256, "changed", None

    def __init__(self, change):
        self.change = change

    def encode(self, document):
        tokens = np.frombuffer(self.change(document.raw.decode()).encode(), np.uint8).astype(int)
        return tokens, np.ones_like(tokens)

    def decode_bytes(self, tokens):
        return tokens.astype(np.uint8).tobytes()


def capitals(text):
    """A lossless transform: a capital becomes a sentinel and a small letter."""
    return "".join(f"\ue003{c.lower()}" if c.isupper() else c for c in text)


CHANGES = [
    (lambda t: unicodedata.normalize("NFKC", t), "x ﬁne", "Unicode normalisation such as NFKC"),
    (lambda t: " ".join(t.split(" ")).replace("  ", " "), "a  b", "repeated spaces become one"),
    (lambda t: t.strip(" "), "  a b", "spaces at the ends are dropped"),
    (lambda t: " ".join(t.split()), "a\t\tb", "line ends, tabs or other white space"),
    (lambda t: " ".join(t.split("\n")), "a\nb\nc", "line ends, tabs or other white space"),
    (lambda t: t.replace("\n", ""), "one\ntwo\n", "line ends are dropped, as by a loader"),
    (lambda t: t.replace("\r\n", "\n"), "one\r\ntwo", "line ends are rewritten"),
    (str.lower, "The End", "upper case becomes lower case"),
    (capitals, "The End", "sentinel tokens of a lossless transform are counted"),
    (lambda t: t.replace(" ", "\u2581"), "a b", "no token for U+2581 alone"),
    (lambda t: " " + t, "a b", "the space that the tokenizer puts before each document"),
    (lambda t: t[:-1], "abc", "drops the end of the text"),
    (lambda t: t.replace(" @-@ ", "-"), "a @-@ b", "before or after detokenising"),
    (lambda t: t.replace(" ", ""), "a , b", "white space become spaces or are dropped"),
    (lambda t: t.replace("\u2581", " "), "a\u2581b", "U+2581 of the text is written like a space"),
    (lambda t: t.replace("é", "\ufffd"), "café", "U+FFFD replaces bytes"),
    (lambda t: t.replace("b", ""), "abc", "bytes are lost"),
    (lambda t: t.replace("b", "x"), "abc", "the text is rewritten"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "text", "name"), CHANGES, ids=[c[2] for c in CHANGES])
def test_a_text_that_is_changed_is_named_with_a_small_witness(change, text, name):
    long = f"ordinary words before. {text} and after" if not text.startswith(" ") else text
    changed = change(long)
    assert changed != long
    report = audit_bytes(Changed(change), long, np.ones(256))
    finding = only(report, name)
    witness = finding.witness
    small = change(witness.text)
    assert small != witness.text
    assert witness.numbers == (len(witness.text.encode()), len(small.encode())) or (
        len(witness.text.encode()) == len(small.encode())
    )
    assert len(witness.text) <= len(text)


def test_a_vocabulary_without_a_token_for_a_space():
    # No piece for U+2581 alone: a space before a letter without a piece is three byte tokens.
    tokenizer = sentencepiece(text=("ab ab ab",), add_dummy_prefix=False)
    lacks = not any(tokenizer.piece(i) == "\u2581" for i in range(tokenizer.vocab_size))
    text = "ab 你"
    report = audit_bytes(tokenizer, text)
    if lacks:
        only(report, "no token for U+2581 alone", "x1.25")
    else:
        assert report.verdict == "legal"


def test_a_lossy_normaliser_of_sentencepiece(shared):
    lossy = sentencepiece("nmt_nfkc", add_dummy_prefix=False, remove_extra_whitespaces=True)
    for text, name in (
        ("say  so", "repeated spaces become one"),
        ("say so\nsay it", "line ends, tabs or other white space become spaces or are dropped"),
        ("the ﬁ", "Unicode normalisation such as NFKC"),
    ):
        only(audit_bytes(lossy, text), name)
        only(audit_bytes(lossy, text, sizes_of(lossy)), name)
    # Also where the text is long, and encoded in pieces.
    only(audit_bytes(lossy, "the owner " * 150_000 + "say  so"), "repeated spaces become one")


def test_text_that_is_not_in_the_vocabulary():
    library = pytest.importorskip("sentencepiece")
    content = io.BytesIO()
    library.SentencePieceTrainer.train(
        sentence_iterator=iter(["say so say it"] * 9), model_writer=content, vocab_size=14,
        hard_vocab_limit=False, minloglevel=3, normalization_rule_name="identity",
    )  # fmt: skip
    processor = library.SentencePieceProcessor()
    processor.LoadFromSerializedProto(content.getvalue())
    finding = only(audit_bytes(processor, "say Q so"), "becomes the unknown token")
    assert finding.witness.text == "Q"


# ---------------------------------------------------------------------------- side-cars


def test_a_side_car_of_a_lossless_transform():
    text = "The End is near: says He"
    tokens = np.frombuffer(capitals(text).encode(), np.uint8)
    right = np.ones(len(tokens), int)
    raw, i = text.encode(), 0
    for position, byte in enumerate(tokens.tolist()):  # a sentinel has no bytes of the text
        is_text = i < len(raw) and byte == raw[i : i + 1].lower()[0]
        right[position], i = int(is_text), i + is_text
    report = audit_bytes("bytes", text, right, tokens=tokens)
    assert report.verdict == "legal"
    assert report.remarks == (
        "the tokens decode to another text, and the bytes given for them sum to those of this one: "
        "whether the transform loses nothing is not checked",
    )
    counted = audit_bytes("bytes", text, np.ones(len(tokens)), tokens=tokens)
    finding = only(counted, "sentinel tokens of a lossless transform are counted")
    assert finding.witness.numbers == (len(raw), len(tokens))
    only(audit_bytes("bytes", text, np.ones(256), tokens=tokens), "sentinel tokens")
    # The transformed text in place of the raw one cannot be told from a text with such letters.
    assert "private use" in audit_bytes("bytes", capitals(text)).remarks[0]


def test_a_side_car_with_a_wrong_sum(encoding):
    tokens = ids(encoding, TEXT)
    sizes = sizes_of(encoding)[tokens]
    assert audit_bytes(encoding, TEXT, sizes).verdict == "legal"
    wrong = sizes + np.isin(tokens, np.flatnonzero(spaces(encoding)))
    finding = only(audit_bytes(encoding, TEXT, wrong), "the leading space is counted twice")
    assert finding.witness.numbers == (len(TEXT.encode()), wrong.sum())
    texts = [TEXT, "say so"]
    lists = [sizes_of(encoding)[ids(encoding, text)] for text in texts]
    assert audit_bytes(encoding, texts, lists).verdict == "legal"
    lists[1] = lists[1] + 1
    finding = only(audit_bytes(encoding, texts, lists), "first in text 2 at token 0")
    assert finding.witness.numbers[0] == 6


def test_a_side_car_may_have_an_entry_for_each_bos(encoding):
    texts = [TEXT, "say so"]
    right = [np.append(0, sizes_of(encoding)[ids(encoding, text)]) for text in texts]
    assert audit_bytes(encoding, texts, right).verdict == "legal"
    assert audit_bytes(encoding, texts, np.concatenate(right)).verdict == "legal"
    right[1][0] = 1
    only(audit_bytes(encoding, texts, right), "special tokens such as BOS and EOS are counted")


def test_sums_are_held_for_each_document():
    # One byte too much in one document, and one too few in the other.
    report = audit_bytes("bytes", ["ab", "cd"], [2, 1, 0, 1], token_bytes_per="token")
    assert report.verdict == "guilty"
    assert audit_bytes("bytes", ["abcd"], [2, 1, 0, 1], token_bytes_per="token").verdict == "legal"


# ---------------------------------------------------------------------------- tokens that are given


def test_tokens_of_another_text(encoding):
    text = "one , two\nthree\nfour " * 3
    table = sizes_of(encoding)
    for other, name in (
        (text[: len(text) // 2], "the data are partial"),
        (text + "more", "the tokens are those of a longer text"),
        (text.replace("\n", ""), "line ends are dropped, as by a loader"),
        (text.replace(" ,", ","), "before or after detokenising"),
        (text.replace("two", "2"), "bytes are lost"),
    ):
        tokens = ids(encoding, other)
        assert audit_bytes(encoding, other, table, tokens=tokens).verdict == "legal"
        finding = only(audit_bytes(encoding, text, table, tokens=tokens), name)
        assert finding.witness.numbers == (len(text), len(other))


def test_tokens_are_given_for_all_documents_or_for_each(encoding):
    texts, bos = [TEXT, "say so", ""], 400
    each = [ids(encoding, text) for text in texts]
    stream = np.concatenate([[bos, *tokens] for tokens in each]).astype(int)
    for tokens in (each, stream, np.concatenate(each).astype(int)):
        report = audit_bytes(encoding, texts, sizes_of(encoding), tokens=tokens)
        assert report.verdict == "legal"
    with pytest.raises(ValueError) as error:
        audit_bytes(encoding, texts, tokens=each[:2])
    assert str(error.value) == (
        "tokens must be one array for all documents or one for each of 3, got 2; pass them in the "
        "order of the documents"
    )
    with pytest.raises(ValueError, match=r"tokens of text 2 must be in \[0, 401\), got 500"):
        audit_bytes(encoding, texts, tokens=[each[0], [500], []])


# ---------------------------------------------------------------------------- one number


@pytest.mark.parametrize(
    ("count", "name"),
    [
        (lambda t, texts: sum(twice(t)[i] for x in texts for i in ids(t, x)), "counted twice"),
        (lambda t, texts: sum(decoded_alone(t)[i] for x in texts for i in ids(t, x)), "U+FFFD"),
        (lambda t, texts: sum(map(len, texts)), "characters are counted in place of bytes"),
        (lambda t, texts: sum(len(ids(t, x)) for x in texts), "tokens are counted in place of"),
        (lambda t, texts: sum(len(x.replace("\n", "").encode()) for x in texts), "line ends are"),
        (lambda t, texts: sum(len(x.encode()) + 1 for x in texts), "one byte more is counted for"),
        (lambda t, texts: sum(len(x.encode()) + 13 for x in texts), "<|endoftext|> of each"),
        (lambda t, texts: len(texts[0].encode()), "only the first 1 of 3 documents"),
        (lambda t, texts: sum(len(" ".join(x.split()).encode()) for x in texts), "white space"),
        (lambda t, texts: round(1.1672 * sum(len(x.encode()) for x in texts)), "near 1.16713"),
        (lambda t, texts: 3 * sum(len(x.encode()) for x in texts), "in no ratio that is known"),
        (lambda t, texts: 7, "bytes are missing"),
    ],
)
def test_a_wrong_number_of_all_bytes_is_named(encoding, count, name):
    texts = [TEXT, "say so\nsay  it\nsay\n", "the owner of the " * 9]
    right = sum(len(text.encode()) for text in texts)
    assert audit_bytes(encoding, texts, right).verdict == "legal"
    found = int(count(encoding, texts))
    finding = only(audit_bytes(encoding, texts, found), name)
    assert finding.message.startswith(
        f"the number of bytes must be that of the raw text, {right:,}, got {found:,}, "
        f"x{found / right:.5f}: "
    )
    assert finding.witness.numbers == (right, found)


# ---------------------------------------------------------------------------- forms


def test_the_forms_of_a_table(encoding, tmp_path):
    torch = pytest.importorskip("torch")
    table = sizes_of(encoding)
    wrong = table + spaces(encoding)
    np.save(tmp_path / "right.npy", table)
    np.save(tmp_path / "wrong.npy", wrong.astype(np.float32))
    forms = [
        (table.tolist(), wrong.tolist()),
        (table.astype(np.float64), wrong.astype(np.int16)),
        (torch.tensor(table), torch.tensor(wrong).to(torch.bfloat16)),
        (tmp_path / "right.npy", str(tmp_path / "wrong.npy")),
        (lambda i: int(table[i]), lambda i: wrong[i]),
        (lambda i: encoding.decode_bytes(np.array([i])), lambda i: b"x" * int(wrong[i])),
        (dict(enumerate(table)), dict(enumerate(wrong.tolist()))),
        ([b"x" * int(n) for n in table], [b"x" * int(n) for n in wrong]),
    ]
    for right, bad in forms:
        assert audit_bytes(encoding, TEXT, right).verdict == "legal"
        only(audit_bytes(encoding, TEXT, bad), "the leading space is counted twice")


def test_the_forms_of_a_text(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(TEXT.encode())
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one", "two")))
    for text, n in (
        (TEXT, 1), (TEXT.encode(), 1), (bytearray(TEXT.encode()), 1), ([TEXT, b"x"], 2),
        (Document("x", TEXT.encode()), 1), (Documents([TEXT, "x", ""]), 3), (path, 1), (rows, 2),
        ([path, rows], 3), (iter(["one", "two"]), 2),
    ):  # fmt: skip
        report = audit_bytes("bytes", text, [1] * 256)
        assert (report.verdict, report.conditions["documents"]) == ("legal", n)
    report = audit_bytes("bytes", str(path))
    assert report.remarks == (
        "the text is also the name of a file: pass Path(text) to audit the file",
    )


def test_token_files_are_compared_with_the_bytes_of_their_tokens(encoding, tmp_path):
    path = tmp_path / "ids.npy"
    np.save(path, np.array([400, *ids(encoding, TEXT)], np.uint16))
    report = audit_bytes(encoding, path, sizes_of(encoding))
    assert report.verdict == "legal"
    assert report.remarks[0].startswith("the data are tokens: their bytes are those that the")
    only(audit_bytes(encoding, path, twice(encoding)), "the leading space is counted twice")


class Letters:
    """A tokenizer of a user with encode and decode alone."""

    n_vocab = 300

    def encode(self, text):
        return list(text.encode())

    def decode(self, tokens):
        return bytes(i for i in tokens if i < 256).decode("utf-8", "replace")


class WithVocab(Letters):
    vocab = {i: bytes([i]) for i in range(256)}  # noqa: RUF012


class Holder:
    """A class that holds a tokenizer of a library, as nanochat's does."""

    def __init__(self, enc):
        self.enc = enc

    def encode(self, text):
        raise AssertionError(text)


@pytest.mark.parametrize("tokenizer", [Letters(), WithVocab()], ids=["decode", "vocab"])
def test_an_object_with_encode_and_decode(tokenizer):
    for text in HONEST.values():
        assert audit_bytes(tokenizer, text).verdict == "legal"
        assert audit_bytes(tokenizer, text, [1] * 256 + [0] * 44).verdict == "legal"
    assert audit_bytes(tokenizer, TEXT, lambda i: 1).verdict == "legal"
    replaced = [len(tokenizer.decode([i]).encode()) for i in range(300)]
    only(audit_bytes(tokenizer, TEXT, replaced), "U+FFFD is counted")
    lossy = type("Lossy", (type(tokenizer),), {"encode": lambda self, t: list(t.lower().encode())})
    only(audit_bytes(lossy(), "The End"), "upper case becomes lower case")


def test_a_class_that_holds_a_tokenizer(encoding):
    held = Encoding(small_ranks(), PATTERNS["gpt2"], {"<|endoftext|>": 400})
    report = audit_bytes(Holder(held), TEXT, twice(encoding))
    only(report, "the leading space is counted twice")


def test_a_tokenizer_of_a_user_that_counts_wrongly():
    class Wrong(Changed):
        def encode(self, document):
            tokens, sizes = super().encode(document)
            return tokens, sizes + (tokens == 32)

    finding = only(audit_bytes(Wrong(str), "a b c"), "the leading space is counted twice")
    assert finding.witness.text == " "
    assert finding.witness.numbers == (1, 2)


# ---------------------------------------------------------------------------- reports and errors


def test_what_the_report_says():
    report = audit_bytes("bytes", ["ab", "c"], [1] * 256)
    assert report.subject == "bytes of the tokens of bytes"
    assert [(check.tried, check.unit) for check in report.checks] == [
        (2, "documents"), (3, "tokens"), (256, "entries"),
    ]  # fmt: skip
    conditions = report.conditions
    assert [conditions[key] for key in ("vocab_size", "documents", "tokens", "bytes")] == [
        256, 2, 3, 3,
    ]  # fmt: skip
    assert "versions" in conditions
    assert "LEGAL" in str(report)


def test_without_a_text_there_is_no_verdict():
    report = audit_bytes("bytes", [])
    assert (report.verdict, report.exit_code) == ("unknown", 2)
    assert report.problems == ("there must be a text, got no document; pass one",)
    assert audit_bytes("bytes", "").verdict == "legal"


def test_texts_that_cannot_be_encoded_are_named(encoding):
    texts = [b"a\xff", TEXT.encode(), *[b"\xfe"] * 4]
    report = audit_bytes(encoding, texts)
    assert report.verdict == "unknown"
    assert report.problems[0].startswith("text must be UTF-8 for this model, got byte 0xff at 1 in")
    assert report.problems[3] == "2 more documents cannot be encoded"
    assert audit_bytes(encoding, texts, twice(encoding)).verdict == "guilty"


def test_a_document_whose_end_cannot_be_encoded_leaves_the_next_one_alone(encoding):
    documents = [
        Document("a", b"x" * (1 << 20)),
        Document("a", b"\xff", begins=False),
        Document("b", b"say"),
    ]
    report = audit_bytes(encoding, documents, sizes_of(encoding))
    assert report.verdict == "unknown"
    assert (report.findings, len(report.problems)) == ((), 1)


class Broken(Letters):
    def encode(self, text):
        raise RuntimeError("no such\nthing")


def test_a_tokenizer_that_raises_gives_no_verdict():
    report = audit_bytes(Broken(), "x")
    assert report.verdict == "unknown"
    assert report.problems == (
        "a text must be encoded, got an error of Broken (no such thing); correct it",
    )


class BrokenDecoder(Letters):
    def decode(self, tokens):
        raise KeyError("id")


def test_a_decoder_that_raises_gives_no_verdict():
    report = audit_bytes(BrokenDecoder(), ["x", ""])
    assert report.verdict == "unknown"
    assert "got an error of BrokenDecoder ('id'); correct it" in report.problems[0]


@pytest.mark.parametrize(
    ("text", "token_bytes", "message"),
    [
        (3, None, "text must be str, bytes, a list of documents, a data set or a Path, got int; "
         "pass one of these"),
        ("x", "table.pt", "token_bytes must be a .npy or a .bin file, got table.pt; save the "
         "numbers with numpy.save"),
        ("x", [["a"]], "token_bytes must be V numbers"),
        ("x", ["a"] * 256, "token_bytes must be V numbers"),
        ("x", 3.5, "token_bytes must be V numbers"),
        ("x", lambda i: 1 / 0, "token_bytes must give a number for every id, got ZeroDivisionError "
         "(division by zero) for 120; correct the function"),
        ("x" * 256, [1] * 256, "token_bytes must be of each token or of each id, got 256 numbers "
         "for 256 tokens of a vocabulary of 256; pass token_bytes_per='token' or 'id'"),
        ("\ud800", None, "text must be Unicode, got the lone surrogate U+D800 at character 0 in "
         "text 1; correct it"),
    ],
)  # fmt: skip
def test_what_is_something_else_is_refused(text, token_bytes, message):
    with pytest.raises(ValueError) as error:
        audit_bytes("bytes", text, token_bytes)
    assert str(error.value).startswith(message)


def test_the_kind_of_an_array_can_be_told():
    for per in ("id", "token"):
        assert audit_bytes("bytes", "x" * 256, [1] * 256, token_bytes_per=per).verdict == "legal"
    with pytest.raises(ValueError) as error:
        audit_bytes("bytes", "x", [1], token_bytes_per="row")
    assert str(error.value) == "token_bytes_per must be id or token, got 'row'; leave it out"


def test_the_tokenizers_of_transformers_are_read_without_special_tokens(tmp_path):
    transformers = pytest.importorskip("transformers")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(TOKENIZER_PATH), bos_token="<|endoftext|>"
    )
    assert audit_bytes(fast, TEXT).verdict == "legal"
    assert Path(TOKENIZER_PATH).is_file()
