"""Listen addresses: read, or refused with an error that says what to write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.errors import ConfigError
from gateman.listen import ListenAddress

EXAMPLE = "write websocket://0.0.0.0:8282."
IPV6 = "is not an IPv6 address: write websocket://[::]:8282."
PORT = "is not a port: use 1 to 65535."
PATH = (
    "has a path, but a worker takes every path: remove it, and check request.path in"
    " on_websocket_connect."
)
UNIX = "has no absolute path: write websocket+unix:///run/chat.sock."


def tcp(host: str, port: int, *, is_secure: bool = False) -> ListenAddress:
    """Make the address of a TCP port."""
    return ListenAddress(host=host, port=port, path="", is_secure=is_secure)


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("websocket://0.0.0.0:8282", tcp("0.0.0.0", 8282), "websocket://0.0.0.0:8282"),
        ("websocket://0.0.0.0:8282/", tcp("0.0.0.0", 8282), "websocket://0.0.0.0:8282"),
        ("ws://127.0.0.1:0", tcp("127.0.0.1", 0), "websocket://127.0.0.1:0"),
        ("ws://localhost:00080", tcp("localhost", 80), "websocket://localhost:80"),
        ("wss://a-b_c.example:65535", tcp("a-b_c.example", 65535, is_secure=True), None),
        ("websocket://münchen.example:1", tcp("münchen.example", 1), None),
        ("websocket://[::]:8282", tcp("::", 8282), None),
        ("wss://[0:0::1]:443/", tcp("::1", 443, is_secure=True), "wss://[::1]:443"),
        ("websocket://[FE80::1%eth0]:1", tcp("fe80::1%eth0", 1), "websocket://[fe80::1%eth0]:1"),
        (
            "websocket+unix:///run/a b/chat.sock",
            ListenAddress(host="", port=0, path="/run/a b/chat.sock", is_secure=False),
            None,
        ),
        (
            "text://0.0.0.0:8283",
            ListenAddress("0.0.0.0", 8283, "", is_secure=False, protocol="text"),
            None,
        ),
        (
            "frame+unix:///run/a.sock",
            ListenAddress("", 0, "/run/a.sock", is_secure=False, protocol="frame"),
            None,
        ),
        ("tcp://[::1]:1", ListenAddress("::1", 1, "", is_secure=False, protocol="tcp"), None),
    ],
)
def test_addresses(text: str, expected: ListenAddress, shown: str | None) -> None:
    """Each is read, and shown as one would write it; ``None`` is as it was written."""
    address = ListenAddress.parse(text)

    assert address == expected
    assert str(address) == (shown or text)
    assert ListenAddress.parse(str(address)) == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            (text, f"{text!r} is not an address to listen on: {EXAMPLE}")
            for text in ("", "8282", "0.0.0.0:8282", "websocket:a:1", None, 8282, b"ws://a:1")
        ),
        (
            "udp://a:1",
            "'udp://a:1': gateman does not speak udp: create a datagram endpoint in"
            " on_worker_start, or listen on tcp://.",
        ),
        ("text://a", "'text://a' has no port: write text://0.0.0.0:8282."),
        (
            "frame://::1:1",
            "'frame://::1:1': an IPv6 address needs brackets: write frame://[::1]:1.",
        ),
        ("text://a:1/b", "'text://a:1/b' has a path, which text:// does not know: remove it."),
        (
            "text+unix://a",
            "'text+unix://a' has no absolute path: write text+unix:///run/chat.sock.",
        ),
        *(
            (
                f"{scheme}://a:1",
                f"'{scheme}://a:1' is not the address of a WebSocket service: write wss://a:1 and"
                " give a certificate, or websocket:// if a proxy does the TLS.",
            )
            for scheme in ("https", "ssl", "tls")
        ),
        (
            "http://a:1",
            "'http://a:1' is not the address of a WebSocket service: write websocket://a:1.",
        ),
        *(
            (
                wrong,
                f"{wrong!r} is not the address of a WebSocket service:"
                f" write websocket+unix://{path}.",
            )
            for wrong, path in (
                ("unix:///run/a.sock", "/run/a.sock"),
                ("unix://a:1", "/run/chat.sock"),
            )
        ),
        *(
            (f"{scheme}://a:1", f"{scheme!r} is not a scheme to listen on: did you mean {right!r}?")
            for scheme, right in (
                ("websockets", "websocket"),
                ("WebSocket", "websocket"),
                (" ws", "ws"),
                ("websocket_unix", "websocket+unix"),
            )
        ),
        (
            "carrier://a:1",
            "'carrier' is not a scheme to listen on: there are frame, frame+unix, tcp, tcp+unix,"
            " text, text+unix, websocket, websocket+unix, ws, wss.",
        ),
        *(
            (f"websocket://{rest}", f"'websocket://{rest}' has no port: {EXAMPLE}")
            for rest in ("", "8282", "example.com", "0.0.0.0:", "[::]", "[::1]/")
        ),
        *(
            (f"ws://a:{port}", f"'ws://a:{port}': {port!r} {PORT}")
            for port in ("65536", "-1", "+1", "1 ", "0x1", "٣", "1?b", "1#b", "000080", 5000 * "9")
        ),
        *(
            (f"ws://a:1/{path}", f"'ws://a:1/{path}' {PATH}")
            for path in ("chat", "chat/", "/", "?b=/c/d")
        ),
        ("ws://:1", f"'ws://:1' has no host: {EXAMPLE}"),
        *(
            (f"ws://{host}:1", f"{f'ws://{host}:1'!r}: {host!r} is not a host: {EXAMPLE}")
            for host in ("*", "a b", "me@a", "[]x", "a\n", "a\0", "a,b", "'")
        ),
        *(
            (f"ws://[{host}]:1", f"'ws://[{host}]:1': {host!r} {IPV6}")
            for host in ("", "a", "127.0.0.1", "::1::", "[::1]", ":", "::1 ")
        ),
        *(
            (
                f"ws://{host}:1",
                f"'ws://{host}:1': an IPv6 address needs brackets: write websocket://[::1]:1.",
            )
            for host in ("::1", "[::1", "::1]")
        ),
        *(
            (f"websocket+unix://{path}", f"{f'websocket+unix://{path}'!r} {UNIX}")
            for path in ("", "run/chat.sock", "./chat.sock", "/run/\0")
        ),
    ],
)
def test_mistakes(text: object, expected: str) -> None:
    """Each is shown as it was written, with what is wrong and what to write."""
    with pytest.raises(ConfigError) as caught:
        ListenAddress.parse(text)

    assert str(caught.value) == expected


@given(
    st.text()
    | st.lists(st.sampled_from(["ws", "://", "wss", "[", "]", ":", "/", "8", "a", ".", "%", " "]))
    .map("".join)
    .map("ws://".__add__)
)
def test_nothing_but_a_config_error_is_raised(text: str) -> None:
    """Whatever is written is refused with a sentence, or means the same when shown."""
    try:
        address = ListenAddress.parse(text)
    except ConfigError:
        return

    assert ListenAddress.parse(str(address)) == address
