"""The options of a service as a whole."""

import pytest

from gateman import ConfigError
from gateman.config import environment
from gateman.config.service import ServiceOptions, metrics_address


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
