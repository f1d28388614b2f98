"""The first bytes of a connection: tables by equality, each input cut at every byte."""

import ssl
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateman.errors import PreambleError
from gateman.net.preamble import (
    MAX_HELLO_SIZE,
    MAX_PROXY_SIZE,
    TLS_ALERT,
    ClientHello,
    NeedMore,
    NotTLS,
    ProxyHeader,
    looks_like_proxy,
    looks_like_tls,
    read_proxy,
    read_tls,
)
from tests.support.hellos import hello, named, offering, openssl_hello, records, vector

NAMELESS = ClientHello(None, ())
# 137 protocols of 9 bytes: more than fits into a small hello, less than a ClientHello may have.
MANY = [f"proto-{number:03}" for number in range(137)]


def v2(first: int, second: int, block: bytes = b"") -> bytes:
    """A PROXY header of version 2 with its 13th and 14th byte and what follows the length."""
    return b"\r\n\r\n\x00\r\nQUIT\n" + bytes([first, second]) + vector(2, block)


def assert_decided_at_the_end(read: Callable[[bytes], object], data: bytes) -> None:
    """Ask for every beginning of ``data``, which is decided with its last byte, not before."""
    sizes = []
    for cut in range(len(data)):
        answer = read(data[:cut])
        assert isinstance(answer, NeedMore)
        assert cut < answer.size <= len(data)
        sizes.append(answer.size)
    assert sizes == sorted(sizes)


def wakeups(read: Callable[[bytes], object], data: bytes) -> int:
    """How often a caller asks that waits for as many bytes as it is told to."""
    count, size = 1, 0
    while isinstance(answer := read(data[:size]), NeedMore):
        count, size = count + 1, answer.size
    return count


OPENSSL_HELLOS = [
    pytest.param(
        openssl_hello(name, alpn), ClientHello(name, tuple(alpn)), id=f"{name}-{len(alpn)}"
    )
    for name in (None, "example.test", "a." * 120 + "test")
    for alpn in ([], ["http/1.1"], ["h2", "http/1.1"], MANY)
]


@pytest.mark.parametrize(("data", "expected"), OPENSSL_HELLOS)
def test_hello_of_openssl_tells_server_name_and_protocols(
    data: bytes, expected: ClientHello
) -> None:
    """What a real client asks for is read, with and without SNI and ALPN."""
    assert read_tls(data) == expected
    assert read_tls(data + b"and more") == expected


@pytest.mark.parametrize(("data", "expected"), OPENSSL_HELLOS)
@pytest.mark.parametrize("size", [1 << 14, 997, 64])
def test_hello_cut_at_each_byte_is_decided_with_its_last(
    data: bytes, expected: ClientHello, size: int
) -> None:
    """Whole or in fragments, no byte more is waited for than the hello has."""
    fragmented = records(data[5:], size)

    assert_decided_at_the_end(read_tls, fragmented)
    assert read_tls(fragmented) == expected


def test_whole_hello_is_waited_for_three_times() -> None:
    """The caller is told to wait for the first byte, for the length, and for all of the rest."""
    assert wakeups(read_tls, records(hello(named(b"example.test")))) == 4
    assert [read_tls(records(hello())[:cut]) for cut in (0, 1, 9)] == [
        NeedMore(1),
        NeedMore(9),
        NeedMore(len(records(hello()))),
    ]


def test_fragments_of_one_byte_cost_few_looks() -> None:
    """How much is missing at least is known from the length, however it is cut."""
    fragmented = records(hello(tail=b""), 1)

    assert_decided_at_the_end(read_tls, fragmented)
    assert read_tls(fragmented) == NAMELESS
    assert wakeups(read_tls, fragmented) < 30


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (hello(), NAMELESS),
        (hello(b""), NAMELESS),
        (hello(named(b"Example.TEST")), ClientHello("example.test", ())),
        (hello(named(b"example.test.")), ClientHello("example.test", ())),
        (hello(named(b"a_b-1.test")), ClientHello("a_b-1.test", ())),
        (hello(named(b"x" * 255)), ClientHello("x" * 255, ())),
        (hello(b"\xff\x01" + vector(2, b"\x00") + named(b"a.test")), ClientHello("a.test", ())),
        (hello(offering(b"\x0a\xfa", b"h2")), ClientHello(None, ("\x0a\xfa", "h2"))),
        (hello(named(b"a.test") + offering(b"h2")), ClientHello("a.test", ("h2",))),
    ],
)
def test_hello_is_read(message: bytes, expected: ClientHello) -> None:
    """Names are lower case without a final dot; protocols are what they are, in order."""
    assert_decided_at_the_end(read_tls, records(message))
    assert read_tls(records(message)) == expected


