"""A server that answers an authority's challenges from a storage, by TLS-ALPN-01 and HTTP-01."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from .deadlines import TIMEOUT


class ChallengeServer:
    """
    What the authority meets.

    Attributes:
        tls_port: Where TLS-ALPN-01 is answered.
        http_port: Where HTTP-01 is answered.
        storage: Where the answers are; ``None`` if this server knows none.
        has_tls_alpn: Whether acme-tls/1 reaches it: not if something else ends TLS.
    """

    def __init__(self) -> None:
        self.storage: Path | None = None
        self.has_tls_alpn = True
        self._tls, self._http = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        self.tls_port, self.http_port = self._tls.getsockname()[1], self._http.getsockname()[1]

    def _file(self, kind: str, name: str) -> Path:
        folder = self.storage or Path("/nonexistent")
        if kind == "tls-alpn-01" and not self.has_tls_alpn:
            folder = Path("/nonexistent")
        return folder / "challenges" / kind / name

    def _serve_tls(self, connection: socket.socket) -> None:
        def select(tls: ssl.SSLObject, name: str, _: object) -> None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["acme-tls/1"])
            context.load_cert_chain(self._file("tls-alpn-01", name))
            tls.context = context

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["acme-tls/1"])
        context.sni_callback = _refusing(select)
        with context.wrap_socket(connection, server_side=True):
            pass

    def _serve_http(self, connection: socket.socket) -> None:
        token = connection.recv(4096).split(b" ")[1].rsplit(b"/", 1)[-1].decode()
        path = self._file("http-01", token)
        body, status = (path.read_bytes(), b"200 OK") if path.exists() else (b"", b"404 Not Found")
        connection.sendall(
            b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body
        )

    def run(self, listener: socket.socket, serve: Any) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(TIMEOUT)
            with connection, suppress(OSError):
                serve(connection)

    def start(self) -> None:
        for listener, serve in ((self._tls, self._serve_tls), (self._http, self._serve_http)):
            threading.Thread(target=self.run, args=(listener, serve), daemon=True).start()

    def stop(self) -> None:
        for listener in (self._tls, self._http):
            # Closing alone does not end `accept`.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _refusing(select: Any) -> Any:
    """Return a callback that ends the handshake with an alert where there is no answer."""

    def callback(*args: Any) -> int | None:
        try:
            select(*args)
        except OSError:
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        return None

    return callback


@contextmanager
def challenge_server() -> Iterator[ChallengeServer]:
    """Run one to the end of the block."""
    server = ChallengeServer()
    with ExitStack() as stack:
        stack.callback(server.stop)
        server.start()
        yield server
