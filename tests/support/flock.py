"""
Many clients of a gateway that send numbered messages, and the account of what became of each.

Business processes write a line for each event that they handle, at once, so that it is there
whatever kills them; what clients saw is compared with it. The size is for a laptop: with
``FLOCK=5000 FLOCK_SECONDS=20`` in the environment, it is that of a service.
"""

import asyncio
import itertools
import math
import os
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from .loop import eventually
from .master import Master
from .server import ssl_options

SIZE = int(os.environ.get("FLOCK", "40"))
SECONDS = float(os.environ.get("FLOCK_SECONDS", "3"))

# Between two messages of one client; of a thousand and more, all together send 5 000 each second.
INTERVAL = max(0.1, SIZE / 5000)  # seconds

# Handshakes at once.
_PARALLEL = 32

# For what has to become so, on a loaded machine.
PATIENCE = 20.0 + SIZE / 100  # seconds

SCRIPT = """
import asyncio
import os
import time
from pathlib import Path
from gateman import BusinessWorker, Gateway, hub

VERSION = 1
COMMON = dict(bus={bus!r}, max_crashes=1000, drain_window={drain_window!r})
LIMITS = {{"max_connections_per_ip": None}}
Gateway("wss://127.0.0.1:0", {{"ssl": {ssl!r}}}, limits=LIMITS, count=2, **COMMON)
business = BusinessWorker(count={count}, **COMMON)
journal = os.open(
    Path({folder!r}) / f"{{os.getpid()}}.journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND
)

def note(kind, client_id, text=""):
    os.write(journal, f"{{time.monotonic_ns()}} {{kind}} {{client_id}} {{text}}\\n".encode())

@business.on_open
def greet(client_id):
    hub.send_to_client(client_id, client_id)

@business.on_message
def handle(client_id, message):
    if message.startswith("block"):
        note("block", client_id)
        time.sleep(float(message.split()[1]))
        note("unblock", client_id)
        return
    if message.startswith("slow"):
        return asyncio.sleep(float(message.split()[1]))
    if message == "die":
        note("die", client_id)
        os._exit(1)
    note("message", client_id, message)
    hub.send_to_client(client_id, f"{{os.getpid()}} {{message}}")

@business.on_close
def farewell(client_id, code, reason):
    note("close", client_id, code)

Gateway.run_all()
"""


def script(
    folder: Path, *, bus: str | None = None, count: int = 3, drain_window: float = 10.0
) -> str:
    """
    Write a service of two gateways and some business workers.

    Args:
        folder: Where its journals go.
        bus: The URL of its bus; ``None`` for that of its master.
        count: How many business workers.
        drain_window: Of all.

    Returns:
        The script.
    """
    return SCRIPT.format(
        folder=str(folder), bus=bus, ssl=ssl_options(), count=count, drain_window=drain_window
    )


class Entry(NamedTuple):
    """One line of a journal."""

    at: int
    kind: str
    client_id: str
    text: str


def journal(folder: Path) -> list[Entry]:
    """Read what was handled, by all processes, in the order of time."""
    lines = [line for path in folder.glob("*.journal") for line in path.read_text().splitlines()]
    split = [line.split(" ", 3) for line in lines]
    return sorted(Entry(int(at), kind, client, text) for at, kind, client, text in split)


@dataclass(frozen=True, slots=True)
class Account:
    """
    What became of the messages of a flock.

    Attributes:
        lost: How many were never handled.
        disordered: How many were handled for the first time after a later one.
        repeated: How many were handled again.
    """

    lost: int = 0
    disordered: int = 0
    repeated: int = 0


class Bird(WSListener):
    """
    A client that sends numbered messages.

    Attributes:
        name: What its messages begin with.
        sent: How many it has sent.
        heard: How many answers it has got.
        answered: Their numbers, in the order in which they came.
        client_id: Its id, once it was told.
        pid: Which business process has answered last.
        slowest: The longest that an answer has taken since somebody set this to 0; seconds.
        is_lost: Whether its connection ended, though nobody wanted that.
        close_code: With which close code; 1006 if there was none.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.sent = self.heard = 0
        self.answered: list[int] = []
        self.client_id = ""
        self.pid = 0
        self.slowest = 0.0
        self.is_lost = False
        self.close_code = 1006
        self.transport: WSTransport | None = None
        self._sent_at: dict[str, float] = {}

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Be ready to send."""
        self.transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hear an answer."""
        if frame.msg_type == WSMsgType.CLOSE:
            self.close_code = int(frame.get_close_code().value)
            transport.disconnect()
        elif frame.msg_type == WSMsgType.TEXT:
            self._hear(frame.get_payload_as_utf8_text())

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """Take note that the connection has ended."""
        self.is_lost = self.transport is not None

    def _hear(self, text: str) -> None:
        if not self.client_id:
            self.client_id = text
            return
        pid, _, message = text.partition(" ")
        self.pid = int(pid)
        self.heard += 1
        self.answered.append(int(message.rpartition(":")[2]))
        self.slowest = max(self.slowest, time.monotonic() - self._sent_at.pop(message, 0.0))

    def send(self) -> None:
        """Send the next message; not on a connection that is lost."""
        if self.transport is not None and not self.is_lost:
            self.sent += 1
            message = f"{self.name}:{self.sent}"
            self._sent_at[message] = time.monotonic()
            self.transport.send(WSMsgType.TEXT, message.encode())

    def say(self, text: str) -> None:
        """Send something else."""
        assert self.transport is not None
        self.transport.send(WSMsgType.TEXT, text.encode())

    async def leave(self) -> None:
        """Close the connection, and wait for its end."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.disconnect()
            await transport.wait_disconnected()


