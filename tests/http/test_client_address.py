"""Who the client is: tables of peers and headers, and garbage."""

from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from gateman.errors import ConfigError
from gateman.http.client_address import (
    DEFAULT,
    ClientAddress,
    TrustedProxies,
    client_address,
    forwarded_hosts,
    rate_key,
)

PROXY = ("10.0.0.1", 40000)
OWN = ClientAddress("10.0.0.1", 40000)
CONTRADICTION = ClientAddress("10.0.0.1", 40000, contradiction=True)
TRUSTED = TrustedProxies(["10.0.0.0/8", "2001:db8:aa::/48", "unix"])
NAMES = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


def behind(
    *lines: tuple[str, str],
    peer: tuple[str | None, int | None] = PROXY,
    trusted: TrustedProxies = TRUSTED,
) -> ClientAddress:
    """The client by these header lines."""
    return client_address(peer, CIMultiDict(lines), trusted)


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("127.0.0.1", True),
        ("127.255.255.255", True),
        ("128.0.0.1", False),
        ("::1", True),
        ("0:0::0:1", True),
        ("::2", False),
        ("::ffff:127.0.0.1", True),
        ("::ffff:128.0.0.1", False),
        ("::1%lo", True),
        (None, True),
        ("unix", False),
        ("", False),
        ("localhost", False),
        ("127.0.0.1:80", False),
        ("127.1", False),
        ("0127.0.0.1", False),
        ("127.0.0.1 ", False),
        ("\udcff", False),
        ("1" * 100_000, False),
        ("::1%" + "x" * 100, False),
    ],
)
def test_this_machine_is_trusted_by_default(ip: str | None, *, expected: bool) -> None:
    """Loopback and unix sockets are, in each spelling; garbage is nobody."""
    assert (ip in TrustedProxies()) is expected


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        ("192.0.2.0/255.255.255.0", "192.0.2.255", "192.0.3.0"),
        ("::ffff:192.0.2.0/120", "192.0.2.255", "192.0.3.0"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("fe80::/10", "fe80::1%eth0", "fec0::1"),
        ("fe80::1%eth0", "fe80::1", "fe80::2"),
        ("::/0", "2001:db8::1", "192.0.2.7"),
        ("::/96", "::7", "192.0.2.7"),
        ("0.0.0.0/0", "192.0.2.7", "2001:db8::1"),
        ("unix", None, "127.0.0.1"),
    ],
)
def test_networks_contain_what_they_say(entry: str, inside: str | None, outside: str) -> None:
    """Addresses, networks and the unix sockets; mapped IPv4 is IPv4, zones do not matter."""
    trusted = TrustedProxies([entry])

    assert inside in trusted
    assert outside not in trusted


@pytest.mark.parametrize("peer", [None, "127.0.0.1", "::1"])
def test_an_empty_list_trusts_no_proxy(peer: str | None) -> None:
    """An empty list means it."""
    assert peer not in TrustedProxies([])


NO_ADDRESS = (
    "{!r} in trusted_proxies is neither an address nor a network:"
    " write one such as '10.0.0.0/8', or 'unix' (names are not looked up)."
)
BEYOND_PREFIX = "{!r} in trusted_proxies has bits set beyond its prefix: did you mean {!r}?"


@pytest.mark.parametrize(
    ("cidrs", "sentence"),
    [
        (["::1", "proxy.test"], NO_ADDRESS.format("proxy.test")),
        (["*"], NO_ADDRESS.format("*")),
        ([""], NO_ADDRESS.format("")),
        (["10.0.0.0/33"], NO_ADDRESS.format("10.0.0.0/33")),
        (["unix:"], NO_ADDRESS.format("unix:")),
        ([10], NO_ADDRESS.format(10)),
        (
            ["10.1.2.3/8"],
            BEYOND_PREFIX.format("10.1.2.3/8", "10.0.0.0/8"),
        ),
        (
            ["2001:db8::1/32"],
            BEYOND_PREFIX.format("2001:db8::1/32", "2001:db8::/32"),
        ),
        (
            "10.0.0.0/8",
            "trusted_proxies='10.0.0.0/8' is not a list: write trusted_proxies=['10.0.0.0/8'].",
        ),
    ],
)
def test_mistake_is_one_sentence(cidrs: Iterable[str], sentence: str) -> None:
    """It names what was written and what to write."""
    with pytest.raises(ConfigError) as caught:
        TrustedProxies(cidrs)

    assert str(caught.value) == sentence


