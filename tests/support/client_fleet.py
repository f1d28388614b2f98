"""
Many clients of a gateway that send numbered messages, and the account of what became of each.

Business processes write a line for each event at once, so that it survives their death; it is
compared with what the clients received. The default size is for a laptop; set ``FLEET=5000
FLEET_SECONDS=20`` in the environment for the size of a service.
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

from .deadlines import TIMEOUT
from .loop import eventually
from .master import Master
from .server import ssl_options

SIZE = int(os.environ.get("FLEET", "40"))
SECONDS = float(os.environ.get("FLEET_SECONDS", "2"))

# Between two messages of one client; of a thousand and more, all together send 5 000 each second.
# A message costs a millisecond of the machine, on which the test waits for processes that start.
INTERVAL = max(0.2, SIZE / 5000)  # seconds

# Handshakes at once.
_PARALLEL = 32

# For a condition to become true on a loaded machine.
DEADLINE = TIMEOUT + SIZE / 100  # seconds

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
    """Write a service of two gateways and some business workers."""
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
    The fate of the messages of a fleet.

    Attributes:
        lost: How many were never handled.
        disordered: How many were handled for the first time after a later one.
        repeated: How many were handled again.
    """

    lost: int = 0
    disordered: int = 0
    repeated: int = 0


class NumberedClient(WSListener):
    """
    A client that sends numbered messages.

    Attributes:
        name: What its messages begin with.
        sent: How many it has sent.
        answer_count: How many answers it has got.
        answered: Their numbers, in the order in which they came.
        client_id: Its id, once it was told.
        pid: Which business process has answered last.
        longest_answer: The longest that an answer has taken since somebody set this to 0; seconds.
        is_lost: Whether its connection ended, though nobody wanted that.
        close_code: With which close code; 1006 if there was none.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.sent = self.answer_count = 0
        self.answered: list[int] = []
        self.client_id = ""
        self.pid = 0
        self.longest_answer = 0.0
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
            self._received(frame.get_payload_as_utf8_text())

    def on_ws_disconnected(self, _transport: WSTransport) -> None:
        """Take note that the connection has ended."""
        self.is_lost = self.transport is not None

    def _received(self, text: str) -> None:
        if not self.client_id:
            self.client_id = text
            return
        pid, _, message = text.partition(" ")
        self.pid = int(pid)
        self.answer_count += 1
        self.answered.append(int(message.rpartition(":")[2]))
        self.longest_answer = max(
            self.longest_answer, time.monotonic() - self._sent_at.pop(message, 0.0)
        )

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
class ClientFleet:
    """
    Many clients.

    Attributes:
        folder: Where the journals are.
        clients: The connected clients.
        all_clients: Those that were taken out of them, too.
    """

    folder: Path
    clients: list[NumberedClient] = field(default_factory=list)
    all_clients: list[NumberedClient] = field(default_factory=list)

    async def connect(self, ports: Sequence[int], count: int = SIZE) -> None:
        """Connect more clients, and wait until each was told its id."""
        free = asyncio.Semaphore(_PARALLEL)
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE

        async def connect(number: int) -> None:
            client = NumberedClient(f"client{first + number}")
            url = f"wss://127.0.0.1:{ports[number % len(ports)]}/"
            async with free:
                await ws_connect(lambda: client, url, ssl_context=tls)
            arrived.append(client)

        arrived: list[NumberedClient] = []
        first = len(self.all_clients)
        await asyncio.gather(*(connect(number) for number in range(count)))
        self.clients += arrived
        self.all_clients += arrived
        await self.until(lambda: all(client.client_id for client in arrived))

    async def send_messages(self, seconds: float) -> None:
        """Have each client send a message each ``INTERVAL``."""
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        sent = 0
        while (elapsed := loop.time() - begun_at) < seconds:
            due = int(elapsed / INTERVAL * len(self.clients))
            for number in range(sent, due):
                self.clients[number % len(self.clients)].send()
            sent = due
            await asyncio.sleep(0.005)

    def send_at_once(self) -> None:
        """Have each client send two messages: what happens next meets some on their way."""
        for client in self.clients * 2:
            client.send()

    async def pause(self, seconds: float) -> None:
        """Wait; unlike ``sleep``, this is a part of a scenario."""
        await asyncio.sleep(seconds)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Give others time until something is so."""
        await eventually(condition, within=DEADLINE)

    async def settle(self) -> Account:
        """Wait until everything that was sent was handled, or nothing changes any more."""
        deadline = time.monotonic() + DEADLINE
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
        for client in self.clients:
            numbers = handled.get(client.name, [])
            firsts = list(dict.fromkeys(numbers))
            lost += len(set(range(1, client.sent + 1)) - set(firsts))
            disordered += sum(one > next_ for one, next_ in itertools.pairwise(firsts))
            repeated += len(numbers) - len(firsts)
        return Account(lost, disordered, repeated)

    @property
    def lost(self) -> Counter[int]:
        """How many clients' connections ended, by the close code."""
        return Counter(client.close_code for client in self.clients if client.is_lost)


@asynccontextmanager
async def client_fleet(folder: Path, *ports: int, count: int = SIZE) -> AsyncIterator[ClientFleet]:
    """Connect clients, and disconnect them in the end."""
    fleet = ClientFleet(folder)
    await fleet.connect(ports, count)
    try:
        yield fleet
    finally:
        await asyncio.gather(*(client.leave() for client in fleet.all_clients))


@asynccontextmanager
async def sending(fleet: ClientFleet) -> AsyncIterator[None]:
    """Have all clients send, while the block runs and a while longer."""
    task = asyncio.ensure_future(fleet.send_messages(math.inf))
    try:
        yield
        await fleet.pause(SECONDS / 2)
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
