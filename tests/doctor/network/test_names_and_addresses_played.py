"""Names and addresses that lead nowhere, in a network of namespaces, are told apart."""

from collections.abc import Iterator

import pytest

from tests.support.small_network import CLIENT, Looked, small_network

OPEN, OPEN_TOO = "192.0.2.10", "192.0.2.11"
DROPPED, PROHIBITED, UNREACHABLE = "192.0.2.1", "192.0.2.2", "192.0.2.3"
OPEN_6, DROPPED_6, PROHIBITED_6 = "2001:db8::10", "2001:db8::1", "2001:db8::2"
NO_ROUTE_6 = "2620:fe::fe"

ZONE: dict[str, object] = {
    "good.example.com": {"A": [OPEN]},
    "both.example.com": {"A": [OPEN], "AAAA": [OPEN_6]},
    "empty.example.com": {"MX": []},
    "silent.example.com": {"A": "silent", "AAAA": "silent"},
    "failing.example.com": "SERVFAIL",
    "slow6.example.com": {"A": [OPEN], "AAAA": "silent"},
    "dropped6.example.com": {"A": [OPEN], "AAAA": [DROPPED_6]},
    "prohibited6.example.com": {"A": [OPEN], "AAAA": [PROHIBITED_6]},
    "refused6.example.com": {"A": [OPEN], "AAAA": ["2001:db8::11"]},
    "noroute6.example.com": {"A": [OPEN], "AAAA": [NO_ROUTE_6]},
    "only6.example.com": {"AAAA": [OPEN_6]},
    "onlynoroute6.example.com": {"AAAA": [NO_ROUTE_6]},
    "half.example.com": {"A": [OPEN, DROPPED]},
    "half6.example.com": {"A": [DROPPED], "AAAA": [OPEN_6]},
    "refused.example.com": {"A": [OPEN_TOO]},
    "dropped.example.com": {"A": [DROPPED]},
    "prohibited.example.com": {"A": [PROHIBITED]},
    "unreachable.example.com": {"A": [UNREACHABLE]},
    "private.example.com": {"A": ["10.1.1.1"]},
    "loopback.example.com": {"A": ["127.0.0.1"]},
    "mixed.example.com": {"A": [OPEN, "10.1.1.1"]},
    "cdn.example.com": {"A": ["104.16.0.1"]},
}

EXPECTED: dict[str, list[str]] = {
    "good.example.com": [],
    "both.example.com": [],
    "nothing.example.com": ["cause NAME_UNKNOWN"],
    "empty.example.com": ["cause NAME_WITHOUT_ADDRESS"],
    "silent.example.com": ["undecided NAME_TIMEOUT"],
    "failing.example.com": ["undecided NAME_TIMEOUT"],
    "slow6.example.com": ["warning NAME_QUERY_UNANSWERED"],
    "dropped6.example.com": ["cause IPV6_DEAD"],
    "prohibited6.example.com": ["cause IPV6_DEAD"],
    "refused6.example.com": ["cause IPV6_DEAD"],
    "noroute6.example.com": [],
    "only6.example.com": ["warning IPV6_ONLY"],
    "onlynoroute6.example.com": ["cause IPV6_ONLY"],
    "half.example.com": ["cause ADDRESS_DEAD"],
    "half6.example.com": ["cause ADDRESS_DEAD"],
    "refused.example.com": ["cause TCP_REFUSED"],
    "dropped.example.com": ["cause TCP_DROPPED"],
    "prohibited.example.com": ["cause TCP_REJECTED"],
    "unreachable.example.com": ["cause TCP_REJECTED"],
    "private.example.com": ["cause ADDRESS_PRIVATE", "cause TCP_DROPPED"],
    "loopback.example.com": ["warning ADDRESS_PRIVATE"],
    "mixed.example.com": ["warning ADDRESS_PRIVATE", "cause ADDRESS_DEAD"],
    "cdn.example.com": ["cause CDN_PORT"],
    CLIENT: ["cause LISTENS_ON_LOOPBACK"],
    "[2620:fe::fe]": ["undecided NO_ROUTE"],
    "localhost": [],
}


@pytest.fixture(scope="module")
def looked() -> Iterator[Looked]:
    router = [
        *(f"addr add {one}/32 dev lo" for one in (OPEN, OPEN_TOO)),
        *(f"addr add {one}/128 dev lo nodad" for one in (OPEN_6, "2001:db8::11")),
        *(f"route add blackhole {one}" for one in (DROPPED, "10.1.1.1", "104.16.0.1")),
        f"route add prohibit {PROHIBITED}",
        f"route add unreachable {UNREACHABLE}",
        f"-6 route add blackhole {DROPPED_6}",
        f"-6 route add prohibit {PROHIBITED_6}",
    ]
    client = [
        "route add default via 10.9.0.2",
        "-6 route add 2001:db8::/32 via 2001:db8:9::2",
    ]
    with small_network(ZONE, client, router) as network:
        network.serve([OPEN, OPEN_6])
        network.serve(["127.0.0.1"], on_client=True)
        yield network.look([f"ws://{host}:8282/" for host in EXPECTED])


@pytest.mark.parametrize("host", EXPECTED)
def test_what_is_named(host: str, looked: Looked) -> None:
    found = [
        f"{severity} {code}"
        for severity, code, _ in looked[f"ws://{host}:8282/"]
        if code != "URL_PLAIN"
    ]

    assert found == EXPECTED[host]


def test_the_sentences(looked: Looked) -> None:
    def problem(host: str) -> str:
        return looked[f"ws://{host}:8282/"][-1][2].partition(": ")[0]

    assert [problem(one) for one in ("prohibited.example.com", CLIENT, "dropped6.example.com")] == [
        f"connections to {PROHIBITED} port 8282 are rejected on the way (No route to host)",
        f"port 8282 is open on 127.0.0.1 and refused on {CLIENT}",
        f"the IPv6 address of dropped6.example.com leads nowhere ({DROPPED_6} port 8282",
    ]
