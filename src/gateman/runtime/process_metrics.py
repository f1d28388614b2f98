"""What a process reports as its metrics: gateman's own numbers, and those of the application."""

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..metrics import registry
from ..metrics.catalogue import label, made
from ..metrics.families import Family
from ..tls.contexts import TlsContexts
from ..tls.reload import CertificateReload
from .measurements import Measurements

# The counters of `status` that have a metric of their own.
_OF_GATEWAYS = {
    "events_waiting": "gateman_gateway_events_waiting",
    "clients_paused": "gateman_gateway_clients_paused",
    "events_repeated": "gateman_gateway_events_repeated_total",
    "events_quarantined": "gateman_gateway_events_quarantined_total",
    "events_lost": "gateman_gateway_events_lost_total",
}
_SINGLE = {
    **_OF_GATEWAYS,
    "connections": "gateman_connections_accepted_total",
    "callback_failed": "gateman_callback_failures_total",
    "clients": "gateman_business_clients",
}
_OF_HUB = {
    "published": "gateman_bus_messages_published_total",
    "received": "gateman_bus_messages_received_total",
    "lost": "gateman_bus_messages_lost_total",
    "unsent": "gateman_bus_messages_unsent_total",
    "uncertain": "gateman_bus_messages_uncertain_total",
    "gaps": "gateman_bus_gaps_total",
    "recovered": "gateman_history_recovered_total",
    "not_recovered": "gateman_history_not_recovered_total",
    "lost_channels": "gateman_history_lost_channels_total",
}
_OF_TIMERS = {
    "timer_failed": "gateman_timer_runs_failed_total",
    "timer_skipped": "gateman_timer_runs_skipped_total",
    "job_missed": "gateman_job_runs_missed_total",
}
_OF_OUTGOING = {
    "outgoing_opened": "gateman_outgoing_connections_opened_total",
    "outgoing_closed": "gateman_outgoing_connections_closed_total",
    "outgoing_failed": "gateman_outgoing_connection_failures_total",
    "outgoing_messages": "gateman_outgoing_messages_received_total",
    "outgoing_dropped": "gateman_outgoing_messages_dropped_total",
    "outgoing_callback_failed": "gateman_outgoing_callback_failures_total",
}
_DROPS = {"dropped_slow_peer": "slow_consumer", "dropped_early": "before_handshake"}
_EVENT_HANDLER = "events_dropped"  # of the hub
_ENDINGS = {
    "handshake_timeout": "timeout",
    "left_early": "left",
    "left_after_certificate": "left",
}
_TLS = frozenset({"peer_fingerprint", "left_after_certificate"})
_OF_TLS = "tls_"
# The responses of an HTTP application, by class of the status.
_OF_HTTP = {f"http_{first}xx": f"{first}xx" for first in range(1, 6)}
_NOT_OF_TLS = "tls_on_plain_port"

# As `dropped_slow_peer` has it.
_TWICE = "slow_peer"

# Since Linux 6.2, the size of this folder is the number of its files.
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(kw_only=True, slots=True)
class ProcessState:
    """What is counted in a process anyway, read when its metrics are."""

    worker: str
    slot: int
    is_gateway: bool
    is_business: bool
    counts: Mapping[str, int]
    hub_counts: Mapping[str, int]
    is_bus_connected: bool
    connections: int
    websockets: int
    messages: int
    timers: int
    timer_counts: Mapping[str, int]
    has_outgoing: bool
    memory: int
    contexts: TlsContexts | None
    certificate_reload: CertificateReload | None


def families(state: ProcessState, measurements: Measurements) -> list[Family]:
    """Return what this process reports."""
    found = [*_of_counts(state), *_of_process(state), *_of_hub(state)]
    if not state.is_business:
        found += _of_clients(state, measurements)
    found += _of_callbacks(state, measurements)
    found += _of_certificates(state)
    return [*found, *registry.families()]


def _of_counts(state: ProcessState) -> Iterator[Family]:
    """Give each cause that the process has counted its place."""
    worker, counts = state.worker, state.counts
    single = {"callback_failed", *(("clients",) if state.is_business else ("connections",))}
    for cause in single | (_OF_GATEWAYS.keys() if state.is_gateway else set()):
        yield made(_SINGLE[cause], {(worker,): counts.get(cause, 0)})
    problems: dict[tuple[str, ...], float] = {}
    failures: dict[tuple[str, ...], float] = {}
    for cause, count in counts.items():
        if cause in _TLS or (cause.startswith(_OF_TLS) and cause != _NOT_OF_TLS):
            failures[worker, cause.removeprefix(_OF_TLS)] = count
        elif cause not in {*_SINGLE, *_DROPS, *_OF_HTTP, _TWICE}:
            problems[worker, cause] = count
    yield made("gateman_client_problems_total", problems)
    drops = {
        (worker, cause): counts.get(counted, 0)
        for counted, cause in (() if state.is_business else _DROPS.items())
    }
    drops[worker, "event_handler"] = state.hub_counts.get(_EVENT_HANDLER, 0)
    yield made("gateman_messages_dropped_total", drops)
    if state.contexts is not None:
        yield made("gateman_tls_failures_total", failures)


