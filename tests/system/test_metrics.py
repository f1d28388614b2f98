"""Metrics of real services: over reloads, crashes and silent processes; and in Prometheus."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as read
from websockets.sync.client import connect

from gateman.metrics.catalogue import CATALOGUE
from tests.support.master import Master, master, open_to, until
from tests.support.ports import free_port
from tests.support.proxies import running
from tests.support.suspend import suspend

FOLDER = Path(__file__).parents[2] / "examples" / "monitoring"

prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="Prometheus is not installed"
)

SCRIPT = """
import os
from gateman import Worker, metrics

worker = Worker("websocket://127.0.0.1:0", name="chat", count=2, drain_window=0.1)
lines = metrics.counter("lines_total", "Lines.", labels=["word"])
metrics.gauge("processes_seen", "Processes.").set(1)

@worker.on_message
def answer(connection, message):
    lines.inc(word=message[:4])
    connection.send(str(os.getpid()))

Worker.run_all(metrics="127.0.0.1:0")
"""

GATEWAYS = """
from gateman import BusinessWorker, Gateway, Worker, hub, metrics

gate = Gateway("websocket://127.0.0.1:0", name="gate")
chat = BusinessWorker(name="chat")
lines = metrics.counter("lines_total", "Lines.")
sizes = metrics.histogram("line_bytes", "Sizes.", buckets=[3, 10])

@chat.on_message
async def answer(client_id, message):
    lines.inc()
    sizes.observe(len(message))
    hub.send_to_client(client_id, message)

