"""What ``import gateman`` gives, and what it spares."""

import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import gateman

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

# What only commands need; together they cost more than the rest of the import.
FOR_COMMANDS = {"click", "cryptography", "gateman.cli", "gateman.ops"}


def test_names_are_listed_in_order() -> None:
    """A name is exported once, and found where the alphabet has it."""
    assert list(gateman.__all__) == sorted(set(gateman.__all__))


def test_every_name_is_documented() -> None:
    """A reader of ``help(gateman)`` learns what each exported name is for."""
    silent = [name for name in gateman.__all__ if not inspect.getdoc(getattr(gateman, name))]

    assert silent == []


def test_every_public_method_is_documented() -> None:
    """So are the methods and properties of what is exported, inherited ones too."""
    silent = [
        f"{name}.{member}"
        for name in gateman.__all__
        if inspect.isclass(owner := getattr(gateman, name))
        for member, value in inspect.getmembers(owner)
        if not member.startswith("_")
        and (inspect.isroutine(value) or isinstance(value, property))
        and not inspect.getdoc(value)
    ]

    assert silent == []


def test_version_is_that_of_the_package() -> None:
    """The version is the same wherever it is asked for."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]

    assert gateman.__version__ == project["version"]


def test_import_is_without_what_only_commands_need() -> None:
    """A service starts without the command line and the maker of certificates."""
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys; from gateman import Worker; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()

    assert sorted(FOR_COMMANDS.intersection(loaded)) == []


def test_a_service_without_acme_loads_none_of_it() -> None:
    """Neither its master nor its processes pay for what they do not use."""
    code = (
        "import sys; from gateman import Worker; from gateman.config.worker import settings_of;"
        " import gateman.master.start, gateman.master.child;"
        " settings_of(Worker('ws://127.0.0.1:1'), now=0.0); print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    assert "gateman.master.master" in loaded
    assert [name for name in loaded if "acme" in name or "certificate_orders" in name] == []


def test_a_service_without_history_loads_none_of_it() -> None:
    """Nor does its router; the buses have it when it is first asked for."""
    code = (
        "import sys, gateman; from gateman.config.worker import settings_of;"
        " import gateman.master.start, gateman.master.child, gateman.bus.router, gateman.bus.local,"
        " gateman.bus.nats, gateman.bus.memory; print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    assert "gateman.bus.router" in loaded
    assert [name for name in loaded if "history" in name or "sqlite" in name] == []


def test_a_websocket_service_loads_no_other_protocol() -> None:
    """Nor one that only declares what it could listen on."""
    code = (
        "import sys; from gateman import Worker; import gateman.master.start, gateman.master.child;"
        " import gateman.runtime.worker_service, gateman.gateway.gateway_service;"
        " from gateman.config.worker import settings_of;"
        " settings_of(Worker('ws://127.0.0.1:1'), now=0.0); print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()

    assert "gateman.net.handshake" in loaded
    others = ("gateman.protocols", "gateman.net.packet", "gateman.net.first_bytes")
    assert [name for name in loaded if name.startswith(others)] == []


def test_the_router_is_without_what_workers_need() -> None:
    """Each service has one, which starts beside the first process."""
    program = "import gateman.bus.router, sys; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert {"gateman.config", "gateman.connection", "gateman.tls", "httptools"} & {*loaded} == set()


def test_the_doctor_is_without_what_serves() -> None:
    """It looks at a service from outside, also at one whose script it is given."""
    program = (
        "import pkgutil, sys; import gateman.doctor as doctor;"
        " [__import__(one.name) for one in pkgutil.walk_packages(doctor.__path__,"
        " 'gateman.doctor.')]; print(*sys.modules)"
    )
    command = [sys.executable, "-c", program]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    assert "gateman.doctor.service.arrival" in loaded
    assert {"picows", "aiofastnet", "gateman.net.handshake"} & {*loaded} == set()
