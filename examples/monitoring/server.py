"""
A chat that shows metrics, those of gateman and its own: ws://localhost:8282.

    python server.py
    curl http://127.0.0.1:9095/metrics

`prometheus.yml`, `alerts.yml` and `dashboard.json` beside it are for Prometheus and Grafana.
"""

from gateman import Worker, hub, metrics

worker = Worker("websocket://127.0.0.1:8282", name="chat", count=2)

lines = metrics.counter("chat_lines_total", "Lines that users have sent.", labels=["room"])
talking = metrics.gauge("chat_users", "Users who are there.")
sizes = metrics.histogram("chat_line_bytes", "Size of the lines.", buckets=[10, 100, 1000, 10_000])


@worker.on_open
def enter(connection):
    connection.join("lobby")
    talking.inc()


@worker.on_message
def say(_connection, line):
    lines.inc(room="lobby")
    sizes.observe(len(line))
    hub.send_to_group("lobby", line)


@worker.on_close
def leave(_connection, _code, _reason):
    talking.dec()


if __name__ == "__main__":
    Worker.run_all(metrics="127.0.0.1:9095")
