"""The files of docs/containers.md: their steps, commands and numbers, without Docker."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from gateman import testing
from gateman.config import environment

from ..support.child import answers
from ..support.deadlines import TIMEOUT
from ..support.master import until
from ..support.ports import free_port
from ..support.proxies import program

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "examples" / "compose"
KUBERNETES = ROOT / "examples" / "kubernetes" / "chat.yaml"
PAGE = (ROOT / "docs" / "containers.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def chat(variables: Mapping[str, str]) -> Any:
    """Load the program of the image with the environment of a container, and return its worker."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        program: ModuleType = testing.load(COMPOSE / "server.py")
    environment.apply([program.worker], variables)
    assert environment.unknown([program.worker], variables) == []
    return program.worker


def seconds_to_end(worker: Any) -> float:
    """Return the time from the signal to the end of a service, at most."""
    return float(worker.drain_window + worker.timeouts.shutdown)


# The image.


class Image:
    """
    What a Dockerfile makes, in a folder.

    The virtual environment is fresh, and finds the packages that gateman depends on among those of
    the tests: nothing is downloaded.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder / "image"
        self.workdir = self.root
        self.variables: dict[str, str] = {}
        self.said: dict[str, str] = {}
        self._python = self.root / "venv"
        self._packages = folder / "packages"
        self._packages.mkdir()
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self._python], check=True)
        installed = Path(sysconfig.get_path("purelib"))
        visible = folder / "installed"
        visible.mkdir()
        for one in installed.iterdir():
            if "gateman" not in one.name and one.suffix != ".pth":
                (visible / one.name).symlink_to(one)
        [site] = self._python.glob("lib/python*/site-packages")
        (site / "installed.pth").write_text(f"{visible}\n")
        wheel = [
            sys.executable,
            "-m",
            "hatchling",
            "build",
            "-t",
            "wheel",
            "-d",
            f"{self._packages}",
        ]
        subprocess.run(wheel, cwd=ROOT, check=True, capture_output=True)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of what runs in it."""
        return {
            "PATH": f"{self._python / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.root),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self._packages),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "RUNTIME_DIRECTORY": str(self.root / "tmp"),
            **self.variables,
        }

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as RUN and HEALTHCHECK do."""
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.workdir,
            env=self.environ,
            check=False,
            capture_output=True,
            text=True,
        )

    def build(self, text: str) -> None:
        """Execute the steps of a Dockerfile; another step than these is a failure."""
        for line in re.sub(r"\\\n", " ", text).splitlines():
            if not line or line.startswith("#"):
                continue
            step, _, words = line.partition(" ")
            match step:
                case "WORKDIR":
                    self.workdir = self.root / words.lstrip("/")
                    self.workdir.mkdir(parents=True)
                case "COPY":
                    source, target = words.split()
                    assert target == "."
                    (self.workdir / source).write_bytes((COMPOSE / source).read_bytes())
                case "RUN":
                    ended = self.run(words)
                    assert ended.returncode == 0, ended.stdout + ended.stderr
                case "ENV":
                    name, _, value = words.partition("=")
                    self.variables[name] = value
                case "FROM" | "USER" | "EXPOSE" | "HEALTHCHECK" | "STOPSIGNAL" | "CMD":
                    self.said[step] = words
                case _:
                    raise AssertionError(f"a step that this test does not know: {line}")


@contextmanager
def container(image: Image, port: int, variables: Mapping[str, str]) -> Iterator[Any]:
    """Run the command of an image, which would have the port 8282 for itself."""
    tmp = image.root / f"tmp-{port}"
    tmp.mkdir()
    process = subprocess.Popen(
        json.loads(image.said["CMD"]),
        cwd=image.workdir,
        env={
            **image.environ,
            "GATEMAN_CHAT_LISTEN": f"websocket://127.0.0.1:{port}",
            "RUNTIME_DIRECTORY": str(tmp),
            **variables,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        until(lambda: process.poll() is not None or answers(socket.AF_INET, ("127.0.0.1", port)))
        yield process
    finally:
        # Its processes end with it.
        process.terminate()
        process.communicate(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built once."""
    built = Image(tmp_path_factory.mktemp("containers"))
    built.build((COMPOSE / "Dockerfile").read_text())
    return built


def test_the_image_is_of_a_python_that_gateman_supports_and_has_no_root(image: Image) -> None:
    name, _, version = image.said["FROM"].partition(":")

    assert name == "python"
    assert (
        f"Programming Language :: Python :: {version.removesuffix('-slim')}"
        in (PROJECT["classifiers"])
    )
    assert image.said["USER"] not in {"root", "0"}
    assert chat({}).listen == f"websocket://0.0.0.0:{image.said['EXPOSE']}"


