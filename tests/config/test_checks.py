"""What may be assigned to a worker, and the sentence for everything else."""

import pytest

from gateman import ConfigError, Deflate, Limits, SlowConsumer, Timeouts, Worker

# A value that is taken, and what is read back.
GOOD: list[tuple[str, object, object]] = [
    ("listen", "ws://localhost:80", "ws://localhost:80"),
    ("context", None, None),
    ("name", "chat", "chat"),
    ("count", 4, 4),
    ("transport", "ssl", "ssl"),
    ("limits", {"max_head_size": 5}, Limits(max_head_size=5)),
    ("limits", None, Limits()),
    ("timeouts", Timeouts(close=1.0), Timeouts(close=1.0)),
    ("trusted_proxies", ["10.0.0.0/8"], ["10.0.0.0/8"]),
    ("allowed_origins", None, None),
    ("allowed_origins", ["https://A.example", "null"], {"https://a.example", "null"}),
    ("subprotocols", iter(["a", "b"]), ("a", "b")),
    ("health_path", "/up", "/up"),
    ("health_path", None, None),
    ("test_page", True, True),
    ("slow_consumer", "close", SlowConsumer.CLOSE),
    ("slow_consumer", SlowConsumer.DROP_OLDEST, SlowConsumer.DROP_OLDEST),
    ("compression", None, None),
    ("proxy_protocol", "required", "required"),
    ("drain_window", 0.5, 0.5),
    ("reloadable", False, False),
    ("max_crashes", 3, 3),
    ("max_messages", None, None),
    ("max_lifetime", 3600.5, 3600.5),
    ("max_memory", 1 << 30, 1 << 30),
    ("user", "www-data", "www-data"),
    ("group", 33, 33),
]

# A value that is not, and how the sentence begins.
BAD: list[tuple[str, object, str]] = [
    (
        "listen",
        "http://a:1",
        "'http://a:1' is not the address of a WebSocket service: write websocket://a:1.",
    ),
    ("listen", "wsss://a:1", "'wsss' is not a scheme to listen on: did you mean 'wss'?"),
    ("listen", 8282, "8282 is not an address to listen on: write websocket://0.0.0.0:8282."),
    ("count", 0, "count=0 is not a number of processes: use 1 or more."),
    ("count", 10**30, "count is too large: use 1024 or less."),
    ("context", 5, "context=5 is not a mapping: write {'ssl': {'local_cert': …}}."),
    ("name", 5, "name=5 is not a name: write a short text, such as name='chat'."),
    ("name", "a\nb", "name='a\\nb' is not a name"),
    ("name", "a" * 65, "name is too long: use 64 characters or less."),
    ("trusted_proxies", ["10.0.0.0/8", "nginx"], "'nginx' in trusted_proxies"),
    ("trusted_proxies", "127.0.0.1", "trusted_proxies='127.0.0.1' is not a list: write"),
    ("trusted_proxies", 5, "trusted_proxies=5 is not a list: write trusted_proxies=['…']."),
    ("trusted_proxies", [5], "5 in trusted_proxies is not a text"),
    ("trusted_proxies", {"a": 1}, "trusted_proxies={'a': 1} is not a list"),
    ("restart_stalled", "no", "restart_stalled='no' is neither True nor False"),
    ("test_page", "no", "test_page='no' is neither True nor False: write one of them."),
    ("health_path", "/up?a", "health_path='/up?a' cannot be the path of a request: remove"),
    ("proxy_protocol", [], "[] is not a value of proxy_protocol: there are off, required."),
    ("slow_consumer", [], "[] is not a policy for slow consumers"),
    ("user", False, "user=False is not the name of a user"),
    ("group", -1, "group=-1 is not the name of a group"),
    ("max_lifetime", 10**400, "max_lifetime is too large: give it in seconds."),
    ("limits", {"max_head_size": 10**400}, "limits.max_head_size is too large: use"),
    ("timeouts", {"close": 10**7}, "timeouts.close is too large: use 1000000 or less."),
    ("count", True, "count=True is not a number of processes"),
    ("count", "4", "count='4' is not a number of processes"),
    ("transport", "tls", "'tls' is not a value of transport: there are ssl, tcp."),
    ("channels", [], "channels=[] is not a mapping: write channels="),
    (
        "limits",
        {"max_head": 5},
        "'max_head' is not an option of limits: did you mean 'max_head_size'?",
    ),
    ("limits", 5, "limits=5 is neither Limits nor a mapping"),
    (
        "timeouts",
        {"close": "5"},
        "timeouts.close='5' is not a positive number: give it in seconds.",
    ),
    ("allowed_origins", "https://a.example", "allowed_origins='https://a.example' is not a list"),
    ("allowed_origins", ["a.example"], "'a.example' in allowed_origins is not an origin"),
    ("allowed_origins", ["https://a.example/chat"], "'https://a.example/chat' in allowed_origins"),
    ("allowed_origins", 5, "allowed_origins=5 is not a list"),
    ("allowed_origins", [5], "5 in allowed_origins is not a text"),
    ("subprotocols", "chat", "subprotocols='chat' is not a list: write subprotocols=['…']."),
    ("subprotocols", 5, "subprotocols=5 is not a list"),
    (
        "subprotocols",
        ["a b"],
        "'a b' in subprotocols is not a name that a client could send: use letters",
    ),
    ("subprotocols", [b"chat"], "b'chat' in subprotocols is not a text"),
    ("health_path", "healthz", "health_path='healthz' is not a path: begin it with '/'."),
    ("slow_consumer", "drop", "'drop' is not a policy for slow consumers"),
    ("compression", True, "compression=True is not a Deflate: write compression=Deflate()."),
    ("proxy_protocol", "on", "'on' is not a value of proxy_protocol"),
    ("reloadable", 1, "reloadable=1 is neither True nor False: write one of them."),
    ("drain_window", None, "drain_window cannot be None: leave it out for its default."),
    ("drain_window", float("inf"), "drain_window=inf is not a positive number"),
    ("max_crashes", 1.5, "max_crashes=1.5 is not a whole positive number: give it in crashes"),
    ("max_messages", -1, "max_messages=-1 is not a whole positive number"),
    ("max_memory", "1G", "max_memory='1G' is not a whole positive number: give it in bytes"),
    ("user", "", "user='' is not the name of a user"),
    ("group", True, "group=True is not the name of a group"),
]


