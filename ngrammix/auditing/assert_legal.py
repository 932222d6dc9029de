"""assert_legal: the audit of a scorer as one line of anyone's tests."""

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike

from ngrammix.auditing.black_box import audit
from ngrammix.auditing.report import AuditReport
from ngrammix.checks import check_flag


def assert_legal(
    score_fn: Callable[..., Any] | None,
    tokens: ArrayLike | None = None,
    vocab_size: int | None = None,
    *,
    allow_unknown: bool = False,
    **options: Any,
) -> AuditReport:
    """The report of `audit`, if its verdict is ``legal``; else AssertionError with its text.

    It needs no fixture and no plugin, and works under pytest, unittest and ``python -O``.

    Parameters
    ----------
    score_fn, tokens, vocab_size
        As for `audit`.
    allow_unknown : bool
        Accept the verdict ``unknown``: a scorer that raises, hangs or is too slow passes too.
    **options
        Further arguments of `audit`, such as ``seed`` and ``budget_seconds``.

    Raises
    ------
    AssertionError
        If the verdict is ``guilty``, or ``unknown`` without `allow_unknown`. Its text is that of
        the report, with the smallest witness of each finding.
    ValueError
        If an argument is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> from ngrammix import assert_legal
    >>> def uniform(tokens):
    ...     return np.full(len(tokens), np.log(16))
    >>> assert_legal(uniform, vocab_size=16, budget_seconds=1).verdict
    'legal'
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    allow_unknown = check_flag(allow_unknown, "allow_unknown")
    report = audit(score_fn, tokens, vocab_size, **options)
    if report.verdict == "guilty" or (report.verdict == "unknown" and not allow_unknown):
        raise AssertionError(str(report))
    return report