def test_default_is_written_as_a_user_would() -> None:
    """A user extends it: ``[*DEFAULT, "10.0.0.0/8"]``."""
    trusted = TrustedProxies([*DEFAULT, "10.0.0.0/8"])

    assert [peer in trusted for peer in ("127.0.0.1", "::1", None, "10.1.2.3")] == [True] * 4


@pytest.mark.parametrize("name", NAMES)
def test_headers_of_untrusted_peers_are_ignored(name: str) -> None:
    """A peer that is not a trusted proxy is the client, whatever its headers say."""
    lines = (name, "for=1.2.3.4" if name == "Forwarded" else "1.2.3.4")

    assert behind(lines, peer=("198.51.100.1", 5)) == ClientAddress("198.51.100.1", 5)
    assert behind(lines, peer=(None, None), trusted=TrustedProxies()) == ClientAddress(
        "1.2.3.4", None
    )
    assert behind(lines, peer=(None, None), trusted=TrustedProxies(["::1"])) == ClientAddress(
        "unix", None
    )


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("10.0.0.1", 40000), OWN),
        (("::ffff:10.0.0.1", 40000), OWN),
        (("::ffff:192.0.2.1", 5), ClientAddress("192.0.2.1", 5)),
        (("2001:DB8:0::1", 5), ClientAddress("2001:db8::1", 5)),
        (("fe80::1%eth0", 5), ClientAddress("fe80::1", 5)),
        ((None, None), ClientAddress("unix", None)),
        (("nonsense", 5), ClientAddress("nonsense", 5)),
    ],
)
def test_peer_is_the_client_without_headers(
    peer: tuple[str | None, int | None], expected: ClientAddress
) -> None:
    """Its address in the one form that all of gateman uses."""
    assert behind(peer=peer) == expected


# What X-Forwarded-For says, the same in Forwarded, and who the client is.
FROM_LISTS = [
    ("192.0.2.1", "for=192.0.2.1", ClientAddress("192.0.2.1", None)),
    ("192.0.2.1:47011", 'for="192.0.2.1:47011"', ClientAddress("192.0.2.1", 47011)),
    ("192.0.2.1:0", 'for="192.0.2.1:0"', ClientAddress("192.0.2.1", 0)),
    ("192.0.2.1:_x.-9", 'for="192.0.2.1:_x.-9"', ClientAddress("192.0.2.1", None)),
    ("[2001:db8::1]", 'for="[2001:db8::1]"', ClientAddress("2001:db8::1", None)),
    ("[2001:DB8:0::1]:80", 'for="[2001:DB8:0::1]:80"', ClientAddress("2001:db8::1", 80)),
    ("[fe80::1%eth0]:80", 'for="[fe80::1%eth0]:80"', ClientAddress("fe80::1", 80)),
    ("[::ffff:192.0.2.1]:80", 'for="[::ffff:192.0.2.1]:80"', ClientAddress("192.0.2.1", 80)),
    ("192.0.2.1, 10.0.0.2", "for=192.0.2.1, for=10.0.0.2", ClientAddress("192.0.2.1", None)),
    ("192.0.2.1,10.0.0.2", "for=192.0.2.1,for=10.0.0.2", ClientAddress("192.0.2.1", None)),
    ("9.9.9.9, 192.0.2.1", "for=9.9.9.9, for=192.0.2.1", ClientAddress("192.0.2.1", None)),
    ("junk, 192.0.2.1", 'for="junk, for=192.0.2.1', ClientAddress("192.0.2.1", None)),
    ("10.0.0.3, 10.0.0.2", "for=10.0.0.3, for=10.0.0.2", ClientAddress("10.0.0.3", None)),
    ("[2001:db8:aa::1]:9, 10.0.0.2", 'for="[2001:db8:aa::1]:9", for=10.0.0.2',
     ClientAddress("2001:db8:aa::1", 9)),
    ("9.9.9.9, unknown", "for=9.9.9.9, for=unknown", OWN),
    ("9.9.9.9, unknown, 10.0.0.2", "for=9.9.9.9, for=unknown, for=10.0.0.2",
     ClientAddress("10.0.0.2", None)),
    ("_hidden", "for=_hidden", OWN),
    ("_hidden:80", 'for="_hidden:80"', OWN),
    ("192.0.2.1:", 'for="192.0.2.1:"', OWN),
    ("192.0.2.1:65536", 'for="192.0.2.1:65536"', OWN),
    ("192.0.2.1:655360", 'for="192.0.2.1:655360"', OWN),
    ("192.0.2.1:x", 'for="192.0.2.1:x"', OWN),
    ("[192.0.2.1]:80", 'for="[192.0.2.1]:80"', OWN),
    ("[2001:db8::1", 'for="[2001:db8::1"', OWN),
    ("[2001:db8::1]x", 'for="[2001:db8::1]x"', OWN),
    ("192.0.2.01", "for=192.0.2.01", OWN),
    ("192.0.2", "for=192.0.2", OWN),
    ("unix:", 'for="unix:"', OWN),
    (" , ,192.0.2.1\t,, ", " , ,for=192.0.2.1\t,, ", ClientAddress("192.0.2.1", None)),
    ("", "", OWN),
    (" ,, ", " ,, ", OWN),
]  # fmt: skip


