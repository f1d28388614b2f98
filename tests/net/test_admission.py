"""Who may come in: the counts behind the caps, by equality; time is an argument."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateman.net.admission import (
    DRAINING,
    OUT_OF_FILES,
    TOO_FAST,
    TOO_MANY,
    TOO_MANY_FROM_ADDRESS,
    Admission,
    Permit,
    Refusal,
)
from gateman.options import Limits


def admission(
    max_connections: int = 1000, *, per_ip: int | None = None, per_second: int | None = None
) -> Admission:
    """Counts with these caps and no others."""
    limits = Limits(
        max_connections=max_connections,
        max_connections_per_ip=per_ip,
        max_handshakes_per_second=per_second,
    )
    return Admission(limits, max_connections)


def admit(counts: Admission, number: int = 1) -> list[Permit]:
    """Admit connections that may stay."""
    arrived = [counts.admit() for _ in range(number)]
    assert [refusal for _, refusal in arrived] == [None] * number
    return [permit for permit, _ in arrived]


def reject(counts: Admission) -> bool:
    """Reject a connection; return whether it gets an answer."""
    permit, refusal = counts.admit()
    assert refusal == TOO_MANY
    if permit.reject():
        return True
    permit.release()
    return False


# All connections.


def test_as_many_as_allowed_may_stay() -> None:
    """The cap itself is within it."""
    counts = admission(3)
    admit(counts, 3)

    assert counts.admit()[1] == TOO_MANY
    assert counts.count == 4


def test_a_limit_that_is_not_set_is_not_named() -> None:
    """What the limit on open files leaves room for is raised elsewhere."""
    counts = Admission(Limits(), 1)
    admit(counts)
    refusal = counts.admit()[1]

    assert refusal == OUT_OF_FILES
    assert (refusal.status, refusal.text) == (503, TOO_MANY.text)
    assert "limits." not in refusal.hint
    assert "ulimit -n" in refusal.hint


def test_a_place_that_is_given_back_is_taken_again() -> None:
    """As soon as somebody has left, the next may stay."""
    counts = admission(2)
    first, _second = admit(counts, 2)
    reject(counts)

    first.release()

    admit(counts, 1)
    assert reject(counts)


def test_leaving_twice_is_leaving_once() -> None:
    """Several places see the end of a connection, and each releases its permit."""
    counts = admission()
    permit, _other = admit(counts, 2)
    permit.count_address("192.0.2.1")

    for _ in range(3):
        permit.release()

    assert (counts.count, counts.address_count) == (1, 0)


def test_clients_that_get_a_refusal_take_no_permit() -> None:
    """However many are being told that there is no room, room that comes free is free."""
    counts = admission(1)
    (admitted,) = admit(counts)
    assert [reject(counts) for _ in range(40)] == [True] * 32 + [False] * 8

    admitted.release()

    admit(counts)


def test_only_so_many_are_told_at_a_time() -> None:
    """The descriptors that answers need are bounded too, and come free again."""
    counts = admission(1)
    admit(counts)
    told = [counts.admit()[0] for _ in range(32)]
    assert all(permit.reject() for permit in told)
    assert (counts.count, reject(counts)) == (33, False)

    told[0].release()

    assert (reject(counts), reject(counts)) == (True, False)


def test_one_address_cannot_take_all_places_by_being_refused() -> None:
    """Who is over its address's cap keeps no place while it is told so."""
    counts = admission(3, per_ip=1)
    (counted,) = admit(counts)
    counted.count_address("192.0.2.1")
    for _ in range(20):
        (permit,) = admit(counts)
        assert permit.count_address("192.0.2.1") == TOO_MANY_FROM_ADDRESS
        assert permit.reject()

    admit(counts, 2)
    assert counts.admit()[1] == TOO_MANY


# One address.


@pytest.mark.parametrize(
    ("one", "other", "are_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:0DB8:0:0:1::", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("unix", "unix", True),
    ],
)
def test_addresses_of_one_customer_are_one(one: str, other: str, *, are_one: bool) -> None:
    """IPv4 counts by its address, however it is written, and IPv6 by its /64."""
    counts = admission(per_ip=1)
    first, second = admit(counts, 2)

    assert first.count_address(one) is None
    assert second.count_address(other) == (TOO_MANY_FROM_ADDRESS if are_one else None)
    assert counts.address_count == (1 if are_one else 2)


def test_an_address_gets_its_place_back() -> None:
    """When a connection has left, another from there may stay."""
    counts = admission(per_ip=2)
    first, second, third = admit(counts, 3)
    assert [permit.count_address("2001:db8::1") for permit in (first, second, third)] == [
        None,
        None,
        TOO_MANY_FROM_ADDRESS,
    ]

    second.release()

    (fourth,) = admit(counts)
    assert fourth.count_address("2001:db8::2") is None


def test_a_ticket_counts_for_one_address_only() -> None:
    """What TCP or a PROXY header said stays; a later word on the address changes nothing."""
    counts = admission(per_ip=1)
    permit, other = admit(counts, 2)
    permit.count_address("192.0.2.1")

    assert permit.count_address("192.0.2.2") is None
    assert permit.ip == "192.0.2.1"
    assert other.count_address("192.0.2.2") is None


