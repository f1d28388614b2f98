"""Loading ASGI applications, and their lifespans: which start, which fail, and in what words."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import gateman
from gateman import ConfigError, Worker
from gateman.errors import ApplicationNotStarted
from gateman.runtime.asgi import Lifespan, load
from tests.support.loop import on_loop
from tests.support.server import serve

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


def later(seconds: float = 30.0) -> float:
    """Give a deadline."""
    return asyncio.get_running_loop().time() + seconds


@on_loop
async def test_both_events_come_in_order_and_share_a_state() -> None:
    """What the application keeps at its start is there until its end."""
    seen: list[object] = []

    async def app(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        scope["state"]["database"] = "open"
        while True:
            message = await receive()
            seen.append(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    lifespan = Lifespan(app, "chat")
    await lifespan.start()
    seen.append(dict(lifespan.state))
    await lifespan.stop(later())

    assert seen == ["lifespan.startup", {"database": "open"}, "lifespan.shutdown"]


async def _unaware(scope: Mapping[str, Any], _receive: Receive, _send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError("only HTTP")


async def _ignoring(_scope: object, _receive: Receive, _send: Send) -> None:
    return


async def _mistaken(_scope: object, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize("app", [_unaware, _ignoring, _mistaken])
@on_loop
async def test_an_application_may_have_no_lifespan(app: Callable[..., Any]) -> None:
    """As the specification says, it is served then."""
    lifespan = Lifespan(app, "chat")

    await lifespan.start()
    await lifespan.stop(later())


async def _telling(_scope: object, receive: Receive, send: Send) -> None:
    await receive()
    await send(
        {"type": "lifespan.startup.failed", "message": "Traceback\nLookupError: no database\n"}
    )


async def _silent(_scope: object, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed"})


async def _raising(_scope: object, receive: Receive, _send: Send) -> None:
    await receive()
    raise LookupError("no database")


async def _raising_behind(scope: object, receive: Receive, send: Send) -> None:
    await _telling(scope, receive, send)
    raise LookupError("no database\nat all")


HERE = f"(at {__file__}:{_raising.__code__.co_firstlineno + 2})"
BEHIND = f"(at {__file__}:{_raising_behind.__code__.co_firstlineno + 2})"


@pytest.mark.parametrize(
    ("app", "expected"),
    [
        (_telling, "LookupError: no database"),
        (_silent, "it does not say why"),
        (_raising, f"LookupError: no database {HERE}"),
        (_raising_behind, f"LookupError: no database {BEHIND}"),
    ],
)
@on_loop
async def test_a_start_that_fails_is_one_sentence(app: Callable[..., Any], expected: str) -> None:
    with pytest.raises(ApplicationNotStarted) as failed:
        await Lifespan(app, "chat").start()

    assert str(failed.value) == f"the HTTP application did not start: {expected}"


@on_loop
async def test_a_worker_whose_application_fails_does_not_serve() -> None:
    """In a program of its own, the error is the program's."""
    with pytest.raises(ApplicationNotStarted):
        async with gateman.serve(Worker("websocket://127.0.0.1:0", http=_raising)):
            pass


@on_loop
async def test_an_end_that_fails_stops_nothing() -> None:
    """It is logged, and so is one that takes too long."""

    def app_of(end: Callable[[Send], Awaitable[None]]) -> Callable[..., Any]:
        async def app(_scope: object, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await end(send)

        return app

    async def fail(_send: Send) -> None:
        raise LookupError("no database")

    async def say(send: Send) -> None:
        await send({"type": "lifespan.shutdown.failed", "message": "no database"})

    async def wait(_send: Send) -> None:
        await asyncio.Event().wait()

    lines: list[str] = []
    for end in (fail, say, wait):
        async with serve(http=app_of(end), timeouts={"shutdown": 0.2}, errors=ERRORS[len(lines)]):
            lines.append("")


ERRORS = [
    ["worker: the shutdown of the HTTP application failed <- LookupError('no database')"],
    ["worker: the shutdown of the HTTP application failed: no database"],
    ["worker: the shutdown of the HTTP application took longer than timeouts.shutdown"],
]


# Names of applications.


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put some modules where they are found."""
    (tmp_path / "asgi_app.py").write_text(
        "async def app(scope, receive, send): pass\nclass site: inner = app\nnumber = 5\n"
    )
    (tmp_path / "asgi_broken.py").write_text("import asgi_missing\n")
    (tmp_path / "asgi_raising.py").write_text("\nraise LookupError('no settings')\n")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("modules")
def test_an_application_may_be_named() -> None:
    app = load("asgi_app:app")

    assert load("asgi_app:site.inner") is app
    assert load(app) is app


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "asgi_none:app",
            "http='asgi_none:app': there is no module 'asgi_none': name a module that the script"
            " could import.",
        ),
        (
            "asgi_app:nothing",
            "http='asgi_app:nothing': asgi_app has no 'nothing': name the variable that holds the"
            " application.",
        ),
        ("asgi_app:number", "http=5 is not an application: pass an ASGI application."),
    ],
)
def test_a_name_that_is_not_found_is_a_mistake(name: str, expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(name)

    assert str(refused.value) == expected


@pytest.mark.usefixtures("modules")
def test_a_module_that_fails_says_where(tmp_path: Path) -> None:
    """Also one that imports what is missing."""
    with pytest.raises(ApplicationNotStarted) as broken:
        load("asgi_broken:app")
    with pytest.raises(ApplicationNotStarted) as raising:
        load("asgi_raising:app")
    for name in ("asgi_broken", "asgi_raising"):
        sys.modules.pop(name, None)

    assert broken.value.problem == "ModuleNotFoundError: No module named 'asgi_missing'"
    assert raising.value.problem == "LookupError: no settings"
    assert raising.value.location == f"{tmp_path}/asgi_raising.py:2"
