"""
What arrives while the doctor looks: handshakes with its nonce, and what goes wrong meanwhile. PURE.

The doctor sends a handshake through the public URL and asks here how it arrived. A proxy may remove
fields, so the nonce has three carriers: a field of its own, the query and the WebSocket's key.
"""

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from ..errors import PreambleError
from .preamble import ProxyHeader, looks_like_proxy, looks_like_tls, read_proxy

NONCE_FIELD = "Gateman-Doctor"
NONCE_PARAMETER = "gateman-doctor"

WATCH_TIME = 30.0
"""Seconds for which arrivals are remembered after the last question about them."""

# The fields that a proxy adds, replaces or loses.
_FIELDS = (
    "host",
    "upgrade",
    "connection",
    "origin",
    "via",
    "forwarded",
    "x-real-ip",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "sec-websocket-version",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
)

_MAX_TEXT_SIZE = 200  # characters
_MAX_COUNT = 32  # arrivals, and causes


def key_of(nonce: str) -> str:
    """Return the Sec-WebSocket-Key that carries a nonce of 32 hexadecimal digits."""
    return b64encode(bytes.fromhex(nonce)).decode()


class Arrivals:
    """What has arrived at one process since the doctor asked for the first time."""

    def __init__(self, nonce: str) -> None:
        # What the doctor's handshakes carry; 32 hexadecimal digits.
        self.nonce = nonce
        # How often each cause was noticed, with the first message about it.
        self.causes: dict[str, tuple[int, str]] = {}
        self._carriers = {
            "field": f"{NONCE_FIELD}: {nonce}".lower().encode(),
            "query": f"{NONCE_PARAMETER}={nonce}".encode(),
            # Base64 has capitals.
            "key": key_of(nonce).encode(),
        }
        self._seen: list[dict[str, Any]] = []
        # The causes of the handshake whose bytes are being handled; None between two.
        self.current: list[str] | None = None

    def noticed(self, cause: str, message: str) -> None:
        """Remember what goes wrong, with the nonce or without."""
        count, first = self.causes.get(cause, (0, message[:_MAX_TEXT_SIZE]))
        if count or len(self.causes) < _MAX_COUNT:
            self.causes[cause] = count + 1, first
        if self.current is not None:
            self.current.append(cause)

    def is_carried(self, received: bytes | bytearray) -> bool:
        return any(self._carriers_in(received))

    def _carriers_in(self, received: bytes | bytearray) -> Iterator[str]:
        for name, carrier in self._carriers.items():
            if carrier in (received.lower() if name == "field" else received):
                yield name

    def add(self, received: bytes, **facts: Any) -> None:
        """Remember what one of the doctor's handshakes was like when it arrived."""
        if len(self._seen) < _MAX_COUNT:
            carriers = list(self._carriers_in(received))
            self._seen.append({**_describe(received), "carriers": carriers, **facts})

    def report(self) -> dict[str, Any]:
        """Write down all of it; see :class:`gateman.master.channel.ArrivalsAnswer`."""
        return {
            "arrivals": list(self._seen),
            "causes": [
                {"cause": cause, "count": count, "message": message}
                for cause, (count, message) in self.causes.items()
            ],
        }


def _describe(received: bytes) -> dict[str, Any]:
    """Read a request head that may be malformed."""
    begins_with = "tls" if looks_like_tls(received) else "http"
    if looks_like_proxy(received):
        begins_with = "proxy"
        try:
            header = read_proxy(received)
        except PreambleError:
            header = None
        received = received[header.size :] if isinstance(header, ProxyHeader) else received
    first, *lines = (
        received.lstrip(b"\r\n").decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
    )
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if (name := name.strip().lower()) in _FIELDS:
            fields[name] = f"{fields[name]}, {value.strip()}" if name in fields else value.strip()
    method, _, target = first.partition(" ")
    target, _, version = target.rpartition(" ")
    return {
        "begins_with": begins_with,
        "method": method[:_MAX_TEXT_SIZE],
        "path": target.partition("?")[0][:_MAX_TEXT_SIZE],
        "version": version.removeprefix("HTTP/")[:_MAX_TEXT_SIZE],
        "fields": {name: value[:_MAX_TEXT_SIZE] for name, value in fields.items()},
    }
