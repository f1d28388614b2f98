"""
One context for one certificate: versions, ciphers, keys and protocols, as the options say.

Python's own defaults are kept where an option is left out, since they age with Python; only TLS
1.2 as the oldest version is ours, because some distributions lower it.
"""

import _ssl
import ctypes
import ssl
import warnings

from . import certificate, client_certificates
from .certificate import Pair
from .ssl_options import Options

# Keys of tickets and caches are each context's own, so that all may have the same name.
_SESSION_NAME = b"gateman"

# Of TLS 1.3, after each handshake. OpenSSL sends two, for browsers that open several connections at
# once; a client of a WebSocket comes back with one, and gets the next one then. Each costs 3 % of a
# handshake (bench/handshakes.py). As in Go.
_TICKET_COUNT = 1

_SPELLED = {
    ssl.TLSVersion.TLSv1: "TLSv1.0",
    ssl.TLSVersion.TLSv1_1: "TLSv1.1",
    ssl.TLSVersion.TLSv1_2: "TLSv1.2",
    ssl.TLSVersion.TLSv1_3: "TLSv1.3",
}


def make_context(options: Options, pair: Pair | None) -> ssl.SSLContext:
    """Make the context for one certificate, if there is one yet, or raise a ConfigError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Before `name_sessions`, which may take them away.
    context.num_tickets = _TICKET_COUNT
    name_sessions(context, getattr(_ssl, "__file__", None))
    context.options |= ssl.OP_NO_RENEGOTIATION
    if options.flag("no_ticket"):
        context.options |= ssl.OP_NO_TICKET
    if not options.flag("honor_cipher_order", default=True):
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _set_versions(context, options)
    _set_ciphers(context, options)
    _set_alpn_protocols(context, options)
    _set_key_exchange(context, options)
    client_certificates.demand_certificates(context, options)
    # Last: what may be loaded depends on the security level.
    if pair is not None:
        certificate.load(context, pair)
    return context


def notes(options: Options) -> list[str]:
    """Tell what an operator should know of options that are honoured all the same."""
    sentences = [
        f"ssl.{name} is not used without ssl.verify_peer; the chain of the server's own"
        " certificate belongs into ssl.local_cert"
        for name in ("cafile", "capath")
        if options.path(name) and not options.flag("verify_peer")
    ]
    if options.get("security_level") == 0 or "@SECLEVEL=0" in (options.text("ciphers") or ""):
        sentences.append(
            "ssl.security_level 0 lets OpenSSL accept keys and signatures that can be forged, such"
            " as RSA with 512 bits and MD5"
        )
    oldest = options.version("min_proto_version", ssl.TLSVersion.TLSv1_2)
    if oldest < ssl.TLSVersion.TLSv1_2:
        sentences.append(
            f"ssl.min_proto_version allows {_SPELLED[oldest]}, which RFC 8996 forbids and no"
            " browser speaks"
        )
    return sentences


def name_sessions(context: ssl.SSLContext, library: str | None) -> None:
    """Say whose the sessions of a context are, or let it have none."""
    # Without this name OpenSSL resumes no session, and where it asks clients for a certificate it
    # refuses one that tries to (SSL_CTX_set_session_id_context(3)). Python set the name until 3.12.
    # Since 3.13 it does not, and offers no way to do so: the context's pointer is read where
    # aiofastnet reads it, behind the object's head.
    try:
        # Symbols are also looked for in the libraries that the module is linked to.
        set_name = ctypes.CDLL(library).SSL_CTX_set_session_id_context
    except AttributeError:
        # OpenSSL is linked into the program without its symbols.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        return
    set_name.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint)
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    set_name(pointer, _SESSION_NAME, len(_SESSION_NAME))


def versions(options: Options) -> tuple[str, str]:
    """Tell which versions of TLS are spoken."""
    oldest = options.version("min_proto_version", ssl.TLSVersion.TLSv1_2)
    newest = options.version("max_proto_version", ssl.TLSVersion.TLSv1_3)
    return _SPELLED[oldest], _SPELLED[newest]


def _set_versions(context: ssl.SSLContext, options: Options) -> None:
    oldest = options.version("min_proto_version", ssl.TLSVersion.TLSv1_2)
    newest = options.version("max_proto_version", ssl.TLSVersion.TLSv1_3)
    if oldest > newest:
        raise options.refusal(
            "max_proto_version",
            f"is {_SPELLED[newest]}, older than min_proto_version, {_SPELLED[oldest]}",
            "swap them, or lower min_proto_version too",
        )
    with warnings.catch_warnings():
        # A forbidden version gets gateman's own warning.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = oldest
        if options.get("max_proto_version") is not None:
            context.maximum_version = newest


def _set_ciphers(context: ssl.SSLContext, options: Options) -> None:
    level = options.get("security_level")
    if level is not None and (not isinstance(level, int) or level not in range(6)):
        raise options.refusal("security_level", "is not a level of OpenSSL", "write 0 to 5")
    is_old = options.version("min_proto_version", ssl.TLSVersion.TLSv1_2) < ssl.TLSVersion.TLSv1_2
    ciphers = options.text("ciphers")
    if ciphers is None and is_old:
        # Python's own list has nothing that TLS 1.1 could use.
        ciphers = "DEFAULT"
    elif ciphers is None and level is not None:
        names = [str(cipher["name"]) for cipher in context.get_ciphers()]
        # Those of TLS 1.3 are set apart, and an error here.
        ciphers = ":".join(name for name in names if not name.startswith("TLS_"))
    if ciphers is not None:
        try:
            # Python can set the level in no other way.
            context.set_ciphers(ciphers if level is None else f"{ciphers}:@SECLEVEL={level}")
        except (ssl.SSLError, ValueError) as error:
            raise options.refusal(
                "ciphers", "selects no cipher", "see what there is with: openssl ciphers -s -v"
            ) from error
        _check_ciphers(context, options)
    if is_old and context.security_level > 0:
        raise options.refusal(
            "min_proto_version",
            "allows a version that OpenSSL speaks at security level 0 only",
            "set security_level to 0 too, or leave both out",
        )


def _check_ciphers(context: ssl.SSLContext, options: Options) -> None:
    """Refuse what is TLS in name only; OpenSSL itself would use it at security level 0."""
    for cipher in context.get_ciphers():
        is_anonymous = cipher.get("auth") == "auth-null"
        if is_anonymous or not cipher["strength_bits"]:
            raise options.refusal(
                "ciphers",
                f"allows {cipher['name']}, which"
                f" {'authenticates no server' if is_anonymous else 'encrypts nothing'}",
                "add :!aNULL:!eNULL to it",
            )


def _set_alpn_protocols(context: ssl.SSLContext, options: Options) -> None:
    value = options.text("alpn_protocols")
    protocols = [name.strip() for name in ("http/1.1" if value is None else value).split(",")]
    for name in protocols:
        if name in {"h2", "h3"}:
            raise options.refusal(
                "alpn_protocols",
                f"offers {name}, which this server does not speak",
                "write http/1.1, or let a proxy in front speak it",
            )
        if not name.isascii() or not 1 <= len(name) <= 255:
            raise options.refusal(
                "alpn_protocols", "has a name that is not 1 to 255 ASCII bytes", "write http/1.1"
            )
    context.set_alpn_protocols(protocols)


def _set_key_exchange(context: ssl.SSLContext, options: Options) -> None:
    parameters = options.path("dh_param")
    if parameters is not None:
        certificate.read("ssl.dh_param", parameters)
        try:
            context.load_dh_params(str(parameters))
        except ssl.SSLError as error:
            raise options.refusal(
                "dh_param",
                f"names {parameters}, which holds no Diffie-Hellman parameters in PEM form",
                "make them with: openssl dhparam -out FILE 2048; or leave it out",
            ) from error
    curve = options.text("ecdh_curve")
    if curve is not None:
        try:
            context.set_ecdh_curve(curve)
        except (ssl.SSLError, ValueError) as error:
            raise options.refusal(
                "ecdh_curve",
                "names no curve that OpenSSL has",
                "write one, such as X25519 or prime256v1, or leave it out for all good ones",
            ) from error
