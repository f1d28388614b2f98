"""What is wrong with certificates: facts in, findings out, by their codes and sentences."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateman.tls.certificate_chain import CertificateFacts, Chain
from gateman.tls.certificate_findings import is_about_dates, judge, misplaced, why_refused

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC).timestamp()
DAY = 86_400

LEAF = CertificateFacts(
    subject="a.test",
    issuer="R11",
    starts_at=NOW - 30 * DAY,
    expires_at=NOW + 60 * DAY,
    names=("a.test", "*.b.test"),
    is_public=True,
    has_issuer_url=True,
    issuers=(1,),
)
MIDDLE = replace(
    LEAF, subject="R11", issuer="X1", names=(), is_public=False, issuers=(2,), key="RSA 2048"
)
ROOT = replace(MIDDLE, subject="X1", issuer="X1", issuers=(2,))
ALONE = replace(LEAF, issuers=())
GOOD = (LEAF, replace(MIDDLE, issuers=()))


def found(chain: Chain, now: float = NOW) -> list[tuple[str, str]]:
    """Judge a chain: severities and codes."""
    findings = judge(chain, now=now, name="it")
    return [(finding.severity.value, finding.code) for finding in findings]


def sentence(chain: Chain, now: float = NOW) -> str:
    """Judge a chain with one fault: the sentence."""
    (finding,) = judge(chain, now=now, name="it")
    return str(finding)


def test_a_good_chain_has_no_findings() -> None:
    assert found(GOOD) == []


# Dates.


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (
            -31,
            "it is valid only from 2026-05-02 12:00 UTC on, and now it is 2026-05-01 12:00 UTC:"
            " set this machine's clock, or take a certificate that is valid",
        ),
        (60, "it has expired on 2026-07-31 12:00 UTC, and clients refuse it: renew it"),
        (
            59.5,
            "it expires on 2026-07-31 12:00 UTC, in 0 days: renew it, and see why its renewal"
            " did not",
        ),
        (
            58,
            "it expires on 2026-07-31 12:00 UTC, in 2 days: renew it, and see why its renewal"
            " did not",
        ),
    ],
)
def test_dates_are_looked_at(days: float, expected: str) -> None:
    chain = (LEAF, replace(GOOD[1], starts_at=0.0, expires_at=NOW * 2))

    assert sentence(chain, NOW + days * DAY) == expected


@pytest.mark.parametrize(
    ("life", "left", "is_soon"),
    [(90, 14.1, False), (90, 13.9, True), (6, 1.1, False), (6, 0.9, True)],
)
def test_soon_depends_on_the_life(life: float, left: float, *, is_soon: bool) -> None:
    """Certificates of six days are renewed every three."""
    leaf = replace(LEAF, starts_at=NOW - (life - left) * DAY, expires_at=NOW + left * DAY)

    assert found((leaf, GOOD[1])) == [("warning", "CERTIFICATE_EXPIRES_SOON")] * is_soon


def test_some_findings_come_by_themselves() -> None:
    """With time; the others are there from the start."""
    middle = replace(GOOD[1], expires_at=NOW * 2)
    findings = judge((replace(LEAF, names=()), middle), now=NOW + 90 * DAY, name="it")

    assert [is_about_dates(finding) for finding in findings] == [True, False]


def test_others_of_the_chain_may_have_expired() -> None:
    chain = (LEAF, replace(MIDDLE, issuers=(), expires_at=NOW - DAY))

    assert sentence(chain) == (
        "it number 2 has expired on 2026-05-31 12:00 UTC, and some clients refuse it: get the chain"
        " anew from the authority"
    )
    assert found(chain) == [("warning", "CHAIN_EXPIRED")]


@pytest.mark.parametrize(
    ("starts_at", "days", "limit"),
    [
        (datetime(2026, 3, 14, tzinfo=UTC), 398, None),
        (datetime(2026, 3, 14, tzinfo=UTC), 399, 398),
        (datetime(2026, 3, 15, tzinfo=UTC), 200, None),
        (datetime(2026, 3, 15, tzinfo=UTC), 201, 200),
        (datetime(2027, 3, 15, tzinfo=UTC), 101, 100),
        (datetime(2029, 3, 15, tzinfo=UTC), 48, 47),
        (datetime(2020, 8, 31, tzinfo=UTC), 825, None),
    ],
)
def test_a_public_certificate_may_not_last_too_long(
    starts_at: datetime, days: float, limit: int | None
) -> None:
    """By when it was issued; one of a private authority may last as long as it likes."""
    leaf = replace(
        LEAF,
        starts_at=starts_at.timestamp(),
        expires_at=(starts_at + timedelta(days=days)).timestamp(),
    )
    chain = (leaf, replace(MIDDLE, issuers=(), starts_at=0.0, expires_at=NOW * 2))
    now = starts_at.timestamp() + DAY

    if limit is None:
        assert found(chain, now) == []
    else:
        assert sentence(chain, now) == (
            f"it lasts {days} days, and browsers take {limit} of a public authority: get one that"
            " lasts less"
        )
    assert found((replace(leaf, is_public=False), chain[1]), now) == []


# The certificate itself.


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"names": ()}, [("cause", "CERTIFICATE_WITHOUT_NAMES")]),
        (
            {"names": (), "unreadable": ("its names",)},
            [("warning", "CERTIFICATE_MALFORMED")],
        ),
        ({"key": "RSA 2048"}, []),
        ({"key": "RSA 4096"}, []),
        ({"key": "RSA 1024"}, [("cause", "CERTIFICATE_KEY")]),
        ({"key": "RSA-PSS 2048"}, [("cause", "CERTIFICATE_KEY")]),
        ({"key": "DSA 2048"}, [("cause", "CERTIFICATE_KEY")]),
        ({"key": "ECDSA P-384"}, []),
        ({"key": "ECDSA P-521"}, [("cause", "CERTIFICATE_KEY")]),
        ({"key": "ECDSA secp256k1"}, [("cause", "CERTIFICATE_KEY")]),
        ({"key": "Ed25519"}, [("cause", "CERTIFICATE_KEY")]),
        ({"key": "a type that is not known"}, [("cause", "CERTIFICATE_KEY")]),
        ({"digest": "sha1"}, [("cause", "CERTIFICATE_DIGEST")]),
        ({"is_for_servers": False}, [("cause", "CERTIFICATE_USAGE")]),
    ],
)
def test_the_certificate_itself_is_looked_at(
    change: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    assert found((replace(LEAF, **change), GOOD[1])) == expected  # type: ignore[arg-type]


def test_one_that_cannot_be_read_is_a_warning() -> None:
    assert sentence((None,)) == (
        "it breaks the standard, so that it cannot be read, and clients that are strict refuse it:"
        " get a new one"
    )
    assert found(()) == []


@pytest.mark.parametrize(
    ("asked", "is_for"),
    [
        ("a.test", True),
        ("*.b.test", True),
        ("c.b.test", True),
        ("c.test", False),
        ("b.test", False),
    ],
)
def test_a_certificate_may_be_misplaced(asked: str, *, is_for: bool) -> None:
    finding = misplaced(GOOD, asked=asked, name="it")

    assert finding is None if is_for else finding is not None
    assert misplaced((None,), asked=asked, name="it") is None


# The chain.


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        pytest.param((ALONE,), [("cause", "CHAIN_INCOMPLETE")], id="leaf alone"),
        pytest.param(
            (replace(ALONE, is_public=False),),
            [("note", "CHAIN_WITHOUT_ISSUER")],
            id="leaf of a private authority alone",
        ),
        pytest.param((LEAF, MIDDLE, ROOT), [("note", "CHAIN_ROOT")], id="with the root"),
        pytest.param(
            (replace(LEAF, is_public=False), replace(ROOT, issuers=(1,))),
            [],
            id="with a private root that signs by itself",
        ),
        pytest.param(
            (
                replace(LEAF, issuers=(2,)),
                replace(ROOT, issuers=(1,)),
                replace(MIDDLE, issuers=(1,)),
            ),
            [("warning", "CHAIN_ORDER"), ("note", "CHAIN_ROOT")],
            id="root before the middle",
        ),
        pytest.param(
            (
                replace(LEAF, issuers=(2,)),
                replace(MIDDLE, issuers=()),
                replace(MIDDLE, issuers=(1,)),
            ),
            [("warning", "CHAIN_ORDER")],
            id="swapped",
        ),
        pytest.param(
            (replace(LEAF, issuers=()), MIDDLE),
            [("cause", "CHAIN_INCOMPLETE"), ("cause", "CHAIN_FOREIGN")],
            id="the middle of another one",
        ),
        pytest.param(
            (*GOOD, replace(LEAF, issuers=())), [("note", "CHAIN_FOREIGN")], id="another behind it"
        ),
        pytest.param(
            (replace(LEAF, issuers=(0,), is_public=False),),
            [("cause", "CERTIFICATE_SELF_SIGNED")],
            id="self-signed",
        ),
        pytest.param(
            (ALONE, None),
            [
                ("cause", "CHAIN_INCOMPLETE"),
                ("cause", "CHAIN_FOREIGN"),
                ("warning", "CERTIFICATE_MALFORMED"),
            ],
            id="a middle that cannot be read",
        ),
    ],
)
def test_the_order_of_a_chain_is_looked_at(chain: Chain, expected: list[tuple[str, str]]) -> None:
    assert found(chain) == expected


def test_the_right_order_is_told() -> None:
    chain = (
        replace(LEAF, issuers=(2,)),
        replace(MIDDLE, issuers=()),
        replace(MIDDLE, issuers=(1,)),
    )

    assert sentence(chain) == (
        "it is followed by its chain in the wrong order, which some refuse: put them in this order:"
        " number 1, 3, 2"
    )


def test_a_missing_intermediate_is_named() -> None:
    assert sentence((ALONE,)) == (
        "it is from 'R11', whose own certificate is not sent with it, and phones, WeChat and"
        " programs refuse what browsers complete by themselves: append it; of Let's Encrypt's"
        " files, take fullchain.pem and not cert.pem"
    )


def test_a_bundle_of_authorities_is_not_listed_whole() -> None:
    """140 of them: the sentence stays one."""
    chain = (*GOOD, *[replace(MIDDLE, issuers=())] * 140)

    assert "(number 3, 4, 5, 6, 7, …)" in sentence(chain)


# Why a client may have refused it.


def reason(chain: Chain, server_name: str | None, *, is_about_trust: bool = False) -> str | None:
    finding = why_refused(
        chain, server_name=server_name, now=NOW, name="it", is_about_trust=is_about_trust
    )
    return None if finding is None else str(finding)


@pytest.mark.parametrize("name", ["a.test", "x.b.test"])
def test_nothing_is_known_of_a_good_one(name: str) -> None:
    assert reason(GOOD, name) is None


def test_the_name_that_a_client_asked_for_is_compared() -> None:
    rest = (
        "connect by a name that it is for, or give a certificate for this one in SNI_server_certs"
    )
    assert reason(GOOD, "b.test") == (
        f"it is for a.test, *.b.test, and not for 'b.test', for which the client asked: {rest}"
    )
    assert reason(GOOD, None) == (
        "it is for a.test, *.b.test, and not for an address: the client named no domain, as one"
        f" that connects by an IP address: {rest}"
    )
    assert reason((replace(LEAF, addresses=("127.0.0.1",)), GOOD[1]), None) is None
    assert reason(GOOD, "b.test", is_about_trust=True) is None


def test_a_private_authority_has_to_be_trusted() -> None:
    chain = (replace(LEAF, is_public=False), GOOD[1])

    assert reason(chain, "a.test") == (
        "it is from 'R11', which is not a public authority: have the client trust that authority,"
        " or get a certificate from a public one"
    )
    assert reason(chain, "b.test", is_about_trust=True) == reason(chain, "a.test")
    alone = (replace(ALONE, is_public=False),)
    assert reason(alone, "a.test") == (
        f"{reason(chain, 'a.test')}; if it is an intermediate one, append its certificate to the"
        " file"
    )


def test_what_is_wrong_with_it_comes_first() -> None:
    """Before names and authorities; that it will expire refuses nobody."""
    expired = (replace(LEAF, is_public=False, expires_at=NOW - 1), GOOD[1])
    soon = (replace(LEAF, expires_at=NOW + DAY), GOOD[1])

    assert "has expired on" in (reason(expired, "b.test") or "")
    assert reason(soon, "a.test") is None
    assert reason((), "a.test") is None
