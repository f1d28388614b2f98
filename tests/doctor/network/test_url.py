"""The URL of a WebSocket."""

import pytest

from gateman.doctor.network.url import findings, is_private_name, parse
from gateman.doctor.target import Target
from gateman.errors import UsageMistake


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://example.com", (True, "example.com", 443, "/")),
        ("ws://example.com", (False, "example.com", 80, "/")),
        ("WSS://Example.COM:/chat", (True, "example.com", 443, "/chat")),
        ("wss://example.com.:8443/a?b=c&d", (True, "example.com", 8443, "/a?b=c&d")),
        ("wss://example.com?token=1", (True, "example.com", 443, "/?token=1")),
        ("wss://[2001:DB8::1]:8443/", (True, "2001:db8::1", 8443, "/")),
        ("ws://127.0.0.1:8282", (False, "127.0.0.1", 8282, "/")),
        ("wss://bücher.example/käse b", (True, "xn--bcher-kva.example", 443, "/k%C3%A4se%20b")),
        ("wss://我.example", (True, "xn--wnu.example", 443, "/")),
        ("wss://a.test/%20%2f", (True, "a.test", 443, "/%20%2f")),
        (" wss://a.test/ \n", (True, "a.test", 443, "/")),
        ("wss://user:pass@a.test/#x", (True, "a.test", 443, "/")),
        ("wss://my_host.test/", (True, "my_host.test", 443, "/")),
    ],
)
def test_what_a_url_says(url: str, expected: tuple[bool, str, int, str]) -> None:
    is_tls, host, port, path = expected

    assert parse(url) == Target(url=url, is_tls=is_tls, host=host, port=port, path=path)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("https://a.test/x", "the scheme https:// is a page's: write wss://a.test/x"),
        ("http://a.test", "the scheme http:// is a page's: write ws://a.test/"),
        ("https://u:secret@a.test/", "the scheme https:// is a page's: write wss://HOST/PATH"),
        ("ftp://a.test/", "the scheme ftp:// is not a WebSocket's: write wss://HOST/PATH"),
        (
            "websocket://0.0.0.0:8282",
            "the scheme websocket:// is not a WebSocket's: write ws://0.0.0.0:8282/",
        ),
        (
            "text://a.test:8283",
            "text:// is not a WebSocket, and the doctor looks at WebSockets: `gateman status` and"
            " `gateman connections` show such a worker, and nc, or openssl s_client for TLS, tries"
            " its port",
        ),
        ("a.test/x", "'a.test/x' is not a URL: write wss://HOST/PATH"),
        ("wss:a.test", "the URL names no host: write wss://HOST/PATH"),
        ("wss:///x", "the URL names no host: write wss://HOST/PATH"),
        ("wss://:443/x", "the URL names no host: write wss://HOST/PATH"),
        ("wss://u@/x", "the URL names no host: write wss://HOST/PATH"),
        ("wss://a.test:x/", "'x' is not a port: write a number from 1 to 65535"),
        ("wss://a.test:0/", "'0' is not a port: write a number from 1 to 65535"),
        ("wss://a.test:65536/", "'65536' is not a port: write a number from 1 to 65535"),
        ("wss://a.test:²/", "'²' is not a port: write a number from 1 to 65535"),
        (
            "wss://::1/",
            "'::1' is not a host: write an IPv6 address in brackets, as [::1]",
        ),
        ("wss://[::1/", "'[::1' is not a host: write an IPv6 address as [2001:db8::1]"),
        ("wss://[::1]x/", "'[::1]x' is not a host: write an IPv6 address as [2001:db8::1]"),
        (
            "wss://[fe80::1%eth0]/",
            "'[fe80::1%eth0]' is not a host: write an IPv6 address as [2001:db8::1]",
        ),
        ("wss://a..test/", "'a..test' is not a host: write a domain or an IP address"),
        ("wss://a b.test/", "'a b.test' is not a host: write a domain or an IP address"),
        ("wss://1.2.3.400/", "'1.2.3.400' is not a host: write a domain or an IP address"),
    ],
)
def test_what_is_not_the_url_of_a_websocket(url: str, sentence: str) -> None:
    with pytest.raises(UsageMistake) as caught:
        parse(url)

    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("url", "codes"),
    [
        ("wss://example.com/chat", []),
        ("wss://example.com:8443/chat", []),
        ("ws://localhost:8282", []),
        ("ws://127.0.0.1:8282", []),
        ("wss://192.168.0.1", []),
        ("wss://example.com/a b", ["URL_SPACES"]),
        ("wss://example.com/ ", ["URL_SPACES"]),
        ("wss://example.com/#", ["URL_FRAGMENT"]),
        ("wss://me@example.com/", ["URL_USER_INFO"]),
        ("wss://example.com:6667/", ["PORT_BLOCKED"]),
        ("ws://example.com/", ["URL_PLAIN"]),
        ("wss://9.9.9.9/", ["URL_ADDRESS"]),
        ("wss://[2620:fe::fe]/", ["URL_ADDRESS"]),
    ],
)
def test_what_some_clients_do_not_take(url: str, codes: list[str]) -> None:
    assert [one.code for one in findings(parse(url))] == codes


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("nas", True),
        ("a.b.test", True),
        ("printer.local", True),
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("example.com", False),
        ("contest.org", False),
        ("9.9.9.9", False),
    ],
)
def test_names_of_private_networks(host: str, *, expected: bool) -> None:
    assert is_private_name(host) is expected
