"""
One order, from its names to the chain: what RFC 8555 asks for, in its order.

The authority is told to validate when every process that serves can answer.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..findings import Finding
from ..tls.certificate_chain import CertificateFacts, read_chain
from .accounts import Session
from .answers import published
from .challenges import Challenge, kinds_for
from .client import Authorization
from .keys import new_key
from .options import AcmeOptions
from .problems import AuthorityError, AuthorityProblem
from .readiness import AnswerFile
from .storage import Storage

# Above it, dates are judged wrongly.
CLOCK_TOLERANCE = 300.0  # seconds

WhyNotReady = Callable[[AcmeOptions, Sequence[AnswerFile]], Finding | None]
"""Says why not every process that serves can give these answers; ``None`` if all can."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Issued:
    """A new certificate."""

    pem: bytes  # the key, then the chain
    facts: CertificateFacts
    challenge: str  # the kinds that have proven the names; empty if they were proven before
    is_replacement: bool  # whether the authority knows which certificate it replaces


class NotReady(Exception):
    """Not every process that serves can answer."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.code)
        self.finding = finding


def obtain(
    session: Session,
    options: AcmeOptions,
    storage: Storage,
    *,
    why_not_ready: WhyNotReady,
    has_http: bool,
    clock: Callable[[], float],  # seconds since 1970
    without: Collection[str] = (),  # kinds that have failed; taken only if there is no other
    replaces: str = "",  # the certificate that it is for, as RFC 9773 calls it
) -> Issued:
    """Order a certificate; raises AuthorityError, DnsCommandFailed or NotReady."""
    if options.profile and options.profile not in session.directory.profiles:
        known = ", ".join(session.directory.profiles) or "none"
        raise AuthorityError(
            AuthorityProblem(kind="invalidProfile", detail=f"its profiles: {known}")
        )
    key = new_key(options.key_type)
    order = session.order(key, replaces=replaces)
    chosen = [
        choose(one, options, has_http=has_http, without=without)
        for one in order.authorizations
        if not one.is_valid
    ]
    challenges = [challenge for challenge, _ in chosen]
    with published(challenges, storage, options.dns) as files:
        if files and (finding := why_not_ready(options, files)) is not None:
            raise NotReady(finding)
        for _, url in chosen:
            session.client.answer(url)
        kinds = {challenge.name: challenge.kind for challenge in challenges}
        session.client.wait_until_authorized(order, kinds)
        chain = session.client.finalize(order)
    facts = check_issued(chain, key, options.domains, now=clock())
    used = ", ".join(sorted(set(kinds.values())))
    return Issued(
        pem=key + chain.encode(),
        facts=facts,
        challenge=used,
        is_replacement=order.is_replacement,
    )


def choose(
    authorization: Authorization,
    options: AcmeOptions,
    *,
    has_http: bool,
    without: Collection[str] = (),
) -> tuple[Challenge, str]:
    """Return the challenge that is to prove a name, and its URL."""
    kinds = kinds_for(options, authorization.name, has_http=has_http)
    offered = [kind for kind in kinds if kind in authorization.challenges]
    if not offered:
        raise AuthorityError(
            AuthorityProblem(
                kind="noChallenge",
                name=authorization.name,
                challenge=" or ".join(kinds),
                detail=", ".join(sorted(authorization.challenges)) or "nothing",
            )
        )
    kind = next((kind for kind in offered if kind not in without), offered[0])
    return authorization.challenges[kind], authorization.urls[kind]


def check_issued(chain: str, key: bytes, names: Sequence[str], *, now: float) -> CertificateFacts:
    """Refuse a chain that could not serve what was ordered; raises AuthorityError."""
    facts = next(iter(read_chain(chain.encode())), None)
    kind, detail = "unusable", ""
    if facts is None:
        detail = "it cannot be read"
    elif missing := set(names) - set(facts.names):
        detail = f"it is not for {', '.join(sorted(missing))}"
    elif _public_key(chain) != load_pem_private_key(key, None).public_key():
        detail = "it is for another key"
    elif facts.expires_at <= now:
        detail = "it has expired by this machine's clock"
    elif facts.starts_at > now + CLOCK_TOLERANCE:
        kind, detail = "clock", f"at least {(facts.starts_at - now) / 60:.0f} minutes"
    if detail or facts is None:
        raise AuthorityError(AuthorityProblem(kind=kind, detail=detail))
    return facts


def _public_key(chain: str) -> object:
    return x509.load_pem_x509_certificates(chain.encode())[0].public_key()