@dataclass(slots=True)
class Flock:
    """
    Many clients.

    Attributes:
        folder: Where the journals are.
        birds: The clients.
        all_there_were: Those that were taken out of them, too.
    """

    folder: Path
    birds: list[Bird] = field(default_factory=list)
    all_there_were: list[Bird] = field(default_factory=list)

    async def come(self, ports: Sequence[int], count: int = SIZE) -> None:
        """
        Connect more clients, and wait until each was told its id.

        Args:
            ports: Where to; in turns.
            count: How many.
        """
        free = asyncio.Semaphore(_PARALLEL)
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE

        async def connect(number: int) -> None:
            bird = Bird(f"bird{first + number}")
            url = f"wss://127.0.0.1:{ports[number % len(ports)]}/"
            async with free:
                await ws_connect(lambda: bird, url, ssl_context=tls)
            arrived.append(bird)

        arrived: list[Bird] = []
        first = len(self.all_there_were)
        await asyncio.gather(*(connect(number) for number in range(count)))
        self.birds += arrived
        self.all_there_were += arrived
        await self.until(lambda: all(bird.client_id for bird in arrived))

    async def fly(self, seconds: float) -> None:
        """
        Have each client send a message each ``INTERVAL``.

        Args:
            seconds: For how long.
        """
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        sent = 0
        while (elapsed := loop.time() - begun_at) < seconds:
            due = int(elapsed / INTERVAL * len(self.birds))
            for number in range(sent, due):
                self.birds[number % len(self.birds)].send()
            sent = due
            await asyncio.sleep(0.005)

    async def pause(self, seconds: float) -> None:
        """
        Let what goes on go on: clients fly, processes do as they do.

        Args:
            seconds: For how long.
        """
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Give others time until something is so."""
        await eventually(condition, within=PATIENCE)

    async def settle(self) -> Account:
        """
        Wait until everything that was sent was handled, or nothing changes any more.

        Returns:
            What became of it.
        """
        deadline = time.monotonic() + PATIENCE
        while (account := self.account()).lost and time.monotonic() < deadline:
            await self.pause(0.2)
        return account

    def handled(self) -> dict[str, list[int]]:
        """Tell which messages of each client were handled until now, in this order."""
        handled: dict[str, list[int]] = {}
        for entry in journal(self.folder):
            if entry.kind == "message":
                name, _, number = entry.text.partition(":")
                handled.setdefault(name, []).append(int(number))
        return handled

    def account(self) -> Account:
        """Compare what was sent with what was handled until now."""
        handled = self.handled()
        lost = disordered = repeated = 0
        for bird in self.birds:
            numbers = handled.get(bird.name, [])
            firsts = list(dict.fromkeys(numbers))
            lost += len(set(range(1, bird.sent + 1)) - set(firsts))
            disordered += sum(one > next_ for one, next_ in itertools.pairwise(firsts))
            repeated += len(numbers) - len(firsts)
        return Account(lost, disordered, repeated)

    @property
    def lost(self) -> Counter[int]:
        """How many clients' connections ended, by the close code."""
        return Counter(bird.close_code for bird in self.birds if bird.is_lost)


@asynccontextmanager
async def flock(folder: Path, *ports: int, count: int = SIZE) -> AsyncIterator[Flock]:
    """
    Have clients come, and leave in the end.

    Args:
        folder: Where the journals are.
        ports: Of the gateways.
        count: How many clients.

    Yields:
        The flock.
    """
    birds = Flock(folder)
    await birds.come(ports, count)
    try:
        yield birds
    finally:
        await asyncio.gather(*(bird.leave() for bird in birds.all_there_were))


@asynccontextmanager
async def flying(birds: Flock) -> AsyncIterator[None]:
    """Have all clients send, while the block runs and a while longer."""
    task = asyncio.ensure_future(birds.fly(math.inf))
    try:
        yield
        await birds.pause(SECONDS / 2)
    finally:
        task.cancel()
        await asyncio.wait([task])


def ports(running: Sequence[Master]) -> list[int]:
    """Tell where the gateways listen."""
    return [one.port for one in running]


def pids(service: Master, name: str) -> list[int]:
    """Tell the processes of a worker."""
    return [
        process["pid"]
        for slot in service.status()["slots"]
        if slot["worker"] == name
        for process in slot["processes"]
    ]
