"""Orders: which challenge proves a name, and which chains are refused."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateman.acme.challenges import Challenge
from gateman.acme.client import Authorization
from gateman.acme.options import AcmeOptions
from gateman.acme.order import check_issued, choose
from gateman.acme.problems import AuthorityError, AuthorityProblem
from tests.support.certificates import Authority, Issued

OPTIONS = AcmeOptions(domains=("a.example",))

NOW = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


def offering(*kinds: str) -> Authorization:
    return Authorization(
        url="https://ca.example/authorization",
        name="a.example",
        is_valid=False,
        challenges={
            kind: Challenge(kind=kind, name="a.example", token=kind, key_authorization="")
            for kind in kinds
        },
        urls={kind: f"https://ca.example/{kind}" for kind in kinds},
    )


@pytest.mark.parametrize(
    ("offered", "without", "chosen"),
    [
        (("http-01", "tls-alpn-01"), (), "tls-alpn-01"),
        (("http-01", "tls-alpn-01"), ("tls-alpn-01",), "http-01"),
        (("http-01", "dns-01"), (), "http-01"),
        # What has failed is better than nothing.
        (("tls-alpn-01",), ("tls-alpn-01",), "tls-alpn-01"),
    ],
)
def test_the_first_challenge_that_has_not_failed_is_chosen(
    offered: tuple[str, ...], without: tuple[str, ...], chosen: str
) -> None:
    challenge, url = choose(offering(*offered), OPTIONS, has_http=True, without=without)

    assert (challenge.kind, url) == (chosen, f"https://ca.example/{chosen}")


def test_an_authority_without_a_possible_challenge() -> None:
    with pytest.raises(AuthorityError) as raised:
        choose(offering("dns-01", "http-01"), OPTIONS, has_http=False)

    assert raised.value.problem == AuthorityProblem(
        kind="noChallenge", name="a.example", challenge="tls-alpn-01", detail="dns-01, http-01"
    )


def issue(folder: Path, *names: str, days: int = 0) -> Issued:
    start = datetime.fromtimestamp(NOW + days * 86400, UTC)
    end = datetime.fromtimestamp(NOW + (days + 10) * 86400, UTC)
    return Authority().issue(folder, *names, starts_at=start, expires_at=end)


def refusal(issued: Issued, key: bytes, now: float = NOW) -> AuthorityProblem:
    with pytest.raises(AuthorityError) as raised:
        check_issued(issued.certificate.read_text(), key, ["a.example"], now=now)
    return raised.value.problem


def test_a_chain_as_ordered_is_taken(tmp_path: Path) -> None:
    issued = issue(tmp_path, "a.example", "b.example")

    facts = check_issued(
        issued.certificate.read_text(), issued.key.read_bytes(), ["b.example"], now=NOW
    )

    assert facts.names == ("a.example", "b.example")


def test_chains_that_cannot_serve_are_refused(tmp_path: Path) -> None:
    """None of them may replace a certificate in service."""
    good = issue(tmp_path, "a.example")
    key = good.key.read_bytes()
    (tmp_path / "other").mkdir()
    other = issue(tmp_path / "other", "b.example")

    assert refusal(other, other.key.read_bytes()).detail == "it is not for a.example"
    assert refusal(good, other.key.read_bytes()).detail == "it is for another key"
    expired = refusal(good, key, now=NOW + 11 * 86400)
    assert expired.detail == "it has expired by this machine's clock"
    behind = refusal(good, key, now=NOW - 3600)
    assert behind == AuthorityProblem(kind="clock", detail="at least 60 minutes")
    good.certificate.write_text("<html>")
    assert refusal(good, key).detail == "it cannot be read"
