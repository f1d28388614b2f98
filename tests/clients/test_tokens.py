"""Tokens of SDK clients: what is valid, what it says, and every way not to be valid."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from gateman.clients.tokens import (
    ConnectionClaims,
    Key,
    KeyCache,
    ServerSubscription,
    SubscriptionClaims,
    Tokens,
    Verifier,
    read_keys,
)
from gateman.errors import ConfigError, TokenError
from tests.support.tokens import base64url, jwk, pem, token

SECRET = b"0123456789abcdef0123456789abcdef"
NOW = 1_700_000_000.0

RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
SMALL_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it is refused


def verifier(**options: Any) -> Verifier:
    return Verifier(Tokens(**(options or {"secret": SECRET})), 8192)


def problem_of(verifier: Verifier, text: str, now: float = NOW) -> str:
    with pytest.raises(TokenError) as caught:
        verifier.connection(text, now)
    assert not caught.value.is_temporary
    return str(caught.value)


def test_a_connection_token() -> None:
    claims = {
        "sub": "42",
        "exp": NOW + 60,
        "iat": NOW,
        "info": {"name": "Ann"},
        "meta": [1],
        "channels": ["a", "b"],
        "subs": {"b": {"info": 1, "data": {"x": 2}}, "c": {}},
        "other": {},
    }

    assert verifier().connection(token(SECRET, claims, algorithm="HS256"), NOW) == ConnectionClaims(
        user="42",
        expires_at=NOW + 60,
        info=b'{"name": "Ann"}',
        meta=b"[1]",
        subs={
            "a": ServerSubscription(),
            "b": ServerSubscription(info=b"1", data=b'{"x": 2}'),
            "c": ServerSubscription(),
        },
    )


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"secret": "secret"}, 32),
        ({"secret": SECRET}, 0),
        ({"secret": SECRET, "algorithms": ("HS256", "HS384")}, 48),
        ({"secret": SECRET * 2, "algorithms": ("HS512",)}, 0),
        ({"public_key": pem(RSA)}, 0),
    ],
)
def test_a_short_secret_is_weak_and_valid(options: dict[str, Any], least: int) -> None:
    """Services that issue tokens with it exist; PyJWT's own warning would be an error here."""
    tokens = Tokens(**options)
    sentence = (
        f"tokens.secret has {len(tokens.secret or '')} bytes, and can be guessed from a token: use"
        f" at least {least} random ones, such as those of `openssl rand -hex {least}`"
    )

    assert tokens.weakness == (sentence if least else "")
    if tokens.secret == "secret":
        text = token(b"secret", {"sub": "42"}, algorithm="HS256")
        assert verifier(**options).connection(text, NOW).user == "42"


def test_the_token_of_the_specification() -> None:
    """RFC 7515, A.1: its header and payload are written with line breaks."""
    text = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQog"
        "Imh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    key = bytes.fromhex(
        "0323354b2b0fa5bc837e0665777ba68f5ab328e6f054c928a90f84b2d2502ebf"
        "d3fb5a92d20647ef968ab4c377623d223d2e2172052e4f08c0cd9af567d080a3"
    )

    claims = verifier(secret=key, issuer="joe").connection(text, 1_300_819_379.0)
    assert (claims.user, claims.expires_at) == ("", 1_300_819_380.0)


@pytest.mark.parametrize(
    ("end", "expires_at"),
    [
        ({}, None),
        ({"exp": NOW + 5}, NOW + 5),
        ({"exp": NOW + 5, "expire_at": NOW + 9}, NOW + 9),
        ({"exp": NOW + 5, "expire_at": 0}, None),
    ],
)
def test_how_long_a_connection_lives(end: dict[str, float], expires_at: float | None) -> None:
    text = token(SECRET, end, algorithm="HS256")
    assert verifier().connection(text, NOW).expires_at == expires_at


def test_a_subscription_token() -> None:
    claims = {"sub": "42", "channel": "a", "exp": NOW + 1, "info": 1}
    text = token(SECRET, claims, algorithm="HS256")

    assert verifier().subscription(text, "a", "42", NOW) == SubscriptionClaims(
        expires_at=NOW + 1, info=b"1"
    )
    for channel, user in (("b", "42"), ("", "42"), ("a", ""), ("a", "43")):
        with pytest.raises(TokenError, match=r"it is for another (channel|user)"):
            verifier().subscription(text, channel, user, NOW)
    assert problem_of(verifier(), text) == "it is a subscription token"
    with pytest.raises(TokenError, match="another channel"):
        verifier().subscription(token(SECRET, {"sub": "42"}, algorithm="HS256"), "", "42", NOW)


@pytest.mark.parametrize("end", [{"exp": NOW}, {"exp": 1}, {"exp": NOW + 9, "expire_at": NOW}])
def test_expired_tokens(end: dict[str, float]) -> None:
    """An SDK asks for another, so they are told apart."""
    with pytest.raises(TokenError, match="it has expired") as caught:
        verifier().connection(token(SECRET, end, algorithm="HS256"), NOW)
    assert caught.value.is_expired


