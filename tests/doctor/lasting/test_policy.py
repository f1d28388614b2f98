"""Which policies let a page open which WebSocket."""

import pytest

from gateman.doctor.lasting.observations import PageSeen
from gateman.doctor.lasting.policy import blocking, parse, upgrades
from gateman.doctor.target import Target
from tests.doctor.upgrade.cases import answer

PAGE = "https://a.example/chat"


def target(url: str = "wss://a.example/ws") -> Target:
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    name, _, port = host.partition(":")
    is_tls = scheme == "wss"
    return Target(
        url=url,
        is_tls=is_tls,
        host=name,
        port=int(port or (443 if is_tls else 80)),
        path=f"/{path}",
    )


@pytest.mark.parametrize(
    ("policy", "url", "directive"),
    [
        ("", "wss://a.example/ws", ""),
        ("script-src 'self'", "wss://a.example/ws", ""),
        ("default-src 'self'", "wss://a.example/ws", ""),
        ("default-src 'self'", "wss://b.example/ws", "default-src 'self'"),
        ("default-src 'self'", "wss://a.example:8443/ws", "default-src 'self'"),
        ("default-src 'none'; connect-src *", "wss://b.example/ws", ""),
        ("connect-src 'none'; default-src *", "wss://a.example/ws", "connect-src 'none'"),
        ("connect-src", "wss://a.example/ws", "connect-src 'none'"),
        ("connect-src wss:", "wss://b.example/ws", ""),
        ("connect-src ws:", "wss://b.example/ws", ""),
        ("connect-src https:", "wss://b.example/ws", "connect-src https:"),
        ("connect-src wss://b.example", "wss://b.example/ws", ""),
        ("connect-src WSS://B.example", "wss://b.example/ws", ""),
        ("connect-src wss://b.example", "wss://b.example:8443/ws", "connect-src wss://b.example"),
        ("connect-src wss://b.example:*", "wss://b.example:8443/ws", ""),
        ("connect-src wss://b.example:8443", "wss://b.example:8443/ws", ""),
        ("connect-src wss://*.b.example", "wss://x.b.example/ws", ""),
        ("connect-src wss://*.b.example", "wss://b.example/ws", "connect-src wss://*.b.example"),
        ("connect-src https://b.example", "wss://b.example/ws", "connect-src https://b.example"),
        ("connect-src b.example", "wss://b.example/ws", "connect-src b.example"),
        (
            "connect-src wss://a.example/other",
            "wss://a.example/ws",
            "connect-src wss://a.example/other",
        ),
        ("connect-src wss://a.example/ws", "wss://a.example/ws?a=b", ""),
        ("connect-src wss://a.example/", "wss://a.example/ws", ""),
        ("connect-src wss://a.example/ws/", "wss://a.example/ws/chat", ""),
        ("connect-src 'nonce-x' @", "wss://a.example/ws", "connect-src 'nonce-x' @"),
        ("connect-src *, connect-src 'none'", "wss://a.example/ws", "connect-src 'none'"),
    ],
)
def test_policies(policy: str, url: str, directive: str) -> None:
    assert blocking([policy], PAGE, target(url)) == directive


def test_self_of_a_plain_page() -> None:
    policy = ["connect-src 'self'"]

    assert blocking(policy, "http://a.example/", target("ws://a.example/ws")) == ""
    assert blocking(policy, PAGE, target("ws://a.example/ws")) == "connect-src 'self'"


def test_the_first_directive_of_a_name_counts() -> None:
    assert parse("A 1 2;; b; a 3") == {"a": ["1", "2"], "b": []}
    assert upgrades(["default-src *; upgrade-insecure-requests"])
    assert not upgrades(["default-src *"])


@pytest.mark.parametrize(
    ("url", "policy", "origin"),
    [
        ("https://a.example/chat?x", "", "https://a.example"),
        ("http://a.example:8080/", "", "http://a.example:8080"),
        ("https://[2001:db8::1]:443/", "", "https://[2001:db8::1]"),
        ("https://a.example/", "sandbox allow-scripts", "null"),
        ("https://a.example/", "sandbox allow-same-origin", "https://a.example"),
    ],
)
def test_the_origin_of_a_page(url: str, policy: str, origin: str) -> None:
    page = PageSeen(url=url, answer=answer(200, Content_Security_Policy=policy))

    assert page.origin == origin


def test_policies_of_the_field_and_of_the_page() -> None:
    body = (
        "<meta charset=utf-8><META Content=\"connect-src 'none'; x &amp; y\""
        " http-equiv='Content-Security-Policy'><meta http-equiv=refresh content=5>"
    )
    page = PageSeen(url=PAGE, answer=answer(200, body, Content_Security_Policy="default-src *"))

    assert page.policies == ("default-src *", "connect-src 'none'; x & y")
