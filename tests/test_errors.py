"""Errors: what they carry, what they say, and what they mean to the shell and to peers."""

import pytest

from gateman import errors
from gateman.errors import (
    AddressInUse,
    AlreadyRunning,
    ApplicationNotStarted,
    BusError,
    ClientError,
    CommandError,
    ConfigError,
    ConfirmTimeout,
    Disconnect,
    EnvelopeError,
    ExitCode,
    GatemanError,
    HandshakeError,
    HubError,
    LoadFailed,
    MasterEnded,
    MasterSilent,
    NotRunning,
    PacketError,
    PartialResult,
    PreambleError,
    ProtocolError,
    Refuse,
    TokenError,
    UnknownClient,
    UsageMistake,
    WrongThread,
)

EVERY_ERROR = [
    (ConfigError("this is wrong", "do that"), "this is wrong: do that."),
    (ConfigError("this is wrong"), "this is wrong."),
    (ConfigError("'x' is no y", "did you mean 'z'"), "'x' is no y: did you mean 'z'?"),
    (AddressInUse("the port is in use", "stop that"), "the port is in use: stop that."),
    (CommandError("this cannot be done"), "this cannot be done."),
    (CommandError("nothing listens: is it running?"), "nothing listens: is it running?"),
    (NotRunning("chat.py"), "chat.py is not running."),
    (MasterEnded(), "the master ended before it answered."),
    (
        MasterSilent(7, is_stopped=True),
        "the master (pid 7) does not answer: it was stopped (SIGSTOP), and `kill -CONT 7` wakes"
        " it.",
    ),
    (
        MasterSilent(0),
        "the master does not answer: it hangs, or the machine is too busy to run it.",
    ),
    (LoadFailed("chat.py is not there"), "chat.py is not there."),
    (
        AlreadyRunning("chat.py", 7),
        "chat.py is running already (pid 7): `reload` gives it new code.",
    ),
    (
        ApplicationNotStarted("KeyError: 'DATABASE'", "app.py:3"),
        "the HTTP application did not start: KeyError: 'DATABASE' (at app.py:3)",
    ),
    (AlreadyRunning("chat.py", 0), "chat.py is running already: `reload` gives it new code."),
    (UsageMistake("it is not a URL: write wss://HOST/"), "it is not a URL: write wss://HOST/"),
    (BusError("nats://a:4222", "it is away"), "the bus nats://a:4222: it is away."),
    (
        BusError.too_big("local", 2048, 1024),
        "the bus local: a payload of 2048 bytes is more than its limit of 1024 bytes.",
    ),
    (
        WrongThread("hub.send_to_all"),
        "hub.send_to_all was called from another thread than the event loop's: use"
        " loop.call_soon_threadsafe(hub.send_to_all, …), or asyncio.run_coroutine_threadsafe for"
        " what is awaited; in a callback, asyncio.get_running_loop() is the loop.",
    ),
    (HubError("this cannot be"), "this cannot be."),
    (
        HubError.too_big(2048, 1024),
        "a message of 2048 bytes cannot go to other processes, for which the bus has a limit of"
        " 1024 bytes; no client got it.",
    ),
    (UnknownClient("k3f9-42"), "there is no client k3f9-42."),
    (PartialResult(3, ["k3f9", "m2x8"]), "no answer from k3f9, m2x8."),
    (
        PartialResult(0, ["?"]),
        "no answer from processes that are not known, because the bus is away or was until now.",
    ),
    (ConfirmTimeout("the bus is away"), "the bus is away."),
    (EnvelopeError("this is no envelope"), "this is no envelope."),
    (Refuse(), "refused with 403"),
    (Refuse(429, "too many", {"Retry-After": "5"}), "refused with 429"),
    (ClientError(404, "no such room"), "404: no such room"),
    (Disconnect(4500, "banned"), "4500: banned"),
    (TokenError("it has expired", is_expired=True), "it has expired"),
    (HandshakeError(400, "this is wrong"), "400: this is wrong"),
    (PacketError("too_big", "a packet is too long"), "a packet is too long"),
    (PreambleError("bad_proxy_header"), "bad proxy header"),
    (ProtocolError(1002, "reserved bits"), "1002: reserved bits"),
]


@pytest.mark.parametrize(("error", "expected"), EVERY_ERROR)
def test_sentences(error: GatemanError, expected: str) -> None:
    """An error makes its sentence from what it carries."""
    assert str(error) == expected


def test_no_error_is_without_test() -> None:
    """Whatever is added here says something too."""
    declared = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, GatemanError)
    }

    assert declared - {type(error) for error, _ in EVERY_ERROR} == {GatemanError}


