"""
Every error of gateman: an error carries what its handler needs, and its answer.

    GatemanError
    ├── ConfigError            the user's mistake, before anything listens → exit code 78
    │   └── AddressInUse       another program listens there
    ├── CommandError           a command that cannot be carried out → exit code 1
    │   ├── NotRunning         → exit code 3
    │   ├── MasterEnded        the master ended before it answered
    │   ├── MasterSilent       the master does not answer
    │   ├── LoadFailed         → exit code 4
    │   └── AlreadyRunning     → exit code 5
    ├── UsageMistake           the doctor was asked what makes no sense → exit code 2
    ├── ApplicationNotStarted  a worker's HTTP application failed at its start → exit code 1
    ├── WrongThread            something of the event loop was used from another thread
    ├── BusError               the bus is not there, refuses us, or cannot take what we send
    ├── HubError               the hub cannot do what was asked of it
    │   ├── UnknownClient      the client is gone, or never was
    │   ├── PartialResult      some processes did not answer in time
    │   ├── ConfirmTimeout     what was asked may not be in effect yet
    │   └── EnvelopeError      what came over the bus is nothing that we understand
    ├── Refuse                 raised by the application in ``on_websocket_connect``
    ├── ClientError            raised by the application: an SDK client's command fails
    ├── Disconnect             raised by the application: an SDK client is disconnected
    ├── TokenError             an SDK client's token is not valid
    ├── HandshakeError         the peer's request cannot be a WebSocket handshake → HTTP status
    ├── PreambleError          the peer's first bytes are no preamble that we accept
    ├── PacketError            what arrived is not a packet of the connection's protocol
    └── ProtocolError          the peer broke RFC 6455 or 7692 → close code

Sentences are made here, from data on the instance; nobody assembles one at a ``raise``.
"""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """The exit codes of gateman (``docs/exit-codes.md``)."""

    STOPPED = 0
    """The service has stopped on request, or the command succeeded."""
    CRASHED = 1
    """An error of gateman or of the application ended the service, or a command failed."""
    USAGE = 2
    """The command line is not valid."""
    NOT_RUNNING = 3
    """The command needs a running service, and the service does not run."""
    LOAD_FAILED = 4
    """The script does not exist, or failed before ``run_all``."""
    ALREADY_RUNNING = 5
    """The service is already running."""
    CONFIG = 78
    """The configuration is not valid (``EX_CONFIG`` of sysexits.h); no worker was listening."""


class GatemanError(Exception):
    """The root of every error that gateman raises."""


def _sentence(problem: str) -> str:
    return problem if problem.endswith("?") else f"{problem}."


class ConfigError(GatemanError, ValueError):
    """
    Something that the user declared cannot work.

    Uncaught, it ends the program with one sentence on standard error and exit code 78.

    Attributes:
        problem: What is wrong and where, without a full stop.
        remedy: What to do about it, without a full stop; may be empty.
    """

    exit_code = ExitCode.CONFIG

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        if not self.remedy:
            return f"{self.problem}."
        mark = "?" if self.remedy.startswith("did you mean") else "."
        return f"{self.problem}: {self.remedy}{mark}"

    @classmethod
    def unknown(cls, kind: str, name: object, known: Iterable[str]) -> "ConfigError":
        """
        Build the error for an unknown name, with the nearest known one.

        Args:
            kind: What the name would be, such as ``"option of limits"``.
            name: What the user wrote.
            known: The names that exist.

        Returns:
            The error, to be raised.
        """
        # Imported here: difflib costs 5 ms, and only a mistake needs it.
        from difflib import get_close_matches

        names = sorted(known)
        near = get_close_matches(str(name), names, n=1, cutoff=0.6)
        if near:
            remedy = f"did you mean {near[0]!r}"
        else:
            remedy = f"there {'is only' if len(names) == 1 else 'are'} {', '.join(names)}"
        article = "an" if kind[0] in "aeiou" else "a"
        return cls(f"{name!r} is not {article} {kind}", remedy)


class AddressInUse(ConfigError):
    """Another program listens there."""


class CommandError(GatemanError):
    """A command that cannot be carried out; ``problem`` has no full stop."""

    exit_code = ExitCode.CRASHED

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return _sentence(self.problem)


class NotRunning(CommandError):
    """The command is for a running service, and none runs."""

    exit_code = ExitCode.NOT_RUNNING

    def __init__(self, script: str, note: str = "") -> None:
        super().__init__(f"{script} is not running" + (f": {note}" if note else ""))
        self.script = script


class MasterEnded(CommandError):
    """The master ended after it was asked and before it answered."""

    def __init__(self) -> None:
        super().__init__("the master ended before it answered")


