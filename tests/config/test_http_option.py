"""The option ``http``: what is an ASGI application, and what an installation lacks."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gateman import ConfigError, Gateway, Worker
from gateman.config.worker import settings_of

PLAIN = "websocket://127.0.0.1:0"


async def app(_scope: object, _receive: object, _send: object) -> None:
    """Be an ASGI application."""


class Callee:
    """An application as frameworks have them: an object that is called."""

    async def __call__(self, _scope: object, _receive: object, _send: object) -> None:
        """Be called."""


def make() -> Callable[..., Any]:
    """Make one."""
    return app


@pytest.mark.parametrize(
    "http", [None, app, Callee(), partial(app), "site.asgi:application", "app:make.it"]
)
def test_applications_are_taken(http: Any) -> None:
    settings = settings_of(Worker(PLAIN, http=http), now=time.time())

    assert settings.http == http


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        (Callee, "http=Callee is a class: pass an application: Callee()."),
        (5, "http=5 is not an application: pass an ASGI application."),
        (
            "app",
            "http='app' does not name an application: write 'module:attribute', such as"
            " 'site.asgi:application'.",
        ),
        (
            lambda environ, start_response: [environ, start_response],
            "http is not an ASGI application: <lambda> takes (environ, start_response) instead of"
            " (scope, receive, send): wrap a WSGI application (a2wsgi's WSGIMiddleware does).",
        ),
        (
            make,
            "http is not an ASGI application: make takes () -> collections.abc.Callable[...,"
            " typing.Any] instead of (scope, receive, send): pass an ASGI application; of a"
            " function that makes one, pass its result.",
        ),
    ],
)
def test_anything_else_is_refused(http: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Worker(PLAIN, http=http)

    assert str(refused.value) == expected


def test_a_root_path_is_a_prefix() -> None:
    assert Worker(PLAIN, http_root_path="/api").http_root_path == "/api"
    for wrong in ("api", "/api/", "/", None, "/a b"):
        with pytest.raises(ConfigError):
            Worker(PLAIN, http_root_path=wrong)  # type: ignore[arg-type]


def test_one_kind_of_check_at_a_path() -> None:
    with pytest.raises(ConfigError) as refused:
        settings_of(Worker(PLAIN, health_path="/up", live_path="/up"), now=time.time())

    assert str(refused.value) == (
        "worker 'worker' has '/up' as health_path and as live_path: give each a path of its own, or"
        " leave one of them out."
    )


def test_one_answer_to_the_root() -> None:
    with pytest.raises(ConfigError) as refused:
        settings_of(Worker(PLAIN, http=app, test_page=True), now=time.time())

    assert str(refused.value) == (
        "worker 'worker' has test_page and http, which both answer '/': leave test_page out."
    )


def test_a_gateway_has_none() -> None:
    """It runs no application code, so that reloads of the code leave it alone."""
    with pytest.raises(ConfigError) as refused:
        Gateway(PLAIN, http=app)

    assert str(refused.value) == (
        "http: a Gateway runs no application code: declare it on a Worker with an address of its"
        " own."
    )


CHECK = f"""
import sys, time
if sys.argv[1] == "without":
    sys.modules["uvicorn"] = None
from gateman import ConfigError, Worker
from gateman.config.worker import settings_of
worker = Worker({PLAIN!r}, http="asgi:app" if sys.argv[1] != "none" else None)
from gateman.runtime import worker_service
try:
    settings_of(worker, now=time.time())
except ConfigError as error:
    print(error)
print(sorted({{"uvicorn", "starlette", "gateman.net.http_connection"}} & {{
    name for name, module in sys.modules.items() if module is not None
}}))
"""


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (
            "without",
            "worker 'worker' has an HTTP application, which needs uvicorn: install it with `pip"
            " install 'gateman[http]'`.\n[]\n",
        ),
        ("with", "[]\n"),
        ("none", "[]\n"),
    ],
)
def test_uvicorn_is_an_extra(how: str, expected: str) -> None:
    """A missing one is one sentence; without ``http``, and in the master, it is not imported."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, how], capture_output=True, text=True, check=True
    )

    assert done.stdout == expected
