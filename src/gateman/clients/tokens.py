"""
Tokens of SDK clients: JSON Web Tokens, verified with keys that the service declares. PURE.

PyJWT checks signatures. The key alone says which algorithms are valid: a secret verifies HMAC, a
public key what it is made for, and no key what only the token's header asks for.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw, Struct

from ..errors import ConfigError, TokenError
from ..options import check_names, fixed, option

_HMAC_SIZES = {"HS256": 32, "HS384": 48, "HS512": 64}  # bytes of a secret; RFC 7518, 3.2
_RSA = ("RS256", "RS384", "RS512")
_OF_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS = (*_HMAC_SIZES, *_RSA, *_OF_CURVES.values(), "EdDSA")

_MIN_RSA_SIZE = 2048  # bits; RFC 7518, 3.3

# RFC 7519, 4.1.5: "usually no more than a few minutes". A token is often used in the second in
# which another machine has issued it.
_LEEWAY = 30.0  # seconds

_MAX_TIME = 253_402_300_799  # seconds since 1970: the end of the year 9999

# Providers have 2 to 5.
_MAX_KEYS = 64


@fixed("tokens", "worker.tokens = {{'{name}': {value}}}")
@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Tokens:
    """How tokens of SDK clients are verified; one source of keys has to be given."""

    secret: str | bytes | None = option(
        None,
        "",
        "The key of tokens with HS256, HS384 or HS512, which the service that issues them has, too;"
        " at least 32 random bytes (fewer are warned of). Take it from the environment.",
    )
    public_key: str | None = option(
        None, "", "The key, as PEM, of tokens with RS256, ES256, EdDSA or the like."
    )
    jwks_url: str | None = option(
        None,
        "",
        "An https:// address with the public keys of the provider (RFC 7517). They are cached, and"
        " asked for again each hour and when a token names another key.",
    )
    algorithms: tuple[str, ...] = option(
        (),
        "",
        "The valid algorithms. By default HS256 with a secret, and with a public key the one that"
        " is usual for its type: RS256, ES256, ES384, ES512 or EdDSA.",
    )
    issuer: str | None = option(None, "", "The claim iss that a token must have; None for any.")
    audience: str | None = option(
        None, "", "What the claim aud of a token must name; None for anything."
    )

    def __repr__(self) -> str:
        """Show where the key is from, and no secret."""
        sources = ("secret", "public_key", "jwks_url")
        return f"Tokens({next(name for name in sources if getattr(self, name))}=…)"

    @property
    def weakness(self) -> str:
        """What is wrong with a secret that is shorter than its hash (RFC 7518, section 3.2)."""
        # A warning and no error: services that issue tokens with such a secret exist.
        if self.secret is None:
            return ""
        size = len(self.secret.encode() if isinstance(self.secret, str) else self.secret)
        least = max(_HMAC_SIZES.get(one, 0) for one in self.algorithms or ("HS256",))
        if size >= least:
            return ""
        return (
            f"tokens.secret has {size} bytes, and can be guessed from a token: use at least {least}"
            f" random ones, such as those of `openssl rand -hex {least}`"
        )

    @classmethod
    def of(cls, value: "Tokens | Mapping[str, Any] | None") -> "Tokens | None":
        """Return the options, made from a mapping if it is one."""
        if value is None or isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise ConfigError(
                "tokens= is neither Tokens nor a mapping", "write tokens={'secret': …}"
            )
        check_names("option of tokens", value, {declared.name for declared in fields(cls)})
        return cls(**value)

    def __post_init__(self) -> None:
        for name in ("secret", "public_key", "jwks_url", "issuer", "audience"):
            value = getattr(self, name)
            types = (str, bytes) if name == "secret" else str
            if value is not None and (not isinstance(value, types) or not value):
                # The value may be a secret.
                raise ConfigError(f"tokens.{name} is not a text", "give it as str")
        if isinstance(self.algorithms, str):
            raise ConfigError("tokens.algorithms is a text", f"write [{self.algorithms!r}]")
        if not isinstance(self.algorithms, Iterable):
            raise ConfigError("tokens.algorithms is not a list", "write ['HS256']")
        object.__setattr__(self, "algorithms", tuple(self.algorithms))
        check_names("algorithm of tokens", self.algorithms, ALGORITHMS)
        sources = [self.secret, self.public_key, self.jwks_url]
        if sum(source is not None for source in sources) != 1:
            raise ConfigError(
                "tokens needs one source of keys", "give secret, public_key or jwks_url"
            )
        if self.jwks_url is not None and not is_jwks_url(self.jwks_url):
            raise ConfigError(
                f"tokens.jwks_url={self.jwks_url!r} is not an https:// address",
                "use https: somebody who changes the keys on their way can log in as anybody",
            )


def is_jwks_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Key(Struct, frozen=True, gc=False):
    """A key, prepared for PyJWT, and the algorithms that it may verify."""

    value: Any
    algorithms: tuple[str, ...]


class ServerSubscription(Struct, frozen=True, gc=False):
    """A channel to which a connection token subscribes its client."""

    info: bytes = b""  # as JSON, as everywhere here
    data: bytes = b""


class ConnectionClaims(Struct, frozen=True, gc=False):
    """What a connection token says."""

    user: str
    """Empty for nobody in particular."""
    expires_at: float | None
    """Seconds since 1970: when the connection has to be refreshed; None for never."""
    info: bytes
    meta: bytes
    subs: dict[str, ServerSubscription]


class SubscriptionClaims(Struct, frozen=True, gc=False):
    """What a subscription token says; its channel and user are the client's."""

    expires_at: float | None
    info: bytes


