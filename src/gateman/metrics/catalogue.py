"""gateman's own metrics, each declared once: ``docs/monitoring.md`` has them as a table. PURE."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

from msgspec.structs import replace

from .families import Combine, Family, Series
from .instruments import DROPPED

# From a loop that has nothing else to do to one that clients notice, and for handshakes up to the
# default of timeouts.handshake.
_DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# A callback that only sends takes a microsecond; one that waits for a database many milliseconds.
_CALLBACKS = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)

_MAX_LABEL_SIZE = 200  # characters

CATALOGUE: dict[str, Family] = {}


def _declare(
    kind: Literal["counter", "gauge", "histogram"],
    name: str,
    description: str,
    labels: tuple[str, ...] = ("worker",),
    *,
    combine: Combine = "sum",
    bounds: tuple[float, ...] = (),
) -> None:
    CATALOGUE[name] = Family(
        name=name,
        kind=kind,
        description=description,
        labels=labels,
        combine=combine,
        bounds=bounds,
    )


_counter = partial(_declare, "counter")
_gauge = partial(_declare, "gauge")
_histogram = partial(_declare, "histogram")


# Connections and handshakes.
_gauge("gateman_connections", "TCP connections that are open, with or without WebSocket.")
_gauge("gateman_websockets", "WebSockets that are open.")
_counter("gateman_connections_accepted_total", "TCP connections, with TLS those after it.")
_counter(
    "gateman_handshakes_total",
    "Handshakes by outcome: accepted, refused (an answer was sent), left (the client did),"
    " timeout, or tls_failed.",
    ("worker", "outcome"),
)
_counter(
    "gateman_handshakes_refused_total",
    "Handshakes that were refused, by status code of the answer; without an HTTP application,"
    " invalid requests too.",
    ("worker", "code"),
)
_histogram(
    "gateman_handshake_duration_seconds",
    "Time from accept to the 101, of handshakes that were accepted.",
    bounds=_DURATIONS,
)
_counter("gateman_tls_failures_total", "TLS handshakes that failed, by cause.", ("worker", "cause"))
_counter(
    "gateman_http_requests_total",
    "Plain HTTP requests that were answered, by class of the status: by the application, as health"
    " checks, or with a refusal before the application.",
    ("worker", "code"),
)
_counter(
    "gateman_closes_total",
    "WebSockets that have ended, by close code: 1000 to 1015, 3xxx, 4xxx or other.",
    ("worker", "code"),
)
_counter(
    "gateman_client_problems_total",
    "What went wrong with clients and requests, by cause, as `gateman status` lists it.",
    ("worker", "cause"),
)

# Messages.
_counter("gateman_messages_received_total", "Messages of clients.")
_counter("gateman_messages_sent_total", "Messages to clients that were not dropped.")
_counter(
    "gateman_message_bytes_received_total", "Payload of messages of clients, after decompression."
)
_counter(
    "gateman_message_bytes_sent_total",
    "Payload of messages to clients; compressed, if the hub has compressed it for several.",
)
_counter(
    "gateman_messages_dropped_total",
    "Messages that were dropped, by cause: slow_consumer, before_handshake or event_handler.",
    ("worker", "cause"),
)
_counter("gateman_send_buffer_full_total", "How often the send buffer of a client was full.")
_gauge(
    "gateman_send_buffer_high_water_bytes",
    "The most that waited for one slow client in the last one to two minutes.",
    combine="max",
)

# Callbacks.
_histogram(
    "gateman_callback_duration_seconds",
    "Time that callbacks took; of `async def` with what they awaited.",
    ("worker", "callback"),
    bounds=_CALLBACKS,
)
_counter("gateman_callback_failures_total", "Callbacks that raised an exception.")
_gauge("gateman_timers", "Timers that are set.")
_counter("gateman_timer_runs_failed_total", "Runs of timers and jobs that raised an exception.")
_counter(
    "gateman_timer_runs_skipped_total",
    "Runs of timers and jobs that were skipped, as the one before had not ended.",
)
_counter(
    "gateman_job_runs_missed_total",
    "Runs of jobs that were due and have not taken place, as no process could begin them.",
)

# Outgoing connections.
_counter(
    "gateman_outgoing_connections_opened_total",
    "Outgoing connections that were opened, with those that were opened again.",
)
_counter("gateman_outgoing_connections_closed_total", "Outgoing connections that have ended.")
_counter(
    "gateman_outgoing_connection_failures_total",
    "Attempts to open an outgoing connection that have failed.",
)
_counter(
    "gateman_outgoing_messages_received_total", "Messages that arrived on outgoing connections."
)
_counter(
    "gateman_outgoing_messages_dropped_total",
    "Messages for outgoing connections that were dropped, as the server read too slowly, or left.",
)
_counter(
    "gateman_outgoing_callback_failures_total",
    "Callbacks of outgoing connections that raised an exception.",
)

# The hub and its bus.
_counter("gateman_bus_messages_published_total", "Messages for clients of others.")
_counter("gateman_bus_messages_received_total", "Messages that others have published.")
_counter("gateman_bus_messages_lost_total", "Messages of others that have not arrived.")
_counter(
    "gateman_bus_messages_unsent_total",
    "Messages that the bus did not accept: it was away, or too much was pending.",
)
_counter(
    "gateman_bus_messages_uncertain_total",
    "Messages that the bus accepted just before it was away.",
)
_counter("gateman_bus_gaps_total", "How often the bus was away, or lost something.")
_counter(
    "gateman_history_recovered_total",
    "Subscriptions that were given everything that their client had missed.",
)
_counter(
    "gateman_history_not_recovered_total",
    "Subscriptions whose client was told that messages are missing.",
)
_counter(
    "gateman_history_lost_channels_total",
    "Channels of which a message may have been lost on the way, so that their clients came back.",
)
_gauge(
    "gateman_bus_connected",
    "1 if all processes are connected to the bus, or need none; else 0.",
    combine="min",
)
_counter(
    "gateman_hub_problems_total",
    "What went wrong between processes, by cause, as `gateman status` lists it.",
    ("worker", "cause"),
)

# Gateways and business workers.
_gauge("gateman_gateway_events_waiting", "Events that business workers have not handled.")
_gauge("gateman_gateway_clients_paused", "Clients that wait for a business worker.")
_counter(
    "gateman_gateway_events_repeated_total",
    "Events that were sent again, as their business process had ended.",
)
_counter(
    "gateman_gateway_events_quarantined_total",
    "Events that were given up, as two processes have died while they had them.",
)
_counter("gateman_gateway_events_lost_total", "Events that were not handled at the end.")
_gauge("gateman_business_clients", "Clients whose events go to business processes.")
_counter("gateman_business_events_handled_total", "Events that were handled.")

# Certificates.
_gauge(
    "gateman_certificate_expiry_timestamp_seconds",
    "When a certificate in service expires, in seconds since 1970; the oldest of all processes.",
    ("worker", "certificate"),
    combine="min",
)
_gauge(
    "gateman_certificate_lifetime_seconds",
    "How long a certificate in service is valid in all, from its begin to its end.",
    ("worker", "certificate"),
    combine="min",
)
_counter(
    "gateman_certificate_reloads_total",
    "Reloads of certificate files, of each process, by outcome: success or failure.",
    ("worker", "outcome"),
)
_counter(
    "gateman_acme_orders_total",
    "Orders of a certificate that have ended, by outcome: success or failure; a rehearsal that"
    " fails is a failure.",
    ("certificate", "outcome"),
)
_gauge(
    "gateman_acme_failures",
    "Orders of a certificate that have failed since one has succeeded.",
    ("certificate",),
)
_gauge(
    "gateman_acme_renewal_timestamp_seconds",
    "When a certificate is to be renewed, in seconds since 1970.",
    ("certificate",),
    combine="min",
)

# Processes.
_histogram(
    "gateman_event_loop_lag_seconds",
    "How late the event loop was, measured seven times a second.",
    bounds=_DURATIONS,
)
_counter("gateman_process_cpu_seconds_total", "CPU time of the processes, user and system.")
_gauge("gateman_process_resident_memory_bytes", "Resident memory.", ("worker", "slot"))
_gauge("gateman_process_open_fds", "Open file descriptors.", ("worker", "slot"), combine="max")
_gauge(
    "gateman_process_max_fds",
    "The limit on open file descriptors.",
    ("worker", "slot"),
    combine="min",
)
_gauge(
    "gateman_processes", "Processes by state: starting, serving or draining.", ("worker", "state")
)
_gauge("gateman_slots", "Processes that the worker should have.")
_gauge("gateman_slots_given_up", "Slots without a process, after too many crashes.")
_counter(
    "gateman_process_restarts_total", "Processes that have ended by themselves, and were replaced."
)

# The master.
_gauge("gateman_info", "1; the label has the version of gateman.", ("version",))
_gauge("gateman_start_time_seconds", "When the master started, in seconds since 1970.", ())
_gauge("gateman_master_resident_memory_bytes", "Resident memory of the master.", ())
_gauge(
    "gateman_router_history_bytes",
    "What the router keeps of channels with history, of at most `history_memory` bytes.",
    (),
)
_gauge(
    "gateman_router_history_channels",
    "Channels of which the router knows a position; each takes about 600 bytes more.",
    (),
)
_counter(
    "gateman_router_history_dropped_total",
    "Messages that the router dropped before their time, as `history_memory` was full.",
    (),
)
_counter(
    "gateman_reloads_total", "Reloads of the service, by outcome: success or failure.", ("outcome",)
)
_gauge(
    "gateman_last_reload_successful",
    "1 if the last reload has succeeded, or there was none; else 0.",
    (),
)
_gauge(
    "gateman_last_reload_success_timestamp_seconds",
    "When a reload, or the start, has last succeeded, in seconds since 1970.",
    (),
)

# What the scrape says of itself.
_gauge(
    "gateman_scrape_silent_processes",
    "Processes that did not answer in time; their values are those of the scrape before.",
    (),
)
_gauge(
    "gateman_scrape_duration_seconds", "Time until all processes had answered, or the deadline.", ()
)
_gauge(
    "gateman_scrape_dropped_series",
    "Series that are not shown: too many of a metric, or of another declaration of it.",
    (),
)
_counter(
    "gateman_scrape_connections_refused_total",
    "Connections for metrics that were ended, by cause: limit, timeout or invalid.",
    ("cause",),
)
CATALOGUE[DROPPED.name] = DROPPED


def label(path: object) -> str:
    """Return a path as the value of a label; of a long one, the end."""
    return str(path)[-_MAX_LABEL_SIZE:].encode("utf-8", "replace").decode()


def made(name: str, series: Mapping[Any, float] | Iterable[Series]) -> Family:
    """Make a family of the catalogue with its values; numbers by labels, or series."""
    declared = CATALOGUE[name]
    if isinstance(series, Mapping):
        series = [(labels, [float(number)]) for labels, number in series.items()]
    return replace(declared, series=list(series))
