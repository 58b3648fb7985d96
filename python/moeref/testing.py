"""For tests: a failure that can be read."""
import inspect
from typing import TYPE_CHECKING, Any, Callable

from ._case import CaseLike
from ._check import Report, Subject, check

if TYPE_CHECKING:
    from typing_extensions import ParamSpec
    _Arguments = ParamSpec("_Arguments")

__tracebackhide__ = True


def sentence(report: Report) -> str:
    """Why it failed, in one line, which is all that a summary of tests shows; then the report."""
    cause = f"; {report.explanation}" if report.explanation else ""
    return f"{report.why or report.verdict}{cause}\n{report}"


def taking(model: "Callable[_Arguments, Report]"
           ) -> "Callable[[Callable[..., Report]], Callable[_Arguments, Report]]":
    """A decorator for what hands its arguments on to `model`: editors, type checkers and help()
    show those of `model`."""
    def signed(function: Callable[..., Report]) -> "Callable[_Arguments, Report]":
        setattr(function, "__signature__", inspect.signature(model))
        return function
    return signed


@taking(check)
def assert_close_moe(subject: Subject, case: CaseLike, **how: Any) -> Report:
    """AssertionError, with the whole report, unless `subject` passes moeref.check on `case`.

    Arguments are those of moeref.check. Returns the report.
    """
    report = check(subject, case, **how)
    if not report.passed:
        raise AssertionError(sentence(report))
    return report