class _Sub(Struct):
    info: Raw = Raw()
    data: Raw = Raw()


class _Claims(Struct):
    sub: str = ""
    exp: float | None = None
    nbf: float | None = None
    iss: str = ""
    aud: str | list[str] = ""
    expire_at: float | None = None
    info: Raw = Raw()
    meta: Raw = Raw()
    channels: list[str] = []
    subs: dict[str, _Sub] = {}
    channel: str = ""


_decode_claims = msgspec.json.Decoder(_Claims).decode


class Verifier:
    """Verifies tokens of up to ``max_size`` bytes; ConfigError if the declared key is not one."""

    def __init__(self, tokens: Tokens, max_size: int) -> None:
        self._tokens = tokens
        self._max_size = max_size
        self._signatures = _library().PyJWS(algorithms=ALGORITHMS)
        if tokens.weakness:
            _allow_short_keys(self._signatures)
        self._key = _declared_key(tokens)
        # Those of the provider, by their names; the shell assigns what :func:`read_keys` returns.
        self.keys: Mapping[str, Key] = {}

    def key_id(self, token: str) -> str | None:
        """Return which of the provider's keys the token names; None for none of a provider's."""
        if self._key is not None:
            return None
        return str(self._header(token).get("kid", ""))

    def connection(self, token: str, now: float) -> ConnectionClaims:
        """Verify a connection token at a time in seconds since 1970; TokenError if not valid."""
        claims = self._claims(token, now)
        if claims.channel:
            raise TokenError("it is a subscription token")
        subs = {channel: ServerSubscription() for channel in claims.channels}
        for channel, sub in claims.subs.items():
            subs[channel] = ServerSubscription(info=bytes(sub.info), data=bytes(sub.data))
        return ConnectionClaims(
            user=claims.sub,
            expires_at=_life_of(claims),
            info=bytes(claims.info),
            meta=bytes(claims.meta),
            subs=subs,
        )

    def subscription(self, token: str, channel: str, user: str, now: float) -> SubscriptionClaims:
        """Verify a subscription token of a user for a channel."""
        claims = self._claims(token, now)
        if not claims.channel or claims.channel != channel:
            raise TokenError("it is for another channel")
        if claims.sub != user:
            raise TokenError("it is for another user")
        return SubscriptionClaims(expires_at=_life_of(claims), info=bytes(claims.info))

    def _header(self, token: str) -> dict[str, Any]:
        if len(token) > self._max_size:
            raise TokenError(f"it has more than {self._max_size} bytes")
        library = _library()
        try:
            header: dict[str, Any] = self._signatures.get_unverified_header(token)
        except (library.PyJWTError, ValueError) as error:
            raise TokenError(str(error), kind=type(error).__name__) from None
        return header

    def _claims(self, token: str, now: float) -> _Claims:
        header = self._header(token)
        key = self._key or self.keys.get(str(header.get("kid", "")))
        if key is None:
            raise TokenError("the provider has no such key")
        library = _library()
        try:
            payload = self._signatures.decode(token, key.value, algorithms=key.algorithms)
            claims = _decode_claims(payload)
        except (library.PyJWTError, msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise TokenError(str(error), kind=type(error).__name__) from None
        for name in ("exp", "nbf", "expire_at"):
            if (getattr(claims, name) or 0) > _MAX_TIME:
                # Otherwise a token of a day would be valid for thousands of years.
                raise TokenError(
                    f"its {name} is after the year 9999: it has to be in seconds since 1970, and"
                    " not in milliseconds"
                )
        if claims.nbf is not None and now < claims.nbf - _LEEWAY:
            raise TokenError(
                f"it is not valid for {claims.nbf - now:.0f} s: do the clocks of this machine and"
                " of the service that issues tokens agree?",
                kind="nbf",
            )
        if self._tokens.issuer is not None and claims.iss != self._tokens.issuer:
            raise TokenError("it is of another issuer")
        audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        if self._tokens.audience is not None and self._tokens.audience not in audience:
            raise TokenError("it is for another audience")
        life = _life_of(claims)
        if any(end is not None and now >= end for end in (claims.exp, life)):
            raise TokenError("it has expired", is_expired=True)
        return claims


def _life_of(claims: _Claims) -> float | None:
    """Return when what the token allows ends: ``expire_at`` before ``exp``, and 0 for never."""
    if claims.expire_at is None:
        return claims.exp
    return claims.expire_at or None


def read_keys(document: bytes, algorithms: tuple[str, ...]) -> dict[str, Key]:
    """
    Read a provider's keys (RFC 7517).

    Keys that verify no signatures of tokens are left out, secret ones too: no provider publishes
    them. ValueError if the document is not a set of keys.
    """
    try:
        described = msgspec.json.decode(document)["keys"]
        if not isinstance(described, list):
            raise TypeError
    except (msgspec.MsgspecError, TypeError, KeyError, RecursionError):
        raise ValueError("it is not a set of keys (RFC 7517)") from None
    keys: dict[str, Key] = {}
    library = _library()
    for one in described[:_MAX_KEYS]:
        if not isinstance(one, dict) or one.get("kty") == "oct" or one.get("use", "sig") != "sig":
            continue
        try:
            key = _public_key(library.PyJWK(one).key, algorithms, one.get("alg"))
        except (library.PyJWTError, ConfigError, ValueError, TypeError, KeyError):
            continue
        keys[str(one.get("kid", ""))] = key
    return keys


def _allow_short_keys(signatures: Any) -> None:
    """Leave out the warning of PyJWT at each token; ``Tokens.weakness`` is told once."""
    # Imported here, as the library.
    from jwt.algorithms import HMACAlgorithm

    class AnySize(HMACAlgorithm):
        def check_key_length(self, key: Any) -> None:  # noqa: ARG002 - PyJWT's signature
            return None

    for name in _HMAC_SIZES:
        signatures.unregister_algorithm(name)
        signatures.register_algorithm(name, AnySize(getattr(AnySize, f"SHA{name[2:]}")))


def _declared_key(tokens: Tokens) -> Key | None:
    """Return the key of a secret or a PEM; None if a provider has them."""
    if tokens.secret is not None:
        algorithms = tokens.algorithms or ("HS256",)
        valid = tuple(one for one in algorithms if one in _HMAC_SIZES)
        if valid != algorithms:
            raise ConfigError(
                f"tokens.algorithms={list(algorithms)!r} need a public key",
                "give public_key or jwks_url, or use HS256, HS384 or HS512",
            )
        secret = tokens.secret.encode() if isinstance(tokens.secret, str) else tokens.secret
        if not secret:
            raise ConfigError("tokens.secret is empty", "give one")
        return Key(secret, valid)
    if tokens.public_key is None:
        return None
    # Imported here: it takes long, and only tokens with public keys need it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(tokens.public_key.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(
            "tokens.public_key is not a public key as PEM",
            "it begins with -----BEGIN PUBLIC KEY-----",
        ) from None
    return _public_key(key, tokens.algorithms)


