"""For tests: a failure that can be read."""
from typing import Any

from ._case import CaseLike
from ._check import Report, check


__tracebackhide__ = True


def sentence(report: Report) -> str:
    """Why it failed, in one line, which is all that a summary of tests shows; then the report."""
    cause = f"; {report.explanation}" if report.explanation else ""
    return f"{report.why or report.verdict}{cause}\n{report}"


def assert_close_moe(subject: Any, case: CaseLike, **how: Any) -> Report:
    """AssertionError, with the whole report, unless `subject` passes moeref.check on `case`.

    Arguments are those of moeref.check. Returns the report.
    """
    report = check(subject, case, **how)
    if not report.passed:
        raise AssertionError(sentence(report))
    return report
