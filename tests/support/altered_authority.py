"""
A proxy in front of Pebble that alters its answers: what Debian's Pebble lacks is played here.

That is renewal information, profiles and limits, and whatever no authority should answer.
"""

import base64
import http.client
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .certificates import Authority
from .deadlines import TIMEOUT
from .pebble import Pebble


@dataclass(frozen=True)
class Request:
    """
    What the client asks.

    Attributes:
        method: Such as ``"POST"``.
        path: Without the host.
        payload: What was signed; ``None`` for nothing.
    """

    method: str
    path: str
    payload: Any = None


@dataclass(frozen=True)
class Answer:
    """
    What the client gets.

    Attributes:
        status: Of HTTP.
        body: As bytes, or what becomes JSON.
        headers: More than its type and length.
    """

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def problem(cls, kind: str, detail: str = "", status: int = 403, **headers: str) -> "Answer":
        """Make an error of RFC 8555, section 6.7; header names have ``_`` for ``-``."""
        body = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail}
        return cls(
            status,
            body,
            {
                "Content-Type": "application/problem+json",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )


class AlteredAuthority:
    """
    Pebble, as the proxy shows it.

    Attributes:
        directory: The URL of its directory.
        cafile: PEM of the authority that signed the directory's own certificate.
        more: What is added to the directory.
        requests: What was asked so far.
        alter: Called with each request; what it returns is answered in Pebble's place.
        change: Called with each request and Pebble's answer; returns what is answered.
    """

    def __init__(self, folder: Path, pebble: Pebble) -> None:
        """
        Make it; nothing listens yet.

        Args:
            folder: Where its files go.
            pebble: What is altered.
        """
        self.more: dict[str, Any] = {}
        self.requests: list[Request] = []
        self.alter: Callable[[Request], Answer | None] = lambda _: None
        self.change: Callable[[Request, Answer], Answer] = lambda _, answer: answer
        issued = Authority().issue(folder, "127.0.0.1", stem="altered")
        self.cafile = folder / "altered-authority.pem"
        self.cafile.write_bytes(issued.authority.read_bytes())
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(issued.certificate, issued.key)
        self._pebble = pebble
        authority = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = TIMEOUT

            def handle_any(self) -> None:
                size = int(self.headers.get("Content-Length", 0))
                answer = authority._answer(self, self.rfile.read(size))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                body = answer.body
                if not isinstance(body, bytes):
                    body = json.dumps(body).encode()
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = self._context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}"
        self.directory = f"{self.url}/dir"

    def _answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> Answer:
        payload = None
        if body and (encoded := json.loads(body)["payload"]):
            payload = json.loads(base64.urlsafe_b64decode(encoded + "=="))
        request = Request(handler.command, handler.path, payload)
        self.requests.append(request)
        return self.alter(request) or self.change(request, self._forward(handler, request, body))

    def _forward(self, handler: BaseHTTPRequestHandler, request: Request, body: bytes) -> Answer:
        connection = http.client.HTTPSConnection(
            urlsplit(self._pebble.directory).netloc,
            context=ssl.create_default_context(cafile=self._pebble.cafile),
            timeout=TIMEOUT,
        )
        try:
            connection.request(
                request.method,
                request.path,
                body or None,
                # Pebble's URLs begin with what it is asked as.
                {
                    "Host": handler.headers["Host"],
                    "Content-Type": handler.headers.get("Content-Type", ""),
                },
            )
            found = connection.getresponse()
            data: Any = found.read()
        finally:
            connection.close()
        if request.path == "/dir":
            known = json.loads(data)
            meta = known["meta"] | self.more.get("meta", {})
            data = known | self.more | {"meta": meta}
        kept = ("Content-Type", "Replay-Nonce", "Location", "Link", "Retry-After")
        headers = {name: found.headers[name] for name in kept if name in found.headers}
        return Answer(found.status, data, headers)

    def start(self) -> None:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def altered_authority(folder: Path, pebble: Pebble) -> Iterator[AlteredAuthority]:
    """Run one to the end of the block."""
    authority = AlteredAuthority(folder, pebble)
    authority.start()
    try:
        yield authority
    finally:
        authority.stop()
