"""
Who is measured: gateman, the engine below it, and what a user might pick instead.

Each is a file in ``servers/``, as a user of it would write it, at its best that is reasonable.
Where a package is missing, its server is named and left out.
"""

import argparse
import importlib.metadata
from collections.abc import Sequence
from dataclasses import replace

from subject import WORKER, Server

GATEMAN = Server(name="gateman", script="gateman_echo.py", worker=WORKER, can_compress=True)
GATEMAN_ASYNC = replace(GATEMAN, name="gateman async", arguments=("--async",))
PICOWS = Server(name="bare picows", script="bare_picows.py")
PICOWS_STR = replace(PICOWS, name="bare picows str", arguments=("--str",))
BARE_C = Server(name="bare C", script="bare_c.py")
PEERS = (
    Server(
        name="websockets",
        script="websockets_echo.py",
        package="websockets",
        can_compress=True,
    ),
    Server(name="aiohttp", script="aiohttp_echo.py", package="aiohttp", can_compress=True),
    Server(name="uvicorn", script="uvicorn_echo.py", package="uvicorn", can_compress=True),
    Server(name="granian", script="granian_echo.py", package="granian", worker="granian_echo.py"),
    Server(
        name="socketify",
        script="socketify_echo.py",
        package="socketify",
        can_compress=True,
    ),
    Server(name="tornado", script="tornado_echo.py", package="tornado", can_compress=True),
    Server(
        name="socket.io",
        script="socketio_echo.py",
        package="python-socketio",
        load=(("socketio", True), ("path", "/socket.io/?EIO=4&transport=websocket")),
    ),
)
# What a user in Python picks most, and the fastest of the others: for quick runs.
SOME = (GATEMAN, PICOWS, *PEERS[:3])
EVERYBODY = (GATEMAN, GATEMAN_ASYNC, PICOWS, *PEERS)
# Who is measured only if asked for, too.
ALL = (*EVERYBODY, PICOWS_STR, BARE_C)


def is_installed(server: Server) -> bool:
    """Tell whether the packages of a server are there."""
    try:
        importlib.metadata.version(server.package or "gateman")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def add_option(parser: argparse.ArgumentParser, default: Sequence[Server] = EVERYBODY) -> None:
    """Add the option ``--servers NAME…`` to a parser."""
    parser.add_argument(
        "--servers",
        nargs="+",
        metavar="NAME",
        choices=[server.name for server in ALL],
        default=[server.name for server in default],
        help="the servers to measure, of: " + ", ".join(server.name for server in ALL),
    )


def chosen(names: Sequence[str]) -> list[Server]:
    """Return the installed servers of these names, and print which are missing."""
    servers = [server for server in ALL if server.name in names]
    for server in servers:
        if not is_installed(server):
            print(f"left out: {server.name} is not installed here; `make bench` installs it")
    return [server for server in servers if is_installed(server)]


def compressing(servers: Sequence[Server]) -> list[Server]:
    """Pick those that can compress, and let them."""
    return [
        replace(server, arguments=(*server.arguments, "--compress"))
        for server in servers
        if server.can_compress
    ]


def versions(servers: Sequence[Server]) -> str:
    """Say in one line what the packages' versions are."""
    packages = dict.fromkeys(server.package for server in servers if server.package)
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)
