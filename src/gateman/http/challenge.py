"""
The answers of the plain HTTP port: an authority's challenge (HTTP-01), or a redirect. PURE.

Source:
    RFC 8555, section 8.3; RFC 9110, sections 15.4.9 and 15.5.20.
"""

import re
from collections.abc import Callable, Collection
from ipaddress import ip_address

from ..request import Request
from ..tls.domain_names import is_named, wire_name
from .response import Response

_PREFIX = "/.well-known/acme-challenge/"

# RFC 8555, section 8.3: base64url.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,200}")


def answer(
    request: Request, *, names: Collection[str], port: int, find: Callable[[str], bytes | None]
) -> Response:
    """
    Answer a request; ``port`` is that of https, and ``find`` returns the answer to a token.

    A redirect leads to one of ``names`` and nowhere else.
    """
    target = request.target
    if target.startswith(_PREFIX):
        token = target.removeprefix(_PREFIX)
        found = find(token) if _TOKEN.fullmatch(token) else None
        if found is None:
            return Response(404, b"No challenge is open under this name.\n")
        return Response(200, found, "application/octet-stream")
    host = _host(request)
    if host is None or not is_named(host, names):
        return Response(421, b"This server is not for that host.\n")
    # A whole URL is for proxies, and * for no page: both lead to the first page.
    path = target if target.startswith("/") else "/"
    authority = f"[{host}]" if ":" in host else host
    location = f"https://{authority}{f':{port}' if port != 443 else ''}{path}"
    return Response(308, f"{location}\n".encode(), headers={"Location": location})


def _host(request: Request) -> str | None:
    """Read the Host field: a name as certificates have it, without the port."""
    fields = request.fields.get(b"host", ())
    if not fields:
        return None
    # Its characters were checked when the head was parsed.
    text = fields[0].decode("ascii")
    host = text.partition("]")[0][1:] if text.startswith("[") else text.partition(":")[0]
    try:
        return str(ip_address(host))
    except ValueError:
        return wire_name(host) if host else None