@pytest.mark.parametrize(("x_forwarded_for", "forwarded", "expected"), FROM_LISTS)
def test_lists_are_walked_from_the_right(
    x_forwarded_for: str, forwarded: str, expected: ClientAddress
) -> None:
    """Past the trusted proxies, to the first that is none; both headers alike."""
    assert behind(("X-Forwarded-For", x_forwarded_for)) == expected
    assert behind(("Forwarded", forwarded)) == expected
    assert behind(("x-forwarded-for", x_forwarded_for), ("FORWARDED", forwarded)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2001:db8::1", ClientAddress("2001:db8::1", None)),
        ("::ffff:192.0.2.1", ClientAddress("192.0.2.1", None)),
        ("fe80::1%eth0", ClientAddress("fe80::1", None)),
        ('"192.0.2.1"', OWN),
    ],
)
def test_x_forwarded_for_has_addresses_as_they_are(value: str, expected: ClientAddress) -> None:
    """IPv6 without brackets, and no quotes."""
    assert behind(("X-Forwarded-For", value)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # The examples of RFC 7239, sections 4 and 7.1.
        ('for="_gazonk"', OWN),
        ('For="[2001:db8:cafe::17]:4711"', ClientAddress("2001:db8:cafe::17", 4711)),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ClientAddress("192.0.2.60", None)),
        ("for=192.0.2.43, for=198.51.100.17", ClientAddress("198.51.100.17", None)),
        ('for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown', OWN),
        ("for=_hidden, for=_SEVKISEK", OWN),
        ("by=203.0.113.43;proto=http;FOR=192.0.2.60", ClientAddress("192.0.2.60", None)),
        ("for=192.0.2.60 ; proto=https", ClientAddress("192.0.2.60", None)),
        (";;for=192.0.2.60;", ClientAddress("192.0.2.60", None)),
        (r'for="1\92.0.2.60"', ClientAddress("192.0.2.60", None)),
        ('for=192.0.2.60;host="a,b;c=d"', ClientAddress("192.0.2.60", None)),
        (r'for=192.0.2.60;host="a\",b\\"', ClientAddress("192.0.2.60", None)),
        (r'for=192.0.2.60;host="\\\", for=1.1.1.1;x=\""', ClientAddress("192.0.2.60", None)),
        ('for=192.0.2.60;host=""', ClientAddress("192.0.2.60", None)),
        ('for=9.9.9.9;host="a, for=192.0.2.60', ClientAddress("192.0.2.60", None)),
        ("proto=https", OWN),
        ("for=192.0.2.60;for=192.0.2.60", OWN),
        ("for=", OWN),
        ('for=""', OWN),
        ("for = 192.0.2.60", OWN),
        ("192.0.2.60", OWN),
        ("for=192.0.2.60:80", OWN),
        ("for=[2001:db8::1]", OWN),
        ('for="2001:db8::1"', OWN),
        ('for="192.0.2.60', OWN),
        ('for="192.0.2.60"x', OWN),
        (r'for=192.0.2.60;host="a\"', OWN),
        ("for=192.0.2.60;host", OWN),
    ],
)
def test_forwarded_has_a_grammar(value: str, expected: ClientAddress) -> None:
    """Tokens, quoted strings and parameters; what breaks it ends the walk."""
    assert behind(("Forwarded", value)) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((("X-Forwarded-For", "9.9.9.9"), ("X-Forwarded-For", "192.0.2.1, 10.0.0.2")), "192.0.2.1"),
        ((("Forwarded", 'for="'), ("Forwarded", "for=192.0.2.1")), "192.0.2.1"),
        ((("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-For", "")), "192.0.2.1"),
    ],
)
def test_lines_of_one_header_are_one_list(
    lines: tuple[tuple[str, str], ...], expected: str
) -> None:
    """A client's line stands before its proxy's, and can do it no harm."""
    assert behind(*lines) == ClientAddress(expected, None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["192.0.2.1"], ClientAddress("192.0.2.1", None)),
        ([" 2001:DB8::1 "], ClientAddress("2001:db8::1", None)),
        (["192.0.2.1:80"], ClientAddress("192.0.2.1", 80)),
        (["10.0.0.2"], ClientAddress("10.0.0.2", None)),
        ([""], OWN),
        (["unknown"], OWN),
        (["192.0.2.1, 192.0.2.2"], OWN),
        (["192.0.2.1", "192.0.2.1"], OWN),
    ],
)
def test_x_real_ip_is_one_address(values: list[str], expected: ClientAddress) -> None:
    """Several are none: no proxy writes them."""
    assert behind(*(("X-Real-IP", value) for value in values)) == expected


