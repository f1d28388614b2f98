"""Options from environment variables."""

import re
from typing import Any

import pytest

from gateman import BusinessWorker, ConfigError, Gateway, SlowConsumer, Worker
from gateman.config import environment
from gateman.config.base import BaseWorker


def chat(**options: Any) -> Worker:
    return Worker("websocket://127.0.0.1:8282", name="chat", **options)


@pytest.mark.parametrize(
    ("variable", "text", "option", "value"),
    [
        ("COUNT", "4", "count", 4),
        ("LISTEN", "websocket://0.0.0.0:80", "listen", "websocket://0.0.0.0:80"),
        ("DRAIN_WINDOW", "2.5", "drain_window", 2.5),
        ("RELOADABLE", "no", "reloadable", False),
        ("RESTART_STALLED", "True", "restart_stalled", True),
        ("MAX_MESSAGES", "none", "max_messages", None),
        ("MAX_MESSAGES", " 100 ", "max_messages", 100),
        ("USER", "1000", "user", 1000),
        ("USER", "nobody", "user", "nobody"),
        ("SLOW_CONSUMER", "close", "slow_consumer", SlowConsumer.CLOSE),
        ("HEALTH_PATH", "none", "health_path", None),
    ],
)
def test_it_beats_the_script(variable: str, text: str, option: str, value: object) -> None:
    worker = chat(max_messages=7)
    environment.apply([worker], {f"GATEMAN_CHAT_{variable}": text})

    assert getattr(worker, option) == value
    assert worker.from_environment == {option: f"GATEMAN_CHAT_{variable}"}


def test_limits_and_timeouts() -> None:
    worker = chat(limits={"max_message_size": 10}, timeouts={"pong": 3})
    environment.apply(
        [worker],
        {
            "GATEMAN_CHAT_LIMITS_MAX_CONNECTIONS": "50",
            "GATEMAN_CHAT_TIMEOUTS_PING_INTERVAL": "none",
        },
    )

    assert (worker.limits.max_connections, worker.limits.max_message_size) == (50, 10)
    assert (worker.timeouts.ping_interval, worker.timeouts.pong) == (None, 3)


def test_each_worker_has_its_own() -> None:
    one, other = chat(), Worker("websocket://127.0.0.1:1", name="chat-2 (new)")
    environment.apply([one, other], {"GATEMAN_CHAT_2_NEW_COUNT": "3"})

    assert (one.count, other.count) == (1, 3)


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"GATEMAN_CHAT_COUNT": "many"}, "GATEMAN_CHAT_COUNT='many' is not a value of count"),
        ({"GATEMAN_CHAT_COUNT": ""}, "GATEMAN_CHAT_COUNT='' is not a value of count"),
        ({"GATEMAN_CHAT_COUNT": "9" * 400}, "is not a value of count: write a whole number."),
        ({"GATEMAN_CHAT_COUNT": "0"}, "GATEMAN_CHAT_COUNT: count=0 is not a number of processes"),
        ({"GATEMAN_CHAT_DRAIN_WINDOW": "nan"}, "is not a value of drain_window"),
        ({"GATEMAN_CHAT_RELOADABLE": "maybe"}, "write true or false"),
        ({"GATEMAN_CHAT_LIMITS_MAX_HEAD_SIZE": "-1"}, "GATEMAN_CHAT_LIMITS_MAX_HEAD_SIZE: limits."),
        ({"GATEMAN_CHAT_LISTEN": "tcp://x"}, "GATEMAN_CHAT_LISTEN: "),
    ],
)
def test_a_wrong_value_names_the_variable(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(problem)):
        environment.apply([chat()], variables)


def test_a_variable_of_two_workers() -> None:
    workers = [chat(), Worker("websocket://127.0.0.1:1", name="CHAT")]
    environment.apply(workers, {})

    with pytest.raises(ConfigError, match="is an option of 'chat' and of 'CHAT'"):
        environment.apply(workers, {"GATEMAN_CHAT_COUNT": "2"})


def test_a_name_that_collides() -> None:
    with pytest.raises(ConfigError, match="a worker is called 'Log', and GATEMAN_LOG_FORMAT"):
        environment.apply([Worker("websocket://127.0.0.1:1", name="Log")], {})


def test_what_is_unknown_is_reported() -> None:
    variables = {
        "GATEMAN_CHAT_CUONT": "4",
        "GATEMAN_CHAT_DEBUG": "1",
        "GATEMAN_CHTA_COUNT": "4",
        "GATEMAN_DEBUG": "1",
        "GATEMAN_LOG_FORMTA": "json",
        "GATEMAN_WXYZ_QQQQ_UNHEARD_OF_NAME": "",
        "GATEMAN_CHAT_COUNT": "4",
        "GATEMAN_LOG_FORMAT": "json",
        "GATEMAN_PORT": "tcp://10.0.0.1:80",
        "GATEMAN_PORT_80_TCP_ADDR": "10.0.0.1",
        "GATEMAN_SERVICE_HOST": "10.0.0.1",
        "GATEMAN_SERVICE_PORT_WSS": "443",
        "GATEMAN_CHAT_SERVICE_HOST": "10.0.0.1",
        "PATH": "/bin",
    }

    assert environment.unknown([chat()], variables) == [
        "GATEMAN_CHAT_CUONT is not a variable of this service: did you mean GATEMAN_CHAT_COUNT?",
        "GATEMAN_CHAT_DEBUG is not a variable of this service, and it is ignored",
        "GATEMAN_CHTA_COUNT is not a variable of this service: did you mean GATEMAN_CHAT_COUNT?",
        "GATEMAN_DEBUG is not a variable of this service, and it is ignored",
        "GATEMAN_LOG_FORMTA is not a variable of this service: did you mean GATEMAN_LOG_FORMAT?",
        "GATEMAN_WXYZ_QQQQ_UNHEARD_OF_NAME is not a variable of this service, and it is ignored",
    ]


@pytest.mark.parametrize("kind", [Worker, Gateway, BusinessWorker])
def test_every_option_of_one_text_has_a_variable(kind: type[BaseWorker]) -> None:
    """Those that have none are collections, classes, or the name that a variable needs."""
    covered = {variable.path[0] for variable in environment.variables_of(kind, "chat")}
    without = {
        "name", "context", "trusted_proxies", "allowed_origins", "subprotocols", "compression",
        "protocol", "channels", "client_limits", "tokens",
    }  # fmt: skip

    assert set(kind.options) - covered <= without
