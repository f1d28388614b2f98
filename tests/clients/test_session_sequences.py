"""Any sequence of commands, answers and orders of the server: each command is answered once."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateman.clients.json_codec import JSON
from gateman.clients.limits import ClientLimits
from gateman.clients.messages import (
    ConnectRequest,
    ConnectResult,
    PublishResult,
    RefreshRequest,
    RpcRequest,
    RpcResult,
    SubRefreshRequest,
    Subscribe,
    SubscribeRequest,
    SubscribeResult,
)
from gateman.clients.session import Action, Ask, ClientSession, Close, Send, State, Unsubscribed

CHANNELS = st.sampled_from(["a", "b"])

COMMANDS = st.one_of(
    st.builds(lambda channel: {"subscribe": {"channel": channel}}, CHANNELS),
    st.builds(
        lambda name, channel: {name: {"channel": channel}},
        st.sampled_from(["subscribe", "unsubscribe", "sub_refresh"]),
        CHANNELS,
    ),
    st.builds(lambda channel: {"publish": {"channel": channel, "data": 1}}, CHANNELS),
    st.sampled_from([{"rpc": {}}, {"refresh": {}}, {"send": {"data": 1}}, {"ping": {}}, {"x": 1}]),
)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("command"), COMMANDS),
        st.tuples(st.just("answer"), st.integers(0, 9), st.booleans(), st.booleans()),
        st.tuples(st.just("join"), CHANNELS),
        st.tuples(st.just("kick"), CHANNELS, st.sampled_from([2000, 2500])),
        st.tuples(st.just("wait"), st.floats(0, 60)),
    ),
    max_size=40,
)


class Application:
    """Answers as a test says, and follows what the client is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.session = ClientSession(JSON, ClientLimits(max_subscriptions=1), self.now)
        self.asked: list[Ask] = []
        self.replied: list[int] = []
        # What the SDK believes, and what the application was told.
        self.client_has: set[str] = set()
        self.members: set[str] = set()
        self.subscribing: dict[int, str] = {}
        self.is_closed = False

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            assert not self.is_closed
            match action:
                case Ask():
                    self.asked.append(action)
                case Close():
                    self.is_closed = True
                case Unsubscribed(channel):
                    self.members.remove(channel)
                case Send(payload):
                    self.tell(json.loads(payload))

    def tell(self, message: dict[str, Any]) -> None:
        """Do what an SDK does."""
        if "id" in message:
            self.replied.append(message["id"])
            channel = self.subscribing.pop(message["id"], None)
            if channel is not None and "subscribe" in message:
                self.client_has.add(channel)
            if channel is not None and "unsubscribe" in message:
                self.client_has.discard(channel)
        elif "subscribe" in message["push"]:
            self.client_has.add(message["push"]["channel"])
        else:
            self.client_has.remove(message["push"]["channel"])

    def command(self, number: int, command: dict[str, Any]) -> None:
        for name in ("subscribe", "unsubscribe"):
            if name in command:
                self.subscribing[number] = command[name]["channel"]
        self.do(self.session.receive(json.dumps({"id": number, **command}), self.now))

    def answer(self, which: int, *, is_allowed: bool, expires: bool) -> None:
        """Answer one of the commands; those without an answer are done."""
        self.asked = [ask for ask in self.asked if ask.id]
        if not self.asked:
            return
        ask = self.asked.pop(which % len(self.asked))
        ttl = 10.0 if expires else None
        session, now = self.session, self.now
        if not is_allowed:
            self.do(session.refused(ask.id, 103))
            return
        match ask.request:
            case ConnectRequest():
                self.do(session.connected(ask.id, ConnectResult(), now, ttl=ttl))
            case SubscribeRequest(channel):
                # A member with the answer, before anything else.
                if session.is_subscribing(ask.id):
                    self.members.add(channel)
                self.do(session.subscribed(ask.id, SubscribeResult(), now, ttl=ttl))
            case RpcRequest():
                self.do(session.answered(ask.id, RpcResult()))
            case RefreshRequest() | SubRefreshRequest():
                self.do(session.refreshed(ask.id, now, ttl=ttl))
            case _:
                self.do(session.answered(ask.id, PublishResult()))


@given(STEPS)
def test_each_command_is_answered_once_and_both_sides_know_the_same(
    steps: list[tuple[Any, ...]],
) -> None:
    app = Application()
    app.command(1, {"connect": {}})
    app.answer(0, is_allowed=True, expires=False)
    sent = [1]
    for step in steps:
        match step:
            case ("command", command):
                number = sent[-1] + 1
                sent.append(number)
                app.command(number, command)
                if "send" in command:
                    app.replied.append(number)
            case ("answer", which, is_allowed, expires):
                app.answer(which, is_allowed=is_allowed, expires=expires)
            case ("join", channel):
                if not app.session.is_subscribed(channel):
                    app.members.add(channel)
                app.do(app.session.push_subscribe(channel, Subscribe()))
            case ("kick", channel, code):
                app.do(app.session.push_unsubscribe(channel, code))
            case ("wait", seconds):
                app.now += seconds
                app.do(app.session.tick(app.now))
        if app.is_closed:
            # Only a connection that has expired ends by itself here.
            assert app.session.state is State.CLOSED
            return
        deadline = app.session.deadline()
        assert deadline is None or deadline > app.now

    while app.asked:
        app.answer(0, is_allowed=True, expires=False)

    assert sorted(app.replied) == sent
    assert app.client_has == app.members == set(app.session.subscriptions)
    assert all(app.session.is_subscribed(channel) for channel in app.members)
