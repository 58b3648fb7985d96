"""The pytest plug-in: a fixture and options; found by pytest itself.

    def test_mine(moe_check):
        moe_check(my_layer, "T=64 d=48 n=32 E=4 K=2 dtype=fp32")

`pytest --moeref-html DIR` keeps a page of every failing check there.
"""
import os
import re
from typing import Any, Callable

import pytest


def pytest_addoption(parser: Any) -> None:
    parser.getgroup("moeref").addoption("--moeref-html", metavar="DIR", default=None,
                                        help="write a page of each failing moe_check here")


@pytest.fixture
def moe_check(request: Any) -> Callable[..., Any]:
    """A function as moeref.check that fails the test with the report."""

    def judge(subject: Any, case: Any, **how: Any) -> Any:
        __tracebackhide__ = True
        from moeref import check
        from moeref.testing import sentence
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
