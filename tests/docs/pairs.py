"""Reads the pairs of a violation and the correct form from a page, and audits them.

A scorer is a ``python`` block whose first line is ``# violation`` or ``# correct``; the function or
class that it defines first is audited. The next ``text`` block is what the auditor says of the
violation: the condition, and the message. All blocks share a namespace.

``python -m tests.docs.pairs`` writes these messages into the page.
"""

import re
import textwrap
from dataclasses import dataclass

import numpy as np

import ngrammix
from eval import audit_bytes, load_model
from tests.docs.pages import ROOT, Block, blocks_of

PAGE = ROOT / "docs" / "guides" / "legal-scores.md"
WIDTH = 100
TOKENS = np.random.default_rng(0).zipf(1.5, 128) % 16
TEXT = "Café, naïve: 12 €"


@dataclass(frozen=True)
class Scorer:
    """A scorer of the page: its name, whether it is correct, and what the page says of it."""

    name: str
    is_correct: bool
    value: object
    message: Block | None

    @property
    def condition(self):
        """The condition that the page says is broken."""
        return self.message.code.split()[0]


def read_scorers(page=PAGE):
    """All scorers of a page, in order; each block is run once."""
    namespace, scorers = {}, []
    blocks = blocks_of(page)
    for i, block in enumerate(blocks):
        if block.language != "python":
            continue
        exec(compile(block.code, str(page), "exec"), namespace)
        kind = re.match(r"# (violation|correct)\n", block.code)
        if kind:
            name = re.search(r"^(?:def|class) (\w+)", block.code, re.MULTILINE)[1]
            later = [b for b in blocks[i:] if b.language == "text"]
            message = later[0] if kind[1] == "violation" else None
            scorers.append(Scorer(name, kind[1] == "correct", namespace[name], message))
    return scorers


def audited(scorer):
    """The report on a scorer: a function of tokens, a stepper, or the bytes of a tokenizer's ids.

    So few positions that the checks end by themselves: the clock has no say.
    """
    if scorer.name.startswith("bytes_"):
        tokenizer = load_model("demo").tokenizer
        return audit_bytes(tokenizer, TEXT, scorer.value(tokenizer))
    is_stepper = isinstance(scorer.value, type)
    return ngrammix.audit(
        None if is_stepper else scorer.value,
        TOKENS,
        16,
        stepper=scorer.value if is_stepper else None,
        n_positions=32,
        budget_seconds=30,
    )


def said(report, condition):
    """What the report says of a condition: its name and the first message, as the page shows it."""
    messages = [f.message for f in report.findings if f.condition == condition]
    text = f"{condition}  {messages[0]}" if messages else ""
    return "".join(f"{line}\n" for line in textwrap.wrap(text, WIDTH, subsequent_indent="    "))


def write_messages(page=PAGE):
    """Write what the auditor says of each violation into the page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for scorer in reversed([s for s in read_scorers(page) if s.message]):
        begin = scorer.message.line
        end = begin + scorer.message.code.count("\n")
        lines[begin:end] = said(audited(scorer), scorer.condition).splitlines()
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write_messages()
