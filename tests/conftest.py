"""
Rules for every test: where ``CI`` is ``true``, a skipped test is a failed one.

A laptop may lack Apache or a browser; there the test says what it misses. Warnings are errors and
every test has a deadline: both are options in ``pyproject.toml``. ``make test`` runs tests in
parallel, two per core; one that is marked ``alone`` waits until no other runs, and the others wait
for it. Those come first, while nothing long runs; then those that are marked ``long``, so that
nothing waits for them at the end.
"""

import contextlib
import fcntl
import gc
import importlib
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from gateman.config.base import BaseWorker

# A shell that runs the tests in the background has them ignore SIGINT, as nohup does with SIGHUP,
# and each program that a test starts would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Without compiled files, each program that a test starts compiles gateman again: half of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

IS_CI = os.environ.get("CI") == "true"

# pytest-timeout has the deadline, for a busy machine is slow; CI must not fail by chance.
settings.register_profile("gateman", deadline=None, derandomize=IS_CI)
settings.load_profile("gateman")

# pytest-xdist sets the variable in the processes that it starts.
IS_PARALLEL = "PYTEST_XDIST_WORKER" in os.environ

# Locks of the processes that run tests in this checkout. A process holds QUEUE while it waits for
# MACHINE, so that no later test overtakes one that is to run alone.
QUEUE = os.open(__file__, os.O_RDONLY)
MACHINE = os.open(os.path.dirname(__file__), os.O_RDONLY)  # noqa: PTH120 - a string suffices


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run two tests per core: many of them wait most of the time."""
    return 2 * (os.cpu_count() or 1)


# First of those that collect: what they import then is compiled already.
@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """
    Share the compiling of test modules, which takes longer than all else before the first test.

    Each process needs all of them. One that starts with its own part finds the rest compiled.
    """
    if not IS_PARALLEL:
        return
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    modules = [path for argument in session.config.args for path in modules_in(argument)]
    for path in modules[number :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]:
        name = ".".join(path.relative_to(session.config.rootpath).with_suffix("").parts)
        # Of one that cannot be imported, or skips itself, pytest tells when it collects it.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def modules_in(argument: str) -> list[Path]:
    """Find the test modules that an argument of the command line names."""
    path = Path(argument.partition("::")[0]).absolute()
    modules = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
    return [module for module in modules if Path(__file__).parent in module.parents]


# After pytest's own, which keeps together what shares a fixture.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if IS_PARALLEL:
        items[:] = in_order(items, int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))


def pytest_collection_finish() -> None:
    """Keep the garbage collector from the tests that wait: a third of a million objects."""
    gc.freeze()


def in_order(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Order tests for ``--dist worksteal``, which begins with an equal run of them per worker."""
    urgent = [item for name in ("alone", "long") for item in items if item.get_closest_marker(name)]
    others = [item for item in items if item not in set(urgent)]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        first = urgent[worker::workers]
        size = (len(items) - len(ordered)) // (workers - worker) - len(first)
        ordered += first + others[:size]
        del others[:size]
    return ordered


# Around pytest-timeout's, whose clock is not to run while a test waits for its turn.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test that is marked ``alone`` while no other runs."""
    if not IS_PARALLEL:
        return (yield)
    is_alone = item.get_closest_marker("alone") is not None
    fcntl.flock(QUEUE, fcntl.LOCK_EX)
    fcntl.flock(MACHINE, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH)
    fcntl.flock(QUEUE, fcntl.LOCK_UN)
    try:
        return (yield)
    finally:
        fcntl.flock(MACHINE, fcntl.LOCK_UN)


@pytest.fixture(autouse=True)
def declared() -> Iterator[list[BaseWorker]]:
    """What is declared so far; what a test declares is forgotten after it."""
    workers = BaseWorker._declared  # noqa: SLF001
    before = list(workers)
    yield workers
    workers[:] = before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail what a test or its fixtures skipped; an expected failure is none of them."""
    report = yield
    if IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that skipped itself as a whole."""
    report = yield
    if IS_CI and report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    report.outcome = "failed"
    report.longrepr = f"CI must have everything, but this was skipped: {_reason(report)}"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    # Of a skip, pytest keeps (path, line, reason).
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
