"""What picows is told, and what it tells: the object between it and a transport."""

import logging
import socket
from collections.abc import Callable

import pytest

from gateman.errors import ProtocolError
from gateman.net.picows_transport import PicowsTransport
from gateman.websocket.close import CloseCode


class Judge:
    """Hears verdicts."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self.reasons: list[str] = []

    def parser_failed(self, error: ProtocolError) -> None:
        """Note it."""
        self.codes.append(error.close_code)
        self.reasons.append(error.reason)


class Transport:
    """A transport that writes down what it gets."""

    def __init__(self, family: int = socket.AF_INET) -> None:
        self.sock = socket.socket(family)
        self.written: list[object] = []
        self.large_size: Callable[[], int] = lambda: 0
        self.seen_size = -1

    def write(self, data: bytes) -> None:
        """Note it."""
        self.written.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        """Note it, and what is known of it meanwhile."""
        self.written.append(parts)
        self.seen_size = self.large_size()

    def get_write_buffer_size(self) -> int:
        """Tell something recognisable."""
        return 4711

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Know the socket."""
        return {"socket": self.sock}.get(name, default)

    def close(self) -> None:
        """Must not be called."""
        raise AssertionError


def test_bytes_are_passed_on() -> None:
    """Small messages in one piece, large ones as header and message."""
    transport = Transport()
    picows_transport = PicowsTransport(Judge(), transport)
    transport.large_size = lambda: picows_transport.large_size
    picows_transport.write(b"small")
    picows_transport.writelines([b"header", b"message"])
    transport.sock.close()

    assert transport.written == [b"small", [b"header", b"message"]]
    assert (transport.seen_size, picows_transport.large_size) == (7, 0)
    assert picows_transport.get_write_buffer_size() == 4711


def test_muted_swallows_what_is_written() -> None:
    """A handshake that only picows has seen is answered to nobody."""
    transport = Transport()
    picows_transport = PicowsTransport(Judge(), transport)
    with picows_transport.muted():
        picows_transport.write(b"HTTP/1.1 101")
    picows_transport.write(b"frame")
    transport.sock.close()

    assert transport.written == [b"frame"]


def test_transport_tells_what_it_knows() -> None:
    """Picows gets what it asks for."""
    transport = Transport()
    picows_transport = PicowsTransport(Judge(), transport)
    transport.sock.close()

    assert picows_transport.get_extra_info("ssl_object") is None
    assert picows_transport.get_extra_info("other", "default") == "default"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_socket_has_no_tcp_options(family: int) -> None:
    """With a unix socket, setting them would raise, and picows then follow a null pointer."""
    transport = Transport(family)
    sock = PicowsTransport(Judge(), transport).get_extra_info("socket")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
    assert sock.fileno() == transport.sock.fileno()
    transport.sock.close()


def test_end_is_not_picows_to_decide() -> None:
    """It closes 10 ms after a verdict; by then the engine has done it properly."""
    transport = Transport()
    picows_transport = PicowsTransport(Judge(), transport)
    picows_transport.close()
    picows_transport.abort()
    transport.sock.close()

    assert transport.written == []


def test_verdict_is_read_from_the_log() -> None:
    """The error line of picows' parser carries the code; a text that is not known is not told."""
    judge = Judge()
    transport = Transport()
    picows_transport = PicowsTransport(judge, transport)
    picows_transport.error("WS parser error: %s, initiate disconnect", (1002, "secret"))
    picows_transport.debug("a line")
    picows_transport.info("%s", "a line")
    picows_transport.warning("a line")
    picows_transport.log(9, "a line")
    transport.sock.close()

    assert (judge.codes, judge.reasons) == ([1002], ["frame breaks RFC 6455"])
    assert picows_transport.isEnabledFor(logging.DEBUG) is False


def test_fault_of_ours_is_logged_and_ends_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With its traceback, and 1011."""
    judge = Judge()
    transport = Transport()
    picows_transport = PicowsTransport(judge, transport)
    try:
        raise LookupError("bug")
    except LookupError:
        picows_transport.exception("Unhandled exception from on_ws_frame")
    transport.sock.close()

    assert judge.codes == [CloseCode.INTERNAL_ERROR]
    assert judge.reasons == ["internal error"]
    (record,) = caplog.records
    assert record.getMessage() == ("the frame engine failed: Unhandled exception from on_ws_frame")
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)
