"""For tests: a failure that can be read."""
from typing import Any

from ._case import CaseLike
from ._check import Report, check


def assert_close_moe(subject: Any, case: CaseLike, **how: Any) -> Report:
    """AssertionError, with the whole report, unless `subject` passes moeref.check on `case`.

    Arguments are those of moeref.check. Returns the report.
    """
    __tracebackhide__ = True
    report = check(subject, case, **how)
    if not report.passed:
        raise AssertionError("\n" + str(report))
    return report