MILLISECONDS = (
    "its {} is after the year 9999: it has to be in seconds since 1970, and not in milliseconds"
)


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        (
            {"nbf": NOW + 31},
            "it is not valid for 31 s: do the clocks of this machine and of the service that"
            " issues tokens agree?",
        ),
        ({"exp": NOW * 1000}, MILLISECONDS.format("exp")),
        ({"nbf": NOW * 1000}, MILLISECONDS.format("nbf")),
        ({"exp": NOW + 9, "expire_at": NOW * 1000}, MILLISECONDS.format("expire_at")),
        ({"iss": "other", "aud": "chat"}, "it is of another issuer"),
        ({"iss": "us"}, "it is for another audience"),
        ({"iss": "us", "aud": ["a", "b"]}, "it is for another audience"),
        ({"sub": 42}, "Expected `str`, got `int` - at `$.sub`"),
        ({"exp": "soon"}, "Expected `float | null`, got `str` - at `$.exp`"),
        ([], "Expected `object`, got `array`"),
    ],
)
def test_claims_that_are_not_valid(claims: Any, problem: str) -> None:
    strict = verifier(secret=SECRET, issuer="us", audience="chat")

    assert problem_of(strict, token(SECRET, claims, algorithm="HS256")) == problem
    strict.connection(token(SECRET, {"iss": "us", "aud": ["x", "chat"]}, algorithm="HS256"), NOW)


def test_the_clock_of_another_machine_may_be_a_little_ahead() -> None:
    """An SDK whose token is not valid does not come back."""
    early = token(SECRET, {"sub": "ann", "nbf": NOW + 30}, algorithm="HS256")

    assert verifier().connection(early, NOW).user == "ann"


KEYS: list[tuple[Any, str]] = [
    (RSA, "RS256"),
    (P256, "ES256"),
    (P384, "ES384"),
    (ED, "EdDSA"),
]


@pytest.mark.parametrize(("key", "algorithm"), KEYS)
def test_public_keys(key: Any, algorithm: str) -> None:
    with_key = verifier(public_key=pem(key))

    assert with_key.connection(token(key, {"sub": "1"}, algorithm=algorithm), NOW).user == "1"
    # The public key as the secret of HMAC: the classic attack.
    forged = token(pem(key).encode(), {"sub": "1"}, algorithm="HS256")
    assert problem_of(with_key, forged) == "The specified alg value is not allowed"
    for name in ("none", "None", "HS512", "RS512" if algorithm != "RS256" else "RS384"):
        forged = token(b"", {"sub": "1"}, algorithm=name)
        assert problem_of(with_key, forged) == "The specified alg value is not allowed"


def test_algorithms_that_are_declared() -> None:
    only = verifier(public_key=pem(RSA), algorithms=["RS512", "ES256"])

    assert only.connection(token(RSA, {"sub": "1"}, algorithm="RS512"), NOW).user == "1"
    problem_of(only, token(RSA, {"sub": "1"}, algorithm="RS256"))
    both = verifier(secret=SECRET * 2, algorithms=("HS256", "HS512"))
    for name in ("HS256", "HS512"):
        assert both.connection(token(SECRET * 2, {"sub": "1"}, algorithm=name), NOW).user == "1"
    problem_of(both, token(SECRET * 2, {"sub": "1"}, algorithm="HS384"))


def test_damaged_at_every_character() -> None:
    text = token(SECRET, {"sub": "42"}, algorithm="HS256")

    for at in range(len(text)):
        problem_of(verifier(), text[:at])
        changed = "A" if text[at] != "A" else "B"
        problem_of(verifier(), text[:at] + changed + text[at + 1 :])
    problem_of(verifier(), text + "A")


def test_long_tokens_are_not_read() -> None:
    text = token(SECRET, {"sub": "4" * 8192}, algorithm="HS256")

    assert problem_of(verifier(), text) == "it has more than 8192 bytes"


@given(st.text() | st.lists(st.binary()).map(lambda parts: ".".join(map(base64url, parts))))
def test_anything_is_no_token(text: str) -> None:
    problem_of(verifier(), text)


@given(
    st.fixed_dictionaries(
        {"alg": st.just("HS256")},
        optional={name: st.none() | st.text() | st.lists(st.text()) for name in ("kid", "crit")},
    )
)
def test_any_header_is_a_token_or_none(header: dict[str, Any]) -> None:
    text = token(SECRET, {}, algorithm=header.pop("alg"), **header)
    try:
        verifier().connection(text, NOW)
    except TokenError:
        assert header


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def test_keys_of_a_provider() -> None:
    of_provider = verifier(jwks_url="https://id.example/jwks")
    text = token(P256, {"sub": "1"}, algorithm="ES256", kid="b")

    assert of_provider.key_id(text) == "b"
    assert verifier().key_id(text) is None
    assert problem_of(of_provider, text) == "the provider has no such key"
    of_provider.keys = read_keys(document(jwk(RSA, "a"), jwk(P256, "b"), jwk(ED, "c")), ())
    assert of_provider.connection(text, NOW).user == "1"
    for key, algorithm, name in ((RSA, "RS256", "a"), (ED, "EdDSA", "c")):
        signed = token(key, {"sub": "1"}, algorithm=algorithm, kid=name)
        assert of_provider.connection(signed, NOW).user == "1"
    # Another key's name, none at all, and one that is not a text.
    problem_of(of_provider, token(P256, {}, algorithm="ES256", kid="a"))
    problem_of(of_provider, token(P256, {}, algorithm="ES256"))
    problem_of(of_provider, token(P256, {}, algorithm="ES256", kid=["b"]))


