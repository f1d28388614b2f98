"""Which pages may connect: entries of ``allowed_origins``, and the headers that they match."""

import pytest

from gateman.errors import ConfigError
from gateman.http.origins import is_allowed, parse_origin


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("https://Example.com", "https://example.com"),
        ("HTTPS://example.com/", "https://example.com"),
        ("https://example.com:443", "https://example.com"),
        ("http://example.com:80", "http://example.com"),
        ("http://example.com:443", "http://example.com:443"),
        ("http://example.com:08080", "http://example.com:8080"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.example.com:8443", "https://*.example.com:8443"),
        ("http://localhost:*", "http://localhost:*"),
        ("https://münchen.example", "https://xn--mnchen-3ya.example"),
        ("https://*.MÜNCHEN.example", "https://*.xn--mnchen-3ya.example"),
        ("http://[::0:1]:8000", "http://[::1]:8000"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("file://", "file://"),
        ("null", "null"),
    ],
)
def test_an_entry_is_spelled_as_browsers_do(written: str, read: str) -> None:
    """Reading what was read changes nothing."""
    assert parse_origin(written) == read
    assert parse_origin(read) == read


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("example.com", "is not an origin: write scheme and host, such as 'https://example.com'."),
        (
            "https://example.com/chat",
            "is not an origin: write scheme and host, such as 'https://example.com'.",
        ),
        (
            "http://example.com:8000?x",
            "is not an origin: write scheme and host, such as 'http://example.com:8000'.",
        ),
        (
            "https://user@example.com",
            "is not an origin that a browser could send: write one host, such as"
            " 'https://example.com', or all below a domain: 'https://*.example.com'.",
        ),
        (
            "wss://example.com/",
            "is the address of a WebSocket, not of a page: write 'https://example.com'.",
        ),
        (
            "ws://localhost:8000",
            "is the address of a WebSocket, not of a page: write 'http://localhost:8000'.",
        ),
        ("*", "allows every page: leave allowed_origins out for that."),
        ("https://example.com:65536", "has a port that does not exist: use 1 to 65535."),
        ("https://[::1", "is not an origin: write scheme and host, such as 'https://example.com'."),
        ("", "is not an origin: write scheme and host, such as 'https://example.com'."),
        ("https://", "is not an origin: write scheme and host, such as 'https://example.com'."),
        *(
            (
                written,
                "is not an origin that a browser could send: write one host, such as"
                " 'https://example.com', or all below a domain: 'https://*.example.com'.",
            )
            for written in (
                "https://*",
                "https://*example.com",
                "https://a.*.example.com",
                "https://straße.example",
                "https://[1::2::3]",
                "https://exa mple.com",
            )
        ),
    ],
)
def test_an_entry_that_could_never_match_is_refused(written: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_origin(written)

    assert str(caught.value) == f"{written!r} in allowed_origins {sentence}"


@pytest.mark.parametrize(
    ("sent", "is_one_of_them"),
    [
        ("https://example.com", True),
        ("https://EXAMPLE.com", True),
        ("https://example.com:443", True),
        ("https://example.com:8443", False),
        ("http://example.com", False),
        ("https://a.example.com", False),
        ("https://a.example.org", True),
        ("https://b.a.example.org", True),
        ("https://a.example.org:8443", False),
        ("https://example.org", False),
        ("https://aexample.org", False),
        ("https://a.example.org.evil.example", False),
        ("https://evil.example/.example.org", False),
        ("https://evil.example\x00.example.org", False),
        ("https://user@a.example.org", False),
        ("https://*.example.org", False),
        ("http://localhost", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://[::1]:8001", False),
        ("https://a.example.net:8443", True),
        ("https://a.example.net", False),
        ("null", False),
        ("", False),
        ("://", False),
        ("https://a.example.org " * 2, False),
        ("https://" + "a." * 8000 + "example.org", False),
    ],
)
def test_an_origin_is_allowed_or_not(sent: str, *, is_one_of_them: bool) -> None:
    """Whole labels and ports are compared; no part of a name lets a page in."""
    entries = [
        "https://example.com:443",
        "https://*.example.org",
        "http://localhost:*",
        "http://[::1]:8000",
        "https://*.example.net:8443",
    ]

    assert is_allowed(sent, frozenset(map(parse_origin, entries))) is is_one_of_them
