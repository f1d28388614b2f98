"""What a process reports, from what is counted anyway."""

import os
from dataclasses import replace

import pytest

from gateman.metrics.catalogue import CATALOGUE
from gateman.runtime.measurements import Measurements
from gateman.runtime.process_metrics import ProcessState, families, open_descriptors

STATE = ProcessState(
    worker="chat",
    slot=1,
    is_gateway=False,
    is_business=False,
    counts={},
    hub_counts={},
    is_bus_connected=True,
    connections=3,
    websockets=2,
    messages=7,
    timers=1,
    timer_counts={},
    has_outgoing=False,
    memory=1000,
    contexts=None,
    certificate_reload=None,
)


def reported(state: ProcessState, measured: Measurements | None = None) -> dict[str, object]:
    """Give the numbers by name and labels behind the worker's."""
    return {
        family.name: {
            labels[1:] if labels[:1] == ("chat",) else labels: numbers[0]
            for labels, numbers in family.series
        }
        for family in families(state, measured or Measurements())
        if family.kind != "histogram"
    }


def test_causes_have_their_places() -> None:
    """Each cause of `status` is in one metric, and none is lost."""
    counts = {
        "connections": 9,
        "callback_failed": 1,
        "dropped_slow_peer": 2,
        "slow_peer": 2,
        "dropped_early": 3,
        "handshake_timeout": 4,
        "left_early": 5,
        "left_after_certificate": 6,
        "tls_unsupported_protocol": 7,
        "tls_failed": 1,
        "tls_on_plain_port": 8,
        "message_flood": 10,
        "refused_400": 11,
        "http_2xx": 12,
        "http_failed": 1,
    }
    measured = Measurements()
    measured.request_answered(204)
    measured.request_answered(503)
    hub = {"published": 1, "received": 2, "lost": 3, "events_dropped": 4, "bad_envelope": 5}
    found = reported(replace(STATE, counts=counts, hub_counts=hub), measured)

    assert found["gateman_http_requests_total"] == {("2xx",): 13, ("5xx",): 1}
    assert found["gateman_connections_accepted_total"] == {(): 9}
    assert found["gateman_callback_failures_total"] == {(): 1}
    assert found["gateman_messages_dropped_total"] == {
        ("slow_consumer",): 2,
        ("before_handshake",): 3,
        ("event_handler",): 4,
    }
    assert found["gateman_handshakes_total"] == {
        ("accepted",): 0,
        ("refused",): 0,
        ("timeout",): 4,
        ("left",): 11,
        ("tls_failed",): 8,
    }
    assert found["gateman_client_problems_total"] == {
        ("handshake_timeout",): 4,
        ("left_early",): 5,
        ("tls_on_plain_port",): 8,
        ("message_flood",): 10,
        ("refused_400",): 11,
        ("http_failed",): 1,
    }
    assert found["gateman_bus_messages_published_total"] == {(): 1}
    assert found["gateman_bus_messages_lost_total"] == {(): 3}
    assert found["gateman_bus_messages_unsent_total"] == {(): 0}
    assert found["gateman_hub_problems_total"] == {("bad_envelope",): 5}


def test_what_a_process_is() -> None:
    found = reported(STATE)

    assert found["gateman_connections"] == {(): 3}
    assert found["gateman_websockets"] == {(): 2}
    assert found["gateman_messages_received_total"] == {(): 7}
    assert found["gateman_process_resident_memory_bytes"] == {("1",): 1000}
    assert found["gateman_bus_connected"] == {(): 1}


def test_a_gateway_has_events() -> None:
    state = replace(STATE, is_gateway=True, counts={"events_waiting": 4})

    assert "gateman_gateway_events_waiting" not in reported(STATE)
    assert reported(state)["gateman_gateway_events_waiting"] == {(): 4}
    assert reported(state)["gateman_gateway_events_lost_total"] == {(): 0}


def test_timers_jobs_and_outgoing_connections() -> None:
    """Those of outgoing connections are shown where a worker has some, from 0 on."""
    counts = {
        "timer_failed": 7,
        "timer_skipped": 1,
        "job_missed": 2,
        "outgoing_opened": 3,
        "outgoing_failed": 4,
    }
    found = reported(replace(STATE, timer_counts=counts, has_outgoing=True))

    assert {
        name: numbers for name, numbers in found.items() if "outgoing" in name or "_runs_" in name
    } == {
        "gateman_timer_runs_failed_total": {(): 7},
        "gateman_timer_runs_skipped_total": {(): 1},
        "gateman_job_runs_missed_total": {(): 2},
        "gateman_outgoing_connections_opened_total": {(): 3},
        "gateman_outgoing_connections_closed_total": {(): 0},
        "gateman_outgoing_connection_failures_total": {(): 4},
        "gateman_outgoing_messages_received_total": {(): 0},
        "gateman_outgoing_messages_dropped_total": {(): 0},
        "gateman_outgoing_callback_failures_total": {(): 0},
    }
    assert not [name for name in reported(STATE) if "outgoing" in name]


def test_a_business_worker_has_no_connections() -> None:
    found = reported(replace(STATE, is_business=True, counts={"clients": 5}))

    assert found["gateman_business_clients"] == {(): 5}
    assert found["gateman_business_events_handled_total"] == {(): 7}
    assert "gateman_connections" not in found


@pytest.mark.parametrize("is_gateway", [False, True])
@pytest.mark.parametrize("is_business", [False, True])
def test_all_is_declared(*, is_gateway: bool, is_business: bool) -> None:
    state = replace(STATE, is_gateway=is_gateway, is_business=is_business)
    found = families(state, Measurements())
    names = [family.name for family in found if family.name.startswith("gateman_")]

    assert len(set(names)) == len(names)
    assert set(names) <= CATALOGUE.keys()


def test_open_descriptors() -> None:
    before = open_descriptors()
    assert before is not None
    read, write = os.pipe()
    after = open_descriptors()
    os.close(read)
    os.close(write)

    assert after == before + 2
