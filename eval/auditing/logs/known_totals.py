"""Totals of published data sets, and the wrong ones that known bugs make of them."""

from dataclasses import dataclass

from eval.auditing.logs.printed import Printed, about, exact

# The validation set of FineWeb in Parameter Golf: 50,000 documents.
RIGHT = 151_080_891  # bytes, whatever the tokenizer
WIDTH = 1e-4  # relative: the last window is left out, which costs up to 6,600 bytes
TOKENS = {
    62_021_846: "sp1024", 62_021_632: "sp1024", 45_508_608: "sp4096", 40_540_803: "sp8192",
    40_540_160: "sp8192", 37_147_047: "sp16384", 37_146_624: "sp16384",
    47_853_344: "CaseOps sp8192", 47_853_343: "CaseOps sp8192", 47_851_520: "CaseOps sp8192",
}  # fmt: skip
MAX_OPEN = 0.01  # relative: how far digits may leave a ratio open that is recognised
NAME = "FineWeb's validation set"


@dataclass(frozen=True)
class Inflated:
    """A wrong total that is known.

    Attributes
    ----------
    ratio : float
        To the right total.
    width : float
        Relative: how far that of another tokenizer may be off.
    name : str
        The bug.
    """

    ratio: float
    width: float
    name: str


BUGS = (
    Inflated(176_332_748 / RIGHT, 0.002,
             "the leading space of tokens is counted twice, in the table and again where it is "
             "used"),
    Inflated(157_319_833 / RIGHT, 0.002,
             "U+FFFD is counted, three bytes, for tokens that are not UTF-8 alone"),
    Inflated(164_594_398 / RIGHT, 0.002,
             "the sentinel tokens of a lossless transform (CaseOps) are counted"),
    Inflated(1.25, 0.02,
             "the tokenizer has no token for U+2581 alone, so that a space counts three bytes"),
)  # fmt: skip
EXACT = BUGS[:3]  # of which the total is known, not the ratio alone


def is_right(n_bytes: Printed) -> bool:
    """Whether a number of bytes may be that of the validation set."""
    return n_bytes.fits(about(RIGHT, WIDTH))


def bug_of(ratio: Printed) -> str | None:
    """The known bug that makes so many bytes of one; None if there is none, or digits lack."""
    if ratio.high - ratio.low > MAX_OPEN * ratio.value:
        return None
    near = [bug for bug in BUGS if ratio.fits(about(bug.ratio, bug.width))]
    return min(near, key=lambda bug: abs(bug.ratio - ratio.value)).name if near else None


def bug_of_total(n_bytes: Printed) -> str | None:
    """The known bug that counts exactly so many bytes for the validation set."""
    for bug in EXACT:
        if n_bytes.low == n_bytes.high == round(bug.ratio * RIGHT):
            return bug.name
    return None


def bug_of_share(tokens_a_byte: Printed) -> str | None:
    """The bug that gives a known number of tokens this share of the bytes; None if none does.

    A share is no proof: another tokenizer may have it by right.
    """
    for n_tokens, tokenizer in TOKENS.items():
        right = about(n_tokens / RIGHT, WIDTH)
        if tokens_a_byte.fits(right):
            return None
        for bug in EXACT:
            if tokens_a_byte.fits(right / exact(bug.ratio)):
                return f"{bug.name}, with {n_tokens:,} tokens of {tokenizer}"
    return None
