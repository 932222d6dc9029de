"""Published log lines: figures that contradict each other are found, rounding never is."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from eval import audit_log
from eval.auditing.logs.keys import kind_of
from eval.auditing.logs.known_totals import TOKENS
from eval.auditing.logs.records import read_log
from ngrammix.auditing.report_json import from_json, to_json

LN2 = math.log(2)
RIGHT, CASEOPS = 151_080_891, 47_851_520
WRONG = (176_332_748, 157_319_833, 164_594_398)
DATA = "FineWeb's validation set"

losses = st.floats(0.05, 12, allow_nan=False)
counts = st.integers(1_000, 10**10)
sizes = st.floats(1, 12)  # bytes a token


def only(report, *parts):
    """The one finding of a guilty report."""
    assert report.verdict == "guilty"
    assert report.exit_code == 1
    (finding,) = report.findings
    assert (finding.condition, finding.witness.kind) == ("bytes", "log")
    for part in parts:
        assert part in finding.message, finding.message
    assert from_json(to_json(report)) == report
    again = audit_log(text=finding.witness.text)  # the witness alone shows it
    assert [one.witness.numbers for one in again.findings] == [finding.witness.numbers]
    return finding


def bpb_of(loss, tokens, n_bytes):
    return loss / LN2 * tokens / n_bytes


def cut(value, digits):
    """The number without the digits after these, as some programs print it."""
    return f"{math.floor(value * 10**digits) / 10**digits:.{digits}f}"


# ---------------------------------------------------------------------------- laws


@given(losses, counts, sizes, st.integers(2, 8), st.integers(2, 8), st.booleans())
def test_rounded_figures_that_are_true_are_never_accused(loss, tokens, size, d, e, is_cut):
    n_bytes = round(tokens * size)
    assume(tokens not in TOKENS and n_bytes not in WRONG)
    bpb = bpb_of(loss, tokens, n_bytes)
    texts = [cut(loss, d), cut(bpb, e)] if is_cut else [f"{loss:.{d}f}", f"{bpb:.{e}f}"]
    assume(all(float(text) > 0 for text in texts))
    assert audit_log(texts[0], tokens, n_bytes, texts[1]).verdict == "legal"
    line = f"val_loss:{texts[0]} val_bpb:{texts[1]} tokens:{tokens:,} bytes:{n_bytes}"
    assert audit_log(text=line).verdict == "legal"
    for missing in range(4):
        numbers = [texts[0], tokens, n_bytes, texts[1]]
        numbers[missing] = None
        assert audit_log(*numbers).verdict != "guilty"


@given(losses, counts, sizes, st.floats(1.002, 3))
def test_a_wrong_denominator_is_found(loss, tokens, size, factor):
    n_bytes = round(tokens * size)
    bpb = bpb_of(loss, tokens, n_bytes) / factor
    assume(bpb > 0.05 and loss > 0.3)
    finding = only(audit_log(f"{loss:.6f}", tokens, n_bytes, f"{bpb:.6f}"))
    right, found = finding.witness.numbers
    assert right / found == pytest.approx(factor, rel=1e-3)
    assert finding.witness.unit == "bits per byte"


@given(st.text(max_size=300))
def test_any_text_has_a_verdict(text):
    report = audit_log(text=text)
    assert report.verdict in ("legal", "guilty", "unknown")
    assert from_json(to_json(report)) == report


NOISE = st.sampled_from(
    ["val_loss", "val_bpb", "tokens", "bytes", ":", "=", " ", "|", "\n", "\t", ",", "{", "}", '"',
     "nan", "inf", "-1", "1e999", "0", "0.0", "1.5", "2,000", "1_0", "BPB|", " = ", "-" * 9, "[",
     "1" * 400, "bits per byte", "2.3e-400", "---", "e", "²", "١٢", "\x00", "\ud7ff"]
)  # fmt: skip


@given(st.lists(NOISE, max_size=40).map("".join))
def test_hostile_text_has_a_verdict(text):
    assert audit_log(text=text).verdict in ("legal", "guilty", "unknown")


# ---------------------------------------------------------------------------- numbers


def test_the_sentinels_of_a_lossless_transform_are_named():
    finding = only(audit_log(2.40073153, CASEOPS, None, 1.00692894))
    assert finding.message == (
        f"{DATA} of 47,851,520 tokens of CaseOps sp8192 has 151,080,891 raw bytes, got 164,594,398 "
        "(they follow from the other figures), x1.08945: the sentinel tokens of a lossless "
        "transform (CaseOps) are counted; divide by the raw bytes of the text"
    )
    assert finding.position is None
    assert finding.witness.numbers == pytest.approx((RIGHT, 164_594_398), abs=5)


@pytest.mark.parametrize(
    ("tokens", "n_bytes", "name"),
    [
        (62_021_632, 176_332_748, "the leading space of tokens is counted twice"),
        (40_540_160, 157_319_833, "U+FFFD is counted, three bytes"),
        (CASEOPS, 164_594_398, "the sentinel tokens of a lossless transform (CaseOps) are counted"),
        (62_021_632, round(RIGHT * 1.252), "the tokenizer has no token for U+2581 alone"),
        (62_021_632, round(RIGHT * 0.2), "a part of the text is not counted"),
        (62_021_632, round(RIGHT * 1.7), "in no ratio that is known"),
    ],
)
def test_wrong_totals_of_a_known_data_set_are_named(tokens, n_bytes, name):
    loss = 2.2
    bpb = bpb_of(loss, tokens, n_bytes)
    only(audit_log(loss, tokens, n_bytes, None), name, f"got {n_bytes:,}, x")
    only(audit_log(loss, tokens, n_bytes, f"{bpb:.6f}"), name)
    only(audit_log(f"{loss:.6f}", tokens, None, f"{bpb:.6f}"), name, "follow from the other")
    assert audit_log(loss, tokens, RIGHT, None).verdict == "legal"


def test_a_total_is_recognised_without_the_tokens():
    only(audit_log(bytes=176_332_748), "counted twice", DATA)
    assert audit_log(bytes=RIGHT, bpb=1.08).verdict == "legal"
    assert audit_log(bytes=123_456_789, bpb=1.08).verdict == "unknown"


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        (lambda loss, t, b: loss * t / b, "the loss is not divided by ln 2, or it is in bits"),
        (lambda loss, t, b: loss / LN2, "these are bits a token"),
        (lambda loss, t, b: loss, "this is the loss itself"),
        (lambda loss, t, b: loss / LN2 * b / t, "tokens and bytes are exchanged"),
        (lambda loss, t, b: loss / LN2**2 * t / b, "divided by ln 2 twice"),
        (lambda loss, t, b: loss / math.log(10) * t / b, "the logarithm is to base 10"),
        (lambda loss, t, b: bpb_of(loss, t, b) / 1.16713, "the leading space"),
    ],
)
def test_a_wrong_formula_is_named(formula, name):
    loss, tokens, n_bytes = 2.345678, 1_000_003, 3_700_011
    bpb = formula(loss, tokens, n_bytes)
    finding = only(audit_log(loss, tokens, n_bytes, f"{bpb:.6f}"), name)
    assert finding.message.startswith(
        "bits per byte must be loss / ln 2 * tokens / bytes = 0.91462"
    )


def test_the_message_has_both_figures_and_the_bytes_that_would_give_it():
    assert only(audit_log("2.4007", 1_000_000, 3_000_000, "0.9000")).message == (
        "bits per byte must be loss / ln 2 * tokens / bytes = 1.15449, got 0.9000: it needs "
        "3,848,309 bytes for 3,000,000, x1.28277; divide by the raw bytes of the text"
    )


def test_what_follows_is_told():
    report = audit_log(2.0, 1000, 4000, None)
    assert report.verdict == "unknown"
    assert report.problems == (
        f"lacks bits per byte (only the data of {DATA} are known without); pass them",
    )
    (remark,) = report.remarks
    assert remark.startswith("bits per byte follows from the others: 0.7")
    for numbers, name in (
        ((None, 1000, 4000, 0.75), "the loss in nats a token follows from the others: 2.0"),
        ((2.0, None, 4000, 0.75), "the number of tokens follows from the others: 1,040"),
        ((2.0, 1000, None, 0.75), "the number of raw bytes follows from the others: 3,847"),
    ):
        assert audit_log(*numbers).remarks[0].startswith(name)


def test_one_figure_is_too_few():
    report = audit_log(2.4)
    assert (report.verdict, report.exit_code) == ("unknown", 2)
    assert report.problems == (
        "lacks the number of tokens, the number of raw bytes, bits per byte; pass them",
    )
    for empty in (audit_log(), audit_log(text=""), audit_log(text="nothing here")):
        assert empty.verdict == "unknown"
        assert empty.problems == (
            "no figure of a loss, of tokens, bytes or bits per byte was found; pass them by their "
            "names",
        )


def test_bytes_a_token_have_limits():
    finding = only(audit_log(tokens=1000, bytes=100_000))
    assert finding.message == (
        "a token must have 0.4 to 40 bytes on average, got 100, tokens a byte 0.01; check which "
        "figure is which"
    )
    only(audit_log(loss=2.0, bpb=30.0), "a token must have 0.4 to 40 bytes on average, got 0.09618")
    report = audit_log(2.0, 1000, 25_000, None)
    assert "25 bytes a token are unusual" in report.remarks
    assert audit_log(4.0, 1001, 1000, bpb_of(4.0, 1001, 1000)).verdict == "legal"


def test_very_low_figures_are_a_remark():
    report = audit_log(0.31, 1000, 4000, bpb_of(0.31, 1000, 4000))
    assert report.verdict == "legal"
    assert report.remarks == (
        "0.11180887 bits per byte are less than any model is known to need for text of the web: "
        "audit the scorer",
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, 1e30, "1e999", "x", "", [1], True])
@pytest.mark.parametrize("name", ["loss", "tokens", "bytes", "bpb"])
def test_what_is_no_number_is_refused(name, value):
    rule = "a whole number" if name in ("tokens", "bytes") else "a number"
    with pytest.raises(ValueError) as error:
        audit_log(**{name: value})
    assert str(error.value) == (
        f"{name} must be {rule} > 0 and below 1e+18, got {str(value)!r}; pass it as it was "
        "printed, or leave it out"
    )


def test_counts_are_whole():
    for value in (1000.5, "1000.5"):
        with pytest.raises(ValueError, match="tokens must be a whole number > 0"):
            audit_log(2.0, value, 4000, 0.7)
    for value in (1000, 1000.0, "1,000", "1_000", np.int32(1000), np.float32(1000)):
        assert audit_log(2.0, value, 4000, bpb_of(2.0, 1000, 4000)).verdict == "legal"
    assert audit_log(2.0, "1K", "4.0K", "0.7213").verdict == "legal"


def test_numbers_of_float32_have_its_digits():
    loss, bpb = np.float32(2.345678), np.float32(bpb_of(2.345678, 1_000_003, 3_700_011))
    assert audit_log(loss, 1_000_003, 3_700_011, bpb).verdict == "legal"


def test_figures_and_text_go_apart():
    with pytest.raises(ValueError) as error:
        audit_log(2.0, bpb=1.0, text="x")
    assert str(error.value) == (
        "loss and bpb must be left out with text, which has its own; pass tokens and bytes at most"
    )
    line = "val_loss:2.4007 val_bpb:1.0069"
    only(audit_log(text=line, tokens=CASEOPS), "CaseOps")
    assert audit_log(text="val_loss:2.0 val_bpb:0.72", tokens=1000, bytes=4000).verdict == "legal"


# ---------------------------------------------------------------------------- lines

GOLF = """\
logs/x.txt
val_loader:shards pattern=./data/datasets/fineweb10B_sp1024/fineweb_val_*.bin tokens:62021632
model_params:17059912
step:1/20000 train_loss:6.9 train_time:300ms step_avg:300.00ms
step:1489/20000 val_loss:2.2474 val_bpb:1.3310 train_time:480124ms step_avg:322.45ms
Serialized model int8+zlib: 15133368 bytes (payload:19135512 raw_torch:19170649)
Total submission size int8+zlib: 15181061 bytes
final_int8_zlib_roundtrip val_loss:2.2474 val_bpb:1.3310 eval_time:10793ms
final_int8_zlib_roundtrip_exact val_loss:2.24736472 val_bpb:1.33101597
"""


def test_a_log_of_parameter_golf():
    report = audit_log(text=GOLF)
    assert report.verdict == "legal"
    assert [check.tried for check in report.checks] == [3, 3]
    wrong = GOLF.replace("val_bpb:1.33101597", f"val_bpb:{1.33101597 / 1.16713:.8f}")
    finding = only(audit_log(text=wrong), "counted twice", "in line 9", "62,021,632 tokens")
    assert finding.position == 9
    assert finding.witness.text == f"loss=2.24736472 bpb={1.33101597 / 1.16713:.8f} tokens=62021632"


def test_every_bad_line_has_its_finding():
    text = "\n".join(f"val_loss=2.40 val_bpb={bpb} tokens=1,000 bytes=4,000" for bpb in
                     ("0.866", "0.60", "0.866", "0.5"))  # fmt: skip
    report = audit_log(text=text)
    assert [finding.position for finding in report.findings] == [2, 4]


@pytest.mark.parametrize(
    "line",
    [
        "val_loss:{loss} val_bpb:{bpb} tokens:{tokens} bytes:{bytes}",
        "val_loss={loss}, val_bpb={bpb}, tokens={tokens:,}, bytes={bytes:,}",
        "val_loss: {loss} | val_bpb: {bpb} | val_tokens: {tokens} | val_bytes: {bytes}",
        "Validation loss: {loss} Validation bpb: {bpb} tokens: {tokens} bytes: {bytes}",
        "- **Val loss**: **{loss}**, **BPB**: **{bpb}**, Tokens: {tokens:_}, Bytes: {bytes:,}",
        "val {bpb} BPB ({loss} nats/token, {tokens:,} tokens, {bytes:,} bytes)",
        "{bpb} bits per byte at {loss} nats per token over {tokens} tokens and {bytes} bytes",
        "val_loss {loss} val_bpb {bpb} tokens {tokens} bytes {bytes}",
        "'loss': {loss}, 'bits_per_byte,none': {bpb}, 'tokens': {tokens}, 'bytes': {bytes}",
        "nats/token = {loss}; bits/byte = {bpb}; n_tokens = {tokens}; n_bytes = {bytes}",
        '{{"val_loss": {loss}, "val_bpb": {bpb}, "tokens": {tokens}, "bytes": {bytes}}}',
        '{{"a": [{{"loss": {loss}, "bpb": {bpb}, "tokens": {tokens}, "bytes": {bytes}}}]}}',
        "| val_loss | val_bpb | tokens | bytes |\n|---|---|---|---|\n"
        "| {loss} | **{bpb}** | {tokens:,} | {bytes:,} |",
        "| Metric | Value |\n|---|---|\n| Val loss | {loss} |\n| BPB | {bpb} |\n"
        "| Tokens | {tokens:,} |\n| Bytes | {bytes:,} |",
        "val_loss,val_bpb,tokens,bytes\n{loss},{bpb},{tokens},{bytes}",
        "commit\tval_loss\tval_bpb\ttokens\tbytes\nabc\t{loss}\t{bpb}\t{tokens}\t{bytes}",
        "---\nval_loss:    {loss}\nval_bpb  :    {bpb}\ntokens:\t{tokens}\nbytes:  {bytes}\n---",
        "val_loss: {loss} val_bpb: {bpb}\nover {tokens:,} tokens, {bytes:,} bytes",
        "bits per token: {bits} bpb: {bpb} tokens: {tokens} bytes: {bytes}",
    ],
)  # fmt: skip
def test_the_ways_in_which_lines_are_written(line):
    loss, tokens, n_bytes = 2.40073153, 1_000_003, 3_700_011
    bpb = bpb_of(loss, tokens, n_bytes)
    for factor, verdict in ((1, "legal"), (1.01, "guilty")):
        text = line.format(
            loss=f"{loss:.5f}", bpb=f"{bpb / factor:.5f}", tokens=tokens, bytes=n_bytes,
            bits=f"{loss / LN2:.5f}",
        )  # fmt: skip
        report = audit_log(text=text)
        assert report.verdict == verdict, (text, report)
        assert len(report.findings) == (factor != 1)
        assert audit_log(text=f"before\n{text}\nafter").verdict == verdict


@pytest.mark.parametrize(
    "text",
    [
        # bytes and losses of something else
        '{"val_loss": 2.4007, "val_bpb": 1.0971, "tokens": 47851520, "bytes_total": 15900000}',
        "val_loss:2.4007 val_bpb:1.0971 tokens:47,851,520 artifact_bytes:15900000",
        "val_loss:2.4007 val_bpb:1.0971 tokens:47,851,520 bytes:15900000",
        "train_loss:3.1 val_bpb:1.0971 tokens:47,851,520 bytes:151,074,499",
        "val_bpb:1.0971 best_val_loss:2.2 tokens:47,851,520 bytes:151,074,499",
        "val_loss:2.4007 val_bpb:1.0971 tokens_seen:5,000,000 tokens/s:1,000,000",
        "val_loss:48000.5 val_bpb:1.0971 tokens:47,851,520 bytes:151,074,499",
        "delta_bpb: 0.01 val_loss: 2.4007 tokens: 47851520",
    ],
)
def test_figures_of_something_else_are_left_out(text):
    assert audit_log(text=text).verdict != "guilty"


def test_counts_go_with_lines_that_are_near():
    far = "\n" * 9
    text = f"run A: 62,021,632 tokens, 151,080,891 bytes{far}run B val_loss:2.9 val_bpb:1.08"
    assert audit_log(text=text).verdict == "legal"  # of A alone
    assert audit_log(text=text.replace(far, "\n")).verdict == "guilty"
    text = f"about 62,021,632 val tokens\n{far}sp8192 val_loss:2.9 val_bpb:1.08"
    assert audit_log(text=text).verdict == "unknown"
    text = f"val_tokens: 62,021,632\n{far}val_loss:2.9 val_bpb:1.08"
    only(audit_log(text=text), "62,021,632 tokens")


def test_lines_of_one_figure_are_joined_until_one_repeats():
    text = "val_loss: 2.0\nval_bpb: 0.7213\nval_loss: 2.1\nval_bpb: 0.6\n\nval_bpb: 0.7213"
    report = audit_log(text=text, tokens=1000, bytes=4000)
    finding = only(report, "in line 3")
    assert finding.witness.text == "loss=2.1 bpb=0.6 tokens=1000 bytes=4000"


def test_a_loss_that_is_a_sum_is_told():
    report = audit_log(text="val_loss:48000.5 val_bpb:1.0971")
    assert report.remarks == ("a loss of 48,000 in line 1 is taken for a sum of tokens",)
    only(audit_log(text="val_loss:2.4 val_bpb:0.0287"), "a token must have 0.4 to 40 bytes")


def test_a_line_with_two_runs():
    line = "fp32 val_loss:2.0 val_bpb:0.7213 | int8 val_loss:2.1 val_bpb:0.6"
    report = audit_log(text=line, tokens=1000, bytes=4000)
    assert only(report, "0.76").witness.numbers[1] == 0.6


def test_results_and_signatures_of_this_package(tmp_path):
    table = """\
                  BPB    s.e.    bits saved    tokens/s    seconds
