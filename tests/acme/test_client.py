"""The client with an authority that answers what it should not: each ends as one sentence."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.jwk import JWKEC

from gateman.acme.challenges import Challenge
from gateman.acme.client import AuthorityClient, Order, renewal_id
from gateman.acme.keys import new_account_key, new_key
from gateman.acme.network import DeadlinePassed, Network
from gateman.acme.problems import AuthorityError, AuthorityProblem
from tests.support.altered_authority import AlteredAuthority, Answer


@pytest.fixture
def client(altered: AlteredAuthority) -> AuthorityClient:
    deadline = time.monotonic() + 60
    return AuthorityClient(
        altered.directory, new_account_key(), trusted=str(altered.cafile), deadline=deadline
    )


def order(client: AuthorityClient) -> Order:
    client.open()
    client.register("", None)
    return client.order(("a.test",), new_key("p256"))


def problem(act: Callable[[], object]) -> AuthorityProblem:
    with pytest.raises(AuthorityError) as raised:
        act()
    return raised.value.problem


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b"null", b'{"newNonce": 1}', b"{" * 20_000],
    ids=lambda body: body[:16].decode() or "empty",
)
def test_what_is_no_directory(
    client: AuthorityClient, altered: AlteredAuthority, body: bytes
) -> None:
    altered.alter = lambda _: Answer(200, body, {"Content-Type": "application/json"})

    assert problem(client.open).kind == "noDirectory"


def authorization(**changes: Any) -> dict[str, Any]:
    return {
        "identifier": {"type": "dns", "value": "a.test"},
        "status": "pending",
        "challenges": [{"type": "http-01", "url": "https://x/", "token": "t" * 22}],
        **changes,
    }


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        "text",
        authorization(identifier={"type": "dns", "value": "../../etc/passwd"}),
        authorization(identifier={"type": "dns", "value": "b.test"}),
        authorization(challenges={"type": "http-01"}),
        authorization(challenges=[1]),
        authorization(challenges=[{"type": "http-01", "token": "t" * 22}]),
    ],
    ids=str,
)
def test_an_authorization_that_nobody_understands(
    client: AuthorityClient, altered: AlteredAuthority, body: object
) -> None:
    """Its name becomes the name of a file: none but those that were ordered."""
    altered.change = lambda request, answer: (
        replace(answer, body=body)
        if request.path.startswith("/authZ/") and answer.status == 200
        else answer
    )

    assert problem(lambda: order(client)) == AuthorityProblem(
        kind="unintelligible", detail="an answer that RFC 8555 does not allow"
    )


@pytest.mark.parametrize("token", ["", "../../../etc/passwd1234", "t" * 15, "t" * 201, "é" * 20])
def test_a_challenge_with_a_bad_token_is_not_taken(
    client: AuthorityClient, altered: AlteredAuthority, token: str
) -> None:
    """It becomes the name of a file."""
    body = authorization(challenges=[{"type": "http-01", "url": "https://x/", "token": token}])
    altered.change = lambda request, answer: (
        replace(answer, body=body)
        if request.path.startswith("/authZ/") and answer.status == 200
        else answer
    )

    (found,) = order(client).authorizations

    assert found.challenges == {}


def test_more_authorizations_than_names(client: AuthorityClient, altered: AlteredAuthority) -> None:
    altered.change = lambda request, answer: (
        replace(answer, body=json.loads(answer.body) | {"authorizations": ["https://x/"] * 1000})
        if request.path == "/order-plz" and answer.status == 201
        else answer
    )

    assert problem(lambda: order(client)).kind == "unintelligible"


def refuse_all(altered: AlteredAuthority, answer: Answer) -> None:
    altered.alter = lambda request: answer if request.method == "POST" else None


def test_what_an_authority_says_is_bounded_and_printable(
    client: AuthorityClient, altered: AlteredAuthority
) -> None:
    client.open()
    detail = "a\x1b[31m\n" + "b" * 10_000
    refuse_all(altered, Answer.problem("malformed", detail))

    found = problem(lambda: client.register("", None))

    assert found.kind == "malformed"
    assert found.detail == "a?[31m " + "b" * 492 + "…"


def test_the_first_part_of_a_compound_error_is_said(
    client: AuthorityClient, altered: AlteredAuthority
) -> None:
    prefix = "urn:ietf:params:acme:error:"
    part = {
        "type": f"{prefix}rejectedIdentifier",
        "detail": "policy",
        "identifier": {"type": "dns", "value": "b.test"},
    }
    body = {"type": f"{prefix}compound", "detail": "several", "subproblems": [part]}
    client.open()
    refuse_all(altered, Answer(400, body, {"Content-Type": "application/problem+json"}))

    assert problem(lambda: client.register("", None)) == AuthorityProblem(
        kind="rejectedIdentifier", detail="policy", name="b.test"
    )


def test_nonces_that_are_always_rejected_end_it(
    client: AuthorityClient, altered: AlteredAuthority
) -> None:
    client.open()
    altered.requests.clear()
    refuse_all(altered, Answer.problem("badNonce", "no", 400))

    found = problem(lambda: client.register("", None))

    assert found.kind == "badNonce"
    assert len([one for one in altered.requests if one.method == "POST"]) == 10


def play_window(altered: AlteredAuthority, window: Any) -> None:
    altered.more = {"renewalInfo": f"{altered.url}/info"}
    altered.alter = lambda request: (
        Answer(200, {"suggestedWindow": window}) if request.path.startswith("/info/") else None
    )


def certificate(serial: int) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = bytes.fromhex("69885b6b87464041e1b37b847bd0ae2cde01c8d4")
    name = x509.Name([])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(2027, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 4, 1, tzinfo=UTC))
        .add_extension(
            x509.AuthorityKeyIdentifier(identifier, None, None),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )


def test_the_name_of_a_certificate_is_that_of_the_rfc() -> None:
    """The example of RFC 9773, section 4.1, whose serial number needs a byte for its sign."""
    assert renewal_id(certificate(0x8765_4321)) == "aYhba4dGQEHhs3uEe9CuLN4ByNQ.AIdlQyE"


def test_a_certificate_that_does_not_name_its_issuer_has_no_name(
    client: AuthorityClient, altered: AlteredAuthority
) -> None:
    play_window(altered, {})
    client.open()
    signed_by_itself = x509.load_pem_x509_certificates(
        Challenge(
            kind="tls-alpn-01", name="a.test", token="t" * 22, key_authorization="x"
        ).tls_certificate(time.time())
    )[0]

    assert renewal_id(signed_by_itself) == ""
    assert client.renewal_window(signed_by_itself) is None


@pytest.mark.parametrize(
    ("window", "found"),
    [
        (
            {"start": "2027-01-02T04:00:00Z", "end": "2027-01-03T04:00:00+00:00"},
            (1798862400.0, 1798948800.0),
        ),
        # RFC 9773, section 4.2: nothing is known.
        ({"start": "2027-01-03T04:00:00Z", "end": "2027-01-02T04:00:00Z"}, None),
    ],
)
def test_a_window_for_renewal(
    client: AuthorityClient,
    altered: AlteredAuthority,
    window: dict[str, str],
    found: tuple[float, float] | None,
) -> None:
    play_window(altered, window)
    client.open()

    said = client.renewal_window(certificate(1))

    assert (said and (said.start, said.end)) == found


@pytest.mark.parametrize("window", [None, [], {"start": 1, "end": 2}, {"start": "soon"}])
def test_a_window_that_nobody_understands(
    client: AuthorityClient, altered: AlteredAuthority, window: object
) -> None:
    play_window(altered, window)
    client.open()

    assert problem(lambda: client.renewal_window(certificate(1))).kind == "unintelligible"


def test_an_authority_without_renewal_information(client: AuthorityClient) -> None:
    client.open()

    assert client.renewal_window(certificate(1)) is None


def test_what_we_rely_on_in_the_library(altered: AlteredAuthority) -> None:
    """Every request passes a method that is not public: without it, no bound would hold."""
    roots = str(altered.cafile)
    key = JWKEC.json_loads(new_account_key())
    network = Network(key, trusted=roots, deadline=time.monotonic())

    for send in (network.get, network.head, partial(network.post, obj=None)):
        with pytest.raises(DeadlinePassed):
            send(altered.directory)

    assert altered.requests == []
