"""A service of lines in real processes: clients come back through reloads and kills, unrefused."""

import os
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path

from tests.support.deadlines import TIMEOUT
from tests.support.master import Master, master, until

SCRIPT = """
from gateman import Worker

worker = Worker("text://127.0.0.1:0", count=2, drain_window=0.3)


@worker.on_message
async def answer(connection, line):
    await connection.join("all")
    connection.send(line)


Worker.run_all()
"""


class Client(threading.Thread):
    """Sends numbered lines, each after the answer to the one before, and comes back."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.count = 0
        self.connections = 0
        self.is_over = False
        self.failure: Exception | None = None
        self._port = port

    def run(self) -> None:
        try:
            while not self.is_over:
                self._talk()
        except Exception as error:  # noqa: BLE001 - the test raises it
            self.failure = error

    def _talk(self) -> None:
        # Nobody may be refused: the master has the port.
        with closing(socket.create_connection(("127.0.0.1", self._port), TIMEOUT)) as connection:
            self.connections += 1
            stream = connection.makefile("rw", newline="\n")
            try:
                while not self.is_over:
                    print(self.count, file=stream, flush=True)
                    if not (answer := stream.readline()):
                        return
                    assert answer == f"{self.count}\n"
                    self.count += 1
            except OSError:
                pass  # Its process was killed, or has closed it.


def progress(clients: list[Client], service: Master) -> None:
    """Wait until all clients have got answers since now."""
    before = [client.count for client in clients]

    def all_went_on() -> bool:
        for client in clients:
            assert client.failure is None, (client.failure, service.stderr)
        return all(client.count > count + 5 for client, count in zip(clients, before, strict=True))

    until(all_went_on)


def test_clients_come_back(tmp_path: Path) -> None:
    with master(SCRIPT, tmp_path) as service:
        clients = [Client(service.port) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            progress(clients, service)
            before = set(service.pids())
            assert service.command("reload").returncode == 0
            until(lambda: before.isdisjoint(service.pids()))
            progress(clients, service)
            killed = service.pids()[0]
            os.kill(killed, signal.SIGKILL)
            until(lambda: killed not in service.pids() and len(service.pids()) == 2)
            progress(clients, service)
            assert all(client.connections >= 2 for client in clients)
            [listed] = service.status()["workers"]
            assert listed["listen"] == f"text://127.0.0.1:{service.port}"
        finally:
            for client in clients:
                client.is_over = True
            for client in clients:
                client.join(TIMEOUT)
    assert [client.failure for client in clients] == [None] * 4