def test_which_keys_of_a_provider_count() -> None:
    keys = read_keys(
        document(
            jwk(RSA, "any", use="sig"),
            jwk(RSA, "declared", alg="RS384"),
            jwk(RSA, "of-encryption", use="enc"),
            jwk(RSA, "of-another-kind", alg="RSA-OAEP"),
            jwk(SMALL_RSA, "small"),
            jwk(P256, "curve", alg="ES256"),
            {"kty": "oct", "kid": "secret", "k": base64url(SECRET)},
            {"kty": "RSA", "kid": "broken", "n": 5},
            {"kid": "empty"},
        ),
        (),
    )

    assert {name: key.algorithms for name, key in keys.items()} == {
        "any": ("RS256",),
        "declared": ("RS384",),
        "curve": ("ES256",),
    }
    assert all(isinstance(key, Key) for key in keys.values())
    assert read_keys(document(jwk(RSA, "a"), jwk(P256, "b")), ("ES256",)).keys() == {"b"}


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"keys": {}}', b"\xff", b"[" * 99_999])
def test_what_is_not_a_set_of_keys(text: bytes) -> None:
    with pytest.raises(ValueError, match="it is not a set of keys"):
        read_keys(text, ())


def test_when_keys_are_asked_for() -> None:
    cache = KeyCache()

    assert cache.is_fetch_due(has_key=False, now=0.0)
    assert not cache.is_valid(0.0)
    cache.asked(0.0)
    assert not cache.is_fetch_due(has_key=False, now=9.9)
    assert cache.is_fetch_due(has_key=False, now=10.0)
    cache.asked(10.0)
    cache.got(11.0)
    assert cache.is_valid(11.0)
    assert not cache.is_fetch_due(has_key=True, now=3610.9)
    assert cache.is_fetch_due(has_key=True, now=3611.0)
    assert cache.is_valid(86_410.0)
    assert not cache.is_valid(86_411.0)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "tokens needs one source of keys: give secret, public_key or jwks_url."),
        (
            {"secret": SECRET, "jwks_url": "https://a"},
            "tokens needs one source of keys: give secret, public_key or jwks_url.",
        ),
        ({"secret": ""}, "tokens.secret is not a text: give it as str."),
        ({"secret": SECRET, "issuer": 5}, "tokens.issuer is not a text: give it as str."),
        (
            {"secret": SECRET, "algorithms": ["HS256", "RS256"]},
            "tokens.algorithms=['HS256', 'RS256'] need a public key: give public_key or jwks_url,"
            " or use HS256, HS384 or HS512.",
        ),
        (
            {"secret": SECRET, "algorithms": "HS256"},
            "tokens.algorithms is a text: write ['HS256'].",
        ),
        (
            {"secret": SECRET, "algorithms": 256},
            "tokens.algorithms is not a list: write ['HS256'].",
        ),
        (
            {"secret": SECRET, "algorithms": ["HS265"]},
            "'HS265' is not an algorithm of tokens: did you mean 'HS256'?",
        ),
        (
            {"public_key": "nonsense"},
            "tokens.public_key is not a public key as PEM: it begins with -----BEGIN PUBLIC"
            " KEY-----.",
        ),
        (
            {"public_key": pem(RSA), "algorithms": ["HS256"]},
            "the key of tokens is not for the algorithms of tokens: it is a RSAPublicKey.",
        ),
        (
            {"public_key": pem(SMALL_RSA)},
            "the RSA key of tokens has 1024 bits: use one with 2048 or more.",
        ),
        (
            {"jwks_url": "http://id.example/jwks"},
            "tokens.jwks_url='http://id.example/jwks' is not an https:// address: use https:"
            " somebody who changes the keys on their way can log in as anybody.",
        ),
        (
            {"jwks_url": "https://[x"},
            "tokens.jwks_url='https://[x' is not an https:// address: use https: somebody who"
            " changes the keys on their way can log in as anybody.",
        ),
        ({"secrets": 1}, "'secrets' is not an option of tokens: did you mean 'secret'?"),
    ],
)
def test_what_cannot_be_declared(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Verifier(Tokens.of(options) or Tokens(), 8192)
    assert str(caught.value) == problem


def test_options_are_made_from_mappings_and_do_not_show_secrets() -> None:
    tokens = Tokens.of({"secret": SECRET})

    assert tokens is not None
    assert Tokens.of(tokens) is tokens
    assert Tokens.of(None) is None
    assert repr(tokens) == "Tokens(secret=…)"
    with pytest.raises(ConfigError, match="is neither Tokens nor a mapping"):
        Tokens.of("secret")  # type: ignore[arg-type]
