"""CPU time of the tests: ``make test`` fails when a suite takes more than its budget.

CPU time instead of wall time, because machines that run tests are busy. The time of a test is that
of its own process and of the child processes that ended meanwhile, so a session's fixture counts
for the test that starts it.
"""

import os
from collections.abc import Iterator

import pytest

PROPERTY = "cpu_seconds"
SLOWEST = 10
"""Tests that the summary lists."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--budget", metavar="SECONDS", type=float, help="fail when the tests take more CPU time"
    )


def pytest_configure(config: pytest.Config) -> None:
    if (seconds := config.getoption("budget")) is not None:
        config.pluginmanager.register(Budget(seconds), "budget")


class Budget:
    """Collects the CPU seconds of each test, in the process that reports them."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spent: dict[str, float] = {}
        self._started = 0.0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:  # noqa: ARG002
        self._started = _cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        try:
            return (yield)
        finally:
            item.user_properties.append((PROPERTY, _cpu_seconds() - self._started))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            properties = dict(report.user_properties)
            self._spent[report.nodeid] = float(str(properties.get(PROPERTY, 0)))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._total > self._seconds and "PYTEST_XDIST_WORKER" not in os.environ:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section(f"CPU time: {self._total:.0f} s of {self._seconds:.0f} s")
        slowest = sorted(self._spent, key=self._spent.__getitem__, reverse=True)[:SLOWEST]
        for name in slowest:
            terminalreporter.write_line(f"{self._spent[name]:6.1f} s  {name}")
        if self._total > self._seconds:
            terminalreporter.write_line("over the budget: mark tests as slow, or make them cheaper")

    @property
    def _total(self) -> float:
        return sum(self._spent.values())


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