-------------  ------  ------  ------------  ----------  ---------
model alone    1.3319  0.0456             0       1,831       7.65
cache alone    2.0118  0.1201       -26,298
model + cache  1.2048  0.0528         4,917       1,756       7.98

                 nats a token    bits a token    perplexity    perplexity a word
-------------  --------------  --------------  ------------  -------------------
model alone            2.5493          3.6779         12.80               658.14
cache alone            3.8506          5.5553         47.02            18,068.14
model + cache          2.3060          3.3269         10.03               354.26

14,008 tokens, 5,503 words, 38,681 bytes, 1 document
BPB|data:4790dcafb41dfc6f|bytes:38681|tokens:14008|model:demo-273fd209|order:7 = 1.2048
"""
    report = audit_log(text=table)
    assert report.verdict == "legal"
    assert report.checks[0].tried == 3
    finding = only(audit_log(text=table.replace("2.0118", "1.9118")), "got 1.9118")
    assert finding.position == 4
    other = table.replace("14,008", "28,016").replace("38,681", "77,362")
    assert audit_log(text=f"{table}\n{other}").verdict == "legal"
    path = tmp_path / "log.txt"
    path.write_text(table.replace("3.8506", "3.9506"))
    only(audit_log(text=path))
    result = {
        "bpb": 1.2048, "bpb_model": 1.3319, "bpb_cache": None, "nats_per_token": 2.306,
        "nats_per_token_model": 2.5493, "bytes": 38681, "tokens": 14008, "tokens_context_only": 3,
        "bpb_standard_error": 0.05,
    }  # fmt: skip
    assert audit_log(text=json.dumps(result, indent=2)).verdict == "legal"
    only(audit_log(text=json.dumps(result | {"nats_per_token_model": 2.6})), "got 1.3319")


def test_the_perplexity_of_a_byte():
    line = '{"wikitext": {"byte_perplexity,none": 1.6898777792, "bits_per_byte,none": 0.7569189}}'
    assert audit_log(text=line).verdict == "legal"
    finding = only(audit_log(text=line.replace("0.7569189", "0.6569189")))
    assert finding.message == (
        "bits per byte must be the logarithm of the byte perplexity to base 2, 0.756919, got "
        "0.6569189 in line 1; take both from one run"
    )


def test_a_share_of_a_known_data_set_is_a_remark():
    report = audit_log(text="val_loss:2.4007 val_bpb:1.0069")
    assert report.verdict == "unknown"
    assert any("sentinel tokens of a lossless transform" in remark for remark in report.remarks)
    report = audit_log(text="val_loss:2.4007 val_bpb:1.0971")
    assert not any("sentinel" in remark for remark in report.remarks)


def test_figures_that_are_no_numbers_are_left_out_and_told():
    report = audit_log(text="val_bpb:nan val_loss:-2\nval_loss:1e999 tokens:0")
    assert report.verdict == "unknown"
    assert report.remarks == (
        "figures that are no number > 0, and were left out: 4; the first is 'val_bpb nan' in line "
        "1",
    )


def test_long_texts(tmp_path):
    line = "val_loss:2.0 val_bpb:0.6 tokens:1000 bytes:4000"
    report = audit_log(text=f"{'x' * 10_000} {line}\n{line}")
    assert only(report).position == 2
    assert report.remarks == ("lines that are too long to be read: 1",)
    with pytest.raises(ValueError) as error:
        audit_log(text="x" * (1 << 22) + "x")
    assert str(error.value) == (
        "a log must have at most 4,194,304 characters, got more; pass the lines with the figures"
    )
    lines = audit_log(text="x\n" * 100_001 + line)
    assert lines.problems[-1] == (
        "a log must have at most 100,000 lines, got 2 more, which are not read; pass them in parts"
    )
    many = audit_log(text="\n".join(["val_bpb:1.08 bytes:3"] * 20_000))
    assert many.verdict == "unknown"
    assert len(many.problems) == 3
    with pytest.raises(ValueError, match=r"a log must be a file, got .*/none.txt; check the path"):
        audit_log(text=tmp_path / "none.txt")
    with pytest.raises(ValueError, match="text must be str or a path, got int; pass the lines"):
        audit_log(text=3)
    assert audit_log(text="[" * 100_000).verdict == "unknown"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("final_int8_zlib_roundtrip val_loss", ("loss", "")), ("val/loss", ("loss", "")),
        ("bits_per_byte,none", ("bpb", "")), ("Validation BPB", ("bpb", "")),
        ("bpb_cache", ("bpb", "cache")), ("best val_bpb", ("bpb", "best")),
        ("bits_per_token", ("loss_bits", "")), ("n_tokens", ("tokens", "")),
        ("train_loss", None), ("bytes_total", None), ("code_bytes", None), ("tokens/s", None),
        ("bpb_standard_error", None), ("bits_per_byte_stderr,none", None), ("tokens_model", None),
        ("word_perplexity,none", None), ("artifact size bytes", None), ("", None),
    ],
)  # fmt: skip
def test_names(name, kind):
    assert kind_of(name) == kind


def test_records_of_a_line():
    log = read_log("step 3 | loss 2.5 | bpb 0.9\nnothing\nbpb: 1.0")
    assert [(r.line, sorted(r.numbers)) for r in log.records] == [
        (1, ["bpb", "loss"]),
        (3, ["bpb"]),
    ]
