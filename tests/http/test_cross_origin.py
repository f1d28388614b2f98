"""Whether the page that opened a WebSocket is of the service's own host: a table of heads."""

import pytest

from gateman.http.cross_origin import CREDENTIALS, explain, has_credentials, is_cross_origin
from gateman.request import Request, parse_request
from tests.support.raw import handshake

SAME, OTHER = False, True


def request_of(host: str, *headers: str) -> Request:
    """Parse a handshake."""
    return parse_request(handshake(host=host, headers=headers), max_header_count=100)


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("example.com", "https://example.com", SAME),
        ("example.com:8282", "https://example.com", SAME),
        ("EXAMPLE.com.", "https://example.COM", SAME),
        ("localhost:8282", "http://localhost:8000", SAME),
        ("[::1]:8282", "http://[::1]:8000", SAME),
        ("example.com", "capacitor://example.com", SAME),
        ("example.com", "https://evil.example", OTHER),
        ("example.com", "https://www.example.com", OTHER),
        ("www.example.com", "https://example.com", OTHER),
        ("example.com", "https://example.com.evil.example", OTHER),
        ("example.com", "https://example.com@evil.example", OTHER),
        ("127.0.0.1:8282", "http://localhost:8282", OTHER),
        ("example.com", "null", OTHER),
        ("example.com", "file://", OTHER),
        ("example.com", "", OTHER),
        ("", "", OTHER),
        ("", "null", OTHER),
        ("example.com", "https://[", OTHER),
    ],
)
def test_hosts_are_compared_without_ports(host: str, origin: str, *, expected: bool) -> None:
    """What names no host is no page of ours."""
    assert is_cross_origin(request_of(host, f"Origin: {origin}"), is_proxied=False) is expected
    assert is_cross_origin(request_of(host, f"Origin: {origin}"), is_proxied=True) is expected


def test_clients_without_an_origin_are_not_pages() -> None:
    """Only browsers act for a user who did not ask for it."""
    assert not is_cross_origin(request_of("example.com", "Cookie: a=b"), is_proxied=False)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (["X-Forwarded-Host: example.com"], SAME),
        (["X-Forwarded-Host: example.com:443"], SAME),
        (["X-Forwarded-Host: example.com, inner.lan"], SAME),
        (["X-Forwarded-Host: outer.lan", "X-Forwarded-Host: example.com"], SAME),
        (['Forwarded: for=192.0.2.1;host="example.com:443";proto=https'], SAME),
        (["Forwarded: host=example.com, for=192.0.2.1"], SAME),
        (["X-Forwarded-Host: other.example"], OTHER),
        (["Forwarded: for=192.0.2.1"], OTHER),
        (["Forwarded: host=example.com;host=example.com"], OTHER),
    ],
)
def test_a_trusted_proxy_tells_the_host(headers: list[str], *, expected: bool) -> None:
    """Apache replaces Host by the worker's address; a peer that is not trusted is not heard."""
    request = request_of("127.0.0.1:8282", "Origin: https://example.com", *headers)

    assert is_cross_origin(request, is_proxied=True) is expected
    assert is_cross_origin(request, is_proxied=False)


def test_a_forwarded_host_stands_in_place_of_host() -> None:
    """A page of the upstream's name is not a page of the site."""
    request = request_of(
        "127.0.0.1:8282", "Origin: http://127.0.0.1:8282", "X-Forwarded-Host: example.com"
    )

    assert is_cross_origin(request, is_proxied=True)
    assert not is_cross_origin(request, is_proxied=False)


@pytest.mark.parametrize(
    ("header", "expected"),
    [("cookie: a=b", True), ("AUTHORIZATION: Basic YTpi", True), ("A: b", False)],
)
def test_credentials_are_what_browsers_add(header: str, *, expected: bool) -> None:
    """In whatever case."""
    assert has_credentials(request_of("example.com", header)) is expected
    assert set(CREDENTIALS) == {"Cookie", "Authorization"}


PAGE = "the page is of 'https://example.com' and the service of "
REMEDY = ": add the page's origin to allowed_origins if it is yours"


@pytest.mark.parametrize(
    ("host", "headers", "is_proxied", "expected"),
    [
        ("other.example", [], False, f"{PAGE}'other.example'{REMEDY}"),
        ("other.example", [], True, f"{PAGE}'other.example'{REMEDY}"),
        ("127.0.0.1:8282", [], False, f"{PAGE}'127.0.0.1:8282'{REMEDY}"),
        *(
            (
                host,
                [],
                True,
                f"{PAGE}'{host}'{REMEDY}; if the page is of this service's own site, the proxy in"
                " front replaces the Host: let it pass that on (nginx: proxy_set_header Host"
                " $http_host; Apache: ProxyPreserveHost On)",
            )
            for host in ("127.0.0.1:8282", "[::1]:8282", "10.0.0.1", "backend", "w1.lan:8282", "")
        ),
        (
            "127.0.0.1:8282",
            ["X-Forwarded-Host: other.example"],
            True,
            f"{PAGE}'other.example'{REMEDY}",
        ),
        (
            "worker.lan",
            ["X-Forwarded-Host: example.com"],
            False,
            f"{PAGE}'worker.lan'{REMEDY}, or the proxy that sent X-Forwarded-Host to"
            " trusted_proxies",
        ),
    ],
)
def test_the_sentence_names_what_to_change(
    host: str, headers: list[str], expected: str, *, is_proxied: bool
) -> None:
    """Behind a proxy that does not pass Host on, the line of its configuration that is missing."""
    request = request_of(host, "Origin: https://example.com", *headers)

    assert explain(request, is_proxied=is_proxied) == expected


def test_a_page_on_the_same_machine_has_no_proxy() -> None:
    """A developer's page is not told of one."""
    request = request_of("127.0.0.1:8282", "Origin: http://localhost:8000")

    assert "proxy" not in explain(request, is_proxied=True)


def test_what_a_peer_wrote_is_cut() -> None:
    """It becomes a line of the log."""
    request = request_of("a" * 5000, f"Origin: https://{'b' * 5000}")

    assert len(explain(request, is_proxied=True)) < 1000
