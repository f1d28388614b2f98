"""
What an authority, or the way to it, has answered instead of a certificate, as findings. PURE.

The library's errors become an :class:`AuthorityProblem` in :mod:`.client`; :func:`finding_of` says
what it means here, and what to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ..findings import Finding
from ..findings.acme import (
    ACME_ACCOUNT,
    ACME_AUTHORITY_FAILED,
    ACME_CAA,
    ACME_CERTIFICATE_UNUSABLE,
    ACME_CLOCK,
    ACME_DNS_RECORD,
    ACME_EMAIL,
    ACME_EXTERNAL_ACCOUNT,
    ACME_KEY_REFUSED,
    ACME_NAME_REJECTED,
    ACME_NAME_UNKNOWN,
    ACME_NO_CHALLENGE,
    ACME_NO_DIRECTORY,
    ACME_PORT_UNREACHABLE,
    ACME_PROFILE,
    ACME_RATE_LIMITED,
    ACME_UNREACHABLE,
    ACME_UNTRUSTED,
    ACME_WRONG_SERVER,
)
from ..tls.certificate_findings import minute
from .options import DNS_01, HTTP_01, AcmeOptions

ERROR_PREFIX = "urn:ietf:params:acme:error:"


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthorityProblem:
    # A type of RFC 8555, section 6.7, without its prefix, or one of ours: ``unreachable``,
    # ``untrusted``, ``noDirectory``, ``noChallenge``, ``unusable``, ``clock`` (the detail is the
    # difference), ``timedOut``, ``unintelligible``.
    kind: str
    detail: str = ""  # for people: one line, bounded
    name: str = ""  # which of the names it is about; empty for none
    challenge: str = ""  # how that name was checked; empty if it was not
    retry_at: float | None = None  # when to ask again; seconds since 1970


class AuthorityError(Exception):
    """The authority has not done what it was asked."""

    def __init__(self, problem: AuthorityProblem) -> None:
        super().__init__(problem)
        self.problem = problem


_DECLARATIONS = {
    "unreachable": ACME_UNREACHABLE,
    "untrusted": ACME_UNTRUSTED,
    "noDirectory": ACME_NO_DIRECTORY,
    "clock": ACME_CLOCK,
    "rateLimited": ACME_RATE_LIMITED,
    "externalAccountRequired": ACME_EXTERNAL_ACCOUNT,
    "invalidContact": ACME_EMAIL,
    "unsupportedContact": ACME_EMAIL,
    "invalidEmail": ACME_EMAIL,
    "unauthorized": ACME_ACCOUNT,
    "accountDoesNotExist": ACME_ACCOUNT,
    "userActionRequired": ACME_ACCOUNT,
    "rejectedIdentifier": ACME_NAME_REJECTED,
    "unsupportedIdentifier": ACME_NAME_REJECTED,
    "invalidProfile": ACME_PROFILE,
    "badCSR": ACME_KEY_REFUSED,
    "badPublicKey": ACME_KEY_REFUSED,
    "noChallenge": ACME_NO_CHALLENGE,
    "caa": ACME_CAA,
    "dns": ACME_NAME_UNKNOWN,
    "dnssec": ACME_NAME_UNKNOWN,
    "unknownHost": ACME_NAME_UNKNOWN,
    "unusable": ACME_CERTIFICATE_UNUSABLE,
}

# What the check of a name has found, if another challenge might find it otherwise.
OF_CHALLENGES = {
    "connection": ACME_PORT_UNREACHABLE,
    "unauthorized": ACME_WRONG_SERVER,
    "incorrectResponse": ACME_WRONG_SERVER,
    "tls": ACME_WRONG_SERVER,
}
_OF_RECORDS = dict.fromkeys(
    ("connection", "unauthorized", "incorrectResponse", "dns", "dnssec", "unknownHost"),
    ACME_DNS_RECORD,
)


def finding_of(
    problem: AuthorityProblem,
    options: AcmeOptions,
    *,
    directory: str,  # the URL of the authority
    account_path: str = "",
    issuer: str = "",  # the authority's name in CAA records; empty if it does not say
) -> Finding:
    """Say what a problem with a certificate means here, and what to do."""
    declaration = _DECLARATIONS.get(problem.kind, ACME_AUTHORITY_FAILED)
    if problem.challenge == DNS_01:
        declaration = _OF_RECORDS.get(problem.kind, declaration)
    elif problem.challenge:
        declaration = OF_CHALLENGES.get(problem.kind, declaration)
    authority = urlsplit(directory).hostname or directory
    detail = problem.detail or problem.kind
    name = problem.name or _name_in(detail, options.domains)
    fields: dict[str, Any] = {
        "authority": authority,
        "detail": detail,
        "difference": detail,
        "directory": directory,
        "issuer": issuer or authority,
        "key_type": options.key_type,
        "name": name,
        "offered": detail,
        "path": account_path,
        "port": 80 if problem.challenge == HTTP_01 else 443,
        "possible": problem.challenge,
        "profile": options.profile,
        "reason": detail,
        "record": f"_acme-challenge.{name}",
        "until": "an unknown moment" if problem.retry_at is None else minute(problem.retry_at),
        "wait": 0.0 if options.dns is None else options.dns.wait,
        "what": "missing" if options.eab is None else f"not accepted ({detail})",
    }
    return declaration.found(**fields)


def _name_in(detail: str, names: Sequence[str]) -> str:
    """Return the name that an authority speaks of; the first one if it speaks of none."""
    # The longest: www.example.com has example.com in it.
    return max((one for one in names if one in detail), key=len, default=names[0])