Worker.run_all(metrics="127.0.0.1:0")
"""

Samples = dict[tuple[str, ...], float]


def url_of(service: Master) -> str:
    return service.wait_for("metrics are at").rpartition(" ")[2]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - http
        text: str = answer.read().decode()
    return text


def scrape(url: str) -> Samples:
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in read(fetch(url))
        for sample in family.samples
    }


def shows(url: str, wanted: Mapping[tuple[str, ...], float]) -> Samples | None:
    found = scrape(url)
    return found if wanted.items() <= found.items() else None


def say(service: Master, *lines: str) -> int:
    """Send lines of one client; return the process that has it."""
    pid = 0
    with open_to(service) as client:
        for line in lines:
            client.send(line)
            pid = int(client.recv())
    return pid


def test_counters_go_on_over_reloads_and_crashes(tmp_path: Path) -> None:
    """What ended processes have counted stays; one that does not answer delays nobody for long."""
    with master(SCRIPT, tmp_path) as service:
        url = url_of(service)
        say(service, "hello", "hell", "ab")
        sums = {
            ("lines_total", "hell"): 2,
            ("lines_total", "ab"): 1,
            ("gateman_messages_received_total", "chat"): 3,
            ("gateman_messages_sent_total", "chat"): 3,
            ("gateman_message_bytes_received_total", "chat"): 11,
            ("gateman_handshakes_total", "chat", "accepted"): 1,
            ("gateman_handshake_duration_seconds_count", "chat"): 1,
            ("gateman_callback_duration_seconds_count", "chat", "on_message"): 3,
            ("gateman_closes_total", "chat", "1000"): 1,
        }
        both = {("processes_seen",): 2, ("gateman_processes", "chat", "serving"): 2}
        until(partial(shows, url, {**sums, **both}))

        assert service.command("reload").returncode == 0
        after = until(partial(shows, url, {**sums, **both}))
        assert after["gateman_reloads_total", "success"] == 1
        assert after["gateman_process_restarts_total", "chat"] == 0

        pid = say(service, "hello")
        until(partial(shows, url, {("lines_total", "hell"): 3}))
        suspend(pid)
        silent = until(partial(shows, url, {("gateman_scrape_silent_processes",): 1}))
        assert silent["lines_total", "hell"] == 3
        assert silent["gateman_scrape_duration_seconds",] > 0.9
        os.kill(pid, signal.SIGKILL)
        killed = until(partial(shows, url, {("gateman_process_restarts_total", "chat"): 1, **both}))
        assert killed["lines_total", "hell"] == 3
        assert killed["gateman_messages_received_total", "chat"] == 4


def test_a_reload_that_fails_is_told(tmp_path: Path) -> None:
    """Such as one with another address for the metrics, which needs a restart."""
    with master(SCRIPT, tmp_path) as service:
        url = url_of(service)
        before = service.path.read_text()
        service.path.write_text(before.replace('"127.0.0.1:0")\n', '"127.0.0.1:1")\n'))
        failed = service.command("reload")
        found = scrape(url)

    assert failed.returncode == 1
    assert (
        "the script shows metrics at 127.0.0.1:1, but the master shows them at 127.0.0.1:0:"
        " `restart` makes the change"
    ) in failed.stderr
    assert found["gateman_reloads_total", "failure"] == 1
    assert found["gateman_last_reload_successful",] == 0


@prometheus
def test_gateways_and_business_workers(tmp_path: Path) -> None:
    """The application counts in business processes; promtool finds nothing to say."""
    with master(GATEWAYS, tmp_path) as service, open_to(service) as client:
        url = url_of(service)
        for line in ("abc", "a longer line"):
            client.send(line)
            client.recv()
        found = until(
            partial(
                shows,
                url,
                {
                    ("lines_total",): 2,
                    ("line_bytes_bucket", "3.0"): 1,
                    ("line_bytes_count",): 2,
                    ("gateman_websockets", "gate"): 1,
                    ("gateman_messages_received_total", "gate"): 2,
                    ("gateman_message_bytes_received_total", "gate"): 16,
                    ("gateman_messages_sent_total", "gate"): 2,
                    ("gateman_callback_duration_seconds_count", "chat", "on_message"): 2,
                    ("gateman_gateway_events_quarantined_total", "gate"): 0,
                    ("gateman_processes", "chat", "serving"): 1,
                },
            )
        )
        checked = promtool("check", "metrics", stdin=fetch(url))

    assert checked == (0, "")
    assert found["gateman_bus_messages_published_total", "gate"] >= 0
    assert ("gateman_connections", "chat") not in found


def test_a_service_without_metrics_loads_none_of_it(tmp_path: Path) -> None:
    """Neither in the master nor in its processes."""
    script = SCRIPT.replace("from gateman import Worker, metrics", "from gateman import Worker")
    script = re.sub(r"(?m)^(lines =|metrics\.|    lines).*\n", "", script)
    script = script.replace(
        "connection.send(",
        "import sys; connection.send(' '.join(one for one in sys.modules if 'metrics' in one or"
        " 'measure' in one or 'traffic' in one) or ",
    )
    script = script.replace('run_all(metrics="127.0.0.1:0")', "run_all()")
    with master(script, tmp_path) as service, open_to(service) as client:
        client.send("hello")

        assert str(client.recv()).isdigit()
        assert "metrics" not in service.stderr


def test_the_variable_and_check(tmp_path: Path) -> None:
    """``GATEMAN_METRICS`` beats the script, and ``check`` says so."""
    port = free_port()
    with master(SCRIPT, tmp_path, environment={"GATEMAN_METRICS": f"[::1]:{port}"}) as service:
        checked = service.command("check")

        assert url_of(service) == f"http://[::1]:{port}/metrics"
        assert scrape(url_of(service))["gateman_slots", "chat"] == 2
    assert f"would show metrics at [::1]:{port}" in checked.stdout
    assert "metrics is from GATEMAN_METRICS" in checked.stdout


def promtool(*words: str, stdin: str = "") -> tuple[int, str]:
    done = subprocess.run(
        ["promtool", *words],
        input=stdin,
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr if done.returncode or stdin else ""


@prometheus
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
)
def test_rules_are_valid_and_do_what_they_say(words: tuple[str, ...]) -> None:
    assert promtool(*words) == (0, "")


def expressions() -> list[str]:
    """The queries of the dashboard."""
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]


@pytest.mark.parametrize("name", ["dashboard.json", "alerts.yml", "alerts_test.yml"])
def test_every_metric_exists(name: str) -> None:
    """The dashboard and the rules name none that gateman does not have."""
    known = {
        f"{one.name}{suffix}"
        for one in CATALOGUE.values()
        for suffix in (("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",))
    }
    named = set(re.findall(r"gateman_\w+", (FOLDER / name).read_text()))

    assert named
    assert sorted(named - known) == []


def test_the_dashboard_shows_all() -> None:
    """Each metric but those of which there is one for a purpose of its own."""
    shown = " ".join(expressions())
    missing = [name for name in CATALOGUE if name not in shown]

    assert missing == [
        "gateman_connections_accepted_total",
        "gateman_timers",
        "gateman_router_history_channels",
        "gateman_last_reload_successful",
        "gateman_last_reload_success_timestamp_seconds",
        "gateman_scrape_duration_seconds",
        "gateman_scrape_dropped_series",
        "gateman_scrape_connections_refused_total",
        "gateman_metrics_dropped_updates_total",
    ]


@prometheus
def test_prometheus_scrapes_the_example(tmp_path: Path) -> None:
    """With its rules, and with each query of the dashboard."""
    port, shown = free_port(), free_port()
    script = (FOLDER / "server.py").read_text().replace(":8282", ":0").replace(":9095", f":{shown}")
    for name in ("prometheus.yml", "alerts.yml"):
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace(":9095", f":{shown}").replace("15s", "1s"))
    command = [
        "prometheus",
        f"--config.file={tmp_path / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    (tmp_path / "service").mkdir()
    with (
        master(script, tmp_path / "service") as service,
        running(command, port=port, log=tmp_path / "none"),
        connect(f"ws://127.0.0.1:{service.port}") as client,
    ):
        client.send("hello")
        client.recv()
        query = partial(ask_prometheus, port)
        until(lambda: query('chat_lines_total{room="lobby"}') == ["1"])

        assert query('up{job="gateman"}') == ["1"]
        assert query("sum(gateman_websockets)") == ["1"]
        assert query("count(ALERTS)") == []
        for expression in expressions():
            every = re.sub(r"\$(instance|worker)", ".*", expression)
            query(every.replace("$__rate_interval", "1m"))


def ask_prometheus(port: int, query: str) -> list[str]:
    """Give the values that a query has; fails for a query that is not valid."""
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        found = json.loads(fetch(url))
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []  # It is starting.
        raise AssertionError(f"{query}: {error.read().decode()}") from None
    return [one["value"][1] for one in found["data"]["result"]]
