"""The rows about a service, as the report has them."""

from gateman.doctor.rows import Outcome
from gateman.doctor.service.observations import ListenerSeen, ProxySeen, RightsSeen, ServiceSeen
from gateman.doctor.service.rows import rows
from gateman.findings import Software

from .seen import handshake, healthy, worker


def written(seen: ServiceSeen) -> list[tuple[str, str, str, str]]:
    return [(one.outcome.value, one.probe, one.subject, one.evidence) for one in rows(seen)]


def test_a_healthy_service() -> None:
    assert written(healthy()) == [
        ("ok", "script", "server.py", "chat on websocket://127.0.0.1:8282"),
        ("ok", "service", "chat/0", "running: pid 7 idle, 3 connections"),
        ("ok", "port", "0.0.0.0 port 443", "nginx (pid 3)"),
        ("ok", "port", "127.0.0.1 port 8282", "the service"),
        (
            "ok",
            "proxy",
            "nginx",
            "location /wss (/etc/nginx/site.conf:7): passes to 127.0.0.1:8282",
        ),
        (
            "ok",
            "nonce",
            "what arrived",
            "at chat (pid 7) from 127.0.0.1, as HTTP/1.1: 101; the status 101 came back",
        ),
    ]


def test_what_is_not_well() -> None:
    denied = RightsSeen(
        path="/run", right="enter", mode="drwx------", owner="root root", user="www-data"
    )
    seen = healthy(
        mistake="no worker is declared",
        status=None,
        listeners=(ListenerSeen(address="::", port=443),),
        proxies=(ProxySeen(software=Software.CADDY, source="", problem="it was not found"),),
        denied=(denied,),
        handshake=handshake(status=502),
        log=("ERROR x",),
    )

    assert written(seen) == [
        ("failed", "script", "server.py", "no worker is declared"),
        ("skipped", "service", "server.py", "it is not running"),
        ("ok", "port", ":: port 443", "a process that cannot be read"),
        ("skipped", "proxy", "Caddy", "it was not found"),
        ("failed", "rights", "/run", "www-data may not enter it: drwx------ root root"),
        ("failed", "nonce", "what arrived", "nothing; the status 502 came back"),
        ("ok", "log", "the last lines", "ERROR x"),
    ]
    certified = worker(certificates=(("/c.pem", "9 days left"),))
    assert written(healthy(workers=(certified,)))[1] == (
        "ok",
        "certificate",
        "/c.pem",
        "9 days left",
    )
    unanswered = written(healthy(handshake=handshake(status=None, problem="no answer")))[-1]
    assert unanswered[-1] == "nothing; no answer"
    assert {one.outcome for one in rows(healthy(handshake=handshake(refused="old")))} == {
        Outcome.OK,
        Outcome.SKIPPED,
    }