class MasterSilent(CommandError):
    """The master runs and does not answer; ``pid`` is 0 when that is not known."""

    def __init__(self, pid: int, *, is_stopped: bool = False) -> None:
        which = f" (pid {pid})" if pid else ""
        if is_stopped:
            why = f"it was stopped (SIGSTOP), and `kill -CONT {pid}` wakes it"
        else:
            why = "it hangs, or the machine is too busy to run it"
        super().__init__(f"the master{which} does not answer: {why}")
        self.pid = pid
        self.is_stopped = is_stopped


class LoadFailed(CommandError):
    """The script cannot be run as far as to what it declares."""

    exit_code = ExitCode.LOAD_FAILED


class AlreadyRunning(CommandError):
    """The service runs already; ``pid`` is its master's, 0 when that is not known."""

    exit_code = ExitCode.ALREADY_RUNNING

    def __init__(self, script: str, pid: int) -> None:
        which = f" (pid {pid})" if pid else ""
        super().__init__(f"{script} is running already{which}: `reload` gives it new code")
        self.script = script
        self.pid = pid


class UsageMistake(GatemanError):
    """What the doctor was asked makes no sense; the sentence says what to give instead."""


class ApplicationNotStarted(GatemanError):
    """
    The HTTP application of a worker (``http``) cannot be imported, or its lifespan has failed.

    Attributes:
        problem: What it raised or said, in one line.
        location: The file and line of the application; empty if it is not known.
    """

    def __init__(self, problem: str, location: str = "") -> None:
        super().__init__(problem, location)
        self.problem = problem
        self.location = location

    def __str__(self) -> str:
        where = f" (at {self.location})" if self.location else ""
        return f"the HTTP application did not start: {self.problem}{where}"


class WrongThread(GatemanError, RuntimeError):
    """
    Something of the event loop was used from another thread.

    Attributes:
        verb: What was called, such as ``"connection.send"``.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(verb)
        self.verb = verb

    def __str__(self) -> str:
        return (
            f"{self.verb} was called from another thread than the event loop's: use"
            f" loop.call_soon_threadsafe({self.verb}, …), or asyncio.run_coroutine_threadsafe for"
            " what is awaited; in a callback, asyncio.get_running_loop() is the loop."
        )


class BusError(GatemanError):
    """
    The bus between processes is not there, refuses us, or cannot take what it is given.

    Attributes:
        url: Which bus, without secrets.
        problem: What is wrong, without a full stop.
    """

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(url, problem)
        self.url = url
        self.problem = problem

    def __str__(self) -> str:
        return _sentence(f"the bus {self.url}: {self.problem}")

    @classmethod
    def too_big(cls, url: str, size: int, max_size: int) -> "BusError":
        """
        Build the error for a payload that is too big to be sent.

        Args:
            url: Which bus, without secrets.
            size: The payload's, in bytes.
            max_size: What is allowed, in bytes.

        Returns:
            The error, to be raised.
        """
        return cls(url, f"a payload of {size} bytes is more than its limit of {max_size} bytes")


class HubError(GatemanError):
    """
    The hub cannot do what was asked of it.

    Attributes:
        problem: Why, without a full stop.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem}."

    @classmethod
    def too_big(cls, size: int, max_size: int) -> "HubError":
        """
        Build the error for a message that the bus would not carry.

        Args:
            size: The message's, in bytes.
            max_size: What is allowed, in bytes.

        Returns:
            The error, to be raised.
        """
        return cls(
            f"a message of {size} bytes cannot go to other processes, for which the bus has a"
            f" limit of {max_size} bytes; no client got it"
        )


class UnknownClient(HubError):
    """
    The client is gone, or never was.

    Attributes:
        client_id: Its id.
    """

    def __init__(self, client_id: str) -> None:
        super().__init__(f"there is no client {client_id}")
        self.client_id = client_id


def processes(missing: Iterable[str]) -> str:
    """Name the processes that did not answer, for an error's text."""
    words = {"?": "processes that are not known, because the bus is away or was until now"}
    return ", ".join(words.get(node, node) for node in missing)


class PartialResult(HubError):
    """
    Some processes did not answer in time, so the answer may be more than this.

    Attributes:
        value: What the others said, put together.
        missing: The processes that did not answer: their node ids; ``"?"`` stands for those
            that cannot be named, because the bus has been away since this process was started.
    """

    def __init__(self, value: Any, missing: Iterable[str], problem: str = "no answer from") -> None:
        self.missing = tuple(missing)
        super().__init__(f"{problem} {processes(self.missing)}")
        self.value = value


class ConfirmTimeout(HubError, TimeoutError):
    """
    What was asked for is under way, but no process has confirmed in time that it is in effect.

    Joining and binding of a client of this process need not be repeated: what is done here is
    known everywhere as soon as the bus is back. What another process was to do may be lost.
    """


class EnvelopeError(HubError):
    """What came over the bus is nothing that we understand."""