def test_a_container_serves_and_drains_at_its_signal(image: Image) -> None:
    port = free_port()
    check = image.said["HEALTHCHECK"].removeprefix("CMD ").replace("8282", str(port))
    with container(image, port, {"GATEMAN_CHAT_DRAIN_WINDOW": "0.2"}) as process:
        with connect(f"ws://127.0.0.1:{port}/") as client:
            assert str(client.recv(timeout=TIMEOUT)).startswith("This is ")
            assert image.run(check).returncode == 0
            process.send_signal(signal.Signals[image.said["STOPSIGNAL"]])
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=TIMEOUT)
        log = process.communicate(timeout=TIMEOUT)[1]

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012
    assert process.returncode == 0
    assert image.run(check).returncode != 0
    assert all(isinstance(json.loads(line), dict) for line in log.splitlines())


def test_the_containers_of_compose_reach_each_other(image: Image) -> None:
    services = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]
    variables: dict[str, str] = services["chat"]["environment"]
    worker = chat(variables)
    nats_port, *ports = (free_port() for _ in range(3))
    words = [str(nats_port) if word == "4222" else word for word in services["nats"]["command"]]
    # The image's entry point is nats-server.
    nats = subprocess.Popen(
        [program("nats-server"), *words, "--addr", "127.0.0.1"], stderr=subprocess.DEVNULL
    )
    here = {
        **variables,
        "GATEMAN_CHAT_BUS": variables["GATEMAN_CHAT_BUS"].replace(
            "//nats:4222", f"//127.0.0.1:{nats_port}"
        ),
    }
    try:
        until(lambda: answers(socket.AF_INET, ("127.0.0.1", nats_port)))
        with (
            container(image, ports[0], here),
            container(image, ports[1], here),
            connect(f"ws://127.0.0.1:{ports[0]}/") as ann,
            connect(f"ws://127.0.0.1:{ports[1]}/") as bob,
        ):
            for client in (ann, bob):
                client.recv(timeout=TIMEOUT)
            ann.send("hi")
            assert bob.recv(timeout=TIMEOUT) == "hi"
    finally:
        nats.kill()
        nats.wait()

    assert services["chat"]["build"] == "."
    assert services["chat"]["depends_on"] == ["nats"]
    assert services["chat"]["ports"][0].endswith(f":{image.said['EXPOSE']}")
    grace = services["chat"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > seconds_to_end(worker)


# Kubernetes.


def test_the_manifest_fits_the_service(image: Image) -> None:
    deployment, service = yaml.safe_load_all(KUBERNETES.read_text())
    pod = deployment["spec"]["template"]
    [one] = pod["spec"]["containers"]
    worker = chat({variable["name"]: variable["value"] for variable in one["env"]})
    [port] = one["ports"]
    probes = {name: one[f"{name}Probe"] for name in ("readiness", "liveness", "startup")}

    assert worker.count == 2
    assert worker.trusted_proxies == ["10.0.0.0/8"]
    assert str(port["containerPort"]) == image.said["EXPOSE"]
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {port["name"]}
    assert probes["readiness"]["httpGet"]["path"] == worker.health_path
    assert probes["liveness"]["httpGet"]["path"] == worker.live_path
    assert probes["startup"]["httpGet"]["path"] == worker.live_path
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] >= (
        worker.timeouts.start
    )
    # The stack of what blocks the process is in the log before the container is killed.
    liveness = probes["liveness"]["periodSeconds"] * probes["liveness"]["failureThreshold"]
    assert liveness > worker.timeouts.stall
    [command, pause] = one["lifecycle"]["preStop"]["exec"]["command"]
    assert subprocess.run([command, "0"], check=False).returncode == 0
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    assert grace > float(pause) + seconds_to_end(worker)
    assert pod["metadata"]["labels"] == deployment["spec"]["selector"]["matchLabels"]
    assert pod["metadata"]["labels"] == service["spec"]["selector"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert one["securityContext"]["runAsUser"] != 0
    [mount], [volume] = one["volumeMounts"], pod["spec"]["volumes"]
    assert mount == {"name": volume["name"], "mountPath": "/tmp"}  # noqa: S108 - of the container


def test_variables_that_kubernetes_sets_are_ignored() -> None:
    """Those of a service called gateman, and of one called gateman-chat."""
    of_kubernetes = {
        "GATEMAN_PORT": "tcp://10.0.0.1:80",
        "GATEMAN_SERVICE_HOST": "10.0.0.1",
        "GATEMAN_CHAT_PORT_80_TCP_ADDR": "10.0.0.1",
        "GATEMAN_CHAT_SERVICE_PORT_WEBSOCKET": "80",
    }
    assert chat(of_kubernetes).count == 1


# The page.


def test_the_page_shows_the_files() -> None:
    dockerfile = shown("dockerfile")
    compose, manifest = shown("yaml")

    assert dockerfile == [(COMPOSE / "Dockerfile").read_text()]
    assert compose == (COMPOSE / "compose.yaml").read_text()
    parts = manifest.split("      # ...\n")
    assert len(parts) == 2
    assert all(part in KUBERNETES.read_text() for part in parts)


def shown(language: str) -> list[str]:
    """Return the blocks of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
