"""Where the master shows metrics."""

import logging
import socket
from pathlib import Path

import pytest

from gateman.errors import AddressInUse, ConfigError
from gateman.master.metrics_endpoint import MetricsEndpoint


def test_addresses_are_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """With the port that the system chose; loopback is for this machine only."""
    caplog.set_level(logging.INFO, "gateman")
    for address in ("127.0.0.1:0", f"unix:{tmp_path}/m.sock"):
        endpoint = MetricsEndpoint(address)
        endpoint.log_addresses()
        endpoint.close()
    levels = {record.levelname for record in caplog.records}
    http, unix = (record.message for record in caplog.records)

    assert levels == {"INFO"}
    assert http.startswith("metrics are at http://127.0.0.1:")
    assert unix == f"metrics are at the unix socket {tmp_path}/m.sock, path /metrics"
    assert not (tmp_path / "m.sock").exists()


def test_an_address_that_others_reach_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    endpoint = MetricsEndpoint("0.0.0.0:0")
    endpoint.log_addresses()
    endpoint.close()
    [warning] = [one for one in caplog.records if one.levelname == "WARNING"]

    assert "can be read by everybody who reaches that address" in warning.message


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressInUse) as caught:
            MetricsEndpoint(f"127.0.0.1:{port}")

    assert caught.value.problem == (
        f"metrics at 127.0.0.1:{port}: the port is in use by another program"
    )


def test_a_unix_socket_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        MetricsEndpoint(f"unix:{tmp_path}/none/m.sock")

    assert str(caught.value) == (
        f"metrics at unix:{tmp_path}/none/m.sock: its folder does not exist: choose another path."
    )


def test_nothing_is_due_before_it_is_open() -> None:
    endpoint = MetricsEndpoint("127.0.0.1:0")
    endpoint.end_overdue()
    endpoint.reloaded("")
    endpoint.ended(1)
    deadlines = endpoint.deadlines
    endpoint.close()

    assert deadlines == []
