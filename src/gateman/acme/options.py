"""
The options of ``acme``, in every form that a user may write, checked. PURE.

    "example.com"    ["example.com", "www.example.com"]    "example.com, www.example.com"
    {"domains": …, "email": …}    [{"domains": …}, {"domains": …}]

A mapping is one certificate with all of its names. The checked options are data: the master passes
them to the process that orders.
"""

import hashlib
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..listen import ListenAddress
from ..options import check_names, is_path, is_positive, option
from ..tls.domain_names import is_address, wire_name

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"
LETS_ENCRYPT_STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"
_DIRECTORIES = {"letsencrypt": LETS_ENCRYPT, "staging": LETS_ENCRYPT_STAGING}

TLS_ALPN_01, HTTP_01, DNS_01 = "tls-alpn-01", "http-01", "dns-01"
CHALLENGES = (TLS_ALPN_01, HTTP_01, DNS_01)

KEY_TYPES = {
    "p256": "ECDSA P-256",
    "p384": "ECDSA P-384",
    "rsa2048": "RSA 2048",
    "rsa3072": "RSA 3072",
    "rsa4096": "RSA 4096",
}
"""How a user names a type of key, and how :mod:`gateman.tls.certificate_chain` does."""

SHORT_LIVED = "shortlived"
"""Let's Encrypt's profile for certificates of six days, the only one for IP addresses."""

# Let's Encrypt takes this many names, and no authority known to us takes more.
_MAX_NAMES = 100
# Characters; the names of files have 255 bytes.
_MAX_ID_SIZE = 200
_MAX_TEXT = 2048  # characters
_MAX_SECONDS = 3600

_DOMAINS = "write 'acme': {'domains': ['example.com']}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalAccount:
    """What an authority that wants a customer's account has given (RFC 8555, section 7.3.4)."""

    kid: str
    hmac_key: str = field(repr=False)  # base64url


