"""The options of a service as a whole."""

from pathlib import Path

import pytest

from gateman import ConfigError
from gateman.config import environment
from gateman.config.service import ServiceOptions, history_file, metrics_address


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("127.0.0.1:9095", "127.0.0.1", 9095, ""),
        ("[::1]:0", "::1", 0, ""),
        ("localhost:9095", "localhost", 9095, ""),
        ("unix:/run/chat.sock", "", 0, "/run/chat.sock"),
        ("unix:///run/chat.sock", "", 0, "/run/chat.sock"),
    ],
)
def test_address(text: str, host: str, port: int, path: str) -> None:
    address = metrics_address(text)

    assert ServiceOptions(metrics=text).metrics == text
    assert (address.host, address.port, address.path) == (host, port, path)


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (9095, "an address to listen on"),
        ("http://127.0.0.1:9095/metrics", "an address to listen on"),
        ("127.0.0.1", "a host and a port"),
        ("127.0.0.1:99999", "a host and a port"),
        (":9095", "a host and a port"),
        ("unix:chat.sock", "a host and a port"),
        ("", "a host and a port"),
    ],
)
def test_what_is_not_an_address_is_refused(value: object, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceOptions(metrics=value)  # type: ignore[arg-type]

    assert str(caught.value) == (
        f"metrics={value!r} is not {what}: write metrics='127.0.0.1:9095', or"
        " 'unix:/run/chat-metrics.sock'."
    )


def test_the_environment_beats_the_script() -> None:
    service = ServiceOptions(metrics="127.0.0.1:1")
    environment.apply_to_service(service, {"GATEMAN_METRICS": "127.0.0.1:2"})

    assert service.metrics == "127.0.0.1:2"
    assert service.from_environment == {"metrics": "GATEMAN_METRICS"}


def test_the_environment_may_say_none() -> None:
    service = ServiceOptions(metrics="127.0.0.1:1")
    environment.apply_to_service(service, {"GATEMAN_METRICS": "none"})

    assert service.metrics is None


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigError, match=r"^GATEMAN_METRICS: metrics='x' is not a host and"):
        environment.apply_to_service(ServiceOptions(), {"GATEMAN_METRICS": "x"})


def test_its_variable_is_known() -> None:
    assert environment.unknown([], {"GATEMAN_METRICS": "127.0.0.1:1"}) == []


@pytest.mark.parametrize(
    ("value", "file"),
    [
        ("memory", None),
        ("sqlite:///var/lib/chat/history.db", Path("/var/lib/chat/history.db")),
    ],
)
def test_the_store_of_the_history(value: str, file: Path | None) -> None:
    service = ServiceOptions(history=value)

    assert history_file(service.history) == file


@pytest.mark.parametrize(
    "value", ["", "sqlite", "sqlite://history.db", "redis://h", "sqlite:///\0", None, 1]
)
def test_what_is_not_a_store_is_refused(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceOptions(history=value)  # type: ignore[arg-type]

    assert str(caught.value) == (
        f"history={value!r} is not a store of history: write 'memory', or"
        " 'sqlite:///var/lib/chat/history.db' with an absolute path."
    )


def test_the_history_can_be_set_by_the_environment() -> None:
    service = ServiceOptions()
    variables = {"GATEMAN_HISTORY": "sqlite:///a/b", "GATEMAN_HISTORY_MEMORY": "1000"}
    environment.apply_to_service(service, variables)

    assert (service.history, service.history_memory) == ("sqlite:///a/b", 1000)
    assert environment.unknown([], variables) == []
