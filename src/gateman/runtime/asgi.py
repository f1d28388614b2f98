"""Loads an ASGI application, and runs its lifespan (ASGI specification, Lifespan Protocol 2.0)."""

import asyncio
import importlib
from collections import Counter
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

from ..cluster.node import Node
from ..config.checks import asgi_application
from ..config.settings import WorkerSettings
from ..errors import ApplicationNotStarted, ConfigError
from ..http.response import Response
from ..log import logger
from ..net.http_application import HttpApplication
from ..request import Request
from .lifecycle import user_location, waiting_for

# For a task to end behind its last message, or when it is cancelled.
_TASK_TIMEOUT = 1.0  # seconds

Application = Callable[..., Any]


def load(application: Application | str) -> Application:
    """Return an application, which may be named as ``module:attribute``."""
    if not isinstance(application, str):
        return application
    module, _, attribute = application.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        # It may also be a module that the application imports.
        if name is not None and f"{module}.".startswith(f"{name}."):
            raise ConfigError(
                f"http={application!r}: there is no module {name!r}",
                "name a module that the script could import",
            ) from None
        raise _not_started(error) from error
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if found is None:
        raise ConfigError(
            f"http={application!r}: {module} has no {attribute!r}",
            "name the variable that holds the application",
        )
    checked: Application = asgi_application(found)
    return checked


class Lifespan:
    """The events that an application gets at the start and at the end of a process."""

    def __init__(self, application: Application, name: object) -> None:
        # What the application puts here; each request has a copy of it.
        self.state: dict[str, Any] = {}
        self._application = application
        self._name = name
        self._task: asyncio.Task[None] | None = None
        self._is_asked = self._is_running = False
        loop = asyncio.get_running_loop()
        self._must_stop = asyncio.Event()
        self._start: asyncio.Future[str | None] = loop.create_future()
        self._end: asyncio.Future[str | None] = loop.create_future()

    async def start(self) -> None:
        """Wait for the application's start; raises ApplicationNotStarted."""
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        coroutine = self._application(scope, self._receive, self._send)
        self._task = asyncio.ensure_future(coroutine)
        with waiting_for("the startup of the HTTP application", coroutine):
            await asyncio.wait([self._start, self._task], return_when=asyncio.FIRST_COMPLETED)
        if not self._start.done():
            error = self._task.exception()
            if error is not None and self._is_asked:
                raise _not_started(error)
            # The application has no lifespan, and need not have one. Django has none.
            self._start.cancel()
            return
        problem = self._start.result()
        if problem is None:
            self._is_running = True
            return
        # An application says that it has failed, and raises what it has failed with.
        await asyncio.wait([self._task], timeout=_TASK_TIMEOUT)
        error = self._task.exception() if self._task.done() else None
        self._task.cancel()
        if error is not None:
            raise _not_started(error)
        raise ApplicationNotStarted(problem)

    async def stop(self, deadline: float) -> None:
        """Wait for the application's end; a failure is logged and stops nothing."""
        if self._task is None or not self._is_running:
            return
        self._must_stop.set()
        loop = asyncio.get_running_loop()
        await asyncio.wait([self._task], timeout=max(deadline - loop.time(), 0))
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_TASK_TIMEOUT)
            if not self._end.done():
                logger.error(
                    "%s: the shutdown of the HTTP application took longer than timeouts.shutdown",
                    self._name,
                )
            return
        error = None if self._task.cancelled() else self._task.exception()
        problem = self._end.result() if self._end.done() else None
        if error is not None or problem is not None:
            logger.error(
                "%s: the shutdown of the HTTP application failed%s",
                self._name,
                "" if error is not None else f": {problem}",
                exc_info=error,
            )

    async def _receive(self) -> dict[str, str]:
        if not self._is_asked:
            self._is_asked = True
            return {"type": "lifespan.startup"}
        await self._must_stop.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Mapping[str, Any]) -> None:
        kind = message["type"]
        # Starlette sends the traceback.
        lines = str(message.get("message", "")).strip().splitlines()
        problem = (lines[-1] if lines else "it does not say why") if "failed" in kind else None
        if kind in {"lifespan.startup.complete", "lifespan.startup.failed"}:
            answer = self._start
        elif kind in {"lifespan.shutdown.complete", "lifespan.shutdown.failed"}:
            answer = self._end
        else:
            # It takes every scope for a request.
            self._is_asked = False
            raise RuntimeError(f"{kind} was sent in a lifespan")
        if not answer.done():
            answer.set_result(problem)


def _not_started(error: BaseException) -> ApplicationNotStarted:
    said = str(error).strip().splitlines()
    kind = type(error).__name__
    return ApplicationNotStarted(f"{kind}: {said[0]}" if said else kind, user_location(error))


class ServedApplication:
    """The application of a worker in this process, and the HTTP API in front of it."""

    def __init__(self, settings: WorkerSettings, name: object, counts: Counter[str]) -> None:
        self._settings = settings
        self._name = name
        self._counts = counts
        self._http: HttpApplication | None = None
        self._lifespan: Lifespan | None = None

    @property
    def http(self) -> HttpApplication:
        """What answers requests, from the end of :meth:`start` on."""
        assert self._http is not None
        return self._http

    async def start(self, node: Node, answer: Callable[[Request], Response | None]) -> None:
        """Load it and run its startup; ``answer`` is asked about each request before it is."""
        settings = self._settings
        application: Application | None = None
        state: dict[str, Any] = {}
        if settings.http is not None:
            application = load(settings.http)
            self._lifespan = Lifespan(application, self._name)
            await self._lifespan.start()
            state = self._lifespan.state
        if settings.api_key is not None:
            from .api_application import ApiApplication

            now = asyncio.get_running_loop().time
            application = ApiApplication(node, settings.api_key, application, now)
        assert application is not None
        self._http = HttpApplication(
            application,
            name=str(self._name),
            counts=self._counts,
            answer=answer,
            own_paths=filter(None, (settings.health_path, settings.live_path)),
            max_requests=settings.limits.max_requests,
            root_path=settings.http_root_path,
            state=state,
            context=copy_context(),
        )

    async def finish(self, seconds: float) -> None:
        if self._http is not None:
            await self._http.finish(seconds)

    async def stop(self, deadline: float) -> None:
        if self._lifespan is not None:
            await self._lifespan.stop(deadline)