class Refuse(GatemanError):
    """
    Refuse a client: raised by the application in ``on_websocket_connect``.

    Args:
        status: The HTTP status to answer with, 300 to 599.
        text: The body, for people; sent as UTF-8.
        headers: More response headers, such as ``{"Location": "/login"}``.
    """

    def __init__(
        self, status: int = 403, text: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        if status not in range(300, 600):
            raise ConfigError(
                f"Refuse({status!r}) is not a refusal", "use a status from 300 to 599"
            )
        super().__init__(status, text)
        # Of an HTTPStatus, and of 403.0.
        self.status = int(status)
        self.text = text
        self.headers: Mapping[str, str] = dict(headers or {})

    def __str__(self) -> str:
        return f"refused with {self.status}"


class ClientError(GatemanError):
    """
    Answer an SDK client's command with an error: raised by the application in callbacks.

    Args:
        code: Your own code, 400 to 1999; the client's program gets it.
        message: For the developer of the client's program.
        temporary: Whether the SDK repeats a connect, a subscribe or a refresh by itself.
    """

    def __init__(self, code: int, message: str = "", *, temporary: bool = False) -> None:
        if code not in range(400, 2000):
            raise ConfigError(
                f"ClientError({code!r}) is not an error of an application",
                "use a code from 400 to 1999",
            )
        super().__init__(code, message)
        self.code = int(code)
        self.message = str(message)
        self.temporary = bool(temporary)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class Disconnect(GatemanError):
    """
    Disconnect an SDK client: raised by the application in callbacks.

    Args:
        code: Your own close code. After 4000 to 4499 the SDK comes back, after 4500 to 4999 it
            does not.
        reason: The close reason; at most 123 bytes of UTF-8.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        if code not in range(4000, 5000):
            raise ConfigError(
                f"Disconnect({code!r}) is not a close code of an application",
                "use a code from 4000 to 4499 for clients that are to come back, from 4500 to 4999"
                " for others",
            )
        # RFC 6455, 5.5.1: a control frame has room for it.
        if len(str(reason).encode(errors="replace")) > 123:
            raise ConfigError("the reason of Disconnect is too long", "use at most 123 bytes")
        super().__init__(code, reason)
        self.code = int(code)
        self.reason = str(reason)

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"


class TokenError(GatemanError):
    """
    An SDK client's token is not valid.

    Args:
        problem: Why, for the log and not for the client.
        kind: What the log counts together: of a peer's choice are few. By default, the problem.
        is_expired: Whether the SDK may get another one.
        is_temporary: Whether it cannot be verified now, and perhaps later.
    """

    def __init__(
        self,
        problem: str,
        *,
        kind: str = "",
        is_expired: bool = False,
        is_temporary: bool = False,
    ) -> None:
        super().__init__(problem)
        self.kind = kind or problem
        self.is_expired = is_expired
        self.is_temporary = is_temporary


class HandshakeError(GatemanError):
    """The bytes that a peer sent are not a WebSocket handshake that can be accepted."""

    def __init__(
        self,
        status: int,
        text: str,
        headers: Mapping[str, str] | None = None,
        *,
        limit: str = "",
        code: str = "REQUEST_REFUSED",
    ) -> None:
        super().__init__(status, text)
        self.status = status
        # The body of the answer, for the peer, in words of ours alone.
        self.text = text
        self.headers: Mapping[str, str] = dict(headers or {})
        # The option that it is over, for the operator; empty for none.
        self.limit = limit
        # The kind of finding that it is (``docs/doctor.md``), for programs.
        self.code = code

    def __str__(self) -> str:
        return f"{self.status}: {self.text}"


class PreambleError(GatemanError):
    """The first bytes of a connection are neither TLS nor a PROXY header that we accept."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        # For counters and logs, such as ``"bad_proxy_header"``.
        self.cause = cause

    def __str__(self) -> str:
        return self.cause.replace("_", " ")


class PacketError(GatemanError):
    """
    What arrived on a byte stream is not a packet of its protocol.

    Args:
        cause: A short name for counters and logs, such as ``"too_big"``.
        problem: A sentence without a full stop.
    """

    def __init__(self, cause: str, problem: str) -> None:
        super().__init__(cause, problem)
        self.cause = cause
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


class ProtocolError(GatemanError):
    """
    The peer broke RFC 6455 or 7692.

    Attributes:
        close_code: What to close the connection with: 1002, 1007, 1008, 1009 or 1010.
        reason: The close reason; at most 123 bytes of UTF-8.
        cause: A short name for counters and logs, such as ``"unmasked_frame"``.
        limit: The option that sets the limit which the peer exceeded, such as
            ``"limits.max_message_size"``; empty if it exceeded none.
    """

    def __init__(
        self, close_code: int, reason: str, *, cause: str = "protocol_error", limit: str = ""
    ) -> None:
        super().__init__(close_code, reason)
        self.close_code = close_code
        self.reason = reason
        self.cause = cause
        self.limit = limit

    def __str__(self) -> str:
        return f"{self.close_code}: {self.reason}"
