"""Accounts with a real authority: one is made, kept, found again, and made anew if it is lost."""

import time
from pathlib import Path

import pytest

from gateman.acme.accounts import open_session
from gateman.acme.child import run
from gateman.acme.job import Job
from gateman.acme.keys import new_account_key, new_key
from gateman.acme.options import AcmeOptions
from gateman.acme.problems import AuthorityError
from gateman.acme.storage import Account, Storage
from tests.acme.conftest import Declare
from tests.support.altered_authority import AlteredAuthority, Answer, Request
from tests.support.pebble import pebble


def order(options: AcmeOptions, storage: Storage) -> Account:
    """Order, and return the account that is kept."""
    deadline = time.monotonic() + 60
    with open_session(options, options.directory, storage, deadline=deadline) as session:
        session.order(new_key("p256"))
    kid = options.eab.kid if options.eab else ""
    account = storage.read_account(options.directory, kid)
    assert account is not None
    return account


def test_the_account_is_used_again(declare: Declare, storage: Storage) -> None:
    first = order(declare("a.test", email="admin@a.test"), storage)
    second = order(declare("b.test", email="admin@a.test"), storage)

    assert first == second
    assert first.url.startswith("https://127.0.0.1:")
    assert first.email == "admin@a.test"


def test_a_key_without_its_account_finds_it(declare: Declare, storage: Storage) -> None:
    """As after a kill between the two."""
    options = declare("a.test")
    first = order(options, storage)
    storage.write_account(Account(directory=first.directory, url="", key=first.key))

    assert order(options, storage) == first


def test_an_account_that_the_authority_has_lost_is_made_anew(
    declare: Declare, storage: Storage
) -> None:
    options = declare("a.test")
    url = options.directory.replace("/dir", "/my-account/0000000000000000")
    storage.write_account(Account(directory=options.directory, url=url, key=new_account_key()))

    assert order(options, storage).url != url


def test_an_account_file_that_is_broken_is_replaced(declare: Declare, storage: Storage) -> None:
    options = declare("a.test")
    storage.write_account(Account(directory=options.directory, url="https://x/", key="{}"))

    assert order(options, storage).key != "{}"


def test_another_email_is_told_to_the_authority(
    declare: Declare, storage: Storage, altered: AlteredAuthority
) -> None:
    site = {"directory": altered.directory, "directory_cafile": str(altered.cafile)}
    order(declare("a.test", email="old@a.test", **site), storage)
    account = order(declare("a.test", email="new@a.test", **site), storage)

    # One with a bad nonce is sent again.
    told = dict.fromkeys(
        one.payload["contact"][0] for one in altered.requests if "contact" in (one.payload or {})
    )
    assert list(told) == ["mailto:old@a.test", "mailto:new@a.test"]
    assert account.email == "new@a.test"


def test_an_email_that_is_refused_keeps_no_certificate_from_being_renewed(
    declare: Declare, storage: Storage, altered: AlteredAuthority
) -> None:
    site = {"directory": altered.directory, "directory_cafile": str(altered.cafile)}
    account = order(declare("a.test", **site), storage)
    refusal = Answer.problem("invalidContact", "no such domain", 400, Replay_Nonce="AAAA")
    altered.alter = lambda request: refusal if "contact" in (request.payload or {}) else None

    options = declare("a.test", email="a@nowhere.invalid", **site)
    report = run(Job(certificates=(options,)))

    assert "(no such domain)" in report.log[0].text
    assert "ACME_EMAIL" in report.log[0].text
    assert storage.read_certificate(options.id) is not None
    assert storage.read_account(options.directory) == account


def test_an_account_that_is_lost_when_its_email_changes(declare: Declare, storage: Storage) -> None:
    options = declare("a.test", email="new@a.test")
    url = options.directory.replace("/dir", "/my-account/0000000000000000")
    storage.write_account(Account(directory=options.directory, url=url, key=new_account_key()))

    account = order(options, storage)

    assert account.url != url
    assert account.email == "new@a.test"


def test_the_key_is_kept_before_the_account_is_made(
    declare: Declare, storage: Storage, altered: AlteredAuthority
) -> None:
    options = declare("a.test", directory=altered.directory, directory_cafile=str(altered.cafile))
    kept: list[Account | None] = []

    def look(request: Request) -> None:
        if request.path == "/sign-me-up":
            kept.append(storage.read_account(options.directory))

    altered.alter = look
    account = order(options, storage)

    assert {one and (one.url, one.key) for one in kept} == {("", account.key)}


EAB = {
    "kid": "kid-1",
    "hmac_key": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
}


def test_external_account_binding(declare: Declare, storage: Storage, tmp_path: Path) -> None:
    with pebble(tmp_path, eab={EAB["kid"]: EAB["hmac_key"]}) as customers_only:
        site = {
            "directory": customers_only.directory,
            "directory_cafile": str(customers_only.cafile),
        }
        account = order(declare("a.test", eab=EAB, **site), storage)
        with pytest.raises(AuthorityError) as missing:
            order(declare("a.test", **site), storage)
        with pytest.raises(AuthorityError) as wrong:
            order(declare("a.test", eab={**EAB, "kid": "kid-2"}, **site), storage)

    assert account.kid == "kid-1"
    assert missing.value.problem.kind == "externalAccountRequired"
    assert wrong.value.problem.kind == "externalAccountRequired"


def test_an_account_that_is_refused_says_why(
    declare: Declare, storage: Storage, altered: AlteredAuthority
) -> None:
    refusal = Answer.problem("unauthorized", "account is deactivated", Replay_Nonce="AAAA")
    altered.alter = lambda request: refusal if request.path == "/order-plz" else None

    with pytest.raises(AuthorityError) as raised:
        order(
            declare("a.test", directory=altered.directory, directory_cafile=str(altered.cafile)),
            storage,
        )

    assert raised.value.problem.kind == "unauthorized"
    assert raised.value.problem.detail == "account is deactivated"