@pytest.mark.parametrize(
    "name",
    [b"", b".", b"x" * 256, b"b\xc3\xbc.test", b"a\nb", b"a b", b"::1", b"a\x00.test", b"a/b"],
)
def test_name_that_is_no_host_name_is_none(name: bytes) -> None:
    """The default certificate is shown, and no log line is forged; the rest is still read."""
    assert read_tls(records(hello(named(name) + offering(b"h2")))) == ClientHello(None, ("h2",))


def test_name_of_another_type_is_none() -> None:
    """RFC 6066 knows host names only."""
    assert read_tls(records(hello(named(b"a.test", kind=1)))) == NAMELESS


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x16\x03\x01\x00\x00", id="empty record"),
        pytest.param(b"\x16\x03\x01\x40\x01", id="record above 16 KiB"),
        pytest.param(b"\x16\x03\x01\x00\x10\x02", id="a ServerHello"),
        pytest.param(b"\x16\x03\x01\x00\x10\x01\x00\x44\x00", id="message above the bound"),
        pytest.param(b"\x16\x03\x01\x00\x04\x01\x00\x01\x00\x15\x03\x01\x00\x02", id="an alert"),
        pytest.param(b"\x16\x03\x01\x00\x04\x01\x00\x01\x00\x16\x02\x01\x00\x02", id="version"),
        pytest.param(records(hello(bytes(99)), 1)[: 64 * 6 + 5], id="65 records"),
        pytest.param(records(b"\x01" + vector(3)), id="nothing in it"),
        pytest.param(records(b"\x01" + vector(3, bytes(33))), id="half a random"),
        pytest.param(records(hello(tail=b"\x00")), id="half a length"),
        pytest.param(records(hello(tail=b"\x00\x01")), id="extensions too short"),
        pytest.param(records(hello(b"\x00")), id="half an extension"),
        pytest.param(records(hello(b"\x00\x00" + vector(2))), id="empty server_name"),
        pytest.param(records(hello(b"\x00\x00" + vector(2, vector(2)))), id="no name"),
        pytest.param(records(hello(b"\x00\x10" + vector(2, vector(2, b"\x05h2")))), id="ALPN"),
    ],
)
def test_malformed_hello_names_nothing(data: bytes) -> None:
    """What is wrong is for OpenSSL to say, as soon as it is wrong."""
    assert read_tls(data) == NAMELESS
    assert read_tls(data[:-1]) != NAMELESS


def test_largest_hello_in_one_record_is_read() -> None:
    """A full record's hello tells its name."""
    name = named(b"example.test")
    padding = (1 << 14) - len(hello(name + b"\x00\x15" + vector(2)))
    full = hello(name + b"\x00\x15" + vector(2, bytes(padding)))

    assert len(full) == 16384
    assert read_tls(records(full)) == ClientHello("example.test", ())
    assert read_tls(records(full, 4096)) == ClientHello("example.test", ())
    assert read_tls(records(full)[:9]) == NeedMore(5 + 16384)


def test_hello_above_the_bound_is_given_to_openssl_at_once() -> None:
    """What fits, with its records' headers, is waited for; one byte more is not."""
    start = b"\x16\x03\x01\x40\x00\x01\x00"

    assert read_tls(start + (MAX_HELLO_SIZE - 14).to_bytes(2)) == NeedMore(MAX_HELLO_SIZE)
    assert read_tls(start + (MAX_HELLO_SIZE - 13).to_bytes(2)) == NAMELESS


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\x15\x03\x01",
        b"\x16\x04",
        b"\x80\x2e\x01",
        b"SSH-2.0-x",
        b"GEX",
        b"get /",
        b"\r\n",
    ],
)
def test_anything_else_is_not_tls(data: bytes) -> None:
    """No method, no TLS: nothing worth an answer."""
    assert read_tls(data) == NotTLS(is_http=False)