def worker(**options: object) -> Worker:
    """Declare one."""
    return Worker("websocket://127.0.0.1:0", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value", "expected"), GOOD)
def test_good_value_is_taken(name: str, value: object, expected: object) -> None:
    """Read back, it is in the form that the service uses."""
    made = worker()
    setattr(made, name, value)

    assert getattr(made, name) == expected


@pytest.mark.parametrize(("name", "value", "sentence"), BAD)
def test_bad_value_is_refused_at_once(name: str, value: object, sentence: str) -> None:
    """Assigned or passed, where it is written; what was there stays."""
    made = worker()
    before = getattr(made, name)
    with pytest.raises(ConfigError) as assigned:
        setattr(made, name, value)
    if name != "listen":
        with pytest.raises(ConfigError) as passed:
            worker(**{name: value})

        assert str(passed.value) == str(assigned.value)
    assert str(assigned.value).startswith(sentence)
    assert getattr(made, name) == before


def test_compression_is_an_object_of_its_own() -> None:
    """Its options are its own affair."""
    deflate = Deflate()

    assert worker(compression=deflate).compression is deflate


class _Packets:
    def packet_size(self, data: bytearray) -> int | None:
        return len(data)

    def decode(self, packet: bytes) -> bytes:
        return packet

    def encode(self, message: bytes) -> bytes:
        return message


class _NeedsArgument(_Packets):
    def __init__(self, size: int) -> None:
        self.size = size


class _Async(_Packets):
    async def decode(self, packet: bytes) -> bytes:  # type: ignore[override] # a mistake
        return packet


class _TakesNothing(_Packets):
    def encode(self) -> bytes:  # type: ignore[override] # a mistake
        return b""


def test_a_protocol_is_a_class_or_an_instance() -> None:
    instance = _NeedsArgument(1)
    worker = Worker("tcp://127.0.0.1:0", protocol=_Packets)
    assert isinstance(worker.protocol, _Packets)
    worker.protocol = instance
    assert worker.protocol is instance


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), "has no function packet_size"),
        (_NeedsArgument, "cannot be made without arguments"),
        (_Async, "decode is async"),
        (_TakesNothing, r"encode is called with \(message\), but takes \(\)"),
    ],
)
def test_what_is_no_protocol(value: object, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        Worker("tcp://127.0.0.1:0", protocol=value)  # type: ignore[arg-type] # a mistake
