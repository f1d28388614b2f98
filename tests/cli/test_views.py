"""What ``status`` and ``connections`` show, line by line, at several widths."""

from typing import Any

import pytest

from gateman.cli.tables import Line, cells_of
from gateman.cli.views import connection_lines, status_lines

KNOWN = {
    "memory": 32_925_286,
    "connections": 12034,
    "messages": 1_203_400,
    "qps": 1203.2,
    "send_fail": 12,
    "timers": 2,
    "lag": 0.0004,
    "counts": {"connections": 20000, "dropped_slow_peer": 12},
    "hub": {"received": 500, "lost": 3},
    "certificate_days": 61,
}
UNKNOWN: dict[str, Any] = dict.fromkeys(KNOWN)


def process(pid: int, status: str = "idle", **more: Any) -> dict[str, Any]:
    """Describe a process as the master does."""
    return {"pid": pid, "status": status, "uptime": 259_300.0, **KNOWN, **more}


def slot(number: int, *processes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Describe a slot as the master does."""
    return {
        "worker": "chat",
        "listen": "wss://0.0.0.0:8282",
        "slot": number,
        "state": "running",
        "respawn_in": None,
        "restarts": 0,
        "last_exit": None,
        "last_lines": [],
        "processes": list(processes),
        **more,
    }


def answer(*slots: dict[str, Any], **master: Any) -> dict[str, Any]:
    """Answer as the master does."""
    return {
        "ok": True,
        "master": {
            "pid": 4711,
            "script": "/srv/chat/server.py",
            "uptime": 259_300.0,
            "started_time": 1_700_000_000.0,
            "state": "running",
            **master,
        },
        "workers": [{"name": "chat", "listen": "wss://0.0.0.0:8282", "count": len(slots)}],
        "slots": list(slots),
    }


def texts(lines: list[Line]) -> list[str]:
    """Give what lines say."""
    return [line.text for line in lines]


def test_one_process_in_a_wide_terminal() -> None:
    """The master, the worker, its process, and what was counted; no sum of one."""
    assert texts(status_lines(answer(slot(0, process(4712))), None)) == [
        "/srv/chat/server.py: running for 3d, pid 4711",
        "",
        "worker  listen              processes  certificate",
        "chat    wss://0.0.0.0:8282          1  61 days left",
        "",
        "name     pid  memory  connections  messages   qps  send_fail  timers  up    lag"
        "  restarts  status",
        "chat/0  4712   31.4M        12034   1203400  1203         12       2  3d  0.4ms"
        "         0  idle",
        "",
        "chat: dropped_slow_peer 12",
        "chat's hub: received 500, lost 3",
    ]


def test_a_terminal_of_80_columns() -> None:
    """Workerman's columns, and for how long each process is up; the sum is below them."""
    two = answer(slot(0, process(4194303)), slot(1, process(4194304, counts={}, hub={})))

    assert texts(status_lines(two, 80))[5:9] == [
        "name        pid memory connections messages  qps send_fail timers up status",
        "chat/0  4194303  31.4M       12034  1203400 1203        12      2 3d idle",
        "chat/1  4194304  31.4M       12034  1203400 1203        12      2 3d idle",
        "Summary       -  62.8M       24068  2406800 2406        24      4  -",
    ]


@pytest.mark.parametrize("width", [80, 90, 100, 120])
def test_it_fits(width: int) -> None:
    """However long the numbers are that a large service has."""
    large: dict[str, Any] = {
        "connections": 250_000,
        "messages": 99_999_999,
        "qps": 123_456.0,
        "lag": 0.012,
    }
    large |= {"memory": 11_000_000_000, "send_fail": 1_234_567}
    pids = range(4_194_300, 4_194_304)
    slots = [slot(number, process(pid, **large)) for number, pid in enumerate(pids)]
    lines = texts(status_lines(answer(*slots), width))

    assert max(map(cells_of, lines)) <= width


def test_a_slot_without_a_process_is_described() -> None:
    """A slot that waits, one that was given up, and a process that has said nothing yet."""
    lines = status_lines(
        answer(
            slot(
                0,
                state="waiting",
                respawn_in=3.2,
                restarts=2,
                last_exit="was killed by SIGKILL after 8 s",
            ),
            slot(
                1,
                state="given_up",
                restarts=10,
                last_exit="ended with exit code 3 after 0.1 s",
                last_lines=[f"line {number}" for number in range(9)] + ["\x1b[31mred"],
            ),
            slot(2, process(4713, "starting", uptime=0.2, **UNKNOWN), state="starting"),
        ),
        None,
    )
    table, notes = lines[6:10], lines[11:]

    assert [(line.text.split()[0], line.text.split("  ")[-1], line.style) for line in table] == [
        ("chat/0", "waiting in 3.2s", "bad"),
        ("chat/1", "given up", "bad"),
        ("chat/2", "starting", "changing"),
        ("Summary", "12", ""),
    ]
    assert notes == [
        Line("chat/0: 2 restarts; its last process was killed by SIGKILL after 8 s", "bad"),
        Line("chat/1: 10 restarts; its last process ended with exit code 3 after 0.1 s", "bad"),
        *(Line(f"    line {number}") for number in range(2, 9)),
        Line(r"    \x1b[31mred"),
    ]


def test_a_restarted_slot_has_a_note_without_lines() -> None:
    """It runs again: what its last process wrote is for JSON."""
    again = slot(
        0, process(5, counts={}, hub={}), restarts=1, last_exit="was killed", last_lines=["a line"]
    )

    assert status_lines(answer(again), None)[-1] == Line(
        "chat/0: 1 restart; its last process was killed", ""
    )


def test_a_slot_that_is_renewed_has_two_rows() -> None:
    """Both processes are shown, and the slot's restarts are counted once."""
    renewed = slot(
        0,
        process(5, counts={}, hub={}),
        process(4, "draining", counts={}, hub={}),
        restarts=3,
        last_exit="x",
    )
    lines = status_lines(answer(renewed), None)

    assert [(line.text.split()[0:2], line.style) for line in lines[6:9]] == [
        (["chat/0", "5"], ""),
        (["chat/0", "4"], "changing"),
        (["Summary", "-"], ""),
    ]
    assert lines[8].text.split()[-1] == "3"


def test_what_needs_attention_stands_out() -> None:
    """A busy process, an event loop that is late, and a certificate that was not renewed."""
    busy = answer(slot(0, process(5, "busy", lag=2.5, certificate_days=13, counts={}, hub={})))
    lines = status_lines(busy, None)

    assert [line for line in lines if line.style == "warning"] == [
        Line("chat    wss://0.0.0.0:8282          1  13 days left", "warning"),
        lines[6],
        Line("chat/0 (pid 5): its event loop was late by 2.5s", "warning"),
    ]


@pytest.mark.parametrize(
    ("days", "text"),
    [(-1, "expired"), (0, "0 days left"), (1, "1 day left"), (400, "400 days left")],
)
def test_days_of_a_certificate(days: int, text: str) -> None:
    """The one that expires first, of all processes."""
    lines = status_lines(
        answer(
            slot(0, process(5, certificate_days=days)), slot(1, process(6, certificate_days=500))
        ),
        None,
    )

    assert lines[3].text.endswith(f"  {text}")


def test_without_tls_there_is_no_column_for_certificates() -> None:
    """A column without values is not shown."""
    plain = answer(slot(0, process(5, certificate_days=None, counts={}, hub={})))

    assert texts(status_lines(plain, None))[:4] == [
        "/srv/chat/server.py: running for 3d, pid 4711",
        "",
        "worker  listen              processes",
        "chat    wss://0.0.0.0:8282          1",
    ]


def test_only_workers_with_tls_have_a_certificate() -> None:
    """Beside one that has, another one that has none shows a dash."""
    both = answer(
        slot(0, process(5, counts={}, hub={})),
        slot(0, process(6, counts={}, hub={}, certificate_days=None), worker="plain"),
    )
    both["workers"].append({"name": "plain", "listen": "ws://127.0.0.1:1", "count": 1})

    assert [line.split()[-1] for line in texts(status_lines(both, None))[3:5]] == ["left", "-"]


def connection(number: int, **more: Any) -> dict[str, Any]:
    """Describe a connection as the master does."""
    return {
        "pid": 4712,
        "worker": "chat",
        "slot": 0,
        "id": number,
        "client": "192.0.2.7:50123",
        "proxy": None,
        "state": "open",
        "unsent": 0,
        "received": 4300,
        "sent": 2150,
        "messages": 500,
        "age": 61.0,
        "uid": None,
        **more,
    }


def test_connections() -> None:
    """One line each; columns without values are not shown."""
    listed = [connection(1), connection(2, client="[2001:db8::1]:443", unsent=70_000)]
    shown = connection_lines({"connections": listed, "total": 2, "silent": []}, None)

    assert texts(shown) == [
        " pid  name    id  client             state  unsent  received  sent  messages  age",
        "4712  chat/0   1  192.0.2.7:50123    open        0      4.2K  2.1K       500  61s",
        "4712  chat/0   2  [2001:db8::1]:443  open    68.4K      4.2K  2.1K       500  61s",
        "",
        "2 connections",
    ]


def test_connections_behind_a_proxy() -> None:
    """Its address, and what the application knows the client as."""
    one = connection(1, proxy="10.0.0.2", uid="李\x07", received=None, sent=None, age=None)
    shown = connection_lines({"connections": [one], "total": 1, "silent": []}, None)

    assert texts(shown) == [
        " pid  name    id  client           proxy     state  unsent  received  sent  messages  age"
        "  uid",
        "4712  chat/0   1  192.0.2.7:50123  10.0.0.2  open        0         -     -       500    -"
        r"  李\x07",
        "",
        "1 connection",
    ]


def test_connections_fit_80_columns() -> None:
    """What cannot be done without stays."""
    client = "[2001:db8:1111:2222:3333:4444:5555:6666]:50123"
    one = connection(123_456, client=client, proxy="10.0.0.2", uid="user-1234")
    shown = connection_lines({"connections": [one], "total": 1, "silent": []}, 80)

    assert shown[0].text.split() == ["id", "client", "state", "unsent", "age", "uid"]
    assert max(cells_of(line.text) for line in shown) <= 80


def test_connections_that_are_not_listed_are_counted() -> None:
    """A truncated list and a silent process are reported."""
    cut = {"connections": [connection(1)], "total": 5000, "silent": [4713]}

    assert connection_lines(cut, None)[-2:] == [
        Line("5000 connections; 1 shown, the oldest ones (--limit)"),
        Line("pid 4713 did not answer", "warning"),
    ]


def test_no_client_is_connected() -> None:
    """That is one line."""
    assert connection_lines({"connections": [], "total": 0, "silent": []}, None) == [
        Line("0 connections")
    ]


def test_certificates_that_need_attention_are_told() -> None:
    """One that is in service and renewed in time is not."""
    good = {"names": ["a.test"], "problem": None, "expires_at": 2e9, "next_at": None, "failures": 0}
    problem = {"code": "ACME_CAA", "problem": "forbidden", "fix": "allow it", "at": 1.8e9}
    failing = {**good, "names": ["b.test"], "problem": problem, "failures": 2}
    pending = {**good, "names": ["c.test"], "expires_at": None}
    later = {**pending, "next_at": 1.8e9}
    found = answer(slot(0, process(4712, counts={}, hub={})))
    lines = status_lines({**found, "certificates": [good, failing, pending, later]}, None)

    assert lines[8:] == [
        Line(
            "b.test: forbidden: allow it (ACME_CAA; 2 failures, the last 2027-01-15 08:00 UTC)",
            "warning",
        ),
        Line("c.test: there is no certificate yet, and clients wait for it", "changing"),
        Line(
            "c.test: there is no certificate yet, and clients wait for it; it is ordered 2027-01-15"
            " 08:00 UTC",
            "changing",
        ),
    ]
    assert status_lines({**found, "certificates": [good]}, None) == lines[:7]


def test_few_days_are_normal_for_what_the_service_renews() -> None:
    """A certificate for an IP address lasts six days."""
    found = answer(slot(0, process(4712, certificate_days=4)))

    assert status_lines(found, None)[3].style == "warning"
    assert status_lines({**found, "certificates": []}, None)[3].style == ""