def _of_clients(state: ProcessState, measurements: Measurements) -> Iterator[Family]:
    only = (state.worker,)
    traffic, counts = measurements.traffic, state.counts
    yield made("gateman_connections", {only: state.connections})
    yield made("gateman_websockets", {only: state.websockets})
    endings = Counter(
        accepted=measurements.accepted_count, refused=sum(measurements.refused.values())
    )
    for cause, count in counts.items():
        if cause in _ENDINGS:
            endings[_ENDINGS[cause]] += count
        elif cause.startswith(_OF_TLS) and cause != _NOT_OF_TLS:
            endings["tls_failed"] += count
    yield made("gateman_handshakes_total", _labelled(state.worker, endings))
    yield made("gateman_handshakes_refused_total", _labelled(state.worker, measurements.refused))
    yield made(
        "gateman_handshake_duration_seconds", [(only, list(measurements.handshakes.numbers))]
    )
    answered = measurements.answered.copy()
    for cause, status_class in _OF_HTTP.items():
        if cause in counts:
            answered[status_class] += counts[cause]
    yield made("gateman_http_requests_total", _labelled(state.worker, answered))
    yield made("gateman_closes_total", _labelled(state.worker, measurements.closed))
    yield made("gateman_messages_received_total", {only: state.messages})
    yield made("gateman_messages_sent_total", {only: traffic.sent_count})
    yield made("gateman_message_bytes_received_total", {only: measurements.received_size})
    yield made("gateman_message_bytes_sent_total", {only: traffic.sent_size})
    yield made("gateman_send_buffer_full_total", {only: traffic.buffer_full_count})
    high_water = traffic.high_water(time.monotonic())
    yield made("gateman_send_buffer_high_water_bytes", {only: high_water})


def _of_callbacks(state: ProcessState, measurements: Measurements) -> Iterator[Family]:
    only = (state.worker,)
    if state.is_business:
        yield made("gateman_business_events_handled_total", {only: state.messages})
    durations = [
        ((state.worker, name), list(kept.numbers)) for name, kept in measurements.callbacks.items()
    ]
    yield made("gateman_callback_duration_seconds", durations)
    yield made("gateman_event_loop_lag_seconds", [(only, list(measurements.lag.numbers))])
    yield made("gateman_timers", {only: state.timers})
    for cause, name in (_OF_TIMERS | _OF_OUTGOING if state.has_outgoing else _OF_TIMERS).items():
        yield made(name, {only: state.timer_counts.get(cause, 0)})


def _of_hub(state: ProcessState) -> Iterator[Family]:
    for cause, name in _OF_HUB.items():
        yield made(name, {(state.worker,): state.hub_counts.get(cause, 0)})
    problems = {
        (state.worker, cause): count
        for cause, count in state.hub_counts.items()
        if cause not in _OF_HUB and cause != _EVENT_HANDLER
    }
    yield made("gateman_hub_problems_total", problems)
    yield made("gateman_bus_connected", {(state.worker,): state.is_bus_connected})


def _of_process(state: ProcessState) -> Iterator[Family]:
    place = (state.worker, str(state.slot))
    yield made("gateman_process_cpu_seconds_total", {(state.worker,): time.process_time()})
    yield made("gateman_process_resident_memory_bytes", {place: state.memory})
    descriptors = open_descriptors()
    if descriptors is not None:
        yield made("gateman_process_open_fds", {place: descriptors})
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY:
        yield made("gateman_process_max_fds", {place: limit})


def _of_certificates(state: ProcessState) -> Iterator[Family]:
    if state.contexts is None:
        return
    for name, attribute in (
        ("gateman_certificate_expiry_timestamp_seconds", "expires_at"),
        ("gateman_certificate_lifetime_seconds", "lifetime"),
    ):
        times = {
            (state.worker, label(one.path)): seconds
            for one in state.contexts.certificates
            if (seconds := getattr(one, attribute)) is not None
        }
        yield made(name, times)
    reload = state.certificate_reload
    if reload is not None:
        outcomes = {"success": reload.succeeded, "failure": reload.failed}
        yield made("gateman_certificate_reloads_total", _labelled(state.worker, outcomes))


def _labelled(worker: str, counts: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(worker, name): count for name, count in counts.items()}


def open_descriptors() -> int | None:
    """Return how many file descriptors this process has; ``None`` where that is not known."""
    try:
        return _DESCRIPTORS.stat().st_size or len(os.listdir(_DESCRIPTORS))  # noqa: PTH208 - half the time
    except OSError:
        return None