def test_the_tree_is_the_documentation() -> None:
    """The module's first page names every error, and nothing else stands there like one."""
    assert errors.__doc__ is not None
    tree = [
        line.replace("│", " ").strip(" ├└─").split()[0]
        for line in errors.__doc__.splitlines()
        if line.startswith("    ")
    ]

    assert sorted(tree) == sorted(
        {"GatemanError", *(type(error).__name__ for error, _ in EVERY_ERROR)}
    )


def test_errors_carry_what_their_handlers_need() -> None:
    """Nobody takes a sentence apart."""
    config = ConfigError("this is wrong", "do that")
    running = AlreadyRunning("chat.py", 7)
    refusal = Refuse(302, "over there", {"Location": "/login"})
    handshake = HandshakeError(405, "no", {"Allow": "GET"})
    protocol = ProtocolError(1002, "reserved bits")

    assert (config.problem, config.remedy) == ("this is wrong", "do that")
    assert (running.script, running.pid) == ("chat.py", 7)
    assert (refusal.status, refusal.text, refusal.headers) == (
        302,
        "over there",
        {"Location": "/login"},
    )
    assert (handshake.status, handshake.text, handshake.headers) == (405, "no", {"Allow": "GET"})
    assert UnknownClient("k3f9-42").client_id == "k3f9-42"
    assert (PartialResult(3, ["k3f9"]).value, PartialResult(3, ["k3f9"]).missing) == (3, ("k3f9",))
    bus = BusError("local", "it is away")
    assert (bus.url, bus.problem) == ("local", "it is away")
    assert PacketError("too_big", "a packet is too long").cause == "too_big"
    assert PreambleError("bad_proxy_header").cause == "bad_proxy_header"
    assert (protocol.close_code, protocol.reason) == (1002, "reserved bits")


def test_headers_are_the_error_s_own() -> None:
    """What an application does with its mapping afterwards changes no answer."""
    headers = {"Retry-After": "5"}
    refusal, handshake = Refuse(429, "", headers), HandshakeError(429, "", headers)
    headers.clear()

    assert refusal.headers == handshake.headers == {"Retry-After": "5"}
    assert Refuse().headers == HandshakeError(400, "").headers == {}


@pytest.mark.parametrize("status", [300, 403, 599])
def test_refusals(status: int) -> None:
    """From the first redirection to the last error."""
    assert Refuse(status).status == status


@pytest.mark.parametrize("status", [0, 101, 200, 299, 600, True, "403", None])
def test_what_is_no_refusal(status: int) -> None:
    """To accept is done by raising nothing."""
    with pytest.raises(ConfigError) as caught:
        Refuse(status)

    assert str(caught.value) == (
        f"Refuse({status!r}) is not a refusal: use a status from 300 to 599."
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("colour", "'colour' is not a part: did you mean 'color'?"),
        ("COLOR", "'COLOR' is not a part: there are blue, color, red."),
        ("", "'' is not a part: there are blue, color, red."),
        (None, "None is not a part: there are blue, color, red."),
    ],
)
def test_unknown_names_are_answered(name: object, expected: str) -> None:
    """With the nearest that exists, or with all, in the alphabet's order."""
    assert str(ConfigError.unknown("part", name, {"red", "color", "blue"})) == expected


def test_a_wrong_configuration_is_a_wrong_value_too() -> None:
    """Programs that read configurations catch ``ValueError``."""
    assert isinstance(ConfigError("x"), ValueError)


def test_exit_codes() -> None:
    """Scripts and service managers rely on these numbers."""
    assert {code.name: code.value for code in ExitCode} == {
        "STOPPED": 0,
        "CRASHED": 1,
        "USAGE": 2,
        "NOT_RUNNING": 3,
        "LOAD_FAILED": 4,
        "ALREADY_RUNNING": 5,
        "CONFIG": 78,
    }
    assert [error.exit_code for error in (CommandError, NotRunning, LoadFailed)] == [1, 3, 4]
    assert (AlreadyRunning.exit_code, ConfigError.exit_code) == (5, 78)


@pytest.mark.parametrize("code", [100, 399, 2000, "400", None])
def test_codes_of_the_protocol_are_no_application_s(code: int) -> None:
    """An SDK would take them for the server's."""
    with pytest.raises(ConfigError, match=r"use a code from 400 to 1999\.$"):
        ClientError(code)


@pytest.mark.parametrize("code", [1000, 3500, 5000, "4000", None])
def test_close_codes_of_the_protocol_are_no_application_s(code: int) -> None:
    """An application's say by their number whether the client comes back."""
    with pytest.raises(ConfigError, match="use a code from 4000 to 4499 for clients that are"):
        Disconnect(code)


def test_reasons_of_disconnects_fit_into_a_frame() -> None:
    """Checked where it is raised, for the close would be refused later."""
    assert Disconnect(4000, "x" * 123).reason == "x" * 123
    with pytest.raises(ConfigError, match="is too long"):
        Disconnect(4000, "é" * 62)
