"""Answers to requests that are not WebSocket handshakes: health checks, the test page, the rest."""

from collections.abc import Callable
from importlib import resources

from msgspec.structs import replace

from ..config.settings import WorkerSettings
from ..http import response
from ..request import ALLOW, Request


class PlainAnswers:
    """The answers of one worker; ``problem`` returns why it should get no clients, or nothing."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        problem: Callable[[], str],
        answered: Callable[[int], object] | None,
    ) -> None:
        self._settings = settings
        self._problem = problem
        self._answered = answered
        self._page = _test_page() if settings.test_page else b""

    def answer(self, request: Request) -> response.Response:
        return self._counted(self._answer(request))

    def answer_before_application(self, request: Request) -> response.Response | None:
        """Answer what neither the HTTP application nor the HTTP API gets."""
        settings = self._settings
        if request.target == "*" or request.path == settings.health_path:
            return self._counted(response.health(self._problem()))
        if request.path == settings.live_path:
            return self._counted(response.health())
        if settings.http is None and not request.path.startswith("/api/"):
            return self.answer(request)
        return None

    def _answer(self, request: Request) -> response.Response:
        path = request.path
        if request.method == "OPTIONS":
            # The default method of HAProxy's health checks.
            return replace(response.health(self._problem()), headers=ALLOW)
        if path == self._settings.health_path:
            return response.health(self._problem())
        if path == self._settings.live_path:
            return response.health()
        if self._page and path == "/":
            return response.page(self._page)
        return response.upgrade_required()

    def _counted(self, answer: response.Response) -> response.Response:
        if self._answered is not None:
            self._answered(answer.status)
        return answer


def _test_page() -> bytes:
    return resources.files("gateman").joinpath("pages/test.html").read_bytes()
