"""What a declared worker comes to: everything checked, in the types that the service uses."""

import sys
from pathlib import Path
from typing import Any

import pytest

from gateman import ConfigError, Worker
from gateman.config.settings import WorkerSettings
from gateman.config.worker import settings_of
from gateman.listen import ListenAddress
from gateman.options import Limits, SlowConsumer, Timeouts
from gateman.protocols.text import Text
from gateman.tls.contexts import TlsContexts
from gateman.websocket.deflate import Deflate
from tests.support.server import ssl_options

NOW = 1.8e9


def settings(
    listen: str = "websocket://127.0.0.1:8282",
    context: dict[str, Any] | None = None,
    **options: Any,
) -> WorkerSettings:
    """Declare a worker, and have it checked."""
    return settings_of(Worker(listen, context, **options), now=NOW)


def test_what_is_not_declared() -> None:
    """Every default is there, so that no lower layer needs to know one."""
    found = settings()
    trusted = found.trusted_proxies
    others = {
        name: getattr(found, name) for name in found.__struct_fields__ if name != "trusted_proxies"
    }

    assert others == {
        "name": "worker",
        "listen": ListenAddress("127.0.0.1", 8282, "", is_secure=False),
        "contexts": None,
        "acme": (),
        "limits": Limits(),
        "timeouts": Timeouts(),
        "allowed_origins": None,
        "subprotocols": (),
        "health_path": "/healthz",
        "live_path": "/livez",
        "test_page": False,
        "slow_consumer": SlowConsumer.DROP_NEWEST,
        "compression": None,
        "requires_proxy": False,
        "http": None,
        "http_root_path": "",
        "api_key": None,
        "protocol": None,
        "client_protocol": None,
        "channels": {},
        "client_limits": None,
        "tokens": None,
    }
    assert [who in trusted for who in ("127.0.0.1", "::1", "192.0.2.1")] == [True, True, False]


def test_what_is_declared() -> None:
    """Each option arrives under its name, in one form whatever the user has written."""
    compression = Deflate()
    found = settings(
        name="chat",
        limits={"max_connections": 7},
        timeouts={"stall": 3.0},
        trusted_proxies=["192.0.2.0/24"],
        allowed_origins=["https://Example.com"],
        subprotocols=["chat.v2", "chat.v1"],
        health_path=None,
        test_page=True,
        slow_consumer="close",
        compression=compression,
        proxy_protocol="required",
    )

    assert found.name == "chat"
    assert found.limits == Limits(max_connections=7)
    assert found.timeouts == Timeouts(stall=3.0)
    assert [who in found.trusted_proxies for who in ("127.0.0.1", "192.0.2.1")] == [
        False,
        True,
    ]
    assert found.allowed_origins == frozenset({"https://example.com"})
    assert found.subprotocols == ("chat.v2", "chat.v1")
    assert found.health_path is None
    assert found.test_page
    assert found.slow_consumer is SlowConsumer.CLOSE
    assert found.compression is compression
    assert found.requires_proxy


def test_a_certificate_is_read() -> None:
    """Its contexts can accept at once."""
    found = settings("wss://[::1]:443", {"ssl": ssl_options()})

    assert isinstance(found.contexts, TlsContexts)
    assert found.contexts.files == tuple(Path(str(path)) for path in ssl_options().values())
    assert found.listen == ListenAddress("::1", 443, "", is_secure=True)


def test_certificates_that_are_ordered_need_no_file() -> None:
    """They may stand beside those from files; nothing of the storage is read."""
    found = [
        settings("wss://[::1]:443", {"ssl": {"acme": "a.test", **more}}).contexts
        for more in ({}, ssl_options())
    ]

    assert [one is not None and (one.is_pending, len(one.certificates)) for one in found] == [
        (True, 0),
        (True, 1),
    ]


def test_the_library_for_authorities_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "josepy", None)

    with pytest.raises(ConfigError) as raised:
        settings("wss://[::1]:443", {"ssl": {"acme": "a.test"}})

    assert str(raised.value) == (
        "acme needs the package acme, which speaks the protocol of authorities: install it: pip"
        " install 'gateman[acme]'."
    )


def test_unix_sockets() -> None:
    """The path is kept, and no host is made up for it."""
    assert settings("websocket+unix:///run/chat.sock").listen == ListenAddress(
        "", 0, "/run/chat.sock", is_secure=False
    )


@pytest.mark.parametrize(
    ("listen", "context", "transport", "problem"),
    [
        ("wss://127.0.0.1:1", None, None, "has transport='ssl', but no certificate"),
        ("wss://127.0.0.1:1", {"ssl": {}}, "tcp", "listens on wss://, but transport='tcp'"),
        ("ws://127.0.0.1:1", {"ssl": {"local_cert": "x"}}, None, "has a certificate, but"),
        ("ws://127.0.0.1:1", {"tls": {}}, None, "'tls' is not a part of a worker's context"),
        ("wss://127.0.0.1:1", {"ssl": {"local_cert": "/nowhere"}}, None, "/nowhere"),
        ("ws://127.0.0.1:1", {"ssl": {"acme": "a.test"}}, None, "has acme, but transport='tcp'"),
        ("wss://127.0.0.1:1", {"ssl": {"acme": "a.test", "local_cert": "/no"}}, None, "/no"),
    ],
)
def test_what_does_not_go_together(
    listen: str, context: dict[str, Any] | None, transport: str | None, problem: str
) -> None:
    """Options that are right one by one are compared before anything listens."""
    with pytest.raises(ConfigError) as caught:
        settings(listen, context, transport=transport)

    assert problem in str(caught.value)


def test_settings_are_constants() -> None:
    """They are checked once; a change to a worker that serves would change nothing."""
    found = settings()
    with pytest.raises(AttributeError):
        found.name = "other"  # type: ignore[misc]

    assert found.name == "worker"


def test_every_setting_is_documented() -> None:
    """It is an option, which has a reason; or what `settings_of` makes of some."""
    documented = {name for name, option in Worker.options.items() if option.reason}

    assert set(WorkerSettings.__struct_fields__) - documented == {"contexts", "requires_proxy"}


@pytest.mark.parametrize(
    ("listen", "options", "problem"),
    [
        ("text://127.0.0.1:1", {"test_page": True}, "has test_page, and listens on text://"),
        ("tcp://127.0.0.1:1", {"compression": Deflate()}, "has compression, and listens on tcp://"),
        (
            "text://127.0.0.1:1",
            {"client_protocol": "centrifuge"},
            "has client_protocol, and listens on text://",
        ),
        ("text://127.0.0.1:1", {"protocol": Text}, "has a protocol, and listens on text://"),
        ("ws://127.0.0.1:1", {"protocol": Text}, "has a protocol, and listens on websocket://"),
    ],
)
def test_what_a_protocol_does_not_have(listen: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        settings(listen, **options)


def test_a_decision_about_a_handshake_that_never_comes_is_refused() -> None:
    """It would let everybody in."""
    worker = Worker("text://127.0.0.1:1")
    worker.on_websocket_connect = lambda _connection, _request: None

    with pytest.raises(ConfigError, match="has on_websocket_connect, which text:// never calls"):
        settings_of(worker, now=NOW)