@dataclass(frozen=True, kw_only=True, slots=True)
class DnsCommand:
    """How TXT records are set: ``command set NAME VALUE`` and ``command clear NAME VALUE``."""

    command: tuple[str, ...] = option(
        (),
        reason="The program and its first arguments, as a list or one text."
        " ``set NAME VALUE`` or ``clear NAME VALUE`` is appended. It exits with 0 when done.",
    )
    wait: float = option(
        30.0,
        "seconds",
        "From ``set`` until the authority is told to look, so that all name servers have the"
        " record. Precedent: certbot's plug-ins, 10 to 120 s.",
    )
    timeout: float = option(
        60.0, "seconds", "How long the command may run; it is killed then, and the order fails."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class AcmeOptions:
    """One certificate, as its ``acme`` mapping describes it."""

    domains: tuple[str, ...] = option(
        (),
        reason="The names of the certificate: domains, wildcards such as ``*.example.com`` and IP"
        " addresses. The first one is the name of its file. One text is one name, or several"
        " with commas.",
    )
    email: str = option(
        "", reason="An address for the account, to which the authority may write. Not required."
    )
    directory: str = option(
        LETS_ENCRYPT,
        reason="The URL of the authority's ACME directory. ``letsencrypt`` and ``staging`` stand"
        " for Let's Encrypt's; the certificates of ``staging`` are for tests, and no client"
        " accepts them.",
    )
    directory_cafile: str = option(
        "",
        reason="A PEM file of the authorities that may have signed the directory's own"
        " certificate, for a private authority. Otherwise ``SSL_CERT_FILE``,"
        " ``REQUESTS_CA_BUNDLE`` or the system's store is used.",
    )
    staging: str = option(
        "",
        reason="The directory on which an order is rehearsed after one has failed, so that"
        " repetitions do not exhaust the authority's limits. The default is Let's Encrypt's"
        " for Let's Encrypt, and none for others.",
    )
    eab: ExternalAccount | None = option(  # noqa: RUF009 - a field
        None,
        reason="``{'kid': …, 'hmac_key': …}``, for an authority that wants its customer's account"
        " (external account binding), such as ZeroSSL or Google.",
    )
    profile: str = option(
        "",
        reason="The authority's profile, such as Let's Encrypt's ``shortlived`` (6 days), which is"
        " the default with an IP address among the names.",
    )
    key_type: str = option(
        "p256", reason="``p256``, ``p384``, ``rsa2048``, ``rsa3072`` or ``rsa4096``."
    )
    storage: str = option(
        "",
        reason="The folder of keys, certificates and accounts; only the service's user may read"
        " it. It must survive a deploy. Machines that share it share the certificates. The default"
        " is named in the log.",
    )
    challenge: str = option(
        "",
        reason="How the authority checks the names: ``tls-alpn-01`` (port 443 leads to this"
        " worker), ``http-01`` (port 80 leads to ``http``) or ``dns-01``. The default is ``dns-01``"
        " with ``dns``, and otherwise ``tls-alpn-01``, then ``http-01`` if ``http`` is given.",
    )
    http: str = option(
        "",
        reason="The address of a listener for ``http-01``, such as ``0.0.0.0:80``. It redirects"
        " every other request to https.",
    )
    dns: DnsCommand | None = option(  # noqa: RUF009 - a field
        None,
        reason="A command that sets and clears TXT records, for ``dns-01``: a text, a list, or"
        " ``{'command': …, 'wait': 30, 'timeout': 60}``.",
    )

    @property
    def id(self) -> str:
        """The name of its files: the same when another name, key type or profile is declared."""
        digest = hashlib.sha256(self.directory.encode()).hexdigest()[:8]
        return f"{self.domains[0].replace('*', '_')[:_MAX_ID_SIZE]}-{digest}"

    @property
    def rehearsal(self) -> str:
        """The directory for rehearsals; empty for none."""
        if self.staging or self.directory != LETS_ENCRYPT:
            return self.staging
        return LETS_ENCRYPT_STAGING

    @property
    def is_lets_encrypt(self) -> bool:
        return self.directory in {LETS_ENCRYPT, LETS_ENCRYPT_STAGING}


def parse(value: object, *, folder: Path, default_storage: Path) -> tuple[AcmeOptions, ...]:
    """Check the option ``acme`` in any form; relative paths start in ``folder``."""
    mappings = _mappings(value)
    parsed = [
        _one(one, f"acme[{place}]" if len(mappings) > 1 else "acme", folder, default_storage)
        for place, one in enumerate(mappings)
    ]
    check_together(parsed)
    return tuple(parsed)


def check_together(certificates: Iterable[AcmeOptions]) -> None:
    """Refuse certificates with the same files that are not declared in the same way."""
    seen: dict[tuple[str, str], AcmeOptions] = {}
    certificates = list(certificates)
    has_http = any(one.http for one in certificates)
    for one in certificates:
        other = seen.setdefault((one.storage, one.id), one)
        if other != one:
            raise ConfigError(
                f"two different certificates of acme begin with the name {one.domains[0]!r},"
                " which is the name of their file",
                "write all of its names into one, or begin the other with another name",
            )
        if one.challenge == HTTP_01 and not has_http:
            raise ConfigError(
                "acme.challenge is http-01, but nothing listens on port 80 for it",
                "add 'http': '0.0.0.0:80'",
            )


def challenge_server_name(name: str) -> str:
    """Return the SNI with which an authority checks a name (RFC 8737; RFC 8738, section 6)."""
    return ip_address(name).reverse_pointer if is_address(name) else name


def _mappings(value: object) -> list[Mapping[str, Any]]:
    if isinstance(value, str):
        return [{"domains": value}]
    if isinstance(value, Mapping):
        return [value]
    # In order, and to be read again: the first name is that of the file.
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        values = list(value)
        if values and all(isinstance(one, str) for one in values):
            return [{"domains": values}]
        if values and all(isinstance(one, Mapping) for one in values):
            return values
        if values:
            raise ConfigError(
                "acme is a list of neither names nor mappings",
                "write ['example.com', 'www.example.com'] for one certificate, or one mapping for"
                " each certificate",
            )
        raise ConfigError("acme is an empty list", _DOMAINS)
    raise ConfigError("acme is neither a name nor a list of names nor a mapping", _DOMAINS)


def _one(values: Mapping[str, Any], where: str, folder: Path, default_storage: Path) -> AcmeOptions:
    known = [one.name for one in fields(AcmeOptions)]
    check_names(f"option of {where}", values, known)
    given = {name: value for name, value in values.items() if value is not None}
    text = {
        name: _text(f"{where}.{name}", given.get(name, ""))
        for name in ("email", "directory", "staging", "profile", "key_type", "challenge")
    }
    options = AcmeOptions(
        domains=_domains(f"{where}.domains", given.get("domains", ())),
        email=_email(where, text["email"]),
        directory=_url(f"{where}.directory", text["directory"]) or LETS_ENCRYPT,
        directory_cafile=_path(f"{where}.directory_cafile", given, folder),
        staging=_url(f"{where}.staging", text["staging"]),
        eab=_eab(f"{where}.eab", given.get("eab")),
        profile=text["profile"],
        key_type=_one_of(f"{where}.key_type", text["key_type"] or "p256", KEY_TYPES),
        storage=_path(f"{where}.storage", given, folder) or str(default_storage),
        challenge=text["challenge"]
        and _one_of(f"{where}.challenge", text["challenge"], CHALLENGES),
        http=_http(f"{where}.http", given.get("http")),
        dns=_dns(f"{where}.dns", given.get("dns")),
    )
    return _with_profile(_check_challenge(options, where), where)


def _check_challenge(options: AcmeOptions, where: str) -> AcmeOptions:
    wildcard = next((name for name in options.domains if name.startswith("*.")), None)
    address = next((name for name in options.domains if is_address(name)), None)
    if options.challenge == DNS_01 and options.dns is None:
        raise ConfigError(
            f"{where}.challenge is dns-01, but {where} has no dns",
            "add the command that sets a TXT record: 'dns': '/path/to/command'",
        )
    if wildcard and (options.dns is None or options.challenge not in {"", DNS_01}):
        raise ConfigError(
            f"{wildcard!r} in {where}.domains is a wildcard, which is checked by dns-01 only",
            "add the command that sets a TXT record: 'dns': '/path/to/command'",
        )
    if address and options.challenge == DNS_01:
        raise ConfigError(
            f"{address!r} in {where}.domains is an IP address, which no authority checks by dns-01",
            f"leave {where}.challenge out",
        )
    return options


def _with_profile(options: AcmeOptions, where: str) -> AcmeOptions:
    # https://letsencrypt.org/docs/profiles/: others have no IP addresses.
    if not options.is_lets_encrypt or not any(map(is_address, options.domains)):
        return options
    if options.profile not in {"", SHORT_LIVED}:
        raise ConfigError(
            f"{where}.profile is {options.profile!r}, with which Let's Encrypt signs no IP address",
            f"write {SHORT_LIVED!r}, or leave it out",
        )
    return replace(options, profile=SHORT_LIVED)


def _domains(where: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [one.strip() for one in value.split(",") if one.strip()]
    if isinstance(value, (bytes, bytearray)) or not isinstance(value, Sequence):
        raise ConfigError(f"{where} is not a list of names", _DOMAINS)
    names = tuple(dict.fromkeys(_name(where, one) for one in value))
    if not names:
        raise ConfigError(f"{where} is empty", _DOMAINS)
    if len(names) > _MAX_NAMES:
        raise ConfigError(
            f"{where} has {len(names)} names, and one certificate has at most {_MAX_NAMES}",
            "write a list of mappings, one for each certificate",
        )
    return names


def _name(where: str, value: object) -> str:
    """Spell a name as a certificate does; whether it may have one is the authority's decision."""
    if isinstance(value, (IPv4Address, IPv6Address)):
        value = str(value)
    if isinstance(value, str):
        text = value.strip()
        if "://" in text or "/" in text:
            meant = _host(text) or "example.com"
            raise ConfigError(f"{text!r} in {where} is not a name", f"write {meant!r}")
        if is_address(bare := text.removeprefix("[").removesuffix("]")):
            return str(ip_address(bare))
        if _HAS_PORT.fullmatch(text):
            raise ConfigError(
                f"{text!r} in {where} has a port, and a certificate is for every port",
                f"write {text.rpartition(':')[0]!r}",
            )
        spelled = wire_name(text)
        if spelled is not None:
            return spelled
    raise ConfigError(
        f"{value!r} in {where} is not a name that a certificate can have",
        "write a domain such as example.com, *.example.com or xn--mnchen-3ya.example, or an IP"
        " address",
    )


_HAS_PORT = re.compile(r"[^:]+:\d{1,5}")


def _host(text: str) -> str | None:
    """Return the host of a URL or of a name with a path."""
    try:
        return urlsplit(text if "://" in text else f"//{text}").hostname
    except ValueError:
        return None


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.isprintable():
        raise ConfigError(f"{where} is not text", "put it between quotes")
    return value.strip()


def _email(where: str, value: str) -> str:
    value = value.removeprefix("mailto:")
    name, at, domain = value.rpartition("@")
    if value and not (name and at and domain and " " not in value and "," not in value):
        raise ConfigError(
            f"{where}.email={value!r} is not an address", "write one, such as admin@example.com"
        )
    return value


def _url(where: str, value: str) -> str:
    if not value or value in _DIRECTORIES:
        return _DIRECTORIES.get(value, "")
    if "://" not in value:
        raise ConfigError(
            f"{where}={value!r} is not the URL of a directory",
            "write 'letsencrypt', 'staging', or the URL that the authority names",
        )
    try:
        found = urlsplit(value)
        is_good = found.scheme == "https" and found.hostname and found.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError(f"{where}={value!r} is not an https URL", "write https://HOST/PATH")
    return value


def _path(where: str, given: Mapping[str, Any], folder: Path) -> str:
    value = given.get(where.rpartition(".")[2], "")
    if value == "":
        return ""
    if not is_path(value):
        raise ConfigError(f"{where} is not a path", "write it between quotes")
    path = Path(str(value))
    with suppress(RuntimeError):  # Then "~" is a name like any other.
        path = path.expanduser()
    return str(folder / path)


def _one_of(where: str, value: str, known: Collection[str]) -> str:
    check_names(f"value of {where}", [value], known)
    return value


def _eab(where: str, value: object) -> ExternalAccount | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or set(value) != {"kid", "hmac_key"}:
        raise ConfigError(
            f"{where} is not what an authority gives for an account",
            "write {'kid': '…', 'hmac_key': '…'}",
        )
    kid, key = (_text(f"{where}.{name}", value[name]) for name in ("kid", "hmac_key"))
    # No sentence shows the key.
    if not kid or not re.fullmatch(r"[A-Za-z0-9_-]{16,}={0,2}", key):
        raise ConfigError(
            f"{where} has no kid, or a hmac_key that is not base64url",
            "copy both from the authority's page",
        )
    return ExternalAccount(kid=kid, hmac_key=key)


def _http(where: str, value: object) -> str:
    if value is None or value is False or value == "":
        return ""
    if value is True:
        return "0.0.0.0:80"
    if isinstance(value, str):
        address = value.removeprefix("http://").rstrip("/")
        if not address.startswith("/") and "://" not in address:
            try:
                found = ListenAddress.parse(f"websocket://{address}")
            except ConfigError:
                pass
            else:
                return str(found).removeprefix("websocket://")
    raise ConfigError(f"{where}={value!r} is not an address to listen on", "write '0.0.0.0:80'")


def _dns(where: str, value: object) -> DnsCommand | None:
    if value is None:
        return None
    options: Mapping[str, Any] = value if isinstance(value, Mapping) else {"command": value}
    known = [one.name for one in fields(DnsCommand)]
    check_names(f"option of {where}", options, known)
    command = options.get("command")
    try:
        words = shlex.split(command) if isinstance(command, str) else list(command or ())
    except (TypeError, ValueError):
        words = []
    if not words or not all(is_path(word) for word in words):
        raise ConfigError(
            f"{where} is not a command",
            "write '/path/to/command'; it is called with set NAME VALUE and clear NAME VALUE",
        )
    numbers: dict[str, float] = {}
    for name in ("wait", "timeout"):
        if (number := options.get(name)) is not None:
            is_none = name == "wait" and number == 0
            if not is_none and not is_positive(number, _MAX_SECONDS):
                raise ConfigError(
                    f"{where}.{name}={number!r} is not a time",
                    f"give it in seconds, up to {_MAX_SECONDS}",
                )
            numbers[name] = float(number)
    return DnsCommand(command=tuple(map(str, words)), **numbers)