@pytest.mark.parametrize(
    ("x_forwarded_for", "x_real_ip", "expected"),
    [
        ("192.0.2.1, 10.0.0.2", "10.0.0.2", ClientAddress("192.0.2.1", None)),
        ("192.0.2.1:80, 10.0.0.2", "10.0.0.2", ClientAddress("192.0.2.1", 80)),
        ("10.0.0.3, 10.0.0.2", "10.0.0.2", ClientAddress("10.0.0.3", None)),
        ("unknown", "10.0.0.2", OWN),
        ("192.0.2.1, 10.0.0.2", "192.0.2.1", ClientAddress("192.0.2.1", None)),
        ("", "192.0.2.1", ClientAddress("192.0.2.1", None)),
        ("192.0.2.1", "", ClientAddress("192.0.2.1", None)),
    ],
)
def test_trusted_x_real_ip_adds_nothing(
    x_forwarded_for: str, x_real_ip: str, expected: ClientAddress
) -> None:
    """It names the hop that the list begins with, not who stands behind that."""
    assert behind(("X-Forwarded-For", x_forwarded_for), ("X-Real-IP", x_real_ip)) == expected


@pytest.mark.parametrize(
    "lines",
    [
        (("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "192.0.2.2")),
        (("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.2")),
        (("Forwarded", "for=192.0.2.1"), ("X-Real-IP", "192.0.2.2")),
        (("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=unknown")),
        (("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "junk")),
        (("X-Forwarded-For", "192.0.2.1"), ("X-Real-IP", "junk")),
        (("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=10.0.0.2")),
        (("X-Forwarded-For", "10.0.0.2"), ("X-Real-IP", "192.0.2.1")),
        (
            ("X-Forwarded-For", "192.0.2.1"),
            ("Forwarded", "for=192.0.2.1"),
            ("X-Real-IP", "192.0.2.2"),
        ),
    ],
)
def test_contradicting_headers_are_all_disbelieved(lines: tuple[tuple[str, str], ...]) -> None:
    """One is the proxy's and one may be forged: the peer is the answer, in any order."""
    assert behind(*lines) == CONTRADICTION
    assert behind(*reversed(lines)) == CONTRADICTION


@pytest.mark.parametrize(
    ("x_forwarded_for", "forwarded", "port"),
    [
        ("192.0.2.1", 'for="192.0.2.1:7"', 7),
        ("192.0.2.1:7", "for=192.0.2.1", 7),
        ("192.0.2.1:7", 'for="192.0.2.1:7"', 7),
        ("192.0.2.1:7", 'for="192.0.2.1:8"', None),
        ("::ffff:192.0.2.1", 'for="192.0.2.1:7"', 7),
    ],
)
def test_ports_that_differ_are_unknown(
    x_forwarded_for: str, forwarded: str, port: int | None
) -> None:
    """The address counts; a port that only one header tells is taken from that."""
    client = behind(("X-Forwarded-For", x_forwarded_for), ("Forwarded", forwarded))

    assert client == ClientAddress("192.0.2.1", port)


@pytest.mark.parametrize(("proxies", "expected"), [(31, "192.0.2.1"), (32, "10.0.0.32")])
def test_walk_ends_after_32_entries(proxies: int, expected: str) -> None:
    """Nobody has more proxies; the last one looked at stands for what is behind it."""
    entries = [f"10.0.0.{number}" for number in range(proxies, 0, -1)]
    value = ", ".join(["192.0.2.1", *entries])

    assert behind(("X-Forwarded-For", value)) == ClientAddress(expected, None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "unit",
    [" ", "\t ,", "a", ":", "[", '"', "\\", '\\"', ",", '",', ";", "x=1;", 'x="",', "10.0.0.1,"],
)
def test_hostile_header_takes_linear_time(name: str, unit: str) -> None:
    """A quarter of a MiB of it is done within the deadline of a test: quadratic work is not."""
    value = unit * ((256 << 10) // len(unit))

    assert behind((name, 'for="' + value), peer=("10.0.0.1", 1)).ip == "10.0.0.1"
    assert behind((name, value + "!"), peer=("10.0.0.1", 1)).ip == "10.0.0.1"


@pytest.mark.parametrize(
    ("ip", "expected"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("unix", "unix"),
    ],
)
def test_limits_count_ipv6_by_its_64(ip: str, expected: str) -> None:
    """One customer is one key, however many addresses it has."""
    assert rate_key(ip) == expected


# What a header may hold after decoding with surrogateescape, mostly of what addresses are made of.
garbage = st.one_of(
    st.text(alphabet='0123456789abcdef.:[]%,;="\\ \tfor_-', max_size=60),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=0xDCFF), max_size=20),
)
rejected = st.ip_addresses().map(str).filter(lambda ip: ip not in TRUSTED)
addresses = st.one_of(st.ip_addresses().map(str), st.none(), garbage)


@given(addresses, st.lists(st.tuples(st.sampled_from(NAMES), garbage), max_size=4))
@example("10.0.0.1", [("X-Forwarded-For", "\udc80")])
def test_garbage_never_breaks(peer: str | None, lines: list[tuple[str, str]]) -> None:
    """Every header gets an answer, the same each time; those of untrusted peers are ignored."""
    client = behind(*lines, peer=(peer, 5))

    assert client == behind(*lines, peer=(peer, 5))
    assert rate_key(rate_key(client.ip)) == rate_key(client.ip)
    if peer not in TRUSTED:
        assert client == behind(peer=(peer, 5))


@given(rejected, st.lists(st.tuples(st.sampled_from(NAMES[:2]), garbage), max_size=3))
def test_client_cannot_choose_its_address(ip: str, forged: list[tuple[str, str]]) -> None:
    """What it writes stands left of what its proxy appends, or contradicts it."""
    proxy = ("X-Forwarded-For", ip)
    true = behind(proxy)

    assert behind(*forged, proxy) in {true, OWN, CONTRADICTION}


@pytest.mark.parametrize(
    ("lines", "hosts"),
    [
        ([], []),
        ([("X-Forwarded-Host", "")], []),
        ([("X-Forwarded-Host", "a.example, b.example:443")], ["b.example:443", "a.example"]),
        ([("Forwarded", "for=1.2.3.4;Host=a.example")], ["a.example"]),
        ([("Forwarded", 'host="a.example:8443", for=1.2.3.4')], ["a.example:8443"]),
        ([("Forwarded", "host=a.example;host=b.example")], []),
        ([("Forwarded", "host=")], []),
        ([("Forwarded", "host=a b")], []),
        (
            [("Forwarded", "host=a.example"), ("X-Forwarded-Host", "b.example")],
            ["b.example", "a.example"],
        ),
    ],
)
def test_hosts_that_proxies_were_asked_for(lines: list[tuple[str, str]], hosts: list[str]) -> None:
    """From the right, those of Forwarded last."""
    assert list(forwarded_hosts(CIMultiDict(lines))) == hosts


def test_hosts_are_bounded() -> None:
    """Of a row that is too long, the right end."""
    lines = [("X-Forwarded-Host", ",".join(map(str, range(1000))))]

    assert list(forwarded_hosts(CIMultiDict(lines))) == [str(999 - at) for at in range(32)]
