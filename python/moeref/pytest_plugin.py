"""The pytest plug-in: a fixture and options; found by pytest itself.

    def test_mine(moe_check):
        moe_check(my_layer, "T=64 d=48 n=32 E=4 K=2 dtype=fp32")

`pytest --moeref-html DIR` keeps a page of every failing check there.
"""
import os
import re
from typing import TYPE_CHECKING, Any, Callable

import pytest

if TYPE_CHECKING:
    from ._case import CaseLike
    from ._check import Report, Subject


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("moeref").addoption("--moeref-html", metavar="DIR", default=None,
                                        help="write a page of each failing moe_check here")


@pytest.fixture
def moe_check(request: pytest.FixtureRequest) -> "Callable[..., Report]":
    """A function as moeref.check that fails the test with the report."""
    from moeref import check
    from moeref.testing import sentence, taking

    @taking(check)
    def judge(subject: "Subject", case: "CaseLike", **how: Any) -> "Report":
        __tracebackhide__ = True
        report = check(subject, case, **how)
        if report.passed:
            return report
        folder = request.config.getoption("--moeref-html")
        if folder:
            os.makedirs(folder, exist_ok=True)
            name = re.sub(r"[^\w.-]+", "_", request.node.nodeid)
            report.html(os.path.join(folder, name + ".html"))
        pytest.fail(sentence(report), pytrace=False)

    return judge
