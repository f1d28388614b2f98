"""Each fault of a certificate, in a real nginx, is named; a good one is not blamed."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateman.findings import Client, Severity
from tests.support.looked_at import (
    HAS_ISSUER_URL,
    IS_AUTHORITY,
    causes,
    chain_of,
    findings,
    folder,
    impostor,
    nginx,
    openssl,
    write,
)
from tests.support.made_certificates import CLIENT_ONLY, PUBLIC, Made, make

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)

ROOT = make("root", days=3650, extensions=IS_AUTHORITY)
MIDDLE = make("middle", issuer=ROOT, days=1825, extensions=IS_AUTHORITY)
OTHER = make("other", issuer=ROOT, days=1825, extensions=IS_AUTHORITY)
RENEWED = make("middle", issuer=ROOT, days=1825, extensions=IS_AUTHORITY)
EXPIRED = make(
    "middle",
    issuer=ROOT,
    key=MIDDLE.key,
    starts_at=NOW - 300 * DAY,
    days=290,
    extensions=IS_AUTHORITY,
)
CONSTRAINED = make(
    "constrained",
    issuer=ROOT,
    days=1825,
    # nameConstraints: b.test only.
    extensions={**IS_AUTHORITY, "2.5.29.30": bytes.fromhex("300ca00a30088206") + b"b.test"},
)
NOT_AN_AUTHORITY = make("imposed", issuer=ROOT, days=1825)


def leaf(*names: str, issuer: Made | None = MIDDLE, **how: Any) -> Made:
    """Make a certificate for the server."""
    return make("a.test", issuer=issuer, names=names or ("a.test", "*.a.test"), **how)


GOOD = leaf()
LONG: dict[str, Any] = {"starts_at": NOW - DAY, "days": 397}

# The key, what the server shows, the host that is asked for, and the codes of causes.
PLAYED: dict[str, tuple[Made, tuple[Made, ...], str, list[str]]] = {
    "good": (GOOD, (GOOD, MIDDLE), "a.test", []),
    "good by wildcard": (GOOD, (GOOD, MIDDLE), "b.a.test", []),
    "by a root alone": ((made := leaf(issuer=ROOT)), (made,), "a.test", []),
    "expired": (
        (made := leaf(starts_at=NOW - 100 * DAY, days=90)),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_EXPIRED"],
    ),
    "not yet valid": (
        (made := leaf(starts_at=NOW + 5 * DAY)),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_NOT_VALID_YET"],
    ),
    "another name": (GOOD, (GOOD, MIDDLE), "b.test", ["CERTIFICATE_NAME"]),
    "wildcard too deep": (GOOD, (GOOD, MIDDLE), "c.b.a.test", ["CERTIFICATE_NAME"]),
    "wildcard for the domain itself": (
        (made := leaf("*.a.test")),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_NAME"],
    ),
    "wildcard below a top-level domain": (
        (made := leaf("*.test")),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_NAME"],
    ),
    "address as a domain": (
        (made := leaf("127.0.0.1")),
        (made, MIDDLE),
        "127.0.0.1",
        ["CERTIFICATE_NAME"],
    ),
    "by address": (GOOD, (GOOD, MIDDLE), "127.0.0.1", ["CERTIFICATE_NAME"]),
    "no intermediate": (
        (made := leaf(policies=PUBLIC, extensions=HAS_ISSUER_URL)),
        (made,),
        "a.test",
        ["CHAIN_INCOMPLETE"],
    ),
    "wrong intermediate": (
        GOOD,
        (GOOD, OTHER),
        "a.test",
        ["CHAIN_INCOMPLETE", "CHAIN_FOREIGN"],
    ),
    "intermediate of an older key": (
        GOOD,
        (GOOD, RENEWED),
        "a.test",
        ["CHAIN_INCOMPLETE", "CHAIN_FOREIGN"],
    ),
    "expired intermediate": (GOOD, (GOOD, EXPIRED), "a.test", ["CHAIN_EXPIRED"]),
    "expired intermediate beside its successor": (GOOD, (GOOD, EXPIRED, MIDDLE), "a.test", []),
    "intermediate that is not an authority": (
        (made := leaf(issuer=NOT_AN_AUTHORITY)),
        (made, NOT_AN_AUTHORITY),
        "a.test",
        ["CERTIFICATE_REFUSED"],
    ),
    "authority of other names": (
        (made := leaf(issuer=CONSTRAINED)),
        (made, CONSTRAINED),
        "a.test",
        ["CERTIFICATE_REFUSED"],
    ),
    "disorder": (GOOD, (GOOD, ROOT, MIDDLE), "a.test", []),
    "root included": (GOOD, (GOOD, MIDDLE, ROOT), "a.test", []),
    "self-signed": (
        (made := make("a.test")),
        (made,),
        "a.test",
        ["CERTIFICATE_SELF_SIGNED"],
    ),
    "no names": (
        (made := make("a.test", issuer=MIDDLE, names=())),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_WITHOUT_NAMES"],
    ),
    "for clients only": (
        (made := leaf(usage=CLIENT_ONLY)),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_USAGE"],
    ),
    "398 days of a public authority": (
        (made := leaf(policies=PUBLIC, **LONG)),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_LIFE"],
    ),
    "three years of a private authority": (
        (made := leaf(days=1000)),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_LIFE"],
    ),
    "soon to expire": (
        (made := leaf(starts_at=NOW - 80 * DAY, days=90)),
        (made, MIDDLE),
        "a.test",
        [],
    ),
    "Ed25519": (
        (made := leaf(key=ed25519.Ed25519PrivateKey.generate())),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_KEY"],
    ),
    "P-521": (
        (made := leaf(key=ec.generate_private_key(ec.SECP521R1()))),
        (made, MIDDLE),
        "a.test",
        ["CERTIFICATE_KEY"],
    ),
    "RSA 2048": (
        (made := leaf(key=rsa.generate_private_key(65537, 2048))),
        (made, MIDDLE),
        "a.test",
        [],
    ),
}


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    with folder() as path:
        (path / "ca.pem").write_bytes(ROOT.pem)
        yield path


@pytest.fixture(scope="module")
def ports(files: Path) -> Iterator[dict[str, int]]:
    blocks = {}
    for number, (name, (key, shown, _, _)) in enumerate(PLAYED.items()):
        certificate, private = write(files, f"{number}", key=key, chain=chain_of(*shown))
        blocks[name] = (
            f"listen PORT ssl; ssl_certificate {certificate}; ssl_certificate_key {private};"
            " return 426;"
        )
    with nginx(files, blocks) as found:
        yield found


@pytest.mark.parametrize("name", PLAYED)
def test_the_cause_is_named(name: str, files: Path, ports: dict[str, int]) -> None:
    _, _, host, expected = PLAYED[name]

    assert causes(f"wss://{host}:{ports[name]}/", ca=files / "ca.pem") == expected


def test_a_finding_that_refuses_no_client_is_not_a_cause(
    files: Path, ports: dict[str, int]
) -> None:
    found = {
        name: [
            (one.severity, one.code)
            for one in findings(f"wss://a.test:{ports[name]}/", ca=files / "ca.pem")
        ]
        for name in ("good", "disorder", "root included", "soon to expire")
    }

    assert found == {
        "good": [],
        "disorder": [(Severity.WARNING, "CHAIN_ORDER"), (Severity.NOTE, "CHAIN_ROOT")],
        "root included": [(Severity.NOTE, "CHAIN_ROOT")],
        "soon to expire": [(Severity.WARNING, "CERTIFICATE_EXPIRES_SOON")],
    }


def test_a_missing_intermediate_fails_where_nothing_completes_it(
    files: Path, ports: dict[str, int]
) -> None:
    (found,) = findings(f"wss://a.test:{ports['no intermediate']}/", ca=files / "ca.pem")

    assert found.fails_for == set(Client) - {Client.BROWSERS, Client.IOS}
    assert "fullchain.pem" in found.fix
    assert "nginx -s reload" in found.fix


def test_without_the_authority_it_is_a_private_one(ports: dict[str, int]) -> None:
    (found,) = findings(f"wss://a.test:{ports['root included']}/")[:1]

    assert (found.code, found.fails_for) == ("CERTIFICATE_PRIVATE", frozenset(Client))


def test_the_default_certificate_is_recognised(files: Path, ports: dict[str, int]) -> None:
    (found,) = findings(f"wss://b.test:{ports['good']}/", ca=files / "ca.pem")

    assert found.code == "CERTIFICATE_NAME"
    assert "server_name" in found.fix
    assert found.evidence.startswith("the same is shown when no name is asked for")


@pytest.mark.parametrize(
    ("bits", "expected"), [(1024, ["CERTIFICATE_KEY"]), (2048, [])], ids=["RSA 1024", "RSA 2048"]
)
def test_a_short_key(bits: int, expected: list[str], files: Path) -> None:
    short = leaf(issuer=ROOT, key=rsa.generate_private_key(65537, bits))
    with openssl(files, short, "-cipher", "DEFAULT@SECLEVEL=0") as port:
        assert causes(f"wss://a.test:{port}/", ca=files / "ca.pem") == expected


@pytest.mark.parametrize(
    ("starts_at", "days", "expected"),
    [
        (NOW - 400 * DAY, 90, [(Severity.CAUSE, "CLOCK_DIFFERS")]),
        (NOW - 400 * DAY, 10, [(Severity.CAUSE, "CERTIFICATE_EXPIRED")]),
        (NOW - 1 * DAY, 90, []),
    ],
    ids=["valid by the server's", "valid by neither", "valid by this machine's"],
)
def test_clocks_that_differ(
    starts_at: datetime, days: float, expected: list[tuple[Severity, str]], files: Path
) -> None:
    """A server whose Date field is a year behind."""
    made = leaf(issuer=ROOT, starts_at=starts_at, days=days)
    certificate, private = write(files, "clock", key=made)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, private)
    date = f"{NOW - 380 * DAY:%a, %d %b %Y %H:%M:%S GMT}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 426 x\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()

    with impostor(serve, context=context) as port:
        found = findings(f"wss://a.test:{port}/", ca=files / "ca.pem")

    assert (Severity.WARNING, "CLOCK_DIFFERS") in [
        (one.severity, one.code) for one in found
    ] or expected[0][1] == "CLOCK_DIFFERS"
    assert [(one.severity, one.code) for one in found if one.severity is Severity.CAUSE] == expected
