"""The plain HTTP port: the answer to a challenge, or a redirect that leads to our names only."""

import pytest

from gateman.http.challenge import answer
from gateman.http.response import Response
from gateman.request import parse_request

NAMES = ("example.com", "*.wild.test", "192.0.2.1", "2001:db8::1", "xn--mnchen-3ya.example")


def ask(
    target: str = "/", *hosts: str, method: str = "GET", version: str = "1.1", port: int = 443
) -> Response:
    """Answer a request for the open challenge ``open``."""
    lines = [f"{method} {target} HTTP/{version}", *(f"Host: {host}" for host in hosts), "", ""]
    request = parse_request("\r\n".join(lines).encode(), max_header_count=10, is_plain=True)
    answers = {"open": b"open.thumbprint"}
    return answer(request, names=NAMES, port=port, find=answers.get)


def location(response: Response) -> str | None:
    assert (response.status, "Location" in response.headers) in {(308, True), (421, False)}
    return response.headers.get("Location")


@pytest.mark.parametrize("hosts", [("example.com",), ("else.test",), ("example.com:80",)])
def test_a_challenge_is_answered_whatever_the_host_is(hosts: tuple[str, ...]) -> None:
    """An authority may be redirected here by another server."""
    response = ask("/.well-known/acme-challenge/open", *hosts)

    assert response == Response(200, b"open.thumbprint", "application/octet-stream")


@pytest.mark.parametrize(
    "token",
    ["", "other", "open/", "../open", "open?x", "%6fpen", "a" * 201, "..", "open/../open"],
)
def test_only_tokens_are_looked_for(token: str) -> None:
    assert ask(f"/.well-known/acme-challenge/{token}", "example.com").status == 404


@pytest.mark.parametrize(
    ("target", "host", "wanted"),
    [
        ("/", "example.com", "https://example.com/"),
        ("/a%20b?c=d&e", "EXAMPLE.com.", "https://example.com/a%20b?c=d&e"),
        ("/", "example.com:80", "https://example.com/"),
        ("//evil.test/x", "example.com", "https://example.com//evil.test/x"),
        ("http://evil.test/x", "example.com", "https://example.com/"),
        ("/", "chat.wild.test", "https://chat.wild.test/"),
        ("/", "192.0.2.1", "https://192.0.2.1/"),
        ("/", "[2001:db8:0::1]:80", "https://[2001:db8::1]/"),
        ("/", "wild.test", None),
        ("/", "a.b.wild.test", None),
        ("/", "evil.test", None),
        ("/", "example.com.evil.test", None),
        ("/", "192.0.2.2", None),
        ("/", "", None),
        ("/", "[zz]", None),
    ],
)
def test_other_requests_are_redirected_to_our_own_names(
    target: str, host: str, wanted: str | None
) -> None:
    assert location(ask(target, host)) == wanted


def test_a_request_without_a_host_is_not_redirected() -> None:
    assert location(ask("/", version="1.0")) is None


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS", "PUT"])
def test_a_redirect_keeps_the_method(method: str) -> None:
    """308 and not 301 (RFC 9110, section 15.4.9)."""
    assert location(ask("/x", "example.com", method=method)) == "https://example.com/x"


def test_a_redirect_names_another_port() -> None:
    assert location(ask("/", "example.com:80", port=8443)) == "https://example.com:8443/"