def _public_key(key: Any, algorithms: tuple[str, ...], declared: object = None) -> Key:
    """Return a key with those of the valid algorithms that are for its type."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    possible: tuple[str, ...] = ()
    if isinstance(key, RSAPublicKey):
        if key.key_size < _MIN_RSA_SIZE:
            raise ConfigError(
                f"the RSA key of tokens has {key.key_size} bits",
                f"use one with {_MIN_RSA_SIZE} or more",
            )
        possible = _RSA if algorithms or declared else _RSA[:1]
    elif isinstance(key, EllipticCurvePublicKey) and key.curve.name in _OF_CURVES:
        possible = (_OF_CURVES[key.curve.name],)
    elif isinstance(key, Ed25519PublicKey):
        possible = ("EdDSA",)
    valid = tuple(
        one for one in possible if (not algorithms or one in algorithms) and declared in {None, one}
    )
    if not valid:
        raise ConfigError(
            "the key of tokens is not for the algorithms of tokens",
            f"it is a {type(key).__name__.strip('_')}",
        )
    return Key(key, valid)


class KeyCache:
    """
    When the provider's keys are to be asked for. PURE.

    They are asked for when they are an hour old, and when a token names a key that is not there,
    which is what a provider's change of keys looks like. Tokens with invented names cause one
    request in 10 s. If the provider does not answer, its keys remain valid for a day.
    """

    MAX_AGE = 3600.0  # seconds
    MAX_STALE_AGE = 86_400.0  # seconds
    INTERVAL = 10.0  # seconds

    __slots__ = ("_asked_at", "_got_at")

    def __init__(self) -> None:
        self._asked_at = float("-inf")
        self._got_at = float("-inf")

    def is_fetch_due(self, *, has_key: bool, now: float) -> bool:
        if now - self._asked_at < self.INTERVAL:
            return False
        return not has_key or now - self._got_at >= self.MAX_AGE

    def is_valid(self, now: float) -> bool:
        return now - self._got_at < self.MAX_STALE_AGE

    def asked(self, now: float) -> None:
        self._asked_at = now

    def got(self, now: float) -> None:
        self._got_at = now


def _library() -> Any:
    """Import PyJWT, which takes 0.1 s, when there are tokens."""
    try:
        import jwt
    except ImportError:
        raise ConfigError(
            "tokens need PyJWT", "install it with `pip install 'gateman[tokens]'`"
        ) from None
    return jwt
