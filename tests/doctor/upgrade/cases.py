"""Makes observations of the handshake for the tests of its judgement."""

from gateman.doctor.target import Settings, Target
from gateman.doctor.upgrade.judgement import judge
from gateman.doctor.upgrade.observations import (
    Answer,
    Attempt,
    End,
    Exchange,
    Kind,
    Silence,
    UpgradeSeen,
    accept_of,
)
from gateman.findings import Finding

KEY = "dGhlIHNhbXBsZSBub25jZQ=="

WSS = Target(url="wss://a.example/ws", is_tls=True, host="a.example", port=443, path="/ws")
WS = Target(url="ws://a.example/ws", is_tls=False, host="a.example", port=80, path="/ws")


def answer(status: int, body: str = "", reason: str = "", **fields: str) -> Answer:
    """Make an answer; ``Www_Authenticate`` is the field Www-Authenticate."""
    named = tuple((name.replace("_", "-"), value) for name, value in fields.items())
    return Answer(status=status, reason=reason, fields=named, body=body)


def opening(accept: str = accept_of(KEY), body: str = "", **fields: str) -> Answer:
    """Make a 101."""
    given = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Accept": accept}
    return answer(101, body, **{**given, **fields})


def attempt(
    answered: Answer | None = None,
    kind: Kind = Kind.HANDSHAKE,
    *,
    silence: Silence | None = None,
    garbage: bytes = b"",
    error: str = "",
    path: str = "/ws",
    exchange: Exchange | None = None,
    duration: float = 0.1,
    offers_compression: bool = True,
    address: str = "192.0.2.1",
) -> Attempt:
    is_plain = kind in {Kind.PLAIN, Kind.MALFORMED}
    return Attempt(
        kind=kind,
        address=address,
        port=443,
        path=path,
        origin=None if is_plain or kind is Kind.NATIVE else "https://a.example",
        key="" if is_plain else KEY,
        offers_compression=offers_compression,
        silence=silence,
        answer=answered,
        garbage=garbage,
        error=error,
        duration=duration,
        exchange=exchange,
    )


def exchanged(end: End = End.OPEN, **more: object) -> Exchange:
    """Make an exchange: by default, one with a pong."""
    given: dict[str, object] = {"pong_time": 0.02} if end is End.OPEN else {"ended_at": 0.1}
    return Exchange(end=end, **{**given, **more})  # type: ignore[arg-type]


def found(
    *attempts: Attempt, target: Target = WSS, settings: Settings | None = None
) -> list[Finding]:
    seen = UpgradeSeen(attempts=attempts)
    return judge(target, settings or Settings(), seen)


def told(
    *attempts: Attempt, target: Target = WSS, settings: Settings | None = None
) -> list[tuple[str, str]]:
    """Give code and sentence of each finding."""
    return [(one.code, one.problem) for one in found(*attempts, target=target, settings=settings)]