def test_a_refused_client_counts_for_no_address() -> None:
    """Its leaving gives back nothing that it never had."""
    counts = admission(per_ip=1)
    first, second, third = admit(counts, 3)
    first.count_address("192.0.2.1")
    second.count_address("192.0.2.1")

    second.release()

    assert third.count_address("192.0.2.1") == TOO_MANY_FROM_ADDRESS


def test_a_client_that_has_left_counts_for_no_address() -> None:
    """An address that becomes known too late does not stay for ever."""
    counts = admission(per_ip=1)
    (permit,) = admit(counts)
    permit.release()

    assert (
        permit.count_address("192.0.2.1"),
        permit.reject(),
        permit.count_tls_handshake(0.0),
    ) == (
        None,
        False,
        None,
    )
    assert (counts.count, counts.address_count) == (0, 0)


def test_no_cap_by_address() -> None:
    """``None`` turns it off; the count goes on."""
    counts = admission(per_ip=None)

    assert {permit.count_address("192.0.2.1") for permit in admit(counts, 500)} == {None}
    assert counts.address_count == 1


# Handshakes.


def test_a_second_has_so_many_handshakes() -> None:
    """What is over is refused, and the next second begins afresh."""
    counts = admission(per_second=3)

    assert [counts.count_handshake(10.0 + n / 10) for n in range(5)] == [None] * 3 + [TOO_FAST] * 2
    assert counts.count_handshake(10.999) == TOO_FAST
    assert [counts.count_handshake(11.0) for _ in range(4)] == [None] * 3 + [TOO_FAST]


def test_no_cap_on_handshakes() -> None:
    """``None`` turns it off."""
    counts = admission(per_second=None)
    (permit,) = admit(counts)

    assert {counts.count_handshake(1.0) for _ in range(10_000)} == {None}
    assert {permit.count_tls_handshake(1.0) for _ in range(10_000)} == {None}


def test_some_more_tls_handshakes_are_done_so_that_they_learn_why() -> None:
    """TLS is refused 32 above the cap, in the same second, whatever became of the others."""
    counts = admission(per_second=3)
    (permit,) = admit(counts)

    assert [permit.count_tls_handshake(5.0) for _ in range(40)] == [None] * 35 + [TOO_FAST] * 5
    assert [counts.count_handshake(5.5) for _ in range(4)] == [None] * 3 + [TOO_FAST]
    assert [permit.count_tls_handshake(6.0) for _ in range(40)] == [None] * 35 + [TOO_FAST] * 5


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (TOO_MANY, ("max_connections", 503, 30)),
        (TOO_MANY_FROM_ADDRESS, ("max_connections_per_ip", 429, 30)),
        (TOO_FAST, ("max_handshakes_per_second", 503, 1)),
    ],
)
def test_refusal_names_the_setting(refusal: Refusal, expected: tuple[str, int, int]) -> None:
    """The counter has the setting's name, and so has the operator's line."""
    assert (refusal.cause, refusal.status, refusal.retry_after) == expected
    assert f"limits.{refusal.cause}" in refusal.hint


# Anything.

_EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "count_address", "reject", "release"]),
        st.integers(0, 20),
        st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "unix"]),
    )
)


@given(_EVENTS)
def test_counts_are_exact_and_end_at_nothing(events: list[tuple[str, int, str]]) -> None:
    """Whatever happens in whatever order, nobody is counted twice and nobody is left."""
    counts = admission(4, per_ip=2)
    permits: list[Permit] = []
    gone: set[Permit] = set()
    for kind, which, ip in events:
        if kind == "admit":
            permits.append(counts.admit()[0])
        elif permits:
            permit = permits[which % len(permits)]
            match kind:
                case "count_address":
                    permit.count_address(ip)
                case "reject":
                    permit.reject()
                case "release":
                    permit.release()
                    gone.add(permit)
        there = [permit for permit in permits if permit not in gone]
        by_address = Counter(permit.ip.replace("::2", "::1") for permit in there if permit.ip)
        assert counts.count == len(there)
        assert counts.address_count == len(by_address)
        assert max(by_address.values(), default=0) <= 2
    for permit in permits:
        permit.release()

    assert (counts.count, counts.address_count) == (0, 0)
    admit(counts, 4)


def test_a_client_that_arrives_during_a_drain_gets_no_websocket() -> None:
    """Those who were there before go on; what is counted for others is not."""
    counts = Admission(Limits(), 10)
    early, _ = counts.admit()
    counts.is_draining = True
    late, refusal = counts.admit()

    assert refusal is None
    assert (early.is_late, early.count_handshake(0.0)) == (False, None)
    assert (late.is_late, late.count_handshake(0.0)) == (True, DRAINING)
    assert (DRAINING.status, DRAINING.retry_after) == (503, 1)
    early.release()
    late.release()
    assert (early.count_handshake(0.0), late.count_handshake(0.0), counts.count) == (
        None,
        DRAINING,
        0,
    )
