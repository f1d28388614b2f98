"""Which plain request gets which answer."""

from typing import Any

import pytest

from gateman import Worker
from gateman.config.worker import settings_of
from gateman.request import Request, parse_request
from gateman.runtime.plain_answers import PlainAnswers


def answers(problem: str = "", **options: Any) -> tuple[PlainAnswers, list[int]]:
    """Make the answers of a worker, and the list of their statuses."""
    settings = settings_of(Worker("ws://127.0.0.1:1", **options), now=0.0)
    statuses: list[int] = []
    made = PlainAnswers(settings, problem=lambda: problem, answered=statuses.append)
    return made, statuses


def request(target: str, method: str = "GET") -> Request:
    head = f"{method} {target} HTTP/1.1\r\nHost: chat.example\r\n\r\n".encode()
    return parse_request(head, max_header_count=10, is_plain=True)


@pytest.mark.parametrize(
    ("target", "method", "problem", "status"),
    [
        ("/healthz", "GET", "", 200),
        ("/healthz", "GET", "draining", 503),
        ("/livez", "GET", "draining", 200),
        ("/", "OPTIONS", "", 200),
        ("*", "OPTIONS", "draining", 503),
        ("/", "GET", "", 426),
        ("/other", "GET", "", 426),
    ],
)
def test_without_an_application(target: str, method: str, problem: str, status: int) -> None:
    made, statuses = answers(problem)

    assert made.answer(request(target, method)).status == status
    assert statuses == [status]


def test_the_test_page_is_at_the_root() -> None:
    made, _ = answers(test_page=True)

    assert made.answer(request("/")).status == 200
    assert made.answer(request("/other")).status == 426


@pytest.mark.parametrize(
    ("target", "problem", "status"),
    [
        ("/healthz", "draining", 503),
        ("*", "", 200),
        ("/livez", "draining", 200),
        ("/", "", None),
        ("/api/publish", "", None),
    ],
)
def test_before_an_application(target: str, problem: str, status: int | None) -> None:
    """It gets what this does not answer."""
    made, statuses = answers(problem, http="json:dumps")
    answer = made.answer_before_application(request(target, "OPTIONS"))

    assert (None if answer is None else answer.status) == status
    assert statuses == [] if status is None else [status]


def test_before_the_http_api_alone() -> None:
    """It has one path, and the others are answered as without it."""
    made, _ = answers(api_key="a-key-for-these-tests")

    assert made.answer_before_application(request("/api/publish", "POST")) is None
    answer = made.answer_before_application(request("/other"))
    assert answer is not None
    assert answer.status == 426
