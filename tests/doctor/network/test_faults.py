"""Faults of addresses become findings."""

from gateman.doctor.network.faults import Fault, merged
from gateman.doctor.network.observations import Reach
from gateman.doctor.network.url import parse
from gateman.findings import ALL_CLIENTS, Client, network

from .seen import WSS, dead

FIRST = dead(Reach.REFUSED, "refused", address="192.0.2.1")
SECOND = dead(Reach.REFUSED, "refused", address="2001:db8::1")
REFUSED = Fault(network.TCP_REFUSED, "refused")


def test_the_same_fault_of_several_addresses_is_one_finding() -> None:
    (found,) = merged(parse(WSS), [(FIRST, [REFUSED]), (SECOND, [REFUSED])])

    assert found.problem == (
        "connections to 192.0.2.1 and 2001:db8::1 port 443 are refused: nothing listens there"
    )


def test_faults_that_differ_in_more_than_the_address_stay_apart() -> None:
    phones = Fault(network.TCP_REFUSED, "refused", fails_for=frozenset({Client.ANDROID}))
    found = merged(parse(WSS), [(FIRST, [REFUSED]), (SECOND, [phones])])

    assert [one.fails_for for one in found] == [ALL_CLIENTS, {Client.ANDROID}]