@pytest.mark.parametrize(
    "method",
    [
        b"GET",
        b"HEAD",
        b"POST",
        b"PUT",
        b"DELETE",
        b"CONNECT",
        b"OPTIONS",
        b"TRACE",
        b"PATCH",
        b"PRI",
    ],
)
def test_http_is_known_by_its_method(method: bytes) -> None:
    """A method and a blank suffice; until then, the shortest candidate is waited for."""
    assert_decided_at_the_end(read_tls, method + b" ")
    assert read_tls(method + b" ") == NotTLS(is_http=True)
    assert read_tls(method + b" / HTTP/1.1\r\n") == NotTLS(is_http=True)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", False),
        (b"\x16", False),
        (b"\x16\x03", True),
        (b"\x16\x03\x01\x02", True),
        (b"\x16\x02\x01", False),
        (b"GET / HTTP/1.1", False),
    ],
)
def test_tls_is_known_on_a_plain_port(data: bytes, *, expected: bool) -> None:
    """Two bytes tell it."""
    assert looks_like_tls(data) is expected


def test_alert_is_understood_by_a_tls_client() -> None:
    """A client that gets it knows at once that its hello was unexpected."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="example.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert looks_like_tls(outgoing.read())

    incoming.write(TLS_ALERT)
    with pytest.raises(ssl.SSLError) as caught:
        client.do_handshake()

    # "tlsv1 alert…" or "ssl/tls alert unexpected message", depending on the OpenSSL.
    assert "UNEXPECTED_MESSAGE" in caught.value.reason


LONGEST_V6 = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
IPV4_BLOCK = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + (56324).to_bytes(2) + (443).to_bytes(2)
IPV6_BLOCK = bytes(15) + b"\x01" + bytes(15) + b"\x02" + (1).to_bytes(2) + (65535).to_bytes(2)
MAPPED_BLOCK = (bytes(10) + b"\xff\xff\xc0\x00\x02\x01") * 2 + IPV4_BLOCK[8:]
IPV4_ENDS = (("192.0.2.1", 56324), ("192.0.2.2", 443))
UNTOLD = (None, None)
TLVS = b"\x03\x00\x04\xde\xad\xbe\xef" + b"\x02\x00\x01a" + b"\x04\x00\x00"


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", IPV4_ENDS),
        (b"PROXY TCP4 1.1.1.1 2.2.2.2 0 65535\r\n", (("1.1.1.1", 0), ("2.2.2.2", 65535))),
        (b"PROXY TCP6 ::1 2001:DB8:0:0::2 1 2\r\n", (("::1", 1), ("2001:db8::2", 2))),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 56324 443\r\n", IPV4_ENDS),
        (
            b"PROXY TCP6 " + LONGEST_V6 + b" " + LONGEST_V6 + b" 65535 65535\r\n",
            ((LONGEST_V6.decode(), 65535), (LONGEST_V6.decode(), 65535)),
        ),
        (b"PROXY UNKNOWN\r\n", UNTOLD),
        (b"PROXY UNKNOWN \r\n", UNTOLD),
        (b"PROXY UNKNOWN nobody\rknows\nthis\r\n", UNTOLD),
        (b"PROXY UNKNOWN " + LONGEST_V6 + b" " + LONGEST_V6 + b" 65535 65535\r\n", UNTOLD),
        (v2(0x20, 0x00), UNTOLD),
        (v2(0x20, 0x11, IPV4_BLOCK), UNTOLD),
        (v2(0x20, 0xFF, b"any"), UNTOLD),
        (v2(0x21, 0x00), UNTOLD),
        (v2(0x21, 0x00, b"ignored" + TLVS), UNTOLD),
        (v2(0x21, 0x11, IPV4_BLOCK), IPV4_ENDS),
        (v2(0x21, 0x12, IPV4_BLOCK), IPV4_ENDS),
        (v2(0x21, 0x11, IPV4_BLOCK + TLVS), IPV4_ENDS),
        (v2(0x21, 0x10, IPV4_BLOCK), UNTOLD),
        (v2(0x21, 0x21, IPV6_BLOCK), (("::1", 1), ("::2", 65535))),
        (v2(0x21, 0x22, IPV6_BLOCK + TLVS), (("::1", 1), ("::2", 65535))),
        (
            v2(0x21, 0x21, MAPPED_BLOCK),
            (("192.0.2.1", 56324), ("192.0.2.1", 443)),
        ),
        (v2(0x21, 0x31, bytes(216)), UNTOLD),
        (v2(0x21, 0x32, bytes(216) + TLVS), UNTOLD),
        (v2(0x21, 0x11, IPV4_BLOCK + bytes(MAX_PROXY_SIZE - 16 - 12)), IPV4_ENDS),
    ],
)
def test_proxy_header_is_read(
    data: bytes, ends: tuple[tuple[str, int] | None, tuple[str, int] | None]
) -> None:
    """Both versions tell source and destination, or that the peer remains; and their size."""
    expected = ProxyHeader(len(data), *ends)

    assert_decided_at_the_end(read_proxy, data)
    assert read_proxy(data) == expected
    assert read_proxy(data + b"\x16\x03\x01") == expected


@pytest.mark.parametrize(
    "line",
    [
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n",
        b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP4 \xff.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2/8 1 2\r\n",
        b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP6 ::1%eth0 ::2 1 2\r\n",
        b"PROXY TCP6 [::1] ::2 1 2\r\n",
        b"PROXY TCP6 ::1::2 ::2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 00 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1_0 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 100000\r\n",
    ],
)
def test_wrong_line_is_refused_at_its_end(line: bytes) -> None:
    """Anything that does not exactly match version 1 ends the connection."""
    assert isinstance(read_proxy(line[:-1]), NeedMore)
    with pytest.raises(PreambleError) as caught:
        read_proxy(line)

    assert caught.value.cause == "bad_proxy_header"


@pytest.mark.parametrize(
    "end", [pytest.param(b"x" * 94, id="no end"), pytest.param(b"x" * 93 + b"\r\n", id="108 bytes")]
)
def test_line_above_107_bytes_is_refused(end: bytes) -> None:
    """It is refused as soon as its end can no longer come in time."""
    line = b"PROXY UNKNOWN" + end
    assert read_proxy(line[:105]) == NeedMore(107)
    with pytest.raises(PreambleError, match=r"^bad proxy header$"):
        read_proxy(line[:106])
    with pytest.raises(PreambleError, match=r"^bad proxy header$"):
        read_proxy(line)


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (v2(0x10, 0x00), "bad_proxy_header"),
        (v2(0x31, 0x11, IPV4_BLOCK), "bad_proxy_header"),
        (v2(0x22, 0x11, IPV4_BLOCK), "bad_proxy_header"),
        (v2(0x21, 0x41, IPV4_BLOCK), "bad_proxy_header"),
        (v2(0x21, 0x13, IPV4_BLOCK), "bad_proxy_header"),
        (v2(0x21, 0x03), "bad_proxy_header"),
        (v2(0x21, 0x11, IPV4_BLOCK[:-1]), "bad_proxy_header"),
        (v2(0x21, 0x21, IPV6_BLOCK[:-1]), "bad_proxy_header"),
        (v2(0x21, 0x31, bytes(215)), "bad_proxy_header"),
        (v2(0x21, 0x11, bytes(MAX_PROXY_SIZE - 15)), "proxy_header_too_large"),
        (v2(0x20, 0x00, bytes(65535)), "proxy_header_too_large"),
    ],
)
def test_wrong_binary_header_is_refused_before_its_addresses(data: bytes, cause: str) -> None:
    """16 bytes tell it: nothing is waited for."""
    assert_decided_at_the_end(read_proxy, data[:16])
    with pytest.raises(PreambleError) as caught:
        read_proxy(data[:16])

    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("data", "wrong_at"),
    [
        (b"GET / HTTP/1.1\r\n", 1),
        (b"POST / HTTP/1.1\r\n", 2),
        (b"PROXY\tTCP4 ", 6),
        (b"\x16\x03\x01", 1),
        (b"\r\n\r\n\x00\r\nQUIT\r", 12),
    ],
)
def test_missing_header_is_refused_with_the_first_wrong_byte(data: bytes, wrong_at: int) -> None:
    """A peer that speaks without one is told apart from one that speaks it badly."""
    for cut in range(wrong_at):
        assert isinstance(read_proxy(data[:cut]), NeedMore)
    for cut in range(wrong_at, len(data) + 1):
        with pytest.raises(PreambleError, match=r"^no proxy header$"):
            read_proxy(data[:cut])


def test_header_that_comes_at_once_takes_few_looks() -> None:
    """The binary header tells its length; the line is short."""
    assert wakeups(read_proxy, v2(0x21, 0x11, IPV4_BLOCK + TLVS)) == 4
    assert wakeups(read_proxy, b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n") < 20


def verdict(read: Callable[[bytes], object], data: bytes) -> object:
    """What ``read`` answers, or the cause of what it raises."""
    try:
        return read(data)
    except PreambleError as error:
        return error.cause


# Arbitrary bytes alone would seldom get past the first: most begin as they should.
beginnings = st.sampled_from(
    [
        b"",
        b"\x16\x03\x01",
        b"\x16\x03\x01\x00\x40\x01\x00\x00",
        records(hello(named(b"a.test")))[:60],
        b"PROXY ",
        b"PROXY TCP4 1.1.1.1 ",
        b"\r\n\r\n\x00\r\nQUIT\n",
        v2(0x21, 0x11)[:14],
    ]
)
arbitrary = st.builds(bytes.__add__, beginnings, st.binary(max_size=200))


@given(arbitrary)
@example(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
def test_arbitrary_bytes_never_break_read_tls(data: bytes) -> None:
    """Every beginning gets an answer, which more bytes refine and never take back."""
    answers = [read_tls(data[:cut]) for cut in range(len(data) + 1)]

    for cut, answer in enumerate(answers):
        if isinstance(answer, NeedMore):
            assert cut < answer.size <= MAX_HELLO_SIZE
            # Asking before is no use, except to learn that nothing good will come.
            early = {other for other in answers[cut : answer.size] if type(other) is not NeedMore}
            assert early <= {NAMELESS, NotTLS(is_http=False)}
        else:
            assert set(answers[cut:]) == {answer}
            break
    assert read_tls(data) == answers[-1]


@given(arbitrary)
def test_arbitrary_bytes_never_break_read_proxy(data: bytes) -> None:
    """Every beginning gets an answer or a PreambleError, which more bytes never take back."""
    answers = [verdict(read_proxy, data[:cut]) for cut in range(len(data) + 1)]

    for cut, answer in enumerate(answers):
        if isinstance(answer, NeedMore):
            assert cut < answer.size <= MAX_PROXY_SIZE
        else:
            assert set(answers[cut:]) == {answer}
            break
    assert verdict(read_proxy, data) == answers[-1]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", True),
        (b"PROXY TCP6 ::1 ::2 1 2\r\n", True),
        (b"PROXY UNKNOWN\r\n", True),
        (v2(0x21, 0x11), True),
        (v2(0x20, 0x00)[:12], True),
        (v2(0x20, 0x00)[:11], False),
        (b"PROXY / HTTP/1.1\r\n", False),
        (b"\r\n\r\nGET / HTTP/1.1\r\n", False),
        (b"", False),
    ],
)
def test_an_unexpected_proxy_header_is_recognized(data: bytes, *, expected: bool) -> None:
    """By what no HTTP request begins with."""
    assert looks_like_proxy(data) is expected
    assert looks_like_proxy(bytearray(data)) is expected
