"""What is remembered of the doctor's handshakes, whose bytes may be anything."""

import os

from gateman.net.arrivals import NONCE_FIELD, Arrivals, key_of
from tests.support.raw import handshake

NONCE = "0123456789abcdef0123456789abcdef"
HEAD = handshake("/chat?x=1", (f"{NONCE_FIELD}: {NONCE}", "Via: a", "via: b"))


def test_a_head_is_read_as_far_as_it_has_arrived() -> None:
    for size in range(len(HEAD)):
        arrivals = Arrivals(NONCE)
        arrivals.add(HEAD[:size], status=400)
        [arrival] = arrivals.report()["arrivals"]
        assert (arrival["begins_with"], arrival["status"]) == ("http", 400)
        assert arrivals.is_carried(HEAD[:size]) == (NONCE.encode() in HEAD[:size])
    arrivals.add(HEAD)
    assert arrivals.report()["arrivals"][-1]["fields"]["via"] == "a, b"
    assert arrivals.report()["arrivals"][-1]["path"] == "/chat"


def test_bytes_that_are_no_request_are_read_too() -> None:
    for size in range(64):
        arrivals = Arrivals(NONCE)
        arrivals.add(os.urandom(size) + key_of(NONCE).encode())
        assert arrivals.report()["arrivals"][0]["carriers"] == ["key"]


def test_what_is_remembered_is_bounded() -> None:
    arrivals = Arrivals(NONCE)
    for number in range(1000):
        arrivals.noticed(f"cause {number}", "x" * 10_000)
        arrivals.add(handshake("/" + "p" * 1000, (f"Via: {'v' * 1000}",)))
    report = arrivals.report()

    assert len(report["arrivals"]) == len(report["causes"]) == 32
    assert len(report["causes"][0]["message"]) == 200
    assert len(report["arrivals"][0]["path"]) == 200
    assert len(report["arrivals"][0]["fields"]["via"]) == 200
