"""
A client of one certificate authority, on certbot's ``acme``: account, order, renewal information.

Every failure, whatever the library raises, is an :class:`~.problems.AuthorityError`. Nothing here
reads or writes files.
"""

import base64
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from ipaddress import ip_address
from typing import Any

import requests
from acme import crypto_util, errors, messages
from acme.client import ClientV2
from cryptography import x509
from josepy.jwk import JWKEC

from ..tls.domain_names import is_address
from .challenges import Challenge
from .network import Network, failure_of
from .options import ExternalAccount
from .problems import ERROR_PREFIX, AuthorityError, AuthorityProblem

# Boulder validates within 10 s, and others tell with Retry-After.
_FIRST_POLL, _LONGEST_POLL = 0.25, 10.0  # seconds

# What an authority says to people: a sentence or two.
_MAX_DETAIL = 500  # characters

# RFC 8555, 8.3: base64url, with 128 bits at least. It becomes the name of a file.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")

_PENDING = {"pending", "processing"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Directory:
    """What an authority says of itself."""

    terms: str  # a URL; empty if it names none
    profiles: tuple[str, ...]
    wants_eab: bool
    issuer: str  # its name in CAA records; empty if it does not say


@dataclass(frozen=True, kw_only=True, slots=True)
class Authorization:
    """One name of an order, and the challenges of which one proves it."""

    url: str
    name: str  # without ``*.``
    is_valid: bool
    challenges: Mapping[str, Challenge]  # by kind
    urls: Mapping[str, str]  # of the challenges, by kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    url: str
    authorizations: tuple[Authorization, ...]
    finalize_url: str
    csr: bytes  # PEM
    is_replacement: bool  # whether the authority knows which certificate it replaces


@dataclass(frozen=True, kw_only=True, slots=True)
class RenewalWindow:
    """When the authority wants a certificate to be renewed (RFC 9773)."""

    start: float
    end: float
    url: str  # why, for people; may be empty
    retry_at: float | None


class AuthorityClient:
    """A client with the key of one account."""

    def __init__(
        self, directory_url: str, account_key: str, *, trusted: str | bool, deadline: float
    ) -> None:
        """Make a client; nothing is sent yet. From ``deadline`` on, every request fails."""
        # ``trusted``: of `network.trusted_roots`, for the directory's own certificate.
        self._url = directory_url
        self._key = JWKEC.json_loads(account_key)
        self._network = Network(self._key, trusted=trusted, deadline=deadline)
        self._library: ClientV2 | None = None

    def close(self) -> None:
        self._network.session.close()

    @property
    def server_time(self) -> float | None:
        """The authority's clock at its last answer; seconds since 1970."""
        return self._network.server_time

    def open(self) -> Directory:
        try:
            with self._problems():
                directory = ClientV2.get_directory(self._url, self._network)
                for field in ("newAccount", "newNonce", "newOrder"):
                    _text(directory[field])
        except AuthorityError as error:
            raise AuthorityError(_of_directory(error.problem)) from error
        with self._problems():
            self._library = ClientV2(directory, self._network)
            meta = directory["meta"]
            return Directory(
                terms=_line(str(meta.terms_of_service or "")),
                profiles=tuple(_line(str(one)) for one in meta.profiles or ()),
                wants_eab=bool(meta.external_account_required),
                issuer=_line(str(next(iter(meta.caa_identities or ()), ""))),
            )

    def use_account(self, url: str) -> None:
        """Sign what follows for an account that exists."""
        self._network.account = messages.RegistrationResource(body=messages.Registration(), uri=url)

    def register(self, email: str, eab: ExternalAccount | None) -> str:
        """Make the account, or find the one of this key; return its URL. Its terms are accepted."""
        with self._problems():
            library = self._opened()
            self._network.account = None
            binding = None
            if eab is not None:
                binding = messages.ExternalAccountBinding.from_data(
                    self._key.public_key(), eab.kid, eab.hmac_key, library.directory
                )
            account = messages.NewRegistration.from_data(
                email=email or None,
                external_account_binding=binding,
                terms_of_service_agreed=True,
            )
            try:
                url = library.new_account(account).uri
            except errors.ConflictError as conflict:
                url = conflict.location
            except messages.Error as error:
                if eab is None or error.code not in {"malformed", "unauthorized"}:
                    raise
                problem = self._problem(error, "", "")
                raise AuthorityError(replace(problem, kind="externalAccountRequired")) from error
            self.use_account(_text(url))
            return url

    def change_email(self, url: str, email: str) -> None:
        """Have the authority write to another address; to none if it is empty."""
        contact = (f"mailto:{email}",) if email else ()
        with self._problems():
            self._post(url, _Body({"contact": contact}))

    def order(
        self, names: tuple[str, ...], key: bytes, *, profile: str = "", replaces: str = ""
    ) -> Order:
        """Order a certificate for a private key (PEM) and, by RFC 9773, in place of another one."""
        csr = crypto_util.make_csr(
            key,
            [name for name in names if not is_address(name)],
            ipaddrs=[ip_address(name) for name in names if is_address(name)],
        )
        wanted: dict[str, Any] = {
            "identifiers": [
                {"type": "ip" if is_address(name) else "dns", "value": name} for name in names
            ]
        }
        if profile:
            wanted["profile"] = profile
        with self._problems():
            answer = self._replacement(wanted, replaces) if replaces else None
            is_replacement = answer is not None
            answer = answer or self._post(self._opened().directory["newOrder"], _Body(wanted))
            body, url = answer.json(), _text(answer.headers.get("Location"))
            urls = [_text(one) for one in body["authorizations"]]
            if len(urls) > len(names):
                raise ValueError("more authorizations than names")
            return Order(
                url=url,
                authorizations=tuple(self._authorization(one, names) for one in urls),
                finalize_url=_text(body["finalize"]),
                csr=csr,
                is_replacement=is_replacement,
            )

    def answer(self, url: str) -> None:
        """Have the authority validate a challenge, whose answer can be seen by now."""
        with self._problems():
            self._post(url, _Body({}))

    def wait_until_authorized(self, order: Order, kinds: Mapping[str, str]) -> None:
        """Wait until each name is proven, by the kind of challenge that is named for it."""
        for authorization in order.authorizations:
            kind = kinds.get(authorization.name, "")
            for _ in self._polls():
                with self._problems(authorization.name, kind):
                    body = self._post(authorization.url, None).json()
                    if (status := _text(body["status"])) not in {*_PENDING, "valid"}:
                        said = [one.get("error") for one in body["challenges"]]
                        raise messages.Error.from_json(next(filter(None, said), {"detail": status}))
                if status == "valid":
                    break

    def finalize(self, order: Order) -> str:
        """Have the authority sign; return the chain in PEM, the server's own certificate first."""
        is_finalized = False
        for _ in self._polls():
            with self._problems():
                if not is_finalized:
                    request = messages.CertificateRequest(csr=x509.load_pem_x509_csr(order.csr))
                    try:
                        body = self._post(order.finalize_url, request).json()
                        is_finalized = True
                    except messages.Error as error:
                        if error.code != "orderNotReady":
                            raise
                        body = self._post(order.url, None).json()
                else:
                    body = self._post(order.url, None).json()
                status = _text(body["status"])
                if status == "valid":
                    return self._post(_text(body["certificate"]), None).text
                if status not in {*_PENDING, "ready"}:
                    raise messages.Error.from_json(body.get("error") or {"detail": status})
        raise AssertionError

    def renewal_window(self, certificate: x509.Certificate) -> RenewalWindow | None:
        """Ask when a certificate is to be renewed; ``None`` if the authority does not say."""
        with self._problems():
            base = self._opened().directory.to_partial_json().get("renewalInfo")
            identifier = renewal_id(certificate)
            if base is None or not identifier:
                return None
            answer = self._network.get(f"{_text(base)}/{identifier}")
            body = answer.json()
            window = body["suggestedWindow"]
            start, end = _moment(window["start"]), _moment(window["end"])
            # RFC 9773, 4.2: such a window means that it is not known.
            if end <= start:
                return None
            return RenewalWindow(
                start=start,
                end=end,
                url=_line(str(body.get("explanationURL", ""))),
                retry_at=self._network.retry_at,
            )

    def _opened(self) -> ClientV2:
        assert self._library is not None
        return self._library

    def _post(self, url: str, body: Any) -> requests.Response:
        nonces = self._opened().directory["newNonce"]
        return self._network.post(url, body, new_nonce_url=nonces)

    def _replacement(self, wanted: Mapping[str, Any], replaces: str) -> requests.Response | None:
        """Order in place of a certificate; ``None`` if the authority refuses just that."""
        try:
            url = self._opened().directory["newOrder"]
            return self._post(url, _Body({**wanted, "replaces": replaces}))
        except errors.ConflictError:
            # RFC 9773, 5: it was replaced already.
            return None
        except messages.Error as error:
            # An authority that knows nothing of it, or of this account's right to replace it.
            if error.code in {"malformed", "unauthorized"}:
                return None
            raise

    def _authorization(self, url: str, names: Collection[str]) -> Authorization:
        body = self._post(url, None).json()
        # It becomes the name of a file, and an argument of the user's command.
        name = _text(body["identifier"]["value"])
        if not {name, f"*.{name}"} & set(names):
            raise ValueError("another name than ordered")
        thumbprint = base64.urlsafe_b64encode(self._key.thumbprint()).rstrip(b"=").decode()
        offered = {
            one["type"]: one for one in body["challenges"] if _TOKEN.fullmatch(one.get("token", ""))
        }
        return Authorization(
            url=url,
            name=name,
            is_valid=body["status"] == "valid",
            challenges={
                kind: Challenge(
                    kind=kind,
                    name=name,
                    token=one["token"],
                    key_authorization=f"{one['token']}.{thumbprint}",
                )
                for kind, one in offered.items()
            },
            urls={kind: _text(one["url"]) for kind, one in offered.items()},
        )

    def _polls(self) -> Iterator[None]:
        pause = _FIRST_POLL
        while True:
            yield
            with self._problems():
                left = self._network.time_left()
            wanted = self._network.retry_at
            asked = pause if wanted is None else max(wanted - time.time(), pause)
            time.sleep(min(asked, _LONGEST_POLL, left))
            pause *= 1.5

    def _problem(self, error: messages.Error, name: str, challenge: str) -> AuthorityProblem:
        # A compound error says more in its first part.
        if error.subproblems:
            error = error.subproblems[0]
        if error.identifier is not None:
            name = str(error.identifier.value)
        return AuthorityProblem(
            kind=_line(str(error.typ).removeprefix(ERROR_PREFIX)),
            detail=_line(error.detail or error.title or "it gives no reason"),
            name=_line(name),
            challenge=challenge,
            retry_at=self._network.retry_at,
        )

    @contextmanager
    def _problems(self, name: str = "", challenge: str = "") -> Iterator[None]:
        try:
            yield
        except AuthorityError:
            raise
        except messages.Error as error:
            raise AuthorityError(self._problem(error, name, challenge)) from error
        except Exception as error:
            # The library raises anything at an answer of a shape that it does not expect.
            kind, detail = failure_of(error)
            problem = AuthorityProblem(
                kind=kind, detail=_line(detail), name=name, retry_at=self._network.retry_at
            )
            raise AuthorityError(problem) from error


class _Body:
    """A request that the library has no class for."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._fields = fields

    def json_dumps(self, **_: Any) -> str:
        return json.dumps(self._fields)


def renewal_id(certificate: x509.Certificate) -> str:
    """Name a certificate as RFC 9773, 4.1, does; empty if it does not name its issuer's key."""
    try:
        issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except x509.ExtensionNotFound:
        return ""
    serial = certificate.serial_number
    # DER: one more bit, for the sign.
    parts = issuer.value.key_identifier or b"", serial.to_bytes(serial.bit_length() // 8 + 1)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def _of_directory(problem: AuthorityProblem) -> AuthorityProblem:
    """Say what a problem is if it is the first one: another URL may be at fault."""
    match problem.kind:
        case "timedOut":
            return replace(problem, kind="unreachable")
        case "unintelligible" | "malformed":
            return replace(problem, kind="noDirectory")
    return problem


def _moment(text: str) -> float:
    return datetime.fromisoformat(_text(text)).timestamp()


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is missing")
    return value


def _line(text: str) -> str:
    """Bound what a stranger says, and keep it on one line."""
    line = " ".join(text.split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable if len(printable) <= _MAX_DETAIL else printable[: _MAX_DETAIL - 1] + "…"
