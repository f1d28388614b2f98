"""URLs as the doctor has them."""

from gateman.doctor.target import Target


def target(url: str = "wss://example.com/wss") -> Target:
    """Make a target of a URL with a host that is a name or an IPv4 address."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, _, port = authority.partition(":")
    is_tls = scheme == "wss"
    return Target(
        url=url,
        is_tls=is_tls,
        host=host,
        port=int(port or (443 if is_tls else 80)),
        path=slash + path or "/",
    )
